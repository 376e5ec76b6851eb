//! A directory, and the bus in it, opened as often as a test likes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::{
    Arrival, Batch, Bounds, Bus, BusError, DiskOptions, Embedded, EmbeddedOptions, ManualClock, Member, MemberSpec,
    Outgoing, Position, Reader, Record, Takeover, TopicInfo,
};
use tempfile::TempDir;
use wire::owner::Note;

/// A place for a bus. The clock goes on when the bus is opened again, as a wall clock does.
pub(crate) struct Home {
    _dir: Option<TempDir>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: EmbeddedOptions,
    pub(crate) disk: DiskOptions,
}

impl Home {
    /// An empty directory that goes with the test, for a bus that leaves gaps as Kafka does.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { disk: DiskOptions::new(dir.path().join("data")), _dir: Some(dir), ..Self::of_another(Path::new("")) }
    }

    /// A directory that another process looks after.
    pub(crate) fn of_another(dir: &Path) -> Self {
        let options = EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() };
        Self { _dir: None, clock: Arc::default(), options, disk: DiskOptions::new(dir) }
    }

    /// Opens it.
    pub(crate) fn open(&self) -> Embedded {
        self.try_open().expect("a bus")
    }

    /// Opens it, or says why not.
    pub(crate) fn try_open(&self) -> Result<Embedded, BusError> {
        Embedded::on_disk(Arc::clone(&self.clock) as _, self.options.clone(), &self.disk)
    }

    /// The same, with a copy of its files as they are: what a crash would leave.
    pub(crate) fn copy(&self) -> Self {
        let home = Self { clock: Arc::clone(&self.clock), options: self.options.clone(), ..Self::new() };
        std::fs::create_dir(&home.disk.dir).expect("a directory");
        for file in self.files() {
            let name = file.file_name().expect("a name");
            std::fs::copy(&file, home.disk.dir.join(name)).expect("a copy");
        }
        home
    }

    /// All files, by name.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.disk.dir).expect("a directory");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }

    /// The newest file that batches are appended to.
    pub(crate) fn log(&self) -> PathBuf {
        self.files().into_iter().rfind(|path| named(path, ".raftlog")).expect("a log")
    }

    /// What all files take, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.files().iter().map(|file| std::fs::metadata(file).expect("a file").len()).sum()
    }
}

/// True where the name ends so.
pub(crate) fn named(path: &Path, suffix: &str) -> bool {
    path.to_string_lossy().ends_with(suffix)
}

/// A member that owns every partition of a topic.
pub(crate) fn owner(bus: &Embedded, group: &str, topic: &str) -> Box<dyn Member> {
    let mut member = bus.member(&MemberSpec::new(group, topic, "owner")).expect("a member");
    let mut out = Vec::new();
    member.poll(10, Duration::ZERO, &mut out).expect("a poll");
    assert!(matches!(&out[..], [Arrival::Assigned(_)]), "{out:?}");
    member
}

/// A batch that says where its owner stands, with the snapshot S.
pub(crate) fn at(next: u64, snapshot: u64, records: Vec<Outgoing>) -> Batch {
    let note = Note { transactional_id: "owner".into(), snapshot, released: false };
    Batch { records, positions: vec![Position { partition: 0, next, note: note.to_string().into() }] }
}

/// All records of a partition from its beginning on.
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

/// Appends one record for each number, with it as key and value.
pub(crate) fn append(bus: &dyn Bus, topic: &str, numbers: std::ops::Range<u64>) {
    let records: Vec<_> = numbers.map(|i| Outgoing::keyed(topic, i.to_string(), i.to_string()).to(0)).collect();
    bus.writer("w").and_then(|mut writer| writer.append(&records)).expect("an append");
}

/// The values as numbers.
pub(crate) fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| std::str::from_utf8(&record.value).expect("text").parse().expect("a number")).collect()
}

/// Everything that can be seen of a topic.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    info: Option<TopicInfo>,
    partitions: Vec<(Bounds, Vec<Record>)>,
}

/// Looks at a topic.
pub(crate) fn see(bus: &Embedded, topic: &str) -> Seen {
    let info = bus.topic(topic).expect("an answer");
    let count = info.as_ref().map_or(0, |info| info.partitions);
    let partitions = (0..count).map(|i| (bus.bounds(topic, i).expect("bounds"), all(bus, topic, i))).collect();
    Seen { info, partitions }
}

/// What the next owner finds.
pub(crate) fn left(bus: &Embedded, group: &str, topic: &str) -> Takeover {
    let mut next = owner(bus, group, topic);
    let left = next.take_over(0).expect("a takeover");
    next.leave().expect("a leave");
    left
}
