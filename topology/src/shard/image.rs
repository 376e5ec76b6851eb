//! The records of a stage's snapshot topic, for one lane.
//!
//! | key of the record | what it is |
//! |---|---|
//! | `.lane` | the head: the covered offset, the schema version, and the combined checksum of all other records |
//! | `<component>/<key>` | the state of a key of a component, as the component saved it |
//! | `.timers/<component>/<block>` | timers with neighbouring numbers |
//! | `.part/<n>/<key>` | the continuation of a state that is too long for one record |
//!
//! Each record carries a checksum of its key and value. A commit writes the changed records and the
//! head atomically, so the last record of each key forms one snapshot. The combined checksum in the
//! head reveals missing and surplus records.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bus::{Headers, Outgoing, Record, Route};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use twox_hash::XxHash3_64;
use wire::graph::Graph;

use crate::snapshot::Change;

/// The schema version of these records. A build reads its own version and older ones.
const FORMAT: u32 = 1;

/// The key of the head. Names of components do not begin with a dot.
const HEAD: &str = ".lane";
const TIMERS: &str = ".timers/";
const PART: &str = ".part/";

/// The headers of a record.
const SUM: &str = "nave-xxh3";
const PARTS: &str = "nave-parts";
const COVERS: &str = "nave-covers";

/// Longer states are split into several records: a broker accepts 1 MiB.
const PART_BYTES: usize = 512 << 10;

/// Maximum number of corrupt keys in a message; the others are counted.
const NAMED: usize = 8;

/// The properties of a build that decide whether it can continue a saved lane: the schema versions
/// of its components, the graph of its topology, and the versions of its deciding code.
#[derive(Debug, Clone, Default)]
pub(super) struct Build {
    pub(super) versions: BTreeMap<Arc<str>, u32>,
    pub(super) graph: Graph,
    pub(super) decides_by: BTreeMap<String, u32>,
}

impl Build {
    /// Explains why it cannot continue the work of a build with this graph; `None` if it can.
    pub(super) fn lacks(&self, graph: &Graph) -> Option<String> {
        let lacks = self.graph.lacks(graph);
        (!lacks.is_empty())
            .then(|| format!("another topology graph decided it; this graph lacks: {}", lacks.join("; ")))
    }

    /// Explains why it must not replay the decisions of a build with this graph and these versions;
    /// `None` if it may.
    pub(super) fn refuses_replay_of(&self, graph: &Graph, decides_by: &BTreeMap<String, u32>) -> Option<String> {
        let other =
            decides_by.iter().find(|(name, version)| self.decides_by.get(*name).is_some_and(|own| own != *version));
        self.lacks(graph).or_else(|| {
            let (name, version) = other?;
            let own = self.decides_by[name];
            Some(format!("version {version} of `{name}` decided it; this build has version {own}"))
        })
    }
}

/// The state of the lane in a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneHead {
    /// The inbox offset up to which the snapshot covers the inbox (S).
    pub(super) position: u64,
    /// The graph of the topology.
    pub(super) graph: Graph,
    /// The versions of the deciding code.
    pub(super) decides_by: BTreeMap<String, u32>,
    /// The schema versions of the components.
    pub(super) components: BTreeMap<Arc<str>, u32>,
    /// The current settings.
    pub(super) settings: Value,
    /// The number of tuples sent on each edge to another stage.
    pub(super) sent: BTreeMap<Arc<str>, u64>,
}

/// The head of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    /// The schema version of all its records.
    format: u32,
    #[serde(flatten)]
    pub(super) lane: LaneHead,
    /// The number of its records, without the head.
    records: u64,
    /// The exclusive or of their checksums: 16 hexadecimal digits.
    sum: String,
}

/// The part of a head that is the same in all schema versions.
#[derive(Deserialize)]
struct SchemaVersion {
    format: u32,
}

/// The reason why a lane cannot be restored from its snapshot topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RestoreError {
    /// The snapshot is corrupt or incomplete.
    #[error("{0}")]
    Corrupt(String),
    /// The snapshot is intact, but this build cannot continue it.
    #[error("{0}")]
    Incompatible(String),
}

