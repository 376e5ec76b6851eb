//! A bus that takes the time of what a shard does on it: so a takeover is taken apart without a change to the engine.
//!
//! | what a shard calls for each lane | what it is |
//! |---|---|
//! | `Member::take_over` | asking: what the last owner left |
//! | `Bus::bounds`, `Bus::reader`, `Reader::assign`, `Reader::poll` | reading its snapshot |
//! | nothing, until the commit | loading: records become a lane |
//! | `Member::commit`, `Member::start` | claiming: the owner record |
//! | `Member::poll`, and what is done with the records | going live: replay, catching up |

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{
    Arrival, Batch, Bounds, Bus, BusError, Clock, CommitError, Member, MemberSpec, MonoTime, Outgoing, Position,
    Reader, Record, Takeover, TopicInfo, TopicSpec, Writer,
};

/// What was seen of a shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// When lanes were first assigned to it.
    pub(crate) assigned: Option<MonoTime>,
    /// How long takeovers took: asking, reading, loading, claiming, as the table above has it.
    pub(crate) asking: Duration,
    pub(crate) reading: Duration,
    pub(crate) loading: Duration,
    pub(crate) claiming: Duration,
    /// What else was committed: how long it took, and how many records.
    pub(crate) committing: Duration,
    pub(crate) committed: u64,
    /// What was read of the snapshot topic.
    pub(crate) read: Amount,
    /// What was written to it.
    pub(crate) written: Amount,
    /// Set from when a lane's last owner is known until it is claimed: since when, and how much was read before.
    taking: Option<(MonoTime, Duration)>,
}

/// Records, and the bytes of their keys, headers and values.
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

    /// In a table: a thousandth of a megabyte is of no interest.
    #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
    pub(crate) fn megabytes(self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

/// The marks of one shard, to be read from outside.
#[derive(Clone)]
pub(crate) struct Seen {
    clock: Arc<dyn Clock>,
    marks: Arc<Mutex<Marks>>,
    snapshots: Arc<str>,
}

impl Seen {
    /// Nothing yet; `snapshots` is the snapshot topic of the stage.
    pub(crate) fn new(clock: Arc<dyn Clock>, snapshots: &str) -> Self {
        Self { clock, marks: Arc::default(), snapshots: snapshots.into() }
    }

    /// What was seen so far.
    pub(crate) fn marks(&self) -> Marks {
        self.with(|marks| marks.clone())
    }

    /// Forgets it.
    pub(crate) fn reset(&self) {
        self.with(|marks| *marks = Marks::default());
    }

    fn with<R>(&self, change: impl FnOnce(&mut Marks) -> R) -> R {
        change(&mut self.marks.lock().expect("nobody panics while holding it"))
    }

    /// Does what belongs to reading. It counts while a lane is taken over; a shard reads other things too.
    fn reading<R>(&self, read: impl FnOnce() -> R) -> R {
        let begun = self.clock.mono();
        let result = read();
        let took = self.clock.mono().since(begun);
        self.with(|marks| {
            if marks.taking.is_some() {
                marks.reading += took;
            }
        });
        result
    }
}

/// A bus whose users are watched.
pub(crate) struct Watched {
    /// The bus itself.
    pub(crate) bus: Arc<dyn Bus>,
    /// What was seen.
    pub(crate) seen: Seen,
}

impl Bus for Watched {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        self.bus.ensure_topic(spec)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        self.bus.topic(name)
    }

    fn other_times(&self, topics: &[&str]) -> Result<Vec<String>, BusError> {
        self.bus.other_times(topics)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.seen.reading(|| self.bus.bounds(topic, partition))
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        Ok(Box::new(WatchedMember { member: self.bus.member(spec)?, seen: self.seen.clone() }))
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        self.bus.members(group)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        let reader = self.seen.reading(|| self.bus.reader())?;
        Ok(Box::new(WatchedReader { reader: Some(reader), seen: self.seen.clone() }))
    }

    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError> {
        self.bus.writer(name)
    }

    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        self.bus.backlog(group, topic)
    }

    fn weaknesses(&self, topic: &str) -> Result<Vec<String>, BusError> {
        self.bus.weaknesses(topic)
    }

    fn lag(&self) -> Duration {
        self.bus.lag()
    }

    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        self.bus.trim(topic, partition, before)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.bus.clock()
    }
}

struct WatchedMember {
    member: Box<dyn Member>,
    seen: Seen,
}

impl Member for WatchedMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        let before = out.len();
        let polled = self.member.poll(max, wait, out);
        // What is assigned comes before its records.
        if out[before..].iter().any(|arrival| matches!(arrival, Arrival::Assigned(_))) {
            let now = self.seen.clock.mono();
            self.seen.with(|marks| marks.assigned.get_or_insert(now).0);
        }
        polled
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        let begun = self.seen.clock.mono();
        let takeover = self.member.take_over(partition);
        let now = self.seen.clock.mono();
        self.seen.with(|marks| {
            marks.asking += now.since(begun);
            marks.taking = Some((now, marks.reading));
        });
        takeover
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        let begun = self.seen.clock.mono();
        let started = self.member.start(partition, from);
        let took = self.seen.clock.mono().since(begun);
        self.seen.with(|marks| marks.claiming += took);
        started
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let begun = self.seen.clock.mono();
        let committed = self.member.commit(batch);
        let took = self.seen.clock.mono().since(begun);
        self.seen.with(|marks| {
            if let Some((since, read)) = marks.taking.take() {
                marks.loading += begun.since(since).saturating_sub(marks.reading.saturating_sub(read));
                marks.claiming += took;
            } else {
                marks.committing += took;
                marks.committed += batch.records.len() as u64;
            }
            let of_snapshots = |record: &&Outgoing| *record.topic == *self.seen.snapshots;
            if committed.is_ok() {
                batch.records.iter().filter(of_snapshots).for_each(|record| marks.written.add(record.size()));
            }
        });
        committed
    }

    fn commit_behind(&mut self, positions: &[Position]) -> Result<(), CommitError> {
        self.member.commit_behind(positions)
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

struct WatchedReader {
    /// Taken when it is dropped.
    reader: Option<Box<dyn Reader>>,
    seen: Seen,
}

impl WatchedReader {
    fn reader(&mut self) -> &mut dyn Reader {
        &mut **self.reader.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for WatchedReader {
    /// To end a client takes time too.
    fn drop(&mut self) {
        let reader = self.reader.take();
        self.seen.reading(|| drop(reader));
    }
}

impl Reader for WatchedReader {
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError> {
        self.seen.clone().reading(|| self.reader().assign(topic, partition, from))
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        let before = out.len();
        let polled = self.seen.clone().reading(|| self.reader().poll(max, wait, out));
        self.seen.with(|marks| {
            for record in out[before..].iter().filter(|record| *record.topic == *self.seen.snapshots) {
                let key = record.key.as_deref().map_or(0, <[u8]>::len);
                marks.read.add(key + record.headers.size() + record.value.len());
            }
        });
        polled
    }

    fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.reader.as_ref()?.position(topic, partition)
    }
}
