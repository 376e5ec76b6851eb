//! The only broker stands still for longer than its session with its controller. When it goes on, its clients are told of no broker at
//! all for a moment; they have to come back all the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bus::{Arrival, Bus, Clock, Kafka, KafkaOptions, MemberSpec, MonoTime, Outgoing, TopicSpec};
use wire::WallTime;

/// The controller waits for 9 s (`tools/kafka`).
const STANDSTILL: &str = "15";

/// What comes back does so within some 20 s: a question that gets no answer lasts 10.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whether enough was seen: of whether the partition is owned, what the member saw, and what the reader did.
type Until<'a> = &'a dyn Fn(bool, &[String], &[String]) -> bool;

struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "somebody must make the clock of a real broker's tests")]
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.0.elapsed().as_nanos()).expect("less than 500 years"))
    }

    #[expect(clippy::disallowed_methods, reason = "somebody must make the clock of a real broker's tests")]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        WallTime(u64::try_from(since.as_millis()).expect("before the year 500,000,000"))
    }
}

/// A broker of its own: others are not to be disturbed.
struct Broker(PathBuf);

impl Broker {
    fn start() -> Self {
        let broker = Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/fenced"));
        broker.tool("start");
        broker
    }

    fn tool(&self, what: &str) {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/kafka");
        let status = Command::new(tool).arg(what).env("NAVE_KAFKA_HOME", &self.0).status();
        assert!(status.expect("tools/kafka runs").success(), "tools/kafka {what} failed");
    }

    fn address(&self) -> String {
        std::fs::read_to_string(self.0.join("address")).expect("an address").trim().to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.0.join("1/pid")).expect("a pid");
        let status = Command::new("kill").args([&format!("-{name}"), pid.trim()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal("CONT");
        self.tool("stop");
    }
}

#[test]
fn clients_come_back_when_the_only_broker_was_away_from_its_controller() {
    let broker = Broker::start();
    let clock = Arc::new(RealClock::start());
    let bus = Kafka::open(Arc::clone(&clock) as _, KafkaOptions::new(broker.address())).expect("a cluster");
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "t", "m")).expect("a member");
    let (mut reader, mut writer) = (bus.reader().expect("a reader"), bus.writer("w").expect("a writer"));
    reader.assign("t", 0, 0).expect("an assignment");
    let (mut owned, mut seen, mut read) = (false, Vec::new(), Vec::new());
    let mut turn = |until: Until<'_>| {
        let end = clock.mono().plus_ms(u64::try_from(PATIENCE.as_millis()).expect("a minute"));
        while !until(owned, &seen, &read) {
            assert!(clock.mono() < end, "gave up: owned is {owned}, the member saw {seen:?}, the reader {read:?}");
            let (mut arrivals, mut records) = (Vec::new(), Vec::new());
            member.poll(100, Duration::from_millis(50), &mut arrivals).expect("a poll");
            reader.poll(100, Duration::from_millis(50), &mut records).expect("a poll");
            let text = |record: &bus::Record| String::from_utf8_lossy(&record.value).into_owned();
            read.extend(records.iter().map(text));
            for arrival in arrivals {
                match arrival {
                    Arrival::Record(record) => seen.push(text(&record)),
                    Arrival::Assigned(_) => {
                        // It may be too early for the cluster to say what was left; then the group is asked again.
                        let next = u64::try_from(seen.len()).expect("a few");
                        let started = member.take_over(0).and_then(|_| member.start(0, next));
                        started.expect("a takeover");
                        owned = true;
                    }
                    Arrival::Revoking(partitions) => member.release(&partitions).expect("a release"),
                    Arrival::Lost(_) => owned = false,
                }
            }
        }
    };
    writer.append(&[Outgoing::keyed("t", "k", "before")]).expect("an append");
    turn(&|owned, seen, read| owned && seen.len() == 1 && read.len() == 1);

    broker.signal("STOP");
    assert!(Command::new("sleep").arg(STANDSTILL).status().expect("sleep runs").success());
    broker.signal("CONT");

    // The writer is without transactions: what it is not sure of is told, and may be tried again.
    let end = clock.mono().plus_ms(90_000);
    while let Err(fault) = writer.append(&[Outgoing::keyed("t", "k", "after")]) {
        assert!(clock.mono() < end, "the writer does not come back: {fault}");
    }
    let after = |texts: &[String]| texts.iter().any(|text| text == "after");
    turn(&|owned, seen, read| owned && after(seen) && after(read));
    let bounds = bus.bounds("t", 0).expect("the cluster answers");
    assert!(bounds.end >= 2, "{bounds:?}");
}
