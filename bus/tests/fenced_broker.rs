//! The only broker is suspended for longer than its session with the controller. After it resumes,
//! metadata names no broker for a moment; clients must recover nevertheless.
#![expect(clippy::disallowed_methods, reason = "a real broker needs a real clock")]

#[path = "support/broker.rs"]
mod broker;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{
    Arrival, Bus, BusError, Clock, Kafka, KafkaOptions, Member, MemberSpec, Outgoing, Reader, Record, TopicSpec,
};
use rustix::process::Signal;

use crate::broker::{Broker, RealClock};

/// In seconds. The session with the controller is 9 s (`tools/kafka`).
const STANDSTILL: &str = "15";

/// Clients recover within some 20 s: a request without a response takes 10 s.
const PATIENCE_MS: u64 = 120_000;
const WAIT: Duration = Duration::from_millis(1);

/// Number of members and of readers: the fault affects only some clients.
const CLIENTS: usize = 24;

/// A member of its own group and a reader, with the values that they received.
struct Pair {
    member: Box<dyn Member>,
    reader: Box<dyn Reader>,
    /// The partition was assigned, but not taken over yet.
    assigned: bool,
    owned: bool,
    seen: Vec<String>,
    read: Vec<String>,
}

impl Pair {
    fn join(bus: &Kafka, n: usize) -> Self {
        let member = bus.member(&MemberSpec::new(&format!("g{n}"), "t", &format!("m{n}"))).expect("a member");
        let mut reader = bus.reader().expect("a reader");
        reader.assign("t", 0, 0).expect("an assignment");
        Self { member, reader, assigned: false, owned: false, seen: Vec::new(), read: Vec::new() }
    }

    fn poll(&mut self) {
        let (mut arrivals, mut records) = (Vec::new(), Vec::new());
        self.member.poll(100, WAIT, &mut arrivals).expect("a poll");
        self.reader.poll(100, WAIT, &mut records).expect("a poll");
        let text = |record: &Record| String::from_utf8_lossy(&record.value).into_owned();
        self.read.extend(records.iter().map(text));
        for arrival in arrivals {
            match arrival {
                Arrival::Record(record) => self.seen.push(text(&record)),
                Arrival::Assigned(_) => self.assigned = true,
                Arrival::Revoking(partitions) => {
                    self.assigned = false;
                    self.member.release(&partitions).expect("a release");
                }
                Arrival::Lost(_) => (self.assigned, self.owned) = (false, false),
            }
        }
        if self.assigned {
            // Right after the suspension a client may not know the topic's leader yet.
            match self.member.take_over(0).and_then(|_| self.member.start(0, 0)) {
                Ok(()) => {
                    self.seen.clear();
                    (self.assigned, self.owned) = (false, true);
                }
                Err(BusError::Unavailable(_)) => {}
                Err(fault) => panic!("a takeover: {fault}"),
            }
        }
    }

    fn has(&self, value: &str) -> bool {
        let knows = |texts: &[String]| texts.iter().any(|text| text == value);
        self.owned && knows(&self.seen) && knows(&self.read)
    }
}

#[test]
fn kafka_clients_recover_after_the_only_broker_was_fenced() {
    let broker = Broker::start("fenced");
    let clock = Arc::new(RealClock(Instant::now()));
    let bus = Kafka::open(Arc::clone(&clock) as _, KafkaOptions::new(broker.address())).expect("a cluster");
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut pairs: Vec<Pair> = (0..CLIENTS).map(|n| Pair::join(&bus, n)).collect();
    let mut writer = bus.writer("w").expect("a writer");
    let mut until_all_have = |value: &str| {
        let end = clock.mono().plus_ms(PATIENCE_MS);
        while !pairs.iter().all(|pair| pair.has(value)) {
            let without: Vec<usize> = (0..).zip(&pairs).filter(|(_, pair)| !pair.has(value)).map(|(n, _)| n).collect();
            assert!(clock.mono() < end, "{without:?} of {CLIENTS} clients do not recover");
            pairs.iter_mut().for_each(Pair::poll);
        }
    };
    writer.append(&[Outgoing::keyed("t", "k", "before")]).expect("an append");
    until_all_have("before");

    broker.signal(Signal::STOP);
    assert!(Command::new("sleep").arg(STANDSTILL).status().expect("sleep runs").success());
    broker.signal(Signal::CONT);

    // The writer is not transactional: it reports unknown outcomes, and the test retries.
    let end = clock.mono().plus_ms(PATIENCE_MS);
    while let Err(fault) = writer.append(&[Outgoing::keyed("t", "k", "after")]) {
        assert!(clock.mono() < end, "the writer does not recover: {fault}");
    }
    until_all_have("after");
    let bounds = bus.bounds("t", 0).expect("the cluster answers");
    assert!(bounds.end >= 2, "{bounds:?}");
}
