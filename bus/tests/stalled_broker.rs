//! Clients of a broker that is suspended for a few seconds.
#![expect(clippy::disallowed_methods, reason = "a real broker needs a real clock")]

#[path = "support/broker.rs"]
mod broker;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bus::{
    Arrival, Batch, Bus, BusHealth, Clock, CommitError, Kafka, KafkaOptions, Member, MemberSpec, Outgoing, Position,
    TopicSpec,
};
use rustix::process::Signal;

use crate::broker::{Broker, RealClock};

/// Clients recover within some 20 s: a request without a response takes 10 s.
const PATIENCE_MS: u64 = 120_000;

/// One test at a time: each measures this process and has its own broker.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(broker: &Broker) -> Kafka {
    Kafka::open(Arc::new(RealClock(Instant::now())), KafkaOptions::new(broker.address())).expect("a cluster")
}

/// Sleeps in real time while the broker is suspended.
fn pass(seconds: &str) {
    assert!(Command::new("sleep").arg(seconds).status().expect("sleep runs").success());
}

/// Returns the processor time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(')').expect("a bracket").1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn no_thread_spins_while_a_kafka_broker_does_not_respond() {
    let _alone = alone();
    let broker = Broker::start("stalled");
    let bus = connect(&broker);
    bus.ensure_topic(&TopicSpec::log("t", 2)).expect("a topic");
    let mut writer = bus.writer("w").expect("a writer");
    let records: Vec<Outgoing> =
        (0..20_000).map(|n| Outgoing::keyed("t", format!("{n}"), "a".repeat(100)).to(n % 2)).collect();
    writer.append(&records).expect("an append");
    broker.signal(Signal::STOP);
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| writer.append(&records));
        // By then everything that can be sent is sent.
        pass("1");
        let before = processor_time();
        pass("2");
        let used = processor_time().saturating_sub(before);
        broker.signal(Signal::CONT);
        appending.join().expect("no panic").expect("an append");
        assert!(used < Duration::from_millis(500), "{used:?} of processor time in 2 s of waiting");
    });
    let ends = [0, 1].map(|partition| bus.bounds("t", partition).expect("bounds").end);
    assert_eq!(ends, [20_000, 20_000], "every record once");
}

/// A member that owns partition 0 of `t`, and a counter of its losses.
struct Owner {
    member: Box<dyn Member>,
    clock: Arc<dyn Clock>,
    owns: bool,
    losses: usize,
}

impl Owner {
    fn join(bus: &Kafka) -> Self {
        let member = bus.member(&MemberSpec::new("g", "t", "m")).expect("a member");
        let mut owner = Self { member, clock: bus.clock(), owns: false, losses: 0 };
        let end = owner.clock.mono().plus_ms(PATIENCE_MS);
        while !owner.owns {
            assert!(owner.clock.mono() < end, "no assignment");
            owner.poll();
        }
        owner
    }

    fn poll(&mut self) {
        let mut arrivals = Vec::new();
        self.member.poll(100, Duration::from_millis(10), &mut arrivals).expect("a poll");
        for arrival in arrivals {
            match arrival {
                Arrival::Assigned(_) => {
                    self.member.take_over(0).expect("a takeover");
                    self.member.start(0, 0).expect("a start");
                    self.owns = true;
                }
                Arrival::Revoking(_) | Arrival::Lost(_) => self.losses += 1,
                Arrival::Record(_) => {}
            }
        }
    }

    /// Commits as a lane does: retries a failed commit, and reads the outcome of an unknown one.
    fn commit(&mut self, batch: &Batch) {
        let end = self.clock.mono().plus_ms(PATIENCE_MS);
        while let Err(error) = self.member.commit(batch) {
            assert!(self.clock.mono() < end, "no commit: {error}");
            self.poll();
            let happened = |next| next >= batch.positions[0].next;
            if matches!(error, CommitError::Unknown(_))
                && self.member.take_over(0).is_ok_and(|left| left.committed.is_some_and(|left| happened(left.next)))
            {
                return;
            }
        }
    }
}

