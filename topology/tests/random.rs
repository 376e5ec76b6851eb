//! Random runs in virtual time: crashes, moving lanes, failed and unknown commits, failing and holding
//! bolts. Nothing is lost, an exactly-once stage repeats nothing, and each root has one outcome.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "tests share what they collect")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bus::{Bus, BusError, CommitFault, FaultScript, FaultyBus, Outgoing, TopicSpec};
use topology::testing::Lanes;
use topology::{Bolt, DeliveryMode, Emitter, Failed, KafkaSource, Retries, Spout, Topology, Tuple};
use wire::hash::splitmix64;

/// Each seed takes some 10 ms.
const SEEDS: u64 = 200;
const NUMBERS: u64 = 60;
const PARTITIONS: u32 = 2;

/// A PRNG that several components share.
#[derive(Clone)]
struct Random(Arc<Mutex<u64>>);

impl Random {
    fn of(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// Returns a number below `limit`.
    fn below(&self, limit: u64) -> u64 {
        splitmix64(&mut self.0.lock().unwrap()) % limit
    }
}

/// Emits numbers, and those that failed again; its position is the end of the acked prefix.
struct Numbers {
    next: Option<u64>,
    again: VecDeque<u64>,
    acked: BTreeSet<u64>,
    /// The numbers that were emitted and have no outcome.
    open: BTreeSet<u64>,
}

impl Numbers {
    fn new() -> Self {
        Self { next: None, again: VecDeque::new(), acked: BTreeSet::new(), open: BTreeSet::new() }
    }
}

impl Spout for Numbers {
    type Out = u64;
    type Position = u64;
    const TRACKS: bool = true;

    fn next(&mut self, position: &mut u64, out: &mut Emitter<u64>) -> bool {
        let next = self.next.get_or_insert(*position);
        let number = self.again.pop_front().unwrap_or(*next);
        if number == NUMBERS {
            return false;
        }
        *next = (*next).max(number + 1);
        assert!(self.open.insert(number), "{number} is open");
        out.track(number, |out| out.emit(number));
        true
    }

    fn ack(&mut self, id: u64, position: &mut u64) {
        assert!(self.open.remove(&id), "a second outcome of {id}");
        self.acked.insert(id);
        while self.acked.remove(position) {
            *position += 1;
        }
    }

    fn fail(&mut self, id: u64, failed: &Failed, _: &mut u64, _: &mut Emitter<u64>) {
        assert!(self.open.remove(&id), "a second outcome of {id}");
        assert!(!failed.reason.is_empty() && !failed.place.is_empty());
        self.again.push_back(id);
    }
}

/// Emits, fails, drops or holds each number, or panics.
struct Unreliable {
    random: Random,
    held: Vec<Tuple<u64>>,
}

impl Bolt for Unreliable {
    type In = u64;
    type Out = u64;

    fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
        match self.random.below(8) {
            0 => out.fail("it fails"),
            1 => panic!("it panics"),
            2 => drop(out.hold(number)),
            3 | 4 => {
                self.held.push(out.hold(number));
                out.after(0, self.random.below(400));
            }
            _ => out.emit(number),
        }
    }

    fn on_timer(&mut self, _: u64, out: &mut Emitter<u64>) {
        // Two at once: each of their tuples belongs to both roots.
        while let (Some(one), other) = (self.held.pop(), self.held.pop()) {
            let numbers = [Some(*one), other.as_ref().map(|other| **other)];
            for number in numbers.into_iter().flatten() {
                match &other {
                    Some(other) => out.emit_anchored(&[&one, other], number),
                    None => out.emit_anchored(&[&one], number),
                }
            }
            other.map(Tuple::ack);
            one.ack();
        }
    }
}

/// Returns the numbers of a topic and how often each is in it.
fn counted(lanes: &Lanes, topic: &str) -> BTreeMap<u64, u32> {
    let mut counted = BTreeMap::new();
    for record in lanes.records(topic) {
        *counted.entry(serde_json::from_slice(&record.value).unwrap()).or_default() += 1;
    }
    counted
}

