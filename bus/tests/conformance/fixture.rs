//! Test fixtures: fresh names on a bus, and members that are polled with deadlines.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bus::{
    Arrival, Batch, Bus, BusError, Clock, DiskOptions, Embedded, EmbeddedOptions, FaultInjector, FaultScript,
    FaultyBus, Kafka, KafkaOptions, Member, MemberSpec, MonoTime, Outgoing, Position, Reader, Record, TopicSpec,
};
use tempfile::TempDir;
use wire::WallTime;

/// Time limit of any wait in a test: a rebalance on a busy machine takes seconds.
pub(crate) const PATIENCE_MS: u64 = 60_000;

/// The bus under test.
pub(crate) trait Fixture {
    /// Returns the bus.
    fn bus(&self) -> &dyn Bus;

    /// Returns the shortest session. A member that does not poll for this long is expelled.
    fn session(&self) -> Duration;

    /// Deletes records, as an operator would.
    fn delete_records(&self, topic: &str, partition: u32, before: u64);

    /// Returns a unique name.
    fn name(&self, what: &str) -> String {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (run, number) = (std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        format!("{what}-{run}-{}-{number}", self.bus().clock().wall().0)
    }

    /// Creates a topic that keeps everything.
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

    /// Joins `group` under a unique name.
    fn join(&self, group: &str, topic: &str) -> TestMember {
        self.join_as(group, topic, &self.name("m"))
    }

    /// Joins `group` under this name.
    fn join_as(&self, group: &str, topic: &str, name: &str) -> TestMember {
        let spec = MemberSpec { session_timeout: self.session(), ..MemberSpec::new(group, topic, name) };
        let member = self.bus().member(&spec).expect("a member");
        TestMember {
            member,
            clock: self.bus().clock(),
            name: name.into(),
            owned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            seen: Vec::new(),
            auto_start: false,
            auto_release: true,
            max_records: 100,
        }
    }

    /// Reads the first `count` records of a partition from `from` on.
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
        assert!(clock.mono() < end, "no {count} records in time: {out:?}");
        reader.poll(count - out.len(), Duration::from_millis(50), &mut out).expect("a poll");
    }
    out
}

/// A member with a history of its arrivals.
pub(crate) struct TestMember {
    pub(crate) member: Box<dyn Member>,
    pub(crate) name: String,
    /// Partitions that it was assigned and has neither released nor lost.
    pub(crate) owned: BTreeSet<u32>,
    /// Partitions that the group asked for and it has not released.
    pub(crate) revoking: BTreeSet<u32>,
    pub(crate) seen: Vec<Arrival>,
    /// True: takes over and starts assigned partitions at the committed offset.
    pub(crate) auto_start: bool,
    /// True: releases revoked partitions at once.
    pub(crate) auto_release: bool,
    /// The number of records per poll.
    pub(crate) max_records: usize,
    pub(crate) clock: Arc<dyn Clock>,
}

impl TestMember {
    /// Polls once.
    pub(crate) fn poll_once(&mut self, wait: Duration) {
        let before = self.seen.len();
        self.member.poll(self.max_records, wait, &mut self.seen).expect("a poll");
        let news = self.seen[before..].to_vec();
        for arrival in news {
            match arrival {
                Arrival::Assigned(partitions) => {
                    self.owned.extend(&partitions);
                    if self.auto_start {
                        for partition in partitions {
                            let left = self.member.take_over(partition).expect("a takeover");
                            let from = left.committed.map_or(left.low, |committed| committed.next);
                            self.member.start(partition, from).expect("a start");
                        }
                    }
                }
                Arrival::Revoking(partitions) => {
                    self.revoking.extend(&partitions);
                    if self.auto_release {
                        self.release();
                    }
                }
                Arrival::Lost(partitions) => {
                    for partition in partitions {
                        self.owned.remove(&partition);
                        self.revoking.remove(&partition);
                    }
                }
                Arrival::Record(_) => {}
            }
        }
    }

    /// Releases all revoked partitions.
    pub(crate) fn release(&mut self) {
        let revoking: Vec<u32> = std::mem::take(&mut self.revoking).into_iter().collect();
        self.member.release(&revoking).expect("a release");
        for partition in revoking {
            self.owned.remove(&partition);
        }
    }

