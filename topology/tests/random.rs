//! Random faults from seeds, over one topology with the guarantees of each kind of source: a word
//! count that is exact, an enrichment with retries and a spout that tracks its tuples.
//!
//! `SEED=17 cargo test -p topology --test random` runs one seed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "tests share what they collect")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bus::{Batch, Bus, BusError, BusEvent, CommitFault, FaultInjector, FaultyBus, Outgoing, TopicSpec};
use serde::de::DeserializeOwned;
use topology::testing::Lanes;
use topology::{Bolt, DeliveryMode, Emitter, Failed, KafkaSink, KafkaSource, Retries, Spout, Topology, Tuple};

/// About 10 s in a debug build.
const SEEDS: u64 = 300;
const RETRIES: Retries = Retries { max: 3, first_ms: 20, max_ms: 200 };
/// The stages, by their first component.
const STAGES: [&str; 5] = ["lines", "count", "orders", "numbers", "collect"];
const NUMBERS: u64 = 30;
const KEYS: [&str; 3] = ["a", "b", "c"];

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        wire::hash::splitmix64(&mut self.0) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// The observations of the components of a seed; shared, so that a crash does not forget them.
#[derive(Default)]
struct Seen {
    /// The numbers that are committed to the inbox of `collect`.
    committed: BTreeSet<u64>,
    /// The open roots of each instance of the spout that lives.
    open: BTreeMap<u64, BTreeSet<u64>>,
    instances: u64,
    acks: u64,
    /// The calls of the enrichment for each order, and those that failed.
    calls: BTreeMap<u64, (u64, u32)>,
    /// The last order of each key in each instance of the enrichment.
    last: BTreeMap<(u64, u64), u64>,
    /// The violations of a guarantee.
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

fn instance(seen: &Shared) -> u64 {
    let mut seen = seen.lock().unwrap();
    seen.instances += 1;
    seen.instances
}

/// Emits the numbers below [`NUMBERS`], again if they fail. The position is the end of the acked
/// prefix.
struct Numbers {
    seen: Shared,
    instance: u64,
    next: Option<u64>,
    acked: BTreeSet<u64>,
    again: VecDeque<u64>,
}

impl Numbers {
    fn of(seen: &Shared) -> Self {
        let instance = instance(seen);
        seen.lock().unwrap().open.insert(instance, BTreeSet::new());
        Self { seen: Arc::clone(seen), instance, next: None, acked: BTreeSet::new(), again: VecDeque::new() }
    }

    fn settled(&self, id: u64, outcome: &str) {
        let mut seen = self.seen.lock().unwrap();
        if !seen.open.get_mut(&self.instance).unwrap().remove(&id) {
            seen.wrong.push(format!("{id} {outcome}, but it is not open"));
        }
        if outcome == "acked" {
            seen.acks += 1;
            if !seen.committed.contains(&id) {
                seen.wrong.push(format!("{id} acked before its commit"));
            }
        }
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // A check that failed has poisoned it.
        if let Ok(mut seen) = self.seen.lock() {
            seen.open.remove(&self.instance);
        }
    }
}

impl Spout for Numbers {
    type Out = u64;
    type Position = u64;
    const TRACKS: bool = true;

    fn next(&mut self, position: &mut u64, out: &mut Emitter<u64>) -> bool {
        let next = self.next.get_or_insert(*position);
        let number = self.again.pop_front().unwrap_or_else(|| {
            *next += 1;
            *next - 1
        });
        if number >= NUMBERS {
            return false;
        }
        self.seen.lock().unwrap().open.get_mut(&self.instance).unwrap().insert(number);
        out.track(number, |out| out.emit(number));
        true
    }

    fn ack(&mut self, id: u64, position: &mut u64) {
        self.settled(id, "acked");
        self.acked.insert(id);
        while self.acked.remove(position) {
            *position += 1;
        }
    }

    fn fail(&mut self, id: u64, _: &Failed, _: &mut u64, _: &mut Emitter<u64>) {
        self.settled(id, "failed");
        self.again.push_back(id);
    }
}

/// Fails or holds numbers at random, and emits those that it held with two anchors.
struct Pairs {
    dice: Dice,
    held: Vec<Tuple<u64>>,
}

impl Bolt for Pairs {
    type In = u64;
    type Out = u64;

    fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
        match self.dice.below(6) {
            0 => out.fail("at random"),
            1 => panic!("at random"),
            2 => out.emit(number),
            _ => {
                self.held.push(out.hold(number));
                out.after(number, self.dice.below(50));
            }
        }
    }

    fn on_timer(&mut self, _: u64, out: &mut Emitter<u64>) {
        let both = self.held.split_off(self.held.len().saturating_sub(2));
        for tuple in &both {
            out.emit_anchored(&both.iter().map(|tuple| tuple as _).collect::<Vec<_>>(), **tuple);
        }
        for tuple in both {
            match self.dice.below(8) {
                0 => tuple.fail("at random"),
                1 => drop(tuple),
                _ => drop(tuple.ack()),
            }
        }
    }
}

