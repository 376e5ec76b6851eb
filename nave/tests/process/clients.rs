//! Clients that request flows while processes crash, and checks for the time after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::Clock;
use nave::SystemClock;
use serde_json::{Value, json};

use super::{LIMIT, Up};

/// A process that can be replaced by another of the same kind.
pub(crate) struct ReplaceableProcess {
    /// None during a replacement.
    running: Mutex<Option<Arc<Up>>>,
    changed: Condvar,
}

impl ReplaceableProcess {
    pub(crate) fn new(up: Up) -> Self {
        Self { running: Mutex::new(Some(Arc::new(up))), changed: Condvar::new() }
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Up>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, running: Option<Arc<Up>>) {
        *self.running() = running;
        self.changed.notify_all();
    }

    /// The current process. During a replacement, waits for the next one.
    pub(crate) fn current(&self) -> Arc<Up> {
        let waited = self.changed.wait_timeout_while(self.running(), LIMIT, |running| running.is_none());
        let (running, _) = waited.unwrap_or_else(PoisonError::into_inner);
        running.clone().expect("the replacement starts within the time limit")
    }

    /// Waits until another process has replaced this one, at most `limit`.
    fn wait_for_replacement(&self, old: &Arc<Up>, limit: Duration) {
        let is_replaced = |running: &Option<Arc<Up>>| running.as_ref().is_some_and(|up| !Arc::ptr_eq(up, old));
        let waited = self.changed.wait_timeout_while(self.running(), limit, |running| !is_replaced(running));
        drop(waited);
    }

    /// Shuts the process down and starts another, which becomes the current one when `/readyz` of
    /// its `interface` reports ready, as behind a load balancer.
    pub(crate) fn restart(&self, interface: &str, start: impl FnOnce() -> Up) {
        // Meanwhile clients find no process, as in a real restart.
        self.current().interrupt();
        let new = start();
        new.wait_until_ready(interface);
        self.set(Some(Arc::new(new)));
    }

    /// Kills the process with `kill -9` and starts another in its place.
    pub(crate) fn replace(&self, start: impl FnOnce() -> Up) {
        let old = self.current();
        self.set(None);
        old.kill();
        self.set(Some(Arc::new(start())));
    }
}

/// Counts the answers to clients, wakes a test that waits for them, and stops the clients.
#[derive(Default)]
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    answered: usize,
    /// True after a client has panicked.
    has_failed: bool,
    /// True when clients should request nothing more.
    is_over: bool,
}

impl Progress {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer.
    pub(crate) fn answered(&self) {
        self.counts().answered += 1;
        self.changed.notify_all();
    }

    /// Number of answers so far.
    pub(crate) fn count(&self) -> usize {
        self.counts().answered
    }

    /// Waits for this number of answers.
    ///
    /// # Panics
    /// If a client has failed, or after the time limit.
    pub(crate) fn wait_for(&self, count: usize) {
        let waits = |counts: &mut Counts| counts.answered < count && !counts.has_failed;
        let waited = self.changed.wait_timeout_while(self.counts(), Duration::from_millis(TIMEOUT_MS), waits);
        let (counts, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let (answered, has_failed) = (counts.answered, counts.has_failed);
        drop(counts);
        assert!(!has_failed, "a client has failed after {answered} answers, see above");
        assert!(answered >= count, "{answered} answers in {TIMEOUT_MS} ms, not {count}");
    }

    /// True when clients should request nothing more.
    pub(crate) fn is_over(&self) -> bool {
        self.counts().is_over
    }

    /// Waits until [`Self::is_over`], at most `limit`.
    pub(crate) fn wait_until_over(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.counts(), limit, |counts| !counts.is_over);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    /// Stops the clients when the result is dropped, also if the test fails.
    pub(crate) fn stop_on_drop(&self) -> StopOnDrop<'_> {
        StopOnDrop(self)
    }

    /// Reports a panic of the thread that holds the result.
    pub(crate) fn of_client(&self) -> ClientGuard<'_> {
        ClientGuard(self)
    }
}

/// Stops clients when dropped.
pub(crate) struct StopOnDrop<'a>(&'a Progress);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.counts().is_over = true;
        self.0.changed.notify_all();
    }
}

/// Reports a panic of its thread when dropped.
pub(crate) struct ClientGuard<'a>(&'a Progress);

impl Drop for ClientGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.counts().has_failed = true;
            self.0.changed.notify_all();
        }
    }
}

/// Maximum time during which a client repeats a request.
const TIMEOUT_MS: u64 = 120_000;
/// Maximum backoff between two attempts, to keep a busy system responsive.
const BACKOFF: Duration = Duration::from_millis(20);

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
        let northbound = northbounds[(n + attempt) % northbounds.len()];
        let up = northbound.current();
        match up.try_post("/flow", &body, &[("Idempotency-Key", &key)]) {
            Some((status, answer)) if ![202, 429, 503].contains(&status) => return (status, answer),
            other => last = other,
        }
        attempt += 1;
        northbound.wait_for_replacement(&up, BACKOFF);
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

/// Waits until no operation is live: follows the events of each.
pub(crate) fn wait_until_idle(northbound: &ReplaceableProcess) {
    let up = northbound.current();
    let clock = SystemClock::default();
    let until = clock.mono().plus_ms(TIMEOUT_MS);
    loop {
        let (status, body) = up.get("/v1/operations?live=true");
        assert_eq!(status, 200, "{body}");
        let live = body["operations"].as_array().expect("a list");
        if live.is_empty() {
            return;
        }
        assert!(clock.mono() < until, "still live after {TIMEOUT_MS} ms: {live:?}");
        for operation in live {
            up.follow(operation["operation"].as_str().expect("an operation has its id"));
        }
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