    /// Polls until `done`.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        together(&mut [self], what, |members| done(members[0]));
    }

    /// Polls until it owns `count` partitions.
    pub(crate) fn until_owned(&mut self, count: usize) {
        self.until("partitions", |member| member.owned.len() == count);
    }

    /// Polls until `count` records have arrived in total.
    pub(crate) fn until_records(&mut self, count: usize) -> Vec<Record> {
        self.until("records", |member| member.records().len() >= count);
        self.records()
    }

    /// Polls a few more times.
    pub(crate) fn poll_more(&mut self) {
        for _ in 0..10 {
            self.poll_once(Duration::from_millis(20));
        }
    }

    /// Returns the records that have arrived.
    pub(crate) fn records(&self) -> Vec<Record> {
        let record = |arrival: &Arrival| match arrival {
            Arrival::Record(record) => Some(record.clone()),
            Arrival::Assigned(_) | Arrival::Revoking(_) | Arrival::Lost(_) => None,
        };
        self.seen.iter().filter_map(record).collect()
    }

    /// Takes over a partition and starts it at the committed offset.
    pub(crate) fn resume(&mut self, partition: u32) -> u64 {
        let left = self.member.take_over(partition).expect("a takeover");
        let from = left.committed.map_or(left.low, |committed| committed.next);
        self.member.start(partition, from).expect("a start");
        from
    }

    /// Creates a batch with a position and `records`.
    pub(crate) fn at(&self, partition: u32, next: u64, records: Vec<Outgoing>) -> Batch {
        let metadata = format!("v1 {} 0 1 open", self.name).as_str().into();
        Batch { records, positions: vec![Position { partition, next, metadata }] }
    }
}

/// Polls several members alternately until `done`.
pub(crate) fn together(members: &mut [&mut TestMember], what: &str, mut done: impl FnMut(&[&mut TestMember]) -> bool) {
    let clock = Arc::clone(&members[0].clock);
    let end = clock.mono().plus_ms(PATIENCE_MS);
    while !done(members) {
        let seen: Vec<_> = members.iter().map(|member| &member.seen).collect();
        assert!(clock.mono() < end, "timed out waiting for {what}; arrived: {seen:?}");
        for member in &mut *members {
            member.poll_once(Duration::from_millis(10));
        }
    }
}

/// Returns the values of records, as text.
pub(crate) fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(&record.value).expect("text")).collect()
}

/// The embedded bus, with offset gaps as on Kafka.
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

/// The embedded bus in a temporary directory.
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

/// The embedded bus behind fault injection; [`OnFaulty::open`] injects nothing.
pub(crate) struct OnFaulty {
    bus: FaultyBus,
    embedded: Embedded,
}

impl OnFaulty {
    pub(crate) fn open() -> Self {
        Self::with(FaultScript::default())
    }

    pub(crate) fn with(faults: impl FaultInjector + 'static) -> Self {
        let OnEmbedded(embedded) = OnEmbedded::open();
        Self { bus: FaultyBus::new(Arc::new(embedded.clone()), Arc::new(faults)), embedded }
    }
}

impl Fixture for OnFaulty {
    fn bus(&self) -> &dyn Bus {
        &self.bus
    }
    fn session(&self) -> Duration {
        Duration::from_secs(2)
    }
    fn delete_records(&self, topic: &str, partition: u32, before: u64) {
        self.embedded.delete_records(topic, partition, before).expect("a deletion");
    }
}

/// A real broker.
pub(crate) struct OnKafka {
    bus: Kafka,
    pub(crate) brokers: String,
}

impl OnKafka {
    /// # Panics
    /// If there is no broker: these tests are never skipped silently.
    pub(crate) fn open() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
        let found = std::fs::read_to_string(&file).map_err(|fault| fault.to_string()).and_then(|address| {
            let mut options = KafkaOptions::new(address.trim());
            // Expels a silent member after one session, as if it were dead.
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
    #[expect(clippy::disallowed_methods, reason = "tests with a real broker need a real clock")]
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.0.elapsed().as_nanos()).expect("a test does not take 500 years"))
    }

    #[expect(clippy::disallowed_methods, reason = "tests with a real broker need a real clock")]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        WallTime(u64::try_from(since.as_millis()).expect("a test does not run in 500 million years"))
    }
}
