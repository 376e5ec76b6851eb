//! One partition: records by offset, with what keeps it bounded.

use std::collections::btree_map::{BTreeMap, OccupiedEntry};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use wire::WallTime;

use super::disk::tail::Tail;
use crate::{Bounds, Headers, Outgoing, Record};

/// What a record costs in memory beside its key, headers and value: its place in the map, and the counters of three
/// shared buffers. Measured with records of 150 bytes, rounded up.
pub(super) const OVERHEAD: usize = 300;

/// A record as its partition holds it: without its place, which the partition knows. So no thread but those that read
/// touches the counter of a topic's name.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) time: WallTime,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) value: Bytes,
}

impl Held {
    /// True where its envelope says that it is of no use after a time that has passed.
    fn has_expired(&self, now: WallTime) -> bool {
        self.headers.head().ok().and_then(|head| head.expires).is_some_and(|expires| expires < now)
    }

    /// As [`Record::size`].
    pub(super) fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + self.value.len()
    }
}

/// The records of one partition.
///
/// Offsets have gaps: compaction leaves them, and so does [`Log::skip`].
#[derive(Debug)]
pub(super) struct Log {
    topic: Arc<str>,
    partition: u32,
    records: BTreeMap<u64, Held>,
    bounds: Bounds,
    bytes: usize,
    keys: Option<Keys>,
    /// What it has on disk, where there is one; its oldest records may be there alone.
    pub(super) tail: Option<Tail>,
    /// The offset after the last record that is synced, where there is a disk.
    pub(super) synced: u64,
}

/// What a compacted log knows about its keys.
#[derive(Debug, Default)]
struct Keys {
    /// The offset of each key's only record.
    last: HashMap<Bytes, u64>,
    /// The offsets of deletions, oldest first. A deletion goes when all who read have passed it: one who has read the
    /// old value must not miss it.
    deletions: VecDeque<u64>,
}

impl Log {
    /// An empty log.
    pub(super) fn new(topic: Arc<str>, partition: u32, compacted: bool) -> Self {
        Self {
            topic,
            partition,
            records: BTreeMap::new(),
            bounds: Bounds { low: 0, end: 0 },
            bytes: 0,
            keys: compacted.then(Keys::default),
            tail: None,
            synced: 0,
        }
    }

    /// The same log, with these entries on disk and these bounds; everything before them is synced.
    pub(super) fn on_disk(mut self, tail: Tail, bounds: Bounds) -> Self {
        (self.tail, self.bounds, self.synced) = (Some(tail), bounds, bounds.end);
        self
    }

    /// The first offset there is, and the next that is given.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The offset after the last record, where that is in memory: what comes after it is a gap.
    pub(super) fn end_of_records(&self) -> u64 {
        self.records.last_key_value().map_or(self.bounds.end, |(offset, _)| offset + 1)
    }

    /// Appends a copy of `outgoing`. In a compacted log the older record of its key goes at once, so that such a log
    /// never holds more than one record for each key, without passes that take long.
    pub(super) fn append(&mut self, outgoing: &Outgoing, time: WallTime) {
        let (key, headers, value) = (outgoing.key.clone(), outgoing.headers.clone(), outgoing.value.clone());
        self.hold(self.bounds.end, Held { time, key, headers, value });
        self.bounds.end += 1;
    }

    /// Takes a record with the offset that it has, which is larger than all there are.
    pub(super) fn put(&mut self, record: Record) {
        let Record { offset, time, key, headers, value, .. } = record;
        self.hold(offset, Held { time, key, headers, value });
    }

    fn hold(&mut self, offset: u64, held: Held) {
        if let (Some(keys), Some(key)) = (&mut self.keys, &held.key) {
            match keys.last.get_mut(key) {
                Some(last) => {
                    Self::remove(&mut self.records, &mut self.bytes, *last);
                    *last = offset;
                }
                // A copy: the key of a record may share its memory with all of it.
                None => drop(keys.last.insert(Bytes::copy_from_slice(key), offset)),
            }
            if held.value.is_empty() {
                keys.deletions.push_back(offset);
            }
        }
        self.bytes += held.size() + OVERHEAD;
        self.records.insert(offset, held);
    }

    /// Uses an offset up without a record, as a commit marker of Kafka does.
    pub(super) fn skip(&mut self) {
        self.bounds.end += 1;
    }

    /// Appends up to `max` records that are in memory to `out`, with offsets from `from` on and below `until`. Returns where to
    /// read on: past the offsets that have no record, also at the end.
    pub(super) fn read(&self, from: u64, max: usize, until: u64, mut out: impl FnMut(Record)) -> u64 {
        let until = until.min(self.bounds.end).max(from);
        let (mut next, mut records) = (from, self.records.range(from..until));
        for (&offset, held) in records.by_ref().take(max) {
            out(Record {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                offset,
                time: held.time,
                key: held.key.clone(),
                headers: held.headers.clone(),
                value: held.value.clone(),
            });
            next = offset + 1;
        }
        if records.next().is_some() { next } else { until }
    }

    /// What its records take in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records in memory that are below `end`.
    pub(super) fn held_below(&self, end: u64) -> impl Iterator<Item = (u64, &Held)> {
        self.records.range(..end).map(|(offset, held)| (*offset, held))
    }

    /// The record at `offset`, where it is in memory.
    pub(super) fn held(&self, offset: u64) -> Option<&Held> {
        self.records.get(&offset)
    }

    /// Lets go of the records below `end`, which are on disk.
    pub(super) fn let_go(&mut self, end: u64) {
        while let Some((&offset, _)) = self.records.first_key_value().filter(|(offset, _)| **offset < end) {
            Self::remove(&mut self.records, &mut self.bytes, offset);
        }
    }

