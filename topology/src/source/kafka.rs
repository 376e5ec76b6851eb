//! A spout over the partitions of a topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Follower, IfGone, MonoTime, Record, Start, TopicInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Retried;
use super::retry::Retries;
use crate::component::Spout;
use crate::emitter::Emitter;
use crate::input::Unreadable;
use crate::names;
use crate::node::panic_text;
use crate::place::SourceContext;

/// Maximum number of records per poll of the topic: at some 2 KB each, 1 MB.
const POLLED: usize = 512;
/// Interval between two looks for new partitions, and between two warnings about a missing topic.
const LOOK_MS: u64 = 10_000;

/// Maximum duration of a look after which it follows one more partition: its lane does nothing else
/// meanwhile. A request to a broker that does not respond takes up to ten seconds.
const LOOKING: Duration = Duration::from_secs(1);

/// The topic that a source reads, where it begins, and the decoding of its records: JSON by default.
///
/// ```
/// use bus::Start;
/// use topology::{KafkaSource, Topology, Unreadable};
///
/// let lengths = KafkaSource::decoded("lines", |record| Ok(Some(record.value.len()))).starts(Start::End);
/// let t = Topology::named("lengths");
/// t.kafka_source("lines", lengths).for_each("print", |length| println!("{length}"));
/// # t.build()?;
/// # Ok::<(), topology::BuildErrors>(())
/// ```
pub struct KafkaSource<T> {
    pub(super) topic: Arc<str>,
    start: Start,
    decode: Decode<T>,
    pub(super) retries: Option<Retries>,
}

type Decode<T> = Arc<dyn Fn(&Record) -> Result<Option<T>, Unreadable> + Send + Sync>;

impl<T> Clone for KafkaSource<T> {
    fn clone(&self) -> Self {
        Self { topic: Arc::clone(&self.topic), decode: Arc::clone(&self.decode), ..*self }
    }
}

impl<T: DeserializeOwned + 'static> From<&str> for KafkaSource<T> {
    fn from(topic: &str) -> Self {
        Self::topic(topic)
    }
}

impl<T: DeserializeOwned + 'static> KafkaSource<T> {
    /// Reads values as JSON, from the first record that the topic still holds. Skips records without
    /// a value, which delete a key of a compacted topic: [`KafkaSource::table`] reads them.
    pub fn topic(topic: &str) -> Self {
        Self::decoded(topic, json)
    }
}

impl<T: DeserializeOwned + 'static> KafkaSource<(String, Option<T>)> {
    /// Reads a compacted topic: the key of each record with its value from JSON, or with `None` if the
    /// record deletes the key. A record whose key is not text goes to the dead-letter topic.
    pub fn table(topic: &str) -> Self {
        Self::decoded(topic, |record| {
            let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            let key = key.ok_or_else(|| Unreadable("the key of a record of a table must be UTF-8".into()))?;
            Ok(Some((key.to_owned(), json(record)?)))
        })
    }
}

/// Reads the value of a record as JSON; `None` if it has none.
fn json<T: DeserializeOwned>(record: &Record) -> Result<Option<T>, Unreadable> {
    let value = Some(&record.value).filter(|value| !value.is_empty());
    value.map(|value| serde_json::from_slice(value)).transpose().map_err(|error| Unreadable(error.to_string()))
}

impl<T> KafkaSource<T> {
    /// Reads records with a decoder. It returns `None` for a record to skip. If it returns an error,
    /// the record goes to the dead-letter topic with the reason. The value of a record that deletes its
    /// key is empty.
    pub fn decoded(
        topic: &str,
        decode: impl Fn(&Record) -> Result<Option<T>, Unreadable> + Send + Sync + 'static,
    ) -> Self {
        Self { topic: topic.into(), start: Start::Low, decode: Arc::new(decode), retries: None }
    }