/// The last record of each key.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    entries: BTreeMap<Arc<str>, StoredRecord>,
    /// The offset up to which the topic was read.
    pub(super) next: u64,
    /// The offset that the last read head covers.
    covers: Option<u64>,
}

#[derive(Debug, Clone)]
struct StoredRecord {
    /// The checksum in the record's header; `None` if it cannot be parsed.
    sum: Option<Checksum>,
    /// Number of records of the state, this one included.
    parts: usize,
    value: Bytes,
}

/// The checksum of a key and its value: XXH3 of the value, seeded with XXH3 of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checksum(u64);

impl Checksum {
    fn of(key: &str, value: &[u8]) -> Self {
        Self(XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key.as_bytes()), value))
    }

    /// Parses the checksum in a record's header.
    fn written(headers: &Headers) -> Option<Self> {
        u64::from_str_radix(text(headers, SUM)?, 16).ok().map(Self)
    }
}

fn text<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value).ok())
}

impl Image {
    /// Applies a record of the topic.
    pub(super) fn take(&mut self, record: &Record) {
        self.next = record.offset + 1;
        let Some(key) = record.key.as_ref().and_then(|key| std::str::from_utf8(key).ok()) else { return };
        if record.value.is_empty() {
            self.entries.remove(key);
            return;
        }
        let parts = text(&record.headers, PARTS).and_then(|text| text.parse().ok()).unwrap_or(1);
        if key == HEAD {
            self.covers = text(&record.headers, COVERS).and_then(|text| text.parse().ok());
        }
        let sum = Checksum::written(&record.headers);
        self.entries.insert(key.into(), StoredRecord { sum, parts, value: record.value.clone() });
    }

    /// Returns the offset that the last completely read snapshot covers.
    pub(super) fn covers(&self) -> Option<u64> {
        self.covers
    }

    /// Returns the head; `None` if there is no snapshot.
    ///
    /// # Errors
    /// If it is corrupt or incompatible.
    pub(super) fn head(&self, build: &Build) -> Result<Option<SnapshotHead>, RestoreError> {
        let Some(entry) = self.entries.get(HEAD) else { return Ok(None) };
        // Verify the checksum first. Otherwise a corrupt version number would look like a newer
        // build, and the lane would wait for a person.
        if entry.sum != Some(Checksum::of(HEAD, &entry.value)) {
            return Err(RestoreError::Corrupt("the checksum of its head is wrong".into()));
        }
        let corrupt = |error: serde_json::Error| RestoreError::Corrupt(format!("its head cannot be read: {error}"));
        let SchemaVersion { format } = serde_json::from_slice(&entry.value).map_err(corrupt)?;
        if format > FORMAT {
            return Err(RestoreError::Incompatible(format!(
                "its records have schema version {format}; this build reads versions up to {FORMAT}"
            )));
        }
        let head: SnapshotHead = serde_json::from_slice(&entry.value).map_err(corrupt)?;
        if let Some(lacks) = build.lacks(&head.lane.graph) {
            return Err(RestoreError::Incompatible(lacks));
        }
        for (component, version) in &head.lane.components {
            match build.versions.get(component) {
                Some(known) if version <= known => {}
                Some(known) => {
                    let text = format!(
                        "the state of `{component}` has schema version {version}; this build reads versions up to {known}"
                    );
                    return Err(RestoreError::Incompatible(text));
                }
                None => {
                    return Err(RestoreError::Incompatible(format!(
                        "this build has no component with saved state `{component}`"
                    )));
                }
            }
        }
        Ok(Some(head))
    }

