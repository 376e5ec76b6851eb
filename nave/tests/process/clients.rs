//! Clients that request flows while processes crash, and checks for the time after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bus::Clock;
use nave::clock::SystemClock;
use serde_json::{Value, json};

use super::Up;

/// A process that can be replaced by another of the same kind.
pub(crate) struct ReplaceableProcess(RwLock<Arc<Up>>);

impl ReplaceableProcess {
    pub(crate) fn new(up: Up) -> Self {
        Self(RwLock::new(Arc::new(up)))
    }

    /// The current process. During a replacement, waits for the next one.
    pub(crate) fn current(&self) -> Arc<Up> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shuts the process down and starts another, which becomes the current one when `/readyz` of
    /// its `interface` reports ready, as behind a load balancer.
    pub(crate) fn restart(&self, interface: &str, start: impl FnOnce() -> Up) {
        let old = self.current();
        // Meanwhile clients find no process, as in a real restart.
        old.interrupt();
        let (new, clock) = (start(), SystemClock::default());
        let begun = clock.mono();
        while new.get_from(interface, "/readyz").0 != 200 {
            assert!(
                clock.mono().since(begun) < Duration::from_millis(TIMEOUT_MS),
                "{:?}",
                new.get_from(interface, "/readyz")
            );
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    /// Kills the process with `kill -9` and starts another in its place.
    pub(crate) fn replace(&self, start: impl FnOnce() -> Up) {
        let mut running = self.0.write().unwrap_or_else(PoisonError::into_inner);
        running.kill();
        *running = Arc::new(start());
    }
}

/// Stops clients when dropped, also if the test fails.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Maximum time during which a client repeats a request.
const TIMEOUT_MS: u64 = 120_000;
/// Backoff between two attempts, to keep a busy system responsive.
const PAUSE: Duration = Duration::from_millis(20);

/// Settings with longer deadlines, in milliseconds, for an attempt, a call, a step and a request.
/// On a busy machine a takeover takes a second or two, or more: longer than the default deadline of
/// a step. Operators set deadlines according to their takeover times.
pub(crate) const LONG_DEADLINES: [(&str, u64); 4] = [
    ("worker-speaker.timeout_ms", 3_000),
    ("flows.call_ms", 10_000),
    ("flows.step_ms", 12_000),
    ("flows.request_ms", 60_000),
];

/// Status and body of the answer to each request.
pub(crate) type Answers = BTreeMap<usize, (u16, Value)>;

/// Requests a flow until there is an answer. If a connection breaks, a lane is busy or the system
/// is not ready, repeats the request with the same key at the next northbound.
pub(crate) fn request(northbounds: &[&ReplaceableProcess], n: usize, length: u32) -> (u16, Value) {
    let body = json!({"flowid": format!("flow-{n}"), "length": length});
    let key = format!("key-{n}");
    let clock = SystemClock::default();
    let until = clock.mono().plus_ms(TIMEOUT_MS);
    let (mut attempt, mut last) = (0, None);
    while clock.mono() < until {
        let northbound = northbounds[(n + attempt) % northbounds.len()].current();
        match northbound.try_post("/flow", &body, &[("Idempotency-Key", &key)]) {
            Some((status, answer)) if ![202, 429, 503].contains(&status) => return (status, answer),
            other => last = other,
        }
        attempt += 1;
        std::thread::park_timeout(PAUSE);
    }
    panic!("flow-{n} has no answer after {attempt} attempts in {TIMEOUT_MS} ms; last response: {last:?}");
}

/// Requests a flow once, at the first northbound that listens, like a load balancer that retries
/// requests with a key.
pub(crate) fn request_at_listening(northbounds: impl Fn() -> Vec<Arc<Up>>, n: usize, length: u32) -> (u16, Value) {
    let body = json!({"flowid": format!("flow-{n}"), "length": length});
    for attempt in 0..1_000 {
        let listening = northbounds();
        let northbound = &listening[(n + attempt) % listening.len()];
        match northbound.post_if_listening("/flow", &body, &format!("key-{n}")) {
            Ok(Some(answer)) => return answer,
            Ok(None) => {}
            Err(fault) => panic!("flow-{n}: {fault}"),
        }
    }
    panic!("flow-{n}: no northbound listens")
}

/// Waits until no operation is live.
pub(crate) fn wait_until_idle(northbound: &ReplaceableProcess) {
    let live = || {
        let (status, body) = northbound.current().get("/v1/operations?live=true");
        assert_eq!(status, 200, "{body}");
        body["operations"].as_array().expect("a list").clone()
    };
    let mut polls = 0;
    while !live().is_empty() {
        polls += 1;
        assert!(polls < 200_000, "still live: {:?}", live());
    }
}

/// Checks that the rules match the answers, and that no answer says that a flow is parked. Returns
/// the number of answers by status.
pub(crate) fn assert_rules_match(sim: &Up, length: u32, answers: &Answers) -> BTreeMap<u16, usize> {
    let mut installed: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for i in 1..=length {
        for rule in sim.rules(&format!("of:{i:02}")) {
            let flow = rule["flow"].as_str().expect("a rule has its flow").to_owned();
            installed.entry(flow).or_default().insert(rule["number"].as_u64().expect("a rule has a number"));
        }
    }
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for (n, (status, answer)) in answers {
        *counts.entry(*status).or_default() += 1;
        let rules = installed.remove(&format!("flow-{n}")).unwrap_or_default();
        let expected = if [200, 201].contains(status) { (1..=u64::from(length)).collect() } else { BTreeSet::new() };
        assert_eq!(rules, expected, "flow-{n}: {status} {answer}");
        assert_ne!(answer["code"], "NAVE-0040", "no flow may be parked: {answer}");
    }
    assert_eq!(installed, BTreeMap::new(), "rules without a request");
    println!("answers by status: {counts:?}");
    let expected = |status: &u16| [200, 201, 502, 504].contains(status);
    assert!(counts.keys().all(expected), "unexpected status: {counts:?}");
    counts
}
