//! Processes over a real Kafka come and go while clients ask for flows: all that run are ready all the time, and no request is refused.

mod process;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::Clock;
use nave::clock::SystemClock;
use process::clients::{self, Answers, Over};
use process::site::Site;
use process::{Up, brokers};
use serde_json::json;

const LENGTH: u32 = 3;
const CLIENTS: usize = 4;
/// Flows that are answered between two steps: enough for a rebalance to begin and to end.
const BETWEEN: usize = 60;
/// Between two looks: one that looks again at once takes the time of those that it looks at.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a process may take to become ready on a busy machine.
const PATIENCE_MS: u64 = 60_000;

/// A process, and where it says whether it is ready.
#[derive(Clone)]
struct Process {
    up: Arc<Up>,
    word: &'static str,
}

impl Process {
    /// One that has just begun, once it is ready.
    fn ready(up: Up, word: &'static str) -> Self {
        let clock = SystemClock::default();
        let until = clock.mono().plus_ms(PATIENCE_MS);
        while up.ask(word, "/readyz").0 != 200 {
            assert!(clock.mono() < until, "{:?}", up.ask(word, "/readyz"));
        }
        Self { up: Arc::new(up), word }
    }
}

/// The processes that run and are not about to stop.
#[derive(Default)]
struct Running(Mutex<Vec<Process>>);

impl Running {
    fn all(&self) -> Vec<Process> {
        self.0.lock().expect("nobody panics while holding it").clone()
    }

    fn northbounds(&self) -> Vec<Arc<Up>> {
        self.all().into_iter().filter(|process| process.word == "REST").map(|process| process.up).collect()
    }

    fn add(&self, process: &Process) {
        self.0.lock().expect("nobody panics while holding it").push(process.clone());
    }

    fn stop(&self, process: &Process) {
        self.0.lock().expect("nobody panics while holding it").retain(|other| !Arc::ptr_eq(&other.up, &process.up));
        // Other processes go on with the operations of its lanes.
        process.up.interrupt();
    }
}

#[test]
fn processes_come_and_go_and_every_request_is_answered_by_those_that_are_ready() {
    let site = Site::submitted(&brokers(), 1, &clients::PATIENT);
    let sim = site.run("floodlight-sim");
    let (running, next, done, over) =
        (Running::default(), AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let answers: Mutex<Answers> = Mutex::new(BTreeMap::new());
    let up = || Process::ready(site.up(&["--without", "speaker"]), "REST");
    // One northbound has no lanes.
    let (first, without_lanes) = (up(), Process::ready(site.run("northbound"), "REST"));
    running.add(&first);
    running.add(&without_lanes);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let client = || {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let answer = clients::ask_who_listens(|| running.northbounds(), n, LENGTH);
                    assert_eq!(answer.0, 201, "flow-{n}: {}", answer.1);
                    answers.lock().expect("nobody panics while holding it").insert(n, answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let watch = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for process in running.all() {
                    let (status, why) = process.up.ask(process.word, "/readyz");
                    // It may have been told to stop since.
                    let runs = running.all().iter().any(|other| Arc::ptr_eq(&other.up, &process.up));
                    assert!(status == 200 || !runs, "{}: {why}", process.word);
                }
                std::thread::park_timeout(PAUSE);
            }
        });
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        // A thread that has ended has failed: the scope says why.
        let go_on = |what: &str| {
            let until = done.load(Ordering::Relaxed) + BETWEEN;
            while done.load(Ordering::Relaxed) < until {
                let all_run = clients.iter().all(|client| !client.is_finished()) && !watch.is_finished();
                assert!(all_run, "while {what}");
                std::thread::park_timeout(PAUSE);
            }
        };
        go_on("one process has all lanes");
        let lanes = Process::ready(site.run_all(&["hub", "worker"]), "health");
        running.add(&lanes);
        go_on("a second process takes lanes");
        let second = up();
        running.add(&second);
        go_on("a third process takes lanes");
        running.stop(&first);
        go_on("the first has gone");
        let first = up();
        running.add(&first);
        go_on("the first is back");
        running.stop(&lanes);
        go_on("the one without a northbound has gone");
        running.stop(&second);
        go_on("one process has all lanes again");
    });
    let asked: Vec<Arc<Up>> = running.northbounds();
    let part = clients::Part::new(site.run("northbound"));
    clients::until_nothing_is_open(&part);
    let answers = answers.into_inner().expect("nobody panicked while holding it");
    println!("{} flows, {} northbounds", answers.len(), asked.len());
    clients::rules_are_as_told(&sim, LENGTH, &answers);
}

/// Two controllers would each know half of the rules.
#[test]
fn of_two_processes_with_everything_one_plays_the_switch_controller() {
    let site = Site::submitted(&brokers(), 1, &clients::PATIENT);
    let first = site.up(&[]);
    let flow = |name: &str| json!({"flowid": name, "length": LENGTH});
    assert_eq!(first.post("/flow", &flow("one"), &[]).0, 201);
    let second = site.up(&[]);
    for n in 0..16 {
        let up = if n % 2 == 0 { &first } else { &second };
        assert_eq!(up.post("/flow", &flow(&format!("flow-{n}")), &[]).0, 201);
    }
    assert_eq!((first.rules("of:01").len(), second.rules("of:01").len()), (17, 0));
    assert_eq!((first.ask("REST", "/readyz").0, second.ask("REST", "/readyz").0), (200, 200));
}

/// The group first has to miss the process that died.
#[test]
fn a_process_that_waits_for_its_lanes_says_so_after_two_seconds() {
    let site = Site::submitted(&brokers(), 1, &[]);
    let first = site.up(&[]);
    first.kill();
    let second = site.up(&[]);
    let said = second.said();
    assert!(said.contains("not ready after 2 s: ") && said.contains("has not assigned lanes"), "{said}");
    assert!(!said.contains("PartitionEOF"), "the end of a topic is no fault: {said}");
}
