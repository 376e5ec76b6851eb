//! One partition in memory: records by offset, within bounds.

use std::collections::btree_map::{BTreeMap, OccupiedEntry};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use wire::WallTime;

use super::disk::tail::Tail;
use crate::{Bounds, Headers, Outgoing, Record};

/// Memory of a record besides key, headers and value, in bytes: the map entry and the counters of
/// three shared buffers. Measured with records of 150 bytes, rounded up.
pub(super) const OVERHEAD: usize = 300;

/// A record without topic and partition, which its log knows. Only readers therefore touch the
/// reference count of the topic name.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) time: WallTime,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) value: Bytes,
}

impl StoredRecord {
    /// True if the expiry time of its envelope has passed.
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
/// Offsets have gaps, left by compaction and by [`Log::skip`].
#[derive(Debug)]
pub(super) struct Log {
    topic: Arc<str>,
    partition: u32,
    records: BTreeMap<u64, StoredRecord>,
    bounds: Bounds,
    /// The offset after the last record, deleted or not; later offsets are gaps.
    records_end: u64,
    bytes: usize,
    keys: Option<Keys>,
    /// The partition's state on disk, if there is a disk. The oldest records may be only there.
    pub(super) tail: Option<Tail>,
    /// The offset after the last synced record, if there is a disk.
    pub(super) synced: u64,
}

/// Key index of a compacted log.
#[derive(Debug, Default)]
struct Keys {
    /// The offset of each key's only record.
    last: HashMap<Bytes, u64>,
    /// Offsets of deletions, oldest first. A deletion stays until every reader has passed it: a
    /// reader of the old value must not miss it.
    deletions: VecDeque<u64>,
}

impl Log {
    /// Creates an empty log.
    pub(super) fn new(topic: Arc<str>, partition: u32, compacted: bool) -> Self {
        Self {
            topic,
            partition,
            records: BTreeMap::new(),
            bounds: Bounds { low: 0, end: 0 },
            records_end: 0,
            bytes: 0,
            keys: compacted.then(Keys::default),
            tail: None,
            synced: 0,
        }
    }

    /// Sets the state on disk and the bounds; everything before the end is synced.
    pub(super) fn on_disk(mut self, tail: Tail, bounds: Bounds) -> Self {
        (self.tail, self.bounds, self.synced) = (Some(tail), bounds, bounds.end);
        self.records_end = bounds.end;
        self
    }

    /// Returns the first available offset and the next one.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Returns the offset after the last record, deleted or not; later offsets are gaps.
    pub(super) fn end_of_records(&self) -> u64 {
        self.records_end
    }

    /// Appends a copy of `outgoing`. A compacted log removes the older record of the key at once.
    /// So it never holds more than one record per key, and needs no long compaction passes.
    pub(super) fn append(&mut self, outgoing: &Outgoing, time: WallTime) {
        let (key, headers, value) = (outgoing.key.clone(), outgoing.headers.clone(), outgoing.value.clone());
        self.hold(self.bounds.end, StoredRecord { time, key, headers, value });
        self.bounds.end += 1;
    }

    /// Inserts a record at its own offset, which must be larger than all others.
    pub(super) fn put(&mut self, record: Record) {
        let Record { offset, time, key, headers, value, .. } = record;
        self.hold(offset, StoredRecord { time, key, headers, value });
    }

    fn hold(&mut self, offset: u64, held: StoredRecord) {
        if let (Some(keys), Some(key)) = (&mut self.keys, &held.key) {
            match keys.last.get_mut(key) {
                Some(last) => {
                    Self::remove(&mut self.records, &mut self.bytes, *last);
                    *last = offset;
                }
                // A copy, because a record's key may share the memory of the whole record.
                None => drop(keys.last.insert(Bytes::copy_from_slice(key), offset)),
            }
            if held.value.is_empty() {
                keys.deletions.push_back(offset);
            }
        }
        self.bytes += held.size() + OVERHEAD;
        self.records.insert(offset, held);
        self.records_end = offset + 1;
    }

