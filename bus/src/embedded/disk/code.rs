//! What the store is given: entries full of records, and pairs of key and value.
//!
//! Each partition that is kept in order has two logs of entries in the store. The *near* one has an entry, a *piece*, for each
//! batch that wrote to the partition; what it holds is in memory too. The *far* one has *pages*: the records of many pieces
//! that are too old for the memory, packed into one entry. A compacted partition has a near one alone; what is still needed
//! of its oldest pieces is written once more.
//!
//! Topics, groups, positions and watermarks are pairs. A pair is written anew and hardly ever deleted: the store forgets
//! that it was when it cleans up (tikv/raft-engine, issue 141), and so it does with a cut. Therefore a watermark says which
//! entries count.

use std::sync::Arc;

use bytes::Bytes;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, LogBatch, MessageExt};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes as Raw;
use wire::WallTime;

use super::super::state::Place;
use crate::record::Headers;
use crate::{Cleanup, Record};

/// How things are written. A build that reads another way refuses the directory.
pub(super) const VERSION: u32 = 1;

/// The log, by its number in the store, that has topics, groups and positions.
pub(in crate::embedded) const META: u64 = 0;

/// The two logs of a partition.
#[derive(Debug, Clone, Copy)]
pub(in crate::embedded) enum Side {
    /// The one whose records are in memory, and the watermark.
    Near,
    /// The one with the pages.
    Far,
}

/// The number that the store knows a log by.
pub(in crate::embedded) fn number((topic, partition): Place, side: Side) -> u64 {
    let side = match side {
        Side::Near => 0,
        Side::Far => 1,
    };
    ((topic as u64 + 1) << 33) | (u64::from(partition) << 1) | side
}

/// The keys of pairs. None begins with two underscores, which the store keeps to itself.
pub(in crate::embedded) mod keys {
    /// The version of everything.
    pub(in crate::embedded) const VERSION: &[u8] = b"v";
    /// Where a partition begins and ends.
    pub(in crate::embedded) const WATERMARK: &[u8] = b"w";
    /// A topic, by number.
    pub(in crate::embedded) const TOPIC: u8 = b't';
    /// A group, by name.
    pub(in crate::embedded) const GROUP: u8 = b'g';
    /// A position, by partition and name of the group.
    pub(in crate::embedded) const POSITION: u8 = b'p';
    /// A page, by number.
    const PAGE: u8 = b'a';

    /// `kind` and what tells it from others of its kind.
    pub(in crate::embedded) fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![kind];
        for part in parts {
            key.extend_from_slice(part);
        }
        key
    }

    /// The key of a page.
    pub(in crate::embedded) fn page(number: u64) -> Vec<u8> {
        key(PAGE, &[&number.to_be_bytes()])
    }

    /// The number of the page with this key; none where it is another key.
    pub(in crate::embedded) fn page_number(key: &[u8]) -> Option<u64> {
        let (kind, number) = key.split_first()?;
        Some(u64::from_be_bytes(number.try_into().ok()?)).filter(|_| *kind == PAGE)
    }
}

/// Entries: first their number and the offset after them, then records.
struct Entry;

impl MessageExt for Entry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(u64::MAX, |number| u64::from_le_bytes(*number))
    }
}

/// The length of an entry's number and the offset after it.
const HEAD: usize = 16;

/// An entry that is being written.
pub(in crate::embedded) struct EntryWriter(Vec<u8>);

impl EntryWriter {
    /// Entry `number` of its log.
    pub(in crate::embedded) fn new(number: u64) -> Self {
        let mut buffer = Vec::with_capacity(1024);
        buffer.extend_from_slice(&number.to_le_bytes());
        buffer.extend_from_slice(&[0; HEAD - 8]);
        Self(buffer)
    }

    /// Appends a record.
    pub(in crate::embedded) fn push(
        &mut self,
        offset: u64,
        time: WallTime,
        key: Option<&Bytes>,
        headers: &Headers,
        value: &[u8],
    ) {
        let key = key.map(|key| Raw::new(key));
        self.0 = write(
            &Stored { offset, time: time.0, key, headers: Raw::new(headers.bytes()), value: Raw::new(value) },
            std::mem::take(&mut self.0),
        );
    }

    /// Appends the entry, whose next record's offset is at least `end`, to `batch`.
    pub(in crate::embedded) fn finish(
        mut self,
        log: u64,
        end: u64,
        batch: &mut LogBatch,
    ) -> Result<(), raft_engine::Error> {
        self.0[8..HEAD].copy_from_slice(&end.to_le_bytes());
        let mut entry = BytesValue::new();
        entry.value = self.0;
        batch.add_entries::<Entry>(log, &[entry])
    }
}

