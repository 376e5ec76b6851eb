//! A Kafka source that emits a failed record again, after a delay and in the order of its key.
//!
//! The position of a partition is the end of the prefix of records that are done, so a restart repeats
//! the records behind it and loses none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bus::{MonoTime, Record, Start};
use bytes::Bytes;

use super::kafka::{TopicPosition, TopicSpout};
use crate::component::Spout;
use crate::emitter::Emitter;
use crate::place::SourceContext;
use crate::tracked::Failed;

/// Number of records of one partition in work at which its reading pauses, and half of which it continues
/// at: a partition whose records fail or wait does not take the room of the others. At some 2 KB each, 1
/// MB.
const PER_PARTITION: usize = 512;

/// The retries of a failed record. The delay doubles with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of retries of a record. Then it goes to the dead-letter topic.
    pub max: u32,
    /// Delay of the first retry in milliseconds.
    pub first_ms: u64,
    /// Maximum delay in milliseconds.
    pub max_ms: u64,
}

impl Default for Retries {
    /// Five retries within about 3 s. Records with the same key wait meanwhile.
    fn default() -> Self {
        Self { max: 5, first_ms: 100, max_ms: 10_000 }
    }
}

impl Retries {
    /// Returns the delay of the retry after `failures` failures, at least 1; `None` after the last.
    fn delay_ms(self, failures: u32) -> Option<u64> {
        let doubled = self.first_ms.saturating_mul(1_u64.checked_shl(failures - 1).unwrap_or(u64::MAX));
        (failures <= self.max).then_some(doubled.min(self.max_ms))
    }
}

/// A partition and an offset.
type Place = (u32, u64);

struct Entry {
    record: Record,
    failures: u32,
}

/// The records of a source that were read and are not done. At most one record of a key is emitted at a
/// time, so retries keep the order of a key.
#[derive(Default)]
struct InWork {
    entries: BTreeMap<Place, Entry>,
    /// The offsets in work of each partition and key, in order. The first one may be emitted.
    keys: BTreeMap<(u32, Bytes), VecDeque<u64>>,
    ready: VecDeque<Place>,
    /// The records that wait for their retry.
    delayed: BTreeSet<(MonoTime, Place)>,
    /// The offset after the last record of each partition.
    ends: BTreeMap<u32, u64>,
}

impl InWork {
    fn add(&mut self, record: Record) {
        let place = (record.partition, record.offset);
        self.ends.insert(record.partition, record.offset + 1);
        let first = record.key.clone().is_none_or(|key| {
            let offsets = self.keys.entry((record.partition, key)).or_default();
            offsets.push_back(record.offset);
            offsets.len() == 1
        });
        if first {
            self.ready.push_back(place);
        }
        self.entries.insert(place, Entry { record, failures: 0 });
    }

    /// Returns the record to emit next, if there is one.
    fn next(&mut self, now: MonoTime) -> Option<Record> {
        let is_due = self.delayed.first().is_some_and(|(due, _)| *due <= now);
        let place = if is_due { self.delayed.pop_first()?.1 } else { self.ready.pop_front()? };
        Some(self.entries.get(&place)?.record.clone())
    }

    /// Returns when the next retry is due.
    fn next_retry(&self) -> Option<MonoTime> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Removes a record that is done. Returns the new position of its partition; `None` if the record is
    /// not in work.
    fn done(&mut self, place: Place) -> Option<u64> {
        let Entry { record, .. } = self.entries.remove(&place)?;
        let (partition, _) = place;
        if let Some(key) = record.key {
            let key = (partition, key);
            let offsets = self.keys.get_mut(&key)?;
            offsets.pop_front();
            match offsets.front() {
                Some(next) => self.ready.push_back((partition, *next)),
                None => drop(self.keys.remove(&key)),
            }
        }
        Some(self.position(partition))
    }

    /// Schedules the retry of a failed record. Returns false after its last retry, or if it is not in
    /// work.
    fn retry(&mut self, place: Place, retries: Retries, now: MonoTime) -> bool {
        let Some(entry) = self.entries.get_mut(&place) else { return false };
        entry.failures += 1;
        let delay = retries.delay_ms(entry.failures);
        self.delayed.extend(delay.map(|delay_ms| (now.plus_ms(delay_ms), place)));
        delay.is_some()
    }

    /// The first offset of a partition that is not done.
    fn position(&self, partition: u32) -> u64 {
        let first = self.entries.range((partition, 0)..=(partition, u64::MAX)).next();
        first.map_or_else(|| self.end(partition), |((_, offset), _)| *offset)
    }

    fn end(&self, partition: u32) -> u64 {
        self.ends.get(&partition).copied().unwrap_or_default()
    }

    /// Returns the number of records of a partition in work.
    fn len(&self, partition: u32) -> usize {
        self.entries.range((partition, 0)..=(partition, u64::MAX)).count()
    }
}

/// The id of a record's root. No partition reaches 2^16, and no offset 2^48.
fn id_of((partition, offset): Place) -> u64 {
    (u64::from(partition) << 48) | offset
}

fn place_of(id: u64) -> Place {
    (u32::try_from(id >> 48).expect("16 bits"), id & ((1 << 48) - 1))
}

pub(super) struct RetryingSpout<T> {
    topic: TopicSpout<T>,
    retries: Retries,
    work: InWork,
    /// The partitions whose reading pauses.
    paused: BTreeSet<u32>,
}

impl<T> RetryingSpout<T> {
    pub(super) fn of(topic: TopicSpout<T>, retries: Retries) -> Self {
        Self { topic, retries, work: InWork::default(), paused: BTreeSet::new() }
    }

    fn now(&self) -> MonoTime {
        self.topic.context.as_ref().map_or(MonoTime::default(), |context| context.bus.clock().mono())
    }

