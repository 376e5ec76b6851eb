//! A bus that measures the calls of a shard, to time the phases of a takeover without changing the
//! engine.
//!
//! | call of a shard, per lane | phase |
//! |---|---|
//! | `Member::take_over` | asking: the state of the last owner |
//! | `Bus::bounds`, `Bus::reader`, `Reader::assign`, `Reader::poll` | reading the snapshot |
//! | none, until the commit | loading: the lane is built from records |
//! | `Member::commit`, `Member::start` | claiming: the owner record |
//! | `Member::poll`, and the handling of its records | going live: replay and catching up |

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{
    Arrival, Batch, Bounds, Bus, BusError, Clock, CommitError, Member, MemberSpec, MonoTime, Outgoing, Position,
    Reader, Record, Takeover, TopicInfo, TopicSpec, Writer,
};
use wire::WallTime;

/// The timings of a shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timings {
    /// The time of the first assignment of lanes.
    pub(crate) assigned: Option<MonoTime>,
    /// The durations of the phases in the table above.
    pub(crate) asking: Duration,
    pub(crate) reading: Duration,
    pub(crate) loading: Duration,
    pub(crate) claiming: Duration,
    /// The duration and the records of other commits.
    pub(crate) committing: Duration,
    pub(crate) committed: u64,
    /// The volume read from the snapshot topic.
    pub(crate) read: Amount,
    /// The volume written to the snapshot topic.
    pub(crate) written: Amount,
    /// Set between `take_over` and the claim of a lane: the start, and the reading time before it.
    taking: Option<(MonoTime, Duration)>,
}

/// A number of records, and the bytes of their keys, headers and values.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, size: usize) {
        self.records += 1;
        self.bytes += size as u64;
    }

    /// The size in megabytes, for a table.
    #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
    pub(crate) fn megabytes(self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

/// Shared timings of one shard.
#[derive(Clone)]
pub(crate) struct Observations {
    clock: Arc<dyn Clock>,
    timings: Arc<Mutex<Timings>>,
    snapshots: Arc<str>,
}

impl Observations {
    /// Creates empty timings; `snapshots` is the snapshot topic of the stage.
    pub(crate) fn new(clock: Arc<dyn Clock>, snapshots: &str) -> Self {
        Self { clock, timings: Arc::default(), snapshots: snapshots.into() }
    }

    /// The timings so far.
    pub(crate) fn timings(&self) -> Timings {
        self.with(|timings| timings.clone())
    }

    /// Resets all timings.
    pub(crate) fn reset(&self) {
        self.with(|timings| *timings = Timings::default());
    }

    fn with<R>(&self, change: impl FnOnce(&mut Timings) -> R) -> R {
        change(&mut self.timings.lock().expect("no panic while locked"))
    }

    /// Runs `read` and counts its time as reading, but only during a takeover.
    fn reading<R>(&self, read: impl FnOnce() -> R) -> R {
        let begun = self.clock.mono();
        let result = read();
        let took = self.clock.mono().since(begun);
        self.with(|timings| {
            if timings.taking.is_some() {
                timings.reading += took;
            }
        });
        result
    }
}

/// A bus that measures the calls of its users.
pub(crate) struct InstrumentedBus {
    /// The bus itself.
    pub(crate) bus: Arc<dyn Bus>,
    /// The timings.
    pub(crate) seen: Observations,
}

impl Bus for InstrumentedBus {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        self.bus.ensure_topic(spec)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        self.bus.topic(name)
    }

    fn is_compacted(&self, topic: &str) -> Result<bool, BusError> {
        self.bus.is_compacted(topic)
    }

    fn topics_without_append_time(&self, topics: &[&str]) -> Result<Vec<String>, BusError> {
        self.bus.topics_without_append_time(topics)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.seen.reading(|| self.bus.bounds(topic, partition))
    }

    fn offset_at(&self, topic: &str, partition: u32, time: WallTime) -> Result<u64, BusError> {
        self.bus.offset_at(topic, partition, time)
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        Ok(Box::new(InstrumentedMember { member: self.bus.member(spec)?, seen: self.seen.clone() }))
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        self.bus.members(group)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        let reader = self.seen.reading(|| self.bus.reader())?;
        Ok(Box::new(InstrumentedReader { reader: Some(reader), seen: self.seen.clone() }))
    }

    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError> {
        self.bus.writer(name)
    }

    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        self.bus.backlog(group, topic)
    }

    fn topic_warnings(&self, topic: &str) -> Result<Vec<String>, BusError> {
        self.bus.topic_warnings(topic)
    }

    fn read_delay(&self) -> Duration {
        self.bus.read_delay()
    }

    fn save_positions(&self, name: &str, topic: &str, positions: &[(u32, u64)]) -> Result<(), BusError> {
        self.bus.save_positions(name, topic, positions)
    }

    fn saved_position(&self, name: &str, topic: &str, partition: u32) -> Result<Option<u64>, BusError> {
        self.bus.saved_position(name, topic, partition)
    }

    fn forget_name(&self, name: &str, topic: &str) -> Result<(), BusError> {
        self.bus.forget_name(name, topic)
    }

    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        self.bus.trim(topic, partition, before)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.bus.clock()
    }
}