    /// Uses one offset without a record, as a Kafka transaction marker does.
    pub(super) fn skip(&mut self) {
        self.bounds.end += 1;
    }

    /// Appends up to `max` records from memory to `out`, with offsets in `from..until`. Returns the
    /// next offset to read; it skips offsets without records, also at the end.
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

    /// Returns the memory of its records, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Iterates over the records in memory below `end`.
    pub(super) fn held_below(&self, end: u64) -> impl Iterator<Item = (u64, &StoredRecord)> {
        self.records.range(..end).map(|(offset, held)| (*offset, held))
    }

    /// Returns the record at `offset` if it is in memory.
    pub(super) fn held(&self, offset: u64) -> Option<&StoredRecord> {
        self.records.get(&offset)
    }

    /// Drops the records below `end` from memory; they are on disk.
    pub(super) fn evict(&mut self, end: u64) {
        while let Some((&offset, _)) = self.records.first_key_value().filter(|(offset, _)| **offset < end) {
            Self::remove(&mut self.records, &mut self.bytes, offset);
        }
    }

    /// Raises the low watermark to `low`.
    pub(super) fn begin_at(&mut self, low: u64) {
        self.bounds.low = self.bounds.low.max(low);
    }

    /// Drops the oldest records below `floor` until at most `keep` bytes are left.
    pub(super) fn cut_to(&mut self, keep: usize, floor: u64) {
        while self.bytes > keep && self.pop_below(floor) {}
    }

    /// Drops the oldest records that have expired at `now` until at most `keep` bytes are left.
    pub(super) fn cut_expired(&mut self, keep: usize, now: WallTime) {
        while self.bytes > keep
            && self.records.first_key_value().is_some_and(|(_, oldest)| oldest.has_expired(now))
            && self.pop_below(u64::MAX)
        {}
    }

    /// Drops records that were appended before `time`.
    pub(super) fn cut_before(&mut self, time: WallTime) {
        while self.records.first_key_value().is_some_and(|(_, record)| record.time < time) && self.pop_below(u64::MAX) {
        }
    }

    /// Drops records below `offset`.
    pub(super) fn delete_before(&mut self, offset: u64) {
        while self.pop_below(offset) {}
        self.bounds.low = self.bounds.low.max(offset.min(self.bounds.end));
    }

    /// Drops deletions below `passed`, the lowest next offset of all readers.
    pub(super) fn forget_deletions(&mut self, passed: u64) {
        let Some(keys) = &mut self.keys else { return };
        while let Some(offset) = keys.deletions.pop_front_if(|offset| *offset < passed) {
            // Writing the key again has already removed its deletion.
            if let Some(StoredRecord { key: Some(key), .. }) = Self::remove(&mut self.records, &mut self.bytes, offset)
            {
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

    fn remove(records: &mut BTreeMap<u64, StoredRecord>, bytes: &mut usize, offset: u64) -> Option<StoredRecord> {
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
    fn a_read_continues_after_the_last_one_and_skips_gaps() {
        let mut log = log(false);
        for _ in 0..3 {
            put(&mut log, "k", "v");
            log.skip();
        }
        assert_eq!(log.bounds(), Bounds { low: 0, end: 6 });
        assert_eq!(log.read(0, 2, u64::MAX, |_| ()), 3);
        assert_eq!(log.read(0, 2, 4, |_| ()), 4, "no record is left below offset 4");
        assert_eq!(log.read(2, 0, u64::MAX, |_| ()), 2, "nothing was read");
        assert_eq!(offsets(&log, 3), [4]);
        assert_eq!(log.read(3, 1, u64::MAX, |_| ()), 6, "the last offset has no record");
        assert_eq!(log.read(6, 2, u64::MAX, |_| ()), 6);
    }

    #[test]
    fn a_cut_drops_the_oldest_records_and_stops_at_the_floor() {
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
    fn a_deletion_stays_until_every_reader_has_passed_it() {
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