    /// Reads records, and pauses the partitions that have too many in work.
    fn read<O: 'static>(&mut self, position: &mut TopicPosition, out: &mut Emitter<O>) {
        let (id, topic) = (position.id.clone(), self.topic.source.topic.clone());
        self.topic.read(position, &self.paused, out);
        if position.id != id {
            // The topic was created again, or is another one.
            (self.work, self.paused) = Default::default();
        }
        for record in self.topic.polled.drain(..) {
            self.work.add(record);
        }
        for partition in position.offsets.keys().copied() {
            let is_paused = self.paused.contains(&partition);
            let in_work =
                if is_paused || self.work.ends.contains_key(&partition) { self.work.len(partition) } else { 0 };
            let changed = if !is_paused && in_work >= PER_PARTITION {
                self.topic.follower.unfollow(&topic, partition)
            } else if is_paused && in_work <= PER_PARTITION / 2 {
                let Some(SourceContext { bus, .. }) = &self.topic.context else { continue };
                let next = Start::Offset(self.work.end(partition));
                self.topic.follower.follow(&**bus, &topic, partition, next).map(drop)
            } else {
                continue;
            };
            // After an error the next call tries again.
            if self.topic.polls.outcome(&topic, changed).is_some() && !self.paused.remove(&partition) {
                self.paused.insert(partition);
            }
        }
    }

    /// Moves the position behind a record that is done, as far as all records before it are done.
    fn done(&mut self, place: Place, position: &mut TopicPosition) {
        if let Some(next) = self.work.done(place) {
            position.offsets.insert(place.0, next);
        }
    }
}

impl<T: 'static> Spout for RetryingSpout<T> {
    type Out = T;
    type Position = TopicPosition;
    const TRACKS: bool = true;

    fn open(&mut self, source: &SourceContext) {
        self.topic.open(source);
    }

    fn next(&mut self, position: &mut TopicPosition, out: &mut Emitter<T>) -> bool {
        let known = position.offsets.len();
        if self.work.ready.is_empty() {
            self.read(position, out);
        }
        let now = self.now();
        let Some(record) = self.work.next(now) else {
            if let Some(due) = self.work.next_retry() {
                out.call_after(u64::try_from(due.since(now).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
            }
            return position.offsets.len() > known;
        };
        let place = (record.partition, record.offset);
        match self.topic.decode(&record) {
            Ok(Some(tuple)) => out.track(id_of(place), |out| out.emit(tuple)),
            Ok(None) => self.done(place, position),
            Err(reason) => {
                out.fail_record(&record, reason);
                self.done(place, position);
            }
        }
        true
    }

    fn ack(&mut self, id: u64, position: &mut TopicPosition) {
        self.done(place_of(id), position);
    }

    fn fail(&mut self, id: u64, failed: &Failed, position: &mut TopicPosition, out: &mut Emitter<T>) {
        let (place, now) = (place_of(id), self.now());
        if self.work.retry(place, self.retries, now) {
            return;
        }
        if let Some(Entry { record, failures }) = self.work.entries.get(&place) {
            let reason = format!("{}; it failed {failures} times", failed.reason);
            out.dead_record(record, Failed { reason, ..failed.clone() });
        }
        self.done(place, position);
    }
}

#[cfg(test)]
mod tests {
    use bus::Headers;
    use wire::WallTime;

    use super::*;

    fn record(offset: u64, key: Option<&'static str>) -> Record {
        Record {
            topic: "orders".into(),
            partition: 3,
            offset,
            time: WallTime::default(),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            headers: Headers::default(),
            value: Bytes::new(),
        }
    }

    /// Returns the offsets to emit now.
    fn emitted(work: &mut InWork, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| work.next(MonoTime(0).plus_ms(now))).map(|record| record.offset).collect()
    }

    // C56
    #[test]
    fn the_delay_doubles_up_to_its_maximum_and_ends() {
        let retries = Retries { max: 4, first_ms: 100, max_ms: 300 };
        assert_eq!(
            [1, 2, 3, 4, 5].map(|failures| retries.delay_ms(failures)),
            [100, 200, 300, 300].map(Some).iter().copied().chain([None]).collect::<Vec<_>>()[..]
        );
        assert_eq!(Retries { max: 100, ..retries }.delay_ms(90), Some(300));
    }

    // C55
    #[test]
    fn the_position_is_the_end_of_the_prefix_that_is_done() {
        let mut work = InWork::default();
        // Offsets 12 and 13 were compacted away.
        for offset in [10, 11, 14, 15] {
            work.add(record(offset, None));
        }
        assert_eq!(emitted(&mut work, 0), [10, 11, 14, 15]);
        let done = [11, 15, 10, 14].map(|offset| work.done((3, offset)));
        assert_eq!(done, [Some(10), Some(10), Some(14), Some(16)]);
        assert_eq!(work.done((3, 10)), None, "a second ack has no effect");
    }

    #[test]
    fn a_retry_keeps_the_order_of_its_key_and_no_other_key_waits() {
        let (mut work, retries) = (InWork::default(), Retries::default());
        for (offset, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
            work.add(record(offset, Some(key)));
        }
        assert_eq!(emitted(&mut work, 0), [0, 1, 3]);
        assert!(work.retry((3, 0), retries, MonoTime(0)));
        assert_eq!([1, 3].map(|offset| work.done((3, offset))), [Some(0), Some(0)]);
        assert_eq!((emitted(&mut work, 99), work.position(3)), (Vec::new(), 0));
        assert_eq!(emitted(&mut work, 100), [0]);
        assert_eq!(work.done((3, 0)), Some(2));
        assert_eq!(emitted(&mut work, 100), [2]);
    }
}