/// Cuts everything below entry `first` of a log.
pub(in crate::embedded) fn cut(batch: &mut LogBatch, log: u64, first: u64) {
    batch.add_command(log, Command::Compact { index: first });
}

/// An entry that was read.
pub(in crate::embedded) struct EntryRead {
    /// The offset of the next record is at least this.
    pub(in crate::embedded) end: u64,
    /// Its records.
    pub(in crate::embedded) records: Vec<Record>,
}

/// Reads entry `number` of a log; none where it is not there.
pub(super) fn read_entry(
    engine: &raft_engine::Engine<super::files::Files>,
    log: u64,
    number: u64,
) -> Result<Option<Vec<u8>>, raft_engine::Error> {
    Ok(engine.get_entry::<Entry>(log, number)?.map(|entry| entry.value))
}

/// Takes an entry apart. The records share its memory.
pub(super) fn decode(entry: Vec<u8>, topic: &Arc<str>, partition: u32) -> Result<EntryRead, postcard::Error> {
    let entry = Bytes::from(entry);
    let (head, mut rest) = entry.split_at_checked(HEAD).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
    let end = head.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (stored, left) = postcard::take_from_bytes::<Stored<'_>>(rest)?;
        rest = left;
        records.push(stored.record(&entry, topic, partition));
    }
    Ok(EntryRead { end, records })
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    offset: u64,
    time: u64,
    #[serde(borrow)]
    key: Option<&'a Raw>,
    #[serde(borrow)]
    headers: &'a Raw,
    #[serde(borrow)]
    value: &'a Raw,
}

impl Stored<'_> {
    /// The record, as slices of what it was read from.
    fn record(&self, from: &Bytes, topic: &Arc<str>, partition: u32) -> Record {
        Record {
            topic: Arc::clone(topic),
            partition,
            offset: self.offset,
            time: WallTime(self.time),
            key: self.key.map(|key| from.slice_ref(key)),
            headers: Headers::from_bytes(from.slice_ref(self.headers)),
            value: from.slice_ref(self.value),
        }
    }
}

/// A topic.
#[derive(Serialize, Deserialize)]
pub(in crate::embedded) struct StoredTopic {
    pub(in crate::embedded) name: String,
    pub(in crate::embedded) id: String,
    pub(in crate::embedded) partitions: u32,
    cleanup: StoredCleanup,
}

#[derive(Serialize, Deserialize)]
enum StoredCleanup {
    Keep,
    DeleteAfterMs(u64),
    Compact,
}

impl StoredTopic {
    pub(in crate::embedded) fn new(name: &str, id: &str, partitions: u32, cleanup: Cleanup) -> Self {
        let cleanup = match cleanup {
            Cleanup::Keep => StoredCleanup::Keep,
            Cleanup::DeleteAfterMs(ms) => StoredCleanup::DeleteAfterMs(ms),
            Cleanup::Compact => StoredCleanup::Compact,
        };
        Self { name: name.into(), id: id.into(), partitions, cleanup }
    }

    pub(super) fn cleanup(&self) -> Cleanup {
        match self.cleanup {
            StoredCleanup::Keep => Cleanup::Keep,
            StoredCleanup::DeleteAfterMs(ms) => Cleanup::DeleteAfterMs(ms),
            StoredCleanup::Compact => Cleanup::Compact,
        }
    }
}

/// What a group has committed of a partition.
#[derive(Serialize, Deserialize)]
pub(in crate::embedded) struct StoredPosition {
    pub(in crate::embedded) next: u64,
    pub(in crate::embedded) note: String,
}

/// Where a partition begins and ends, and which of its entries count: the first and the one after the last. What the entries
/// themselves say may be further.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::embedded) struct Watermark {
    /// The first offset there is.
    pub(in crate::embedded) low: u64,
    /// The next offset that is given.
    pub(in crate::embedded) end: u64,
    /// The numbers of pieces.
    pub(in crate::embedded) pieces: (u64, u64),
    /// The numbers of pages.
    pub(in crate::embedded) pages: (u64, u64),
}

/// What is known of a page without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::embedded) struct Page {
    /// The offset after its last record.
    pub(in crate::embedded) end: u64,
    /// When its last record was appended.
    pub(in crate::embedded) last: u64,
}

/// `value` as bytes, after those in `buffer`.
pub(in crate::embedded) fn write(value: &impl Serialize, buffer: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, buffer).expect("numbers, text and bytes can be written to memory")
}
