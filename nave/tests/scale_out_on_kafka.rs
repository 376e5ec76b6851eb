//! Processes over a real Kafka start and stop while clients request flows: all running processes
//! are ready all the time, and no request is refused.

mod process;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use process::clients::{self, Answers, Progress};
use process::site::Site;
use process::{Up, brokers};
use serde_json::json;

const LENGTH: u32 = 3;
const CLIENTS: usize = 4;
/// Flows answered between two steps: enough for a rebalance to start and end.
const BETWEEN: usize = 60;
/// Interval between two checks. Checking without a pause would take time from the checked
/// processes.
const INTERVAL: Duration = Duration::from_millis(20);

/// A process and the interface of its `/readyz`.
#[derive(Clone)]
struct Process {
    up: Arc<Up>,
    interface: &'static str,
}

impl Process {
    /// Waits until a new process is ready.
    fn ready(up: Up, interface: &'static str) -> Self {
        up.wait_until_ready(interface);
        Self { up: Arc::new(up), interface }
    }
}

/// The running processes, without those that are about to stop.
#[derive(Default)]
struct Running(Mutex<Vec<Process>>);

impl Running {
    fn all(&self) -> Vec<Process> {
        self.0.lock().expect("nobody panics while holding it").clone()
    }

    fn northbounds(&self) -> Vec<Arc<Up>> {
        self.all().into_iter().filter(|process| process.interface == "REST").map(|process| process.up).collect()
    }

    fn add(&self, process: &Process) {
        self.0.lock().expect("nobody panics while holding it").push(process.clone());
    }

    fn stop(&self, process: &Process) {
        self.0.lock().expect("nobody panics while holding it").retain(|other| !Arc::ptr_eq(&other.up, &process.up));
        // Other processes continue the operations of its lanes.
        process.up.interrupt();
    }
}

#[test]
fn every_request_on_kafka_is_answered_while_processes_start_and_stop() {
    let site = Site::submitted(&brokers(), 1, &clients::LONG_DEADLINES);
    let sim = site.run("floodlight-sim");
    let (running, next, progress) = (Running::default(), AtomicUsize::new(0), Progress::default());
    let answers: Mutex<Answers> = Mutex::new(BTreeMap::new());
    let up = || Process::ready(site.up(&["--without", "speaker"]), "REST");
    // One northbound has no lanes.
    let (first, without_lanes) = (up(), Process::ready(site.run("northbound"), "REST"));
    running.add(&first);
    running.add(&without_lanes);
    std::thread::scope(|scope| {
        let _stop = progress.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let _guard = progress.of_client();
                while !progress.is_over() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let answer = clients::request_at_listening(|| running.northbounds(), n, LENGTH);
                    assert_eq!(answer.0, 201, "flow-{n}: {}", answer.1);
                    answers.lock().expect("nobody panics while holding it").insert(n, answer);
                    progress.answered();
                }
            });
        }
        scope.spawn(|| {
            let _guard = progress.of_client();
            while !progress.wait_until_over(INTERVAL) {
                for process in running.all() {
                    let (status, why) = process.up.get_from(process.interface, "/readyz");
                    // It may have been stopped since.
                    let runs = running.all().iter().any(|other| Arc::ptr_eq(&other.up, &process.up));
                    assert!(status == 200 || !runs, "{}: {why}", process.interface);
                }
            }
        });
        let continue_load = |what: &str| {
            println!("{what}");
            progress.wait_for(progress.count() + BETWEEN);
        };
        continue_load("one process has all lanes");
        let lanes = Process::ready(site.run_all(&["hub", "worker"]), "health");
        running.add(&lanes);
        continue_load("a second process takes lanes");
        let second = up();
        running.add(&second);
        continue_load("a third process takes lanes");
        running.stop(&first);
        continue_load("the first process has stopped");
        let first = up();
        running.add(&first);
        continue_load("the first process is back");
        running.stop(&lanes);
        continue_load("the process without a northbound has stopped");
        running.stop(&second);
        continue_load("one process has all lanes again");
    });
    let asked: Vec<Arc<Up>> = running.northbounds();
    let northbound = clients::ReplaceableProcess::new(site.run("northbound"));
    clients::wait_until_idle(&northbound);
    let answers = answers.into_inner().expect("nobody panicked while holding it");
    println!("{} flows, {} northbounds", answers.len(), asked.len());
    clients::assert_rules_match(&sim, LENGTH, &answers);
}

/// With two controllers, each would have half of the rules.
#[test]
fn only_one_of_two_processes_on_kafka_runs_the_switch_controller() {
    let site = Site::submitted(&brokers(), 1, &clients::LONG_DEADLINES);
    let first = site.up(&[]);
    let flow = |name: &str| json!({"flowid": name, "length": LENGTH});
    assert_eq!(first.post("/flow", &flow("one"), &[]).0, 201);
    let second = site.up(&[]);
    for n in 0..16 {
        let up = if n % 2 == 0 { &first } else { &second };
        assert_eq!(up.post("/flow", &flow(&format!("flow-{n}")), &[]).0, 201);
    }
    assert_eq!((first.rules("of:01").len(), second.rules("of:01").len()), (17, 0));
    assert_eq!((first.get_from("REST", "/readyz").0, second.get_from("REST", "/readyz").0), (200, 200));
}

/// The group first has to expel the killed process.
#[test]
fn a_process_on_kafka_says_after_two_seconds_what_it_waits_for() {
    let site = Site::submitted(&brokers(), 1, &[]);
    let first = site.up(&[]);
    first.kill();
    let second = site.up(&[]);
    second.wait_for_log("not ready after 2 s: ");
    let said = second.log();
    assert!(said.contains("not ready after 2 s: ") && said.contains("has not assigned lanes"), "{said}");
    assert!(!said.contains("PartitionEOF"), "the end of a topic is no error: {said}");
}