    /// Verifies the checksum of each record, and the combined checksum in the head.
    ///
    /// # Errors
    /// Names the corrupt keys.
    pub(super) fn check(&self, head: &SnapshotHead) -> Result<(), RestoreError> {
        let mut bad = Vec::new();
        let (mut records, mut all) = (0_u64, 0_u64);
        for (key, entry) in &self.entries {
            match entry.sum.filter(|sum| *sum == Checksum::of(key, &entry.value)) {
                None => bad.push(format!("`{key}`")),
                Some(_) if **key == *HEAD => {}
                Some(Checksum(sum)) => {
                    records += 1;
                    all ^= sum;
                }
            }
        }
        if !bad.is_empty() {
            let (count, named) = (bad.len(), bad[..bad.len().min(NAMED)].join(", "));
            return Err(RestoreError::Corrupt(format!("{count} records have wrong checksums: {named}")));
        }
        if (records, sum_text(all)) != (head.records, head.sum.clone()) {
            let SnapshotHead { records: expected, lane: LaneHead { position, .. }, .. } = head;
            let text = format!(
                "the snapshot of offset {position} has {expected} records, but the topic has {records}, or other ones"
            );
            return Err(RestoreError::Corrupt(text));
        }
        Ok(())
    }

    /// Returns the complete states of components.
    ///
    /// # Errors
    /// If a part is missing.
    pub(super) fn states(&self) -> impl Iterator<Item = Result<(&str, Cow<'_, [u8]>), RestoreError>> {
        let own = self.entries.iter().filter(|(key, _)| !key.starts_with('.'));
        own.map(|(key, entry)| Ok((&**key, self.whole(key, entry)?)))
    }

    /// Returns the blocks of timers: component, block number and content.
    pub(super) fn timers(&self) -> impl Iterator<Item = Result<(&str, u64, &[u8]), RestoreError>> {
        let after = self.entries.range::<str, _>((Bound::Included(TIMERS), Bound::Unbounded));
        after.map_while(|(key, entry)| Some((key, key.strip_prefix(TIMERS)?, entry))).map(|(key, rest, entry)| {
            let place = rest.split_once('/').and_then(|(component, block)| Some((component, block.parse().ok()?)));
            let (component, block) =
                place.ok_or_else(|| RestoreError::Corrupt(format!("`{key}` is no block of timers")))?;
            Ok((component, block, &*entry.value))
        })
    }

    fn whole<'a>(&self, key: &str, entry: &'a StoredRecord) -> Result<Cow<'a, [u8]>, RestoreError> {
        if entry.parts <= 1 {
            return Ok(Cow::Borrowed(&entry.value));
        }
        let mut whole = entry.value.to_vec();
        for part in 1..entry.parts {
            let name = part_key(key, part);
            let rest = self.entries.get(&*name).ok_or_else(|| RestoreError::Corrupt(format!("`{name}` is missing")))?;
            whole.extend_from_slice(&rest.value);
        }
        Ok(Cow::Owned(whole))
    }

    /// Returns the checksums of the topic's content, from which the next snapshots continue.
    pub(super) fn checksums(&self) -> Checksums {
        let others = self.entries.iter().filter(|(key, _)| ***key != *HEAD);
        // The checksums were verified; those of an unusable snapshot are not used.
        let sums: BTreeMap<_, _> =
            others.map(|(key, entry)| (Arc::clone(key), entry.sum.map_or(0, |Checksum(sum)| sum))).collect();
        let all = sums.values().fold(0, |all, sum| all ^ sum);
        let parts = sums.keys().filter(|key| key.starts_with(PART)).count();
        Checksums { sums, all, parts, stale: Vec::new() }
    }
}

fn part_key(key: &str, part: usize) -> String {
    format!("{PART}{part}/{key}")
}

fn sum_text(sum: u64) -> String {
    format!("{sum:016x}")
}

/// Returns the key of a block of timers.
pub(super) fn timers_key(component: &str, block: u64) -> String {
    format!("{TIMERS}{component}/{block}")
}

/// The checksum of each key in the snapshot topic. Bounded by the live state of the lane.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    sums: BTreeMap<Arc<str>, u64>,
    all: u64,
    /// Number of keys that are continuations of a long state: mostly 0, and then no search is
    /// needed.
    parts: usize,
    /// Keys of an unusable snapshot. The next snapshot deletes those that it does not write.
    stale: Vec<Arc<str>>,
}