fn batch(next: u64) -> Batch {
    let records = vec![Outgoing::keyed("out", "k", format!("{next}")); 1_000];
    Batch { records, positions: vec![Position { partition: 0, next, metadata: "".into() }] }
}

#[test]
fn a_kafka_commit_without_response_fails_soon_and_keeps_membership() {
    let _alone = alone();
    let broker = Broker::start("stalled");
    let bus = connect(&broker);
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    bus.ensure_topic(&TopicSpec::log("out", 1)).expect("a topic");
    bus.writer("w").expect("a writer").append(&vec![Outgoing::keyed("t", "k", "v"); 3]).expect("an append");
    let mut owner = Owner::join(&bus);
    owner.commit(&batch(1));
    broker.signal(Signal::STOP);
    let before = owner.clock.mono();
    let outcome = owner.member.commit(&batch(2));
    let took = owner.clock.mono().since(before);
    broker.signal(Signal::CONT);
    assert!(outcome.is_err(), "the broker is suspended");
    assert!(took < Duration::from_secs(4), "given up after {took:?}");
    owner.commit(&batch(2));
    owner.commit(&batch(3));
    assert_eq!(owner.losses, 0, "the session outlasts the suspension");
    let mut reader = bus.reader().expect("a reader");
    reader.assign("out", 0, 0).expect("an offset");
    let (mut out, end) = (Vec::new(), owner.clock.mono().plus_ms(PATIENCE_MS));
    while out.len() < 3_000 {
        assert!(owner.clock.mono() < end, "{} records", out.len());
        reader.poll(10_000, Duration::from_millis(100), &mut out).expect("a poll");
    }
    let values: Vec<u64> = out.iter().map(|record| String::from_utf8_lossy(&record.value).parse().unwrap()).collect();
    assert!(values.is_sorted() && values.chunk_by(u64::eq).all(|same| same.len() == 1_000), "each commit once");
}

#[test]
fn a_kafka_append_without_response_is_reported_counted_and_retried() {
    let _alone = alone();
    let broker = Broker::start("stalled");
    let bus = connect(&broker);
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut writer = bus.writer("w").expect("a writer");
    let record = [Outgoing::keyed("t", "k", "v")];
    writer.append(&record).expect("an append");
    assert_eq!(bus.health(), BusHealth::default());
    broker.signal(Signal::STOP);
    let clock = bus.clock();
    let is_reported = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ended, end) = sync_channel(1);
        let is_reported = &is_reported;
        let appending = scope.spawn(move || {
            // After this time the broker may be separated from its controller a moment longer.
            let until = clock.mono().plus_ms(PATIENCE_MS);
            // The threads of the broker stop a moment after the signal: until then it responds.
            while !is_reported.load(Ordering::Acquire) {
                while let Err(fault) = writer.append(&record) {
                    assert!(clock.mono() < until, "the writer does not recover: {fault}");
                }
            }
            ended.send(()).expect("the test waits");
        });
        // Fails as soon as the append ends, which it must not do meanwhile.
        let until = |what: &str, is_so: &dyn Fn(BusHealth) -> bool| {
            let limit = bus.clock().mono().plus_ms(PATIENCE_MS);
            while !is_so(bus.health()) {
                assert!(bus.clock().mono() < limit, "{what}: {:?}", bus.health());
                assert_eq!(end.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout), "{what}");
            }
        };
        until("reported", &|health| health.waiting.iter().any(|line| line.contains("writer `w`")));
        is_reported.store(true, Ordering::Release);
        until("counted", &|health| health.appends_retried == 1);
        broker.signal(Signal::CONT);
        appending.join().expect("no panic");
        assert_eq!(end.recv(), Ok(()), "the append succeeds");
    });
    assert!(bus.health().waiting.is_empty());
    assert!(bus.bounds("t", 0).expect("bounds").end >= 2);
}