/// Fails each order as often as its last digit says, in one of several ways, and then emits it.
struct Enrich {
    seen: Shared,
    instance: u64,
    held: BTreeMap<u64, Tuple<u64>>,
}

impl Enrich {
    /// Counts a call for an order that may fail. Returns true if it does.
    fn fails(&self, order: u64) -> bool {
        let mut seen = self.seen.lock().unwrap();
        let (_, failures) = seen.calls.entry(order).or_default();
        let fails = u64::from(*failures) < order % 10;
        *failures += u32::from(fails);
        fails
    }
}

impl Bolt for Enrich {
    type In = u64;
    type Out = u64;

    fn execute(&mut self, order: u64, out: &mut Emitter<u64>) {
        let call = {
            let mut seen = self.seen.lock().unwrap();
            let last = seen.last.insert((self.instance, order / 1_000), order);
            if last.is_some_and(|last| last > order) {
                seen.wrong.push(format!("{order} comes after {last:?}"));
            }
            let (calls, _) = seen.calls.entry(order).or_default();
            *calls += 1;
            *calls
        };
        match (order + call) % 4 {
            0 if self.fails(order) => out.fail("at random"),
            1 if self.fails(order) => panic!("at random"),
            2 | 3 => {
                self.held.insert(order, out.hold(order));
                out.after(order, 5 * (order % 7));
            }
            _ => out.emit(order),
        }
    }

    /// A timer survives a takeover, a held tuple does not.
    fn on_timer(&mut self, order: u64, out: &mut Emitter<u64>) {
        let Some(held) = self.held.remove(&order) else { return };
        if self.fails(order) {
            return held.fail("at random");
        }
        out.emit_anchored(&[&held], order);
        held.ack();
    }
}

/// Fails commits at random while it has dice.
struct Faults {
    dice: Mutex<Option<Dice>>,
    seen: Shared,
}

impl FaultInjector for Faults {
    fn commit(&self, _: &str, _: &Batch) -> CommitFault {
        match self.dice.lock().unwrap().as_mut().map_or(u64::MAX, |dice| dice.below(40)) {
            0 | 1 => CommitFault::Fails(BusError::Unavailable("at random".into())),
            2 | 3 => CommitFault::UnknownButCommitted,
            4 | 5 => CommitFault::UnknownNotCommitted,
            6 => CommitFault::Fenced,
            _ => CommitFault::None,
        }
    }

    fn observe(&self, event: BusEvent<'_>) {
        let records = match event {
            BusEvent::Committed(_, batch) => &batch.records,
            BusEvent::Appended(records) => records,
            BusEvent::Arrived(..) | BusEvent::Fenced(..) => return,
        };
        let numbers = records.iter().filter(|record| record.topic.ends_with(".collect.in"));
        let numbers = numbers.filter_map(|record| serde_json::from_slice::<u64>(&record.value).ok());
        self.seen.lock().unwrap().committed.extend(numbers);
    }
}

/// Without deadlines, so that no deadline hides a root that is never acked.
fn topology(seen: &Shared, seed: u64) -> Topology {
    let t = Topology::named("random");
    // The stages that may repeat tuples.
    let mode = if seed.is_multiple_of(2) { DeliveryMode::ExactlyOnce } else { DeliveryMode::AtLeastOnce };
    t.kafka_source("lines", KafkaSource::<String>::topic("lines"))
        .lanes(2)
        .flat_map("split", |line| line.split(' ').map(str::to_owned).collect())
        .fields(|word| word.as_str())
        .fold("count", 0_u32, |count, _| *count += 1)
        .lanes(4)
        .kafka_sink("counts", KafkaSink::topic("counts").key(|(word, _): &(String, u32)| word.clone()));
    let of = Arc::clone(seen);
    let enrich = move || Enrich { instance: instance(&of), seen: Arc::clone(&of), held: BTreeMap::new() };
    let orders = t
        .kafka_source("orders", KafkaSource::<u64>::topic("orders").retries(RETRIES))
        .lanes(2)
        .timeout_ms(None)
        .mode(mode);
    t.bolt("enrich", enrich).reads(orders.local()).kafka_sink("enriched", "enriched");
    let of = Arc::clone(seen);
    let numbers = t.spout("numbers", move || Numbers::of(&of)).max_pending(8).timeout_ms(None).mode(mode);
    let pairs = move || Pairs { dice: Dice(seed), held: Vec::new() };
    t.bolt("pairs", pairs).reads(numbers.local()).shuffle().map("collect", |n| n).kafka_sink("collected", "collected");
    t.build().unwrap()
}