    /// Nothing is left below `low`.
    pub(super) fn begin_at(&mut self, low: u64) {
        self.bounds.low = self.bounds.low.max(low);
    }

    /// Drops the oldest records below `floor` until no more than `keep` bytes are left.
    pub(super) fn cut_to(&mut self, keep: usize, floor: u64) {
        while self.bytes > keep && self.pop_below(floor) {}
    }

    /// Drops the oldest records, as long as they have expired at `now`, until no more than `keep` bytes are left.
    pub(super) fn cut_expired(&mut self, keep: usize, now: WallTime) {
        while self.bytes > keep
            && self.records.first_key_value().is_some_and(|(_, oldest)| oldest.has_expired(now))
            && self.pop_below(u64::MAX)
        {}
    }

    /// Drops what was appended before `time`.
    pub(super) fn cut_before(&mut self, time: WallTime) {
        while self.records.first_key_value().is_some_and(|(_, record)| record.time < time) && self.pop_below(u64::MAX) {
        }
    }

    /// Drops what is below `offset`.
    pub(super) fn delete_before(&mut self, offset: u64) {
        while self.pop_below(offset) {}
        self.bounds.low = self.bounds.low.max(offset.min(self.bounds.end));
    }

    /// Drops deletions below `passed`, the lowest offset that anybody who reads this log will read next.
    pub(super) fn forget_deletions(&mut self, passed: u64) {
        let Some(keys) = &mut self.keys else { return };
        while let Some(offset) = keys.deletions.pop_front_if(|offset| *offset < passed) {
            // A key that was written again afterwards has taken its deletion with it.
            if let Some(Held { key: Some(key), .. }) = Self::remove(&mut self.records, &mut self.bytes, offset) {
                keys.last.remove(&key);
            }
        }
    }

    fn pop_below(&mut self, floor: u64) -> bool {
        let oldest = self.records.first_entry().filter(|oldest| *oldest.key() < floor);
        let Some((offset, record)) = oldest.map(OccupiedEntry::remove_entry) else { return false };
        self.bytes -= record.size() + OVERHEAD;
        if let (Some(keys), Some(key)) = (&mut self.keys, record.key) {
            keys.last.remove(&key);
        }
        self.bounds.low = offset + 1;
        true
    }

    fn remove(records: &mut BTreeMap<u64, Held>, bytes: &mut usize, offset: u64) -> Option<Held> {
        let record = records.remove(&offset)?;
        *bytes -= record.size() + OVERHEAD;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(compacted: bool) -> Log {
        Log::new("t".into(), 0, compacted)
    }

    fn offsets(log: &Log, from: u64) -> Vec<u64> {
        let mut offsets = Vec::new();
        log.read(from, usize::MAX, u64::MAX, |record| offsets.push(record.offset));
        offsets
    }

    fn put(log: &mut Log, key: &'static str, value: &'static str) {
        log.append(&Outgoing::keyed("t", key, value), WallTime(log.bounds().end));
    }

    #[test]
    fn a_read_goes_on_where_the_last_one_ended_and_passes_gaps() {
        let mut log = log(false);
        for _ in 0..3 {
            put(&mut log, "k", "v");
            log.skip();
        }
        assert_eq!(log.bounds(), Bounds { low: 0, end: 6 });
        assert_eq!(log.read(0, 2, u64::MAX, |_| ()), 3);
        assert_eq!(log.read(0, 2, 4, |_| ()), 4, "nothing is left below the fourth");
        assert_eq!(log.read(2, 0, u64::MAX, |_| ()), 2, "nothing was read");
        assert_eq!(offsets(&log, 3), [4]);
        assert_eq!(log.read(3, 1, u64::MAX, |_| ()), 6, "the last offset has no record");
        assert_eq!(log.read(6, 2, u64::MAX, |_| ()), 6);
    }

    #[test]
    fn a_cut_takes_the_oldest_and_never_what_is_at_the_floor() {
        let mut log = log(false);
        for _ in 0..10 {
            put(&mut log, "k", "v");
        }
        log.cut_to(0, 4);
        assert_eq!(offsets(&log, 0), [4, 5, 6, 7, 8, 9]);
        assert_eq!(log.bounds().low, 4);
        log.cut_to(2 * (OVERHEAD + 2), u64::MAX);
        assert_eq!(offsets(&log, 0), [8, 9]);
        log.cut_before(WallTime(9));
        assert_eq!(offsets(&log, 0), [9]);
        log.delete_before(99);
        assert_eq!((log.bounds(), log.bytes), (Bounds { low: 10, end: 10 }, 0));
    }

    #[test]
    fn a_compacted_log_holds_one_record_for_each_key() {
        let mut log = log(true);
        for value in ["1", "2", "3"] {
            put(&mut log, "a", value);
            put(&mut log, "b", value);
        }
        assert_eq!(offsets(&log, 0), [4, 5]);
        assert_eq!(log.bounds(), Bounds { low: 0, end: 6 });
        assert_eq!(log.bytes, 2 * (OVERHEAD + 2));
    }

    #[test]
    fn a_deletion_stays_until_everybody_has_passed_it() {
        let mut log = log(true);
        put(&mut log, "a", "1");
        put(&mut log, "a", "");
        put(&mut log, "b", "");
        put(&mut log, "b", "2");
        log.forget_deletions(1);
        assert_eq!(offsets(&log, 0), [1, 3]);
        log.forget_deletions(u64::MAX);
        assert_eq!(offsets(&log, 0), [3]);
        assert_eq!(log.keys.as_ref().map(|keys| keys.last.len()), Some(1));
        assert_eq!(log.bytes, OVERHEAD + 2);
    }
}