    /// Begins a partition elsewhere. It applies once: a restarted process continues at its saved
    /// position.
    #[must_use]
    pub fn starts(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Emits a record again if one of its tuples fails, instead of writing a dead letter at once. Records
    /// with the same key wait meanwhile, so their order holds. A restart may repeat records: the source
    /// tracks its tuples, and its position is the end of the prefix that is done.
    ///
    /// ```
    /// use topology::{KafkaSource, Retries, Topology};
    /// let t = Topology::named("orders");
    /// let orders = KafkaSource::<u64>::topic("orders").retries(Retries { max: 8, ..Retries::default() });
    /// t.kafka_source("orders", orders).max_pending(200).for_each("book", |order| assert!(order > 0));
    /// # t.build()?;
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    #[must_use]
    pub fn retries(self, retries: Retries) -> Self {
        Self { retries: Some(retries), ..self }
    }
}

/// The position in one topic.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct TopicPosition {
    /// The name of the topic; empty before it was found.
    topic: String,
    /// Its id: another one if it was deleted and created again.
    pub(super) id: String,
    /// The number of partitions that begin where the source is configured to begin. Partitions that
    /// were added later are read from their beginning.
    partitions: u32,
    /// The offset of the next record of each partition.
    pub(super) offsets: BTreeMap<u32, u64>,
}

pub(super) struct TopicSpout<T> {
    pub(super) source: KafkaSource<T>,
    pub(super) context: Option<SourceContext>,
    pub(super) follower: Follower,
    /// Records that were polled and not emitted, at most [`POLLED`].
    pub(super) polled: VecDeque<Record>,
    /// When to look for new partitions; `None` before the first look.
    look_at: Option<MonoTime>,
    /// The number of attempts to follow a partition: the next look begins with another one.
    attempts: usize,
    looks: Retried,
    pub(super) polls: Retried,
}

impl<T> TopicSpout<T> {
    pub(super) fn of(source: KafkaSource<T>) -> Self {
        let follower = Follower::new(IfGone::Skip);
        let (looks, polls) = Default::default();
        Self { source, context: None, follower, polled: VecDeque::new(), look_at: None, attempts: 0, looks, polls }
    }