/// Runs a topology with random faults of its stages until nothing is left to do.
fn run(topology: Topology, seed: u64) -> Lanes {
    let (random, script) = (Random::of(seed), Arc::new(FaultScript::default()));
    let (wrapped, stages) = (Arc::clone(&script), topology.stages());
    let mut lanes = Lanes::on(topology, seed, |bus| Arc::new(FaultyBus::new(Arc::new(bus), wrapped)));
    for topic in ["numbers", "out"] {
        lanes.embedded.ensure_topic(&TopicSpec::log(topic, PARTITIONS)).unwrap();
    }
    let record = |n: u64| {
        let partition = u32::try_from(n).unwrap() % PARTITIONS;
        Outgoing::keyed("numbers", (n % 7).to_string(), n.to_string()).to(partition)
    };
    lanes.write(&(0..NUMBERS).map(record).collect::<Vec<_>>());
    lanes.recovery.snapshot_ms = 100;
    lanes.join();
    for _ in 0..12 {
        lanes.run_polls(&mut [], usize::try_from(random.below(30)).unwrap());
        let stage = &stages[usize::try_from(random.below(stages.len() as u64)).unwrap()].name;
        match random.below(8) {
            0 => script.commit(CommitFault::Fails(BusError::Unavailable("away".into()))),
            1 => script.commit(CommitFault::UnknownButCommitted),
            2 => script.commit(CommitFault::UnknownNotCommitted),
            3 => lanes.expel(stage),
            4 => {
                lanes.stop(stage);
                lanes.start(stage);
            }
            5 => {
                lanes.kill(stage);
                lanes.start(stage);
            }
            _ => drop(lanes.run_ms(random.below(300))),
        }
    }
    assert!(lanes.run_ms(3_600_000), "seed {seed}: work is left");
    assert_eq!(lanes.pending_roots(), 0, "seed {seed}");
    lanes
}

fn modes(seed: u64) -> DeliveryMode {
    if seed.is_multiple_of(2) { DeliveryMode::ExactlyOnce } else { DeliveryMode::AtLeastOnce }
}

#[test]
fn a_spout_that_replays_loses_nothing_and_each_root_has_one_outcome() {
    for seed in 0..SEEDS {
        let (t, random) = (Topology::named("tracked"), Random::of(!seed));
        let numbers = t.spout("numbers", Numbers::new).max_pending(9).timeout_ms(200).mode(modes(seed));
        t.bolt("unreliable", move || Unreliable { random: random.clone(), held: Vec::new() })
            .mode(modes(seed))
            .reads(numbers.local())
            .kafka_sink("sink", "out");
        let lanes = run(t.build().unwrap(), seed);
        assert_eq!(counted(&lanes, "out").into_keys().collect::<Vec<_>>(), (0..NUMBERS).collect::<Vec<_>>(), "{seed}");
    }
}

#[test]
fn a_source_with_retries_loses_no_record_but_those_in_dead_letters() {
    for seed in 0..SEEDS {
        let (t, random) = (Topology::named("retried"), Random::of(!seed));
        let source = KafkaSource::<u64>::topic("numbers").retries(Retries { max: 2, first_ms: 20, max_ms: 30 });
        let numbers = t.kafka_source("numbers", source).max_pending(9).timeout_ms(200).mode(modes(seed));
        t.bolt("unreliable", move || Unreliable { random: random.clone(), held: Vec::new() })
            .mode(modes(seed))
            .reads(numbers.local())
            .kafka_sink("sink", "out");
        let lanes = run(t.build().unwrap(), seed);
        let letters = lanes.dead_letters();
        assert!(
            letters.iter().all(|(_, letter)| letter["reason"].as_str().unwrap().ends_with("it failed 3 times")),
            "seed {seed}: {letters:?}"
        );
        let mut found: BTreeSet<u64> = counted(&lanes, "out").into_keys().collect();
        found.extend(letters.iter().map(|(_, letter)| letter["record"].as_str().unwrap().parse::<u64>().unwrap()));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), (0..NUMBERS).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_word_count_is_exact() {
    for seed in 0..SEEDS {
        let t = Topology::named("counted");
        t.kafka_source("numbers", KafkaSource::<u64>::topic("numbers"))
            .fields_with(|number| number % 7)
            .fold("count", 0_u64, |count, _| *count += 1)
            .lanes(3)
            .map("total", |(key, count)| key.parse::<u64>().unwrap() * 1_000 + count)
            .kafka_sink("sink", "out");
        let lanes = run(t.build().unwrap(), seed);
        let expected: BTreeMap<u64, u32> =
            (0..NUMBERS).map(|number| (number % 7 * 1_000 + number / 7 + 1, 1)).collect();
        assert_eq!(counted(&lanes, "out"), expected, "seed {seed}");
    }
}
