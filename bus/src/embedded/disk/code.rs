//! Storage format: entries full of records, and pairs of key and value.
//!
//! Each ordered partition has two logs in the store. The *near* log has one entry, a *piece*, for
//! each batch that wrote to the partition; its records are in memory too. The *far* log has
//! *pages*: records of many old pieces, packed into one entry and no longer in memory. A compacted
//! partition has a near log only; live records of its oldest pieces are rewritten.
//!
//! Topics, groups, positions and watermarks are pairs. Pairs are overwritten and hardly ever
//! deleted, because the store forgets deletions when it cleans up (tikv/raft-engine, issue 141). It
//! forgets cuts too. Therefore a watermark says which entries are valid.

use std::sync::Arc;

use bytes::Bytes;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, LogBatch, MessageExt};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes as Raw;
use wire::WallTime;

use super::super::state::PartitionRef;
use crate::record::Headers;
use crate::{Cleanup, Record};

/// The format version. A build with another version rejects the directory.
pub(super) const VERSION: u32 = 1;

/// The store's log number for topics, groups and positions.
pub(in crate::embedded) const META: u64 = 0;

/// The two logs of a partition.
#[derive(Debug, Clone, Copy)]
pub(in crate::embedded) enum LogKind {
    /// Pieces, whose records are in memory, and the watermark.
    Near,
    /// Pages.
    Far,
}

/// Returns the store's number of a log.
pub(in crate::embedded) fn number((topic, partition): PartitionRef, kind: LogKind) -> u64 {
    let kind = match kind {
        LogKind::Near => 0,
        LogKind::Far => 1,
    };
    ((topic as u64 + 1) << 33) | (u64::from(partition) << 1) | kind
}

/// The keys of pairs. None starts with two underscores, which the store reserves.
pub(in crate::embedded) mod keys {
    /// The format version.
    pub(in crate::embedded) const VERSION: &[u8] = b"v";
    /// The watermark of a partition.
    pub(in crate::embedded) const WATERMARK: &[u8] = b"w";
    /// A topic, by number.
    pub(in crate::embedded) const TOPIC: u8 = b't';
    /// A group, by name.
    pub(in crate::embedded) const GROUP: u8 = b'g';
    /// A position, by partition and group name.
    pub(in crate::embedded) const POSITION: u8 = b'p';
    /// The positions of a named follower, by topic and name.
    pub(in crate::embedded) const NAMED: u8 = b'n';
    /// A page, by number.
    const PAGE: u8 = b'a';

    /// Builds a key from its kind and parts.
    pub(in crate::embedded) fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![kind];
        for part in parts {
            key.extend_from_slice(part);
        }
        key
    }

    /// Returns the key of a page.
    pub(in crate::embedded) fn page(number: u64) -> Vec<u8> {
        key(PAGE, &[&number.to_be_bytes()])
    }

    /// Returns the page number of a key; `None` for other keys.
    pub(in crate::embedded) fn page_number(key: &[u8]) -> Option<u64> {
        let (kind, number) = key.split_first()?;
        Some(u64::from_be_bytes(number.try_into().ok()?)).filter(|_| *kind == PAGE)
    }
}

/// An entry: its number, the end offset, then records.
struct RecordEntry;

impl MessageExt for RecordEntry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(u64::MAX, |number| u64::from_le_bytes(*number))
    }
}

/// Length of an entry's header: number and end offset, in bytes.
const HEAD: usize = 16;

/// An entry under construction.
pub(in crate::embedded) struct EntryWriter(Vec<u8>);

impl EntryWriter {
    /// Starts entry `number`.
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

    /// Adds the entry to `batch`. The next record's offset is at least `end`.
    pub(in crate::embedded) fn finish(
        mut self,
        log: u64,
        end: u64,
        batch: &mut LogBatch,
    ) -> Result<(), raft_engine::Error> {
        self.0[8..HEAD].copy_from_slice(&end.to_le_bytes());
        let mut entry = BytesValue::new();
        entry.value = self.0;
        batch.add_entries::<RecordEntry>(log, &[entry])
    }
}

/// Cuts all entries of a log below `first`.
pub(in crate::embedded) fn cut(batch: &mut LogBatch, log: u64, first: u64) {
    batch.add_command(log, Command::Compact { index: first });
}

/// A decoded entry.
pub(in crate::embedded) struct EntryRead {
    /// Lower limit of the next record's offset.
    pub(in crate::embedded) end: u64,
    /// The records.
    pub(in crate::embedded) records: Vec<Record>,
}

/// Reads entry `number` of a log; `None` if it does not exist.
pub(super) fn read_entry(
    engine: &raft_engine::Engine<super::files::Files>,
    log: u64,
    number: u64,
) -> Result<Option<Vec<u8>>, raft_engine::Error> {
    Ok(engine.get_entry::<RecordEntry>(log, number)?.map(|entry| entry.value))
}

/// Decodes an entry. The records share its memory.
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

/// The stored form of a record.
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
    /// Returns the record as slices of the entry.
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

/// The stored form of a topic.
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

/// The stored form of a committed position.
#[derive(Serialize, Deserialize)]
pub(in crate::embedded) struct StoredPosition {
    pub(in crate::embedded) next: u64,
    pub(in crate::embedded) metadata: String,
}

/// Bounds of a partition, and its valid entries as ranges (first, one past the last). The entries
/// themselves may extend beyond.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::embedded) struct Watermark {
    /// The first available offset.
    pub(in crate::embedded) low: u64,
    /// The next offset.
    pub(in crate::embedded) end: u64,
    /// The numbers of the pieces.
    pub(in crate::embedded) pieces: (u64, u64),
    /// The numbers of the pages.
    pub(in crate::embedded) pages: (u64, u64),
}

/// Index data of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::embedded) struct Page {
    /// The offset after its last record.
    pub(in crate::embedded) end: u64,
    /// The append time of its last record.
    pub(in crate::embedded) last: u64,
}

/// Appends the encoding of `value` to `buffer`.
pub(in crate::embedded) fn write(value: &impl Serialize, buffer: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, buffer).expect("numbers, text and bytes can be written to memory")
}
