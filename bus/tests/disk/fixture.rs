//! A directory with a bus that a test can open repeatedly.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::{
    Arrival, Batch, Bounds, Bus, BusError, DiskOptions, Embedded, EmbeddedOptions, ManualClock, Member, MemberSpec,
    Outgoing, Position, Reader, Record, Takeover, TopicInfo,
};
use tempfile::TempDir;
use wire::owner::OffsetMetadata;

/// The directory, clock and options of a bus. The clock continues when the bus is reopened, as a
/// wall clock does.
pub(crate) struct Home {
    _dir: Option<TempDir>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: EmbeddedOptions,
    pub(crate) disk: DiskOptions,
}

impl Home {
    /// Creates a temporary directory, for a bus that leaves offset gaps as Kafka does.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { disk: DiskOptions::new(dir.path().join("data")), _dir: Some(dir), ..Self::of_another(Path::new("")) }
    }

    /// Uses a directory that another process owns.
    pub(crate) fn of_another(dir: &Path) -> Self {
        let options = EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() };
        Self { _dir: None, clock: Arc::default(), options, disk: DiskOptions::new(dir) }
    }

    /// Opens the bus.
    pub(crate) fn open(&self) -> Embedded {
        self.try_open().expect("a bus")
    }

    /// Opens the bus, or returns the error.
    pub(crate) fn try_open(&self) -> Result<Embedded, BusError> {
        Embedded::on_disk(Arc::clone(&self.clock) as _, self.options.clone(), &self.disk)
    }

    /// Copies the files as they are: the state that a crash would leave.
    pub(crate) fn copy(&self) -> Self {
        let home = Self { clock: Arc::clone(&self.clock), options: self.options.clone(), ..Self::new() };
        std::fs::create_dir(&home.disk.dir).expect("a directory");
        for file in self.files() {
            let name = file.file_name().expect("a name");
            std::fs::copy(&file, home.disk.dir.join(name)).expect("a copy");
        }
        home
    }

    /// Returns all files, sorted by name.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.disk.dir).expect("a directory");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }

    /// Returns the newest file that batches are appended to.
    pub(crate) fn log(&self) -> PathBuf {
        self.files().into_iter().rfind(|path| named(path, ".raftlog")).expect("a log")
    }

    /// Returns the size of all files, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.files().iter().map(|file| std::fs::metadata(file).expect("a file").len()).sum()
    }
}

/// True if the file name ends with `suffix`.
pub(crate) fn named(path: &Path, suffix: &str) -> bool {
    path.to_string_lossy().ends_with(suffix)
}

/// Joins as a member that owns every partition of a topic.
pub(crate) fn owner(bus: &Embedded, group: &str, topic: &str) -> Box<dyn Member> {
    let mut member = bus.member(&MemberSpec::new(group, topic, "owner")).expect("a member");
    let mut out = Vec::new();
    member.poll(10, Duration::ZERO, &mut out).expect("a poll");
    assert!(matches!(&out[..], [Arrival::Assigned(_)]), "{out:?}");
    member
}

/// Creates a batch with the position and the snapshot offset S.
pub(crate) fn at(next: u64, snapshot: u64, records: Vec<Outgoing>) -> Batch {
    let metadata = OffsetMetadata { transactional_id: "owner".into(), snapshot, commit: 0, released: false };
    Batch { records, positions: vec![Position { partition: 0, next, metadata: metadata.to_string().into() }] }
}

/// Reads all records of a partition.
pub(crate) fn all(bus: &dyn Bus, topic: &str, partition: u32) -> Vec<Record> {
    let mut reader: Box<dyn Reader> = bus.reader().expect("a reader");
    let low = bus.bounds(topic, partition).expect("bounds").low;
    reader.assign(topic, partition, low).expect("an offset");
    let mut out = Vec::new();
    loop {
        let before = out.len();
        reader.poll(100, Duration::ZERO, &mut out).expect("a poll");
        if out.len() == before {
            return out;
        }
    }
}

/// Appends one record for each number, with the number as key and value.
pub(crate) fn append(bus: &dyn Bus, topic: &str, numbers: std::ops::Range<u64>) {
    let records: Vec<_> = numbers.map(|i| Outgoing::keyed(topic, i.to_string(), i.to_string()).to(0)).collect();
    bus.writer("w").and_then(|mut writer| writer.append(&records)).expect("an append");
}

/// Parses the values as numbers.
pub(crate) fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| std::str::from_utf8(&record.value).expect("text").parse().expect("a number")).collect()
}

/// The visible state of a topic.
#[derive(Debug, PartialEq)]
pub(crate) struct TopicState {
    info: Option<TopicInfo>,
    partitions: Vec<(Bounds, Vec<Record>)>,
}

/// Returns the visible state of a topic.
pub(crate) fn topic_state(bus: &Embedded, topic: &str) -> TopicState {
    let info = bus.topic(topic).expect("an answer");
    let count = info.as_ref().map_or(0, |info| info.partitions);
    let partitions = (0..count).map(|i| (bus.bounds(topic, i).expect("bounds"), all(bus, topic, i))).collect();
    TopicState { info, partitions }
}

/// Returns the state that the next owner finds.
pub(crate) fn left(bus: &Embedded, group: &str, topic: &str) -> Takeover {
    let mut next = owner(bus, group, topic);
    let left = next.take_over(0).expect("a takeover");
    next.leave().expect("a leave");
    left
}