fn values<T: DeserializeOwned>(lanes: &Lanes, topic: &str) -> Vec<T> {
    lanes.records(topic).iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

/// The inputs of a seed.
#[derive(Default)]
struct Written {
    words: BTreeMap<String, u32>,
    orders: BTreeSet<u64>,
}

impl Written {
    fn write(&mut self, lanes: &Lanes, dice: &mut Dice) {
        let mut records = Vec::new();
        for _ in 0..=dice.below(4) {
            let words: Vec<&str> = (0..=dice.below(4)).map(|_| dice.choose(&["a", "rose", "is", "so"])).collect();
            for word in &words {
                *self.words.entry((*word).to_owned()).or_default() += 1;
            }
            records.push(Outgoing::keyed("lines", words[0], serde_json::to_string(&words.join(" ")).unwrap()));
        }
        for _ in 0..=dice.below(8) {
            // A key is 1,000 orders; most fail less often than the retries allow.
            let key = dice.below(3);
            let count = self.orders.range(key * 1_000..(key + 1) * 1_000).count() as u64;
            let order = key * 1_000 + count * 10 + dice.choose(&[0, 0, 1, 2, 3, 9]);
            self.orders.insert(order);
            let key = KEYS[usize::try_from(key).unwrap()];
            records.push(Outgoing::keyed("orders", key, order.to_string()));
        }
        lanes.write(&records);
    }
}

fn event(lanes: &mut Lanes, written: &mut Written, dice: &mut Dice) {
    let stage = dice.choose(&STAGES);
    match dice.below(6) {
        0 | 1 => {
            lanes.kill(stage);
            lanes.run_polls(&mut [], usize::try_from(dice.below(20)).unwrap());
            lanes.start(stage);
        }
        2 => {
            lanes.join_stage(stage).unwrap();
            if dice.one_in(2) {
                lanes.run_polls(&mut [], usize::try_from(dice.below(40)).unwrap());
            }
            drop(lanes.stop(stage));
        }
        3 => lanes.expel(stage),
        4 => drop(lanes.run_ms(dice.below(500))),
        _ => written.write(lanes, dice),
    }
}

fn check(lanes: &Lanes, written: &Written, seen: &Seen) {
    assert_eq!(seen.wrong, Vec::<String>::new());
    let open: Vec<_> = seen.open.values().flatten().collect();
    assert_eq!((open, lanes.pending_roots()), (Vec::new(), 0), "roots without an outcome");

    let mut counts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (word, count) in values::<(String, u32)>(lanes, "counts") {
        counts.entry(word).or_default().push(count);
    }
    let exact = written.words.iter().map(|(word, count)| (word.clone(), (1..=*count).collect())).collect();
    assert_eq!(counts, exact, "counts are exact and in order");

    let dead: BTreeSet<u64> =
        lanes.dead_letters().iter().map(|(_, letter)| letter["record"].as_str().unwrap().parse().unwrap()).collect();
    let failures = |order: &u64| seen.calls.get(order).map_or(0, |(_, failures)| *failures);
    for order in &dead {
        assert!(failures(order) > RETRIES.max, "{order} is a dead letter after {} failures", failures(order));
    }
    let enriched: BTreeSet<u64> = values(lanes, "enriched").into_iter().collect();
    let done: BTreeSet<u64> = enriched.union(&dead).copied().collect();
    assert_eq!(done, written.orders, "each order is done or a dead letter");

    let collected: BTreeSet<u64> = values(lanes, "collected").into_iter().collect();
    assert_eq!(collected, (0..NUMBERS).collect(), "no number is lost");
    assert!(seen.acks >= NUMBERS, "{} acks", seen.acks);
}

/// Prints the seed of a failure.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("rerun: SEED={} cargo test -p topology --test random", self.0);
        }
    }
}

fn run(seed: u64) {
    let _seed = Seed(seed);
    let (seen, mut dice, mut written) = (Shared::default(), Dice(seed), Written::default());
    let faults = Arc::new(Faults { dice: Mutex::new(Some(Dice(!seed))), seen: Arc::clone(&seen) });
    let injector = Arc::clone(&faults) as Arc<dyn FaultInjector>;
    let mut lanes = Lanes::on(topology(&seen, seed), seed, |bus| Arc::new(FaultyBus::new(Arc::new(bus), injector)));
    for (topic, partitions) in [("lines", 3), ("orders", 3), ("counts", 2), ("enriched", 1), ("collected", 1)] {
        lanes.embedded.ensure_topic(&TopicSpec::log(topic, partitions)).unwrap();
    }
    written.write(&lanes, &mut dice);
    lanes.join();
    for _ in 0..3 + dice.below(8) {
        lanes.run_polls(&mut [], usize::try_from(dice.below(60)).unwrap());
        event(&mut lanes, &mut written, &mut dice);
    }
    *faults.dice.lock().unwrap() = None;
    assert!(lanes.run_ms(600_000), "no work is left: {:?}", lanes.unfinished());
    check(&lanes, &written, &seen.lock().unwrap());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a developer reruns a seed")]
fn guarantees_hold_under_random_crashes_moves_and_failed_commits() {
    match std::env::var("SEED") {
        Ok(seed) => run(seed.parse().expect("SEED is a number")),
        Err(_) => (0..SEEDS).for_each(run),
    }
}