struct InstrumentedMember {
    member: Box<dyn Member>,
    seen: Observations,
}

impl Member for InstrumentedMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        let before = out.len();
        let polled = self.member.poll(max, wait, out);
        // An assignment comes before its records.
        if out[before..].iter().any(|arrival| matches!(arrival, Arrival::Assigned(_))) {
            let now = self.seen.clock.mono();
            self.seen.with(|timings| timings.assigned.get_or_insert(now).0);
        }
        polled
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        let begun = self.seen.clock.mono();
        let takeover = self.member.take_over(partition);
        let now = self.seen.clock.mono();
        self.seen.with(|timings| {
            timings.asking += now.since(begun);
            timings.taking = Some((now, timings.reading));
        });
        takeover
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        let begun = self.seen.clock.mono();
        let started = self.member.start(partition, from);
        let took = self.seen.clock.mono().since(begun);
        self.seen.with(|timings| timings.claiming += took);
        started
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let begun = self.seen.clock.mono();
        let committed = self.member.commit(batch);
        let took = self.seen.clock.mono().since(begun);
        self.seen.with(|timings| {
            if let Some((since, read)) = timings.taking.take() {
                timings.loading += begun.since(since).saturating_sub(timings.reading.saturating_sub(read));
                timings.claiming += took;
            } else {
                timings.committing += took;
                timings.committed += batch.records.len() as u64;
            }
            let of_snapshots = |record: &&Outgoing| *record.topic == *self.seen.snapshots;
            if committed.is_ok() {
                batch.records.iter().filter(of_snapshots).for_each(|record| timings.written.add(record.size()));
            }
        });
        committed
    }

    fn commit_async(&mut self, positions: &[Position]) -> Result<(), CommitError> {
        self.member.commit_async(positions)
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.member.release(partitions)
    }

    fn has_joined(&self) -> bool {
        self.member.has_joined()
    }

    fn leave(self: Box<Self>) -> Result<(), BusError> {
        self.member.leave()
    }
}

struct InstrumentedReader {
    /// `None` only during `drop`.
    reader: Option<Box<dyn Reader>>,
    seen: Observations,
}

impl InstrumentedReader {
    fn reader(&mut self) -> &mut dyn Reader {
        &mut **self.reader.as_mut().expect("present until dropped")
    }
}

impl Drop for InstrumentedReader {
    /// Closing a client counts as reading.
    fn drop(&mut self) {
        let reader = self.reader.take();
        self.seen.reading(|| drop(reader));
    }
}

impl Reader for InstrumentedReader {
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError> {
        self.seen.clone().reading(|| self.reader().assign(topic, partition, from))
    }

    fn unassign(&mut self, topic: &str, partition: u32) -> Result<(), BusError> {
        self.seen.clone().reading(|| self.reader().unassign(topic, partition))
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        let before = out.len();
        let polled = self.seen.clone().reading(|| self.reader().poll(max, wait, out));
        self.seen.with(|timings| {
            for record in out[before..].iter().filter(|record| *record.topic == *self.seen.snapshots) {
                let key = record.key.as_deref().map_or(0, <[u8]>::len);
                timings.read.add(key + record.headers.size() + record.value.len());
            }
        });
        polled
    }

    fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.reader.as_ref()?.position(topic, partition)
    }
}
