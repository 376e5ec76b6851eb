//! Clients that ask for flows while processes die, and what must be true when all is quiet again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bus::Clock;
use nave::clock::SystemClock;
use serde_json::{Value, json};

use super::Up;

/// A process that may be replaced by another of the same kind.
pub(crate) struct Part(RwLock<Arc<Up>>);

impl Part {
    pub(crate) fn new(up: Up) -> Self {
        Self(RwLock::new(Arc::new(up)))
    }

    /// The process that runs now. While it is being replaced this waits for the next one.
    pub(crate) fn now(&self) -> Arc<Up> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops it in order, and starts another when it has ended: in its place when that says at `/readyz` of its interface behind `word` that
    /// it is ready, as a load balancer waits for it.
    pub(crate) fn restart(&self, word: &str, start: impl FnOnce() -> Up) {
        let old = self.now();
        // Clients that come meanwhile find nobody, as they would.
        old.interrupt();
        let (new, clock) = (start(), SystemClock::default());
        let begun = clock.mono();
        while new.ask(word, "/readyz").0 != 200 {
            assert!(clock.mono().since(begun) < Duration::from_millis(PATIENCE_MS), "{:?}", new.ask(word, "/readyz"));
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    /// Kills it as `kill -9` does, with whatever it has in hand, and starts another in its place.
    pub(crate) fn replace(&self, start: impl FnOnce() -> Up) {
        let mut running = self.0.write().unwrap_or_else(PoisonError::into_inner);
        running.kill();
        *running = Arc::new(start());
    }
}

/// Tells clients that it is over when this goes, also where what goes on beside them fails.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client repeats a request with its key until it has an answer; longer than this nobody does.
const PATIENCE_MS: u64 = 120_000;
/// Between two tries: one that asks again at once makes a busy system busier.
const PAUSE: Duration = Duration::from_millis(20);

/// A pause takes a second or two, and as long as it lasts on a busy machine: longer than a step of a flow may take by default.
/// Deadlines are what an operator sets by the pauses that there are. An attempt, a call, a step and a request, in milliseconds.
pub(crate) const PATIENT: [(&str, u64); 4] = [
    ("worker-speaker.timeout_ms", 3_000),
    ("flows.call_ms", 10_000),
    ("flows.step_ms", 12_000),
    ("flows.request_ms", 60_000),
];

/// What clients asked for, and what each was told: status and body.
pub(crate) type Answers = BTreeMap<usize, (u16, Value)>;

/// Asks for a flow until there is an answer. A connection that breaks, a busy lane and a system that is not ready are reasons
/// to ask again, with the same key, at the next northbound.
pub(crate) fn ask(northbounds: &[&Part], n: usize, length: u32) -> (u16, Value) {
    let body = json!({"flowid": format!("flow-{n}"), "length": length});
    let key = format!("key-{n}");
    let clock = SystemClock::default();
    let until = clock.mono().plus_ms(PATIENCE_MS);
    let (mut attempt, mut last) = (0, None);
    while clock.mono() < until {
        let northbound = northbounds[(n + attempt) % northbounds.len()].now();
        match northbound.try_post("/flow", &body, &[("Idempotency-Key", &key)]) {
            Some((status, answer)) if ![202, 429, 503].contains(&status) => return (status, answer),
            other => last = other,
        }
        attempt += 1;
        std::thread::park_timeout(PAUSE);
    }
    panic!("flow-{n} has no answer after {attempt} tries in {PATIENCE_MS} ms; the last: {last:?}");
}

/// Asks for a flow once, of the first northbound that listens, as a load balancer does that repeats what has a key: whatever it says is the
/// answer.
pub(crate) fn ask_who_listens(northbounds: impl Fn() -> Vec<Arc<Up>>, n: usize, length: u32) -> (u16, Value) {
    let body = json!({"flowid": format!("flow-{n}"), "length": length});
    for attempt in 0..1_000 {
        let listening = northbounds();
        let northbound = &listening[(n + attempt) % listening.len()];
        match northbound.post_where_it_listens("/flow", &body, &format!("key-{n}")) {
            Ok(Some(answer)) => return answer,
            Ok(None) => {}
            Err(fault) => panic!("flow-{n}: {fault}"),
        }
    }
    panic!("flow-{n}: no northbound listens")
}

/// Waits until nothing lives any more.
pub(crate) fn until_nothing_is_open(northbound: &Part) {
    let live = || {
        let (status, body) = northbound.now().get("/v1/operations?live=true");
        assert_eq!(status, 200, "{body}");
        body["operations"].as_array().expect("a list").clone()
    };
    let mut looks = 0;
    while !live().is_empty() {
        looks += 1;
        assert!(looks < 200_000, "still open: {:?}", live());
    }
}

/// Rules stand where an answer says so, and nowhere else; nobody is told that a flow is parked. Says how often each status
/// was told.
pub(crate) fn rules_are_as_told(sim: &Up, length: u32, answers: &Answers) -> BTreeMap<u16, usize> {
    let mut stand: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for i in 1..=length {
        for rule in sim.rules(&format!("of:{i:02}")) {
            let flow = rule["flow"].as_str().expect("a rule has its flow").to_owned();
            stand.entry(flow).or_default().insert(rule["number"].as_u64().expect("a rule has a number"));
        }
    }
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for (n, (status, answer)) in answers {
        *counts.entry(*status).or_default() += 1;
        let rules = stand.remove(&format!("flow-{n}")).unwrap_or_default();
        let expected = if [200, 201].contains(status) { (1..=u64::from(length)).collect() } else { BTreeSet::new() };
        assert_eq!(rules, expected, "flow-{n}: {status} {answer}");
        assert_ne!(answer["code"], "NAVE-0040", "nothing is parked: {answer}");
    }
    assert_eq!(stand, BTreeMap::new(), "rules that nobody asked for");
    println!("answers by status: {counts:?}");
    let known = |status: &u16| [200, 201, 502, 504].contains(status);
    assert!(counts.keys().all(known), "what becomes of a flow is one of these: {counts:?}");
    counts
}
