//! Fresh names on a bus, and seats that are driven with deadlines.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bus::{
    Arrival, Batch, Bus, BusError, Clock, DiskOptions, Embedded, EmbeddedOptions, Kafka, KafkaOptions, Member,
    MemberSpec, MonoTime, Outgoing, Position, Reader, Record, TopicSpec,
};
use tempfile::TempDir;
use wire::WallTime;

/// How long anything may take before a test gives up: a rebalance on a busy machine takes seconds.
pub(crate) const PATIENCE_MS: u64 = 60_000;

/// What a test needs of a bus.
pub(crate) trait Fixture {
    /// The bus.
    fn bus(&self) -> &dyn Bus;

    /// The shortest session that it gives. A member that does not poll for so long is given up.
    fn session(&self) -> Duration;

    /// Deletes records, as an operator would.
    fn delete_records(&self, topic: &str, partition: u32, before: u64);

    /// A name that nobody has.
    fn name(&self, what: &str) -> String {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (run, number) = (std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        format!("{what}-{run}-{}-{number}", self.bus().clock().wall().0)
    }

    /// A topic of its own that keeps everything.
    fn topic(&self, partitions: u32) -> String {
        let name = self.name("t");
        self.bus().ensure_topic(&TopicSpec::log(&name, partitions)).expect("a topic");
        name
    }

    /// Appends one record for each value to partition 0, with the value as its key.
    fn append(&self, topic: &str, values: &[&str]) {
        let records: Vec<_> =
            values.iter().map(|value| Outgoing::keyed(topic, value.to_string(), value.to_string()).to(0)).collect();
        self.bus().writer("test").and_then(|mut writer| writer.append(&records)).expect("an append");
    }

    /// Joins `group` under a fresh name.
    fn join(&self, group: &str, topic: &str) -> Seat {
        self.join_as(group, topic, &self.name("m"))
    }

    /// Joins `group` under this name.
    fn join_as(&self, group: &str, topic: &str, name: &str) -> Seat {
        let spec = MemberSpec { session_timeout: self.session(), ..MemberSpec::new(group, topic, name) };
        let member = self.bus().member(&spec).expect("a member");
        Seat {
            member,
            clock: self.bus().clock(),
            name: name.into(),
            owned: BTreeSet::new(),
            asked: BTreeSet::new(),
            seen: Vec::new(),
            starts: false,
            releases: true,
            most: 100,
        }
    }

    /// The first `count` records of a partition from `from` on.
    fn read(&self, topic: &str, partition: u32, from: u64, count: usize) -> Vec<Record> {
        let mut reader = self.bus().reader().expect("a reader");
        reader.assign(topic, partition, from).expect("an offset");
        read(&*self.bus().clock(), &mut *reader, count)
    }
}

/// Polls until there are `count` records.
pub(crate) fn read(clock: &dyn Clock, reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let (mut out, end) = (Vec::new(), clock.mono().plus_ms(PATIENCE_MS));
    while out.len() < count {
        assert!(clock.mono() < end, "gave up waiting for {count} records; there were {out:?}");
        reader.poll(count - out.len(), Duration::from_millis(50), &mut out).expect("a poll");
    }
    out
}

/// A member, and what it has seen.
pub(crate) struct Seat {
    pub(crate) member: Box<dyn Member>,
    pub(crate) name: String,
    /// What it was assigned and has neither released nor lost.
    pub(crate) owned: BTreeSet<u32>,
    /// What it was asked to give back and has not released.
    pub(crate) asked: BTreeSet<u32>,
    pub(crate) seen: Vec<Arrival>,
    /// True: it takes over and starts what it is assigned, where the last owner ended.
    pub(crate) starts: bool,
    /// True: it releases what it is asked for at once.
    pub(crate) releases: bool,
    /// How many records it polls for.
    pub(crate) most: usize,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Seat {
    /// One poll.
    pub(crate) fn turn(&mut self, wait: Duration) {
        let before = self.seen.len();
        self.member.poll(self.most, wait, &mut self.seen).expect("a poll");
        let news = self.seen[before..].to_vec();
        for arrival in news {
            match arrival {
                Arrival::Assigned(partitions) => {
                    self.owned.extend(&partitions);
                    if self.starts {
                        for partition in partitions {
                            let left = self.member.take_over(partition).expect("a takeover");
                            let from = left.committed.map_or(left.low, |committed| committed.next);
                            self.member.start(partition, from).expect("a start");
                        }
                    }
                }
                Arrival::Revoking(partitions) => {
                    self.asked.extend(&partitions);
                    if self.releases {
                        self.release();
                    }
                }
                Arrival::Lost(partitions) => {
                    for partition in partitions {
                        self.owned.remove(&partition);
                        self.asked.remove(&partition);
                    }
                }
                Arrival::Record(_) => {}
            }
        }
    }

    /// Gives back all that was asked for.
    pub(crate) fn release(&mut self) {
        let asked: Vec<u32> = std::mem::take(&mut self.asked).into_iter().collect();
        self.member.release(&asked).expect("a release");
        for partition in asked {
            self.owned.remove(&partition);
        }
    }

    /// Polls until `done`.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        together(&mut [self], what, |seats| done(seats[0]));
    }

    /// Polls until it owns `count` partitions.
    pub(crate) fn until_owned(&mut self, count: usize) {
        self.until("partitions", |seat| seat.owned.len() == count);
    }