    /// Follows those partitions of the lane that it does not follow yet. A partition without an offset
    /// gets the one where it begins.
    fn look(
        &mut self,
        SourceContext { lane, bus, .. }: &SourceContext,
        position: &mut TopicPosition,
        paused: &BTreeSet<u32>,
    ) -> Result<(), BusError> {
        let topic = &*self.source.topic;
        let Some(found) = bus.topic(topic)? else {
            return Err(BusError::NoTopic(topic.to_owned()));
        };
        if position.id != found.id {
            self.follower.unfollow_topic(topic)?;
            self.polled.clear();
            position.replace(&found);
        }
        let (first, step) = (lane.lane, lane.lanes);
        let is_read =
            |partition: &u32| self.follower.position(topic, *partition).is_some() || paused.contains(partition);
        let mut partitions: Vec<u32> =
            (first..found.partitions).step_by(step as usize).filter(|partition| !is_read(partition)).collect();
        let (skipped, begun) = (self.attempts % partitions.len().max(1), bus.clock().mono());
        partitions.rotate_left(skipped);
        let mut failed = Ok(());
        for partition in partitions {
            let now = bus.clock().mono();
            if now.since(begun) > LOOKING {
                if failed.is_ok() {
                    self.look_at = Some(now);
                }
                break;
            }
            self.attempts += 1;
            let saved = position.offsets.get(&partition).copied();
            let start = if partition < position.partitions { self.source.start } else { Start::Low };
            match follow(&mut self.follower, &**bus, topic, partition, saved, start) {
                Ok(()) => {
                    let begins = self.follower.position(topic, partition);
                    position.offsets.extend(begins.map(|begins| (partition, begins)));
                }
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    }

    fn look_if_due(&mut self, position: &mut TopicPosition, paused: &BTreeSet<u32>) {
        let Some(context) = self.context.clone() else { return };
        let now = context.bus.clock().mono();
        if self.look_at.is_none_or(|due| due <= now) {
            self.look_at = Some(now.plus_ms(LOOK_MS));
            let looked = self.look(&context, position, paused);
            self.looks.outcome(&self.source.topic, looked);
        }
    }

    /// Looks for new partitions if that is due, and polls the topic. Does not follow `paused` partitions.
    pub(super) fn read<O: 'static>(
        &mut self,
        position: &mut TopicPosition,
        paused: &BTreeSet<u32>,
        out: &mut Emitter<O>,
    ) {
        self.look_if_due(position, paused);
        let polled = self.poll();
        match self.polls.outcome(&self.source.topic, polled) {
            None | Some(0) => {}
            Some(lost) => out.count_by(names::SOURCE_GAPS, lost),
        }
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// The reason why it cannot be read, also if the decoder panics.
    pub(super) fn decode(&self, record: &Record) -> Result<Option<T>, String> {
        match catch_unwind(AssertUnwindSafe(|| (self.source.decode)(record))) {
            Ok(decoded) => decoded.map_err(|Unreadable(reason)| reason),
            Err(panic) => Err(format!("its decoder panicked: {}", panic_text(panic.as_ref()))),
        }
    }

    /// Polls the topic. Returns the number of offsets that were deleted before they were read.
    fn poll(&mut self) -> Result<u64, BusError> {
        let mut polled = Vec::new();
        let gap = self.follower.poll(POLLED, Duration::ZERO, &mut polled);
        self.polled.extend(polled);
        let Some(gap) = gap? else { return Ok(0) };
        tracing::error!(
            topic = gap.topic,
            partition = gap.partition,
            from = gap.requested,
            to = gap.low,
            "records of a source were deleted before they were read"
        );
        Ok(gap.low.saturating_sub(gap.requested))
    }
}

impl TopicPosition {
    /// Replaces the position by one in another topic: one of another name begins where the source is
    /// configured to begin, one that was created again at its beginning, as nothing of it was read.
    fn replace(&mut self, TopicInfo { name, id, partitions }: &TopicInfo) {
        let is_new = self.topic != *name;
        if !is_new {
            tracing::error!(topic = name, "the topic of a source was created again: reading it from its beginning");
        } else if !self.topic.is_empty() {
            let before = &*self.topic;
            tracing::warn!(topic = name, before, "a source reads another topic than before, as if it were new");
        }
        let partitions = if is_new { *partitions } else { 0 };
        *self = Self { topic: name.clone(), id: id.clone(), partitions, offsets: BTreeMap::new() };
    }
}

/// Follows a partition from its saved offset, or else from `start`.
fn follow(
    follower: &mut Follower,
    bus: &dyn Bus,
    topic: &str,
    partition: u32,
    saved: Option<u64>,
    start: Start,
) -> Result<(), BusError> {
    let start = match saved {
        None => start,
        Some(saved) => {
            let end = bus.bounds(topic, partition)?.end;
            // As a follower that finds this out while it reads.
            if saved > end {
                tracing::error!(
                    topic,
                    partition,
                    saved,
                    end,
                    "a partition of a source ends before the position of the source: reading it from its beginning"
                );
                Start::Low
            } else {
                Start::Offset(saved)
            }
        }
    };
    follower.follow(bus, topic, partition, start).map(drop)
}

impl<T: 'static> Spout for TopicSpout<T> {
    type Out = T;
    type Position = TopicPosition;

    fn open(&mut self, source: &SourceContext) {
        self.context = Some(source.clone());
    }

    fn next(&mut self, position: &mut TopicPosition, out: &mut Emitter<T>) -> bool {
        let known = position.offsets.len();
        if self.polled.is_empty() {
            self.read(position, &BTreeSet::new(), out);
        }
        // One record for each call: a panic behind it discards what the call emitted.
        let Some(record) = self.polled.pop_front() else { return position.offsets.len() > known };
        position.offsets.insert(record.partition, record.offset + 1);
        match self.decode(&record) {
            Ok(tuple) => tuple.into_iter().for_each(|tuple| out.emit(tuple)),
            Err(reason) => out.fail_record(&record, reason),
        }
        true
    }
}