impl Checksums {
    fn put(&mut self, key: Arc<str>, sum: u64) {
        let is_part = key.starts_with(PART);
        let before = self.sums.insert(key, sum);
        self.all ^= sum ^ before.unwrap_or(0);
        self.parts += usize::from(is_part && before.is_none());
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(sum) = self.sums.remove(key) else { return false };
        self.all ^= sum;
        self.parts -= usize::from(key.starts_with(PART));
        true
    }

    /// Marks all keys as unusable: the lane was restored by a replay of its inbox.
    pub(super) fn mark_unusable(self) -> Self {
        Self { stale: self.sums.into_keys().collect(), ..Self::default() }
    }
}

/// Writes one snapshot: the changes of a lane, and its head.
pub(super) struct Writer<'a> {
    topic: Arc<str>,
    lane: u32,
    checksums: &'a mut Checksums,
    records: Vec<Outgoing>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(topic: &Arc<str>, lane: u32, checksums: &'a mut Checksums) -> Self {
        Self { topic: Arc::clone(topic), lane, checksums, records: Vec::new() }
    }

    /// Writes or deletes the state of a key.
    pub(super) fn change(&mut self, Change { key, state }: Change) {
        let parts = state.as_ref().map_or(0, |state| state.len().div_ceil(PART_BYTES).max(1));
        match state {
            Some(state) if parts == 1 => self.put(key.as_str().into(), 1, state.into()),
            Some(state) => {
                let state = Bytes::from(state);
                for part in 0..parts {
                    let name = if part == 0 { key.clone() } else { part_key(&key, part) };
                    let piece = state.slice(part * PART_BYTES..state.len().min((part + 1) * PART_BYTES));
                    self.put(name.into(), parts, piece);
                }
            }
            None => {
                self.remove(&key);
            }
        }
        // Deletes the surplus parts of the previous state.
        let mut part = parts.max(1);
        while self.checksums.parts > 0 && self.remove(&part_key(&key, part)) {
            part += 1;
        }
    }

    /// Writes the head and returns all records.
    pub(super) fn end(mut self, lane: LaneHead) -> Vec<Outgoing> {
        for key in std::mem::take(&mut self.checksums.stale) {
            if !self.checksums.sums.contains_key(&key) {
                self.write(&key, &[], Bytes::new());
            }
        }
        let head = SnapshotHead {
            format: FORMAT,
            lane,
            records: self.checksums.sums.len() as u64,
            sum: sum_text(self.checksums.all),
        };
        let value = serde_json::to_vec(&head).expect("a head is plain data");
        let Checksum(sum) = Checksum::of(HEAD, &value);
        let covers = head.lane.position.to_string();
        self.write(HEAD, &[(SUM, &sum_text(sum)), (COVERS, &covers)], value.into());
        self.records
    }

    fn put(&mut self, key: Arc<str>, parts: usize, value: Bytes) {
        let Checksum(sum) = Checksum::of(&key, &value);
        let (text, parts) = (sum_text(sum), (parts > 1).then(|| parts.to_string()));
        match &parts {
            None => self.write(&key, &[(SUM, &text)], value),
            Some(parts) => self.write(&key, &[(SUM, &text), (PARTS, parts)], value),
        }
        self.checksums.put(key, sum);
    }

    /// Returns false if the key does not exist.
    fn remove(&mut self, key: &str) -> bool {
        let was_there = self.checksums.remove(key);
        if was_there {
            self.write(key, &[], Bytes::new());
        }
        was_there
    }

    fn write(&mut self, key: &str, headers: &[(&str, &str)], value: Bytes) {
        let (topic, route) = (Arc::clone(&self.topic), Route::To(self.lane));
        self.records.push(Outgoing::packed_with(topic, route, key, headers, value));
    }
}

#[cfg(test)]
mod tests;