    /// Polls until `count` records were seen in all.
    pub(crate) fn until_records(&mut self, count: usize) -> Vec<Record> {
        self.until("records", |seat| seat.records().len() >= count);
        self.records()
    }

    /// Polls a few times more, and nothing but that.
    pub(crate) fn linger(&mut self) {
        for _ in 0..10 {
            self.turn(Duration::from_millis(20));
        }
    }

    /// The records that were seen.
    pub(crate) fn records(&self) -> Vec<Record> {
        let record = |arrival: &Arrival| match arrival {
            Arrival::Record(record) => Some(record.clone()),
            Arrival::Assigned(_) | Arrival::Revoking(_) | Arrival::Lost(_) => None,
        };
        self.seen.iter().filter_map(record).collect()
    }

    /// Takes a partition over and starts it where it was left.
    pub(crate) fn go_on(&mut self, partition: u32) -> u64 {
        let left = self.member.take_over(partition).expect("a takeover");
        let from = left.committed.map_or(left.low, |committed| committed.next);
        self.member.start(partition, from).expect("a start");
        from
    }

    /// A batch that says where it stands, and appends `records`.
    pub(crate) fn at(&self, partition: u32, next: u64, records: Vec<Outgoing>) -> Batch {
        let note = format!("v1 {} 0 open", self.name).as_str().into();
        Batch { records, positions: vec![Position { partition, next, note }] }
    }
}

/// Polls several seats in turn until `done`.
pub(crate) fn together(seats: &mut [&mut Seat], what: &str, mut done: impl FnMut(&[&mut Seat]) -> bool) {
    let clock = Arc::clone(&seats[0].clock);
    let end = clock.mono().plus_ms(PATIENCE_MS);
    while !done(seats) {
        let seen: Vec<_> = seats.iter().map(|seat| &seat.seen).collect();
        assert!(clock.mono() < end, "gave up waiting for {what}; seen: {seen:?}");
        for seat in &mut *seats {
            seat.turn(Duration::from_millis(10));
        }
    }
}

/// The values of records, as text.
pub(crate) fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(&record.value).expect("text")).collect()
}

/// The embedded bus, with gaps as Kafka has them.
pub(crate) struct OnEmbedded(Embedded);

impl OnEmbedded {
    pub(crate) fn open() -> Self {
        let options = EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() };
        Self(Embedded::open(Arc::new(RealClock::start()), options))
    }
}

impl Fixture for OnEmbedded {
    fn bus(&self) -> &dyn Bus {
        &self.0
    }
    fn session(&self) -> Duration {
        // Long enough for a test that is not scheduled for a while on a busy machine.
        Duration::from_secs(2)
    }
    fn delete_records(&self, topic: &str, partition: u32, before: u64) {
        self.0.delete_records(topic, partition, before).expect("a deletion");
    }
}

/// The embedded bus in a directory that goes with the test.
pub(crate) struct OnDisk {
    bus: Embedded,
    _dir: TempDir,
}

impl OnDisk {
    pub(crate) fn open() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() };
        let bus = Embedded::on_disk(Arc::new(RealClock::start()), options, &DiskOptions::new(dir.path()));
        Self { bus: bus.expect("a bus"), _dir: dir }
    }
}

impl Fixture for OnDisk {
    fn bus(&self) -> &dyn Bus {
        &self.bus
    }
    fn session(&self) -> Duration {
        Duration::from_secs(2)
    }
    fn delete_records(&self, topic: &str, partition: u32, before: u64) {
        self.bus.delete_records(topic, partition, before).expect("a deletion");
    }
}

/// A real broker.
pub(crate) struct OnKafka {
    bus: Kafka,
    pub(crate) brokers: String,
}

impl OnKafka {
    /// # Panics
    /// Where there is no broker: these tests are never left out in silence.
    pub(crate) fn open() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
        let found = std::fs::read_to_string(&file).map_err(|fault| fault.to_string()).and_then(|address| {
            let mut options = KafkaOptions::new(address.trim());
            // A member that is silent for one session is given up, and not only one that is dead.
            options.client.insert("max.poll.interval.ms".into(), MemberSpec::SESSION.as_millis().to_string());
            let bus = Kafka::open(Arc::new(RealClock::start()), options).map_err(|fault| fault.to_string())?;
            Ok(Self { bus, brokers: address.trim().into() })
        });
        found.unwrap_or_else(|fault| {
            panic!(
                "these tests need a Kafka broker: run `./test`, or `tools/kafka start` ({}: {fault})",
                file.display()
            )
        })
    }

    /// Deletes a topic, as an operator would.
    pub(crate) fn delete_topic(&self, topic: &str) -> Result<(), BusError> {
        self.bus.delete_topic(topic)
    }
}

impl Fixture for OnKafka {
    fn bus(&self) -> &dyn Bus {
        &self.bus
    }
    fn session(&self) -> Duration {
        MemberSpec::SESSION
    }
    fn delete_records(&self, topic: &str, partition: u32, before: u64) {
        self.bus.delete_records(topic, partition, before).expect("a deletion");
    }
}

/// The clocks of this machine.
struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "somebody must make the clock of a real broker's tests")]
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.0.elapsed().as_nanos()).expect("a test does not take 500 years"))
    }

    #[expect(clippy::disallowed_methods, reason = "somebody must make the clock of a real broker's tests")]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        WallTime(u64::try_from(since.as_millis()).expect("a test does not run in 500 million years"))
    }
}
