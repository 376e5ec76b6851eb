//! The whole conversation on a real Kafka: hub, worker, two northbounds and the simulated switch controller as five processes;
//! every fault of the simulator, each on a share of the calls; each process killed once, with flows in flight. Each client
//! gets exactly one answer, the rule tables are what the answers say, and in the end nothing is open.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};

use process::{Up, brokers, nave};
use serde_json::{Value, json};

/// So many flows there are, of so many rules each.
const FLOWS: usize = 2_000;
const LENGTH: u32 = 3;
/// So many clients ask side by side, each for one flow after the other.
const CLIENTS: usize = 24;
/// A flow has six calls: at this percentage of calls, each fault strikes one flow in twenty.
const PERCENT: f64 = 0.85;
/// A client repeats a request with its key until it has an answer; more often than this nobody does.
const TRIES: usize = 60;

/// Every kind of fault but the crash, which is a kill here.
fn faults() -> Value {
    let kinds = [
        json!("silence"),
        json!("mute"),
        json!({"delay_reply": {"ms": 600}}),
        json!({"delay_execution": {"ms": 600}}),
        json!({"error": {"code": "busy", "retry": true}}),
        json!({"error": {"code": "full"}}),
        json!("duplicate"),
        json!({"reorder": {"hold": 5}}),
        json!({"wrong_key": {"what": "call"}}),
        json!({"wrong_key": {"what": "causation"}}),
        json!({"wrong_key": {"what": "key"}}),
        json!({"corrupt": {"what": "body"}}),
        json!({"corrupt": {"what": "headers"}}),
        json!("lie"),
        json!({"oversized": {"bytes": 100_000}}),
    ];
    let faults: Vec<Value> = kinds.iter().map(|kind| json!({"kind": kind, "when": {"percent": PERCENT}})).collect();
    json!({"seed": 42, "faults": faults})
}

/// The five processes.
struct Cluster {
    place: Vec<String>,
    sim_dir: tempfile::TempDir,
    /// By role; there are two northbounds.
    running: BTreeMap<&'static str, RwLock<Up>>,
}

const PARTS: [(&str, &str); 5] = [
    ("hub", "hub"),
    ("worker", "worker"),
    ("northbound-1", "northbound"),
    ("northbound-2", "northbound"),
    ("sim", "floodlight-sim"),
];

impl Cluster {
    fn start() -> Self {
        let prefix = format!("p{}", uuid::Uuid::new_v4().simple());
        let place = ["--bus", "kafka", "--brokers", &brokers(), "--prefix", &prefix].map(str::to_owned).to_vec();
        let submit = nave(&["submit", "flows"]).args(&place).output().unwrap();
        assert!(submit.status.success(), "{}", String::from_utf8_lossy(&submit.stderr));
        let mut cluster = Self { place, sim_dir: tempfile::tempdir().unwrap(), running: BTreeMap::new() };
        for (part, role) in PARTS {
            let up = cluster.run(role);
            cluster.running.insert(part, RwLock::new(up));
        }
        cluster.misbehave(&faults());
        cluster
    }

    fn run(&self, role: &str) -> Up {
        let any = "127.0.0.1:0";
        let mut args = vec!["run", "--role", role, "--rest", any, "--sim", any, "--health", any];
        args.extend(self.place.iter().map(String::as_str));
        // Its rules and its memory outlive it, as those of switches do.
        let dir = format!("sim.data={}", self.sim_dir.path().display());
        if role == "floodlight-sim" {
            args.extend(["--set", &dir]);
        }
        Up::start(&args)
    }

    /// Kills a process as `kill -9` does, and starts another in its place.
    fn restart(&self, part: &'static str, role: &str) {
        let mut running = self.running[part].write().unwrap();
        running.kill();
        *running = self.run(role);
        drop(running);
        if part == "sim" {
            self.misbehave(&faults());
        }
    }

    fn misbehave(&self, faults: &Value) {
        let sim = self.running["sim"].read().unwrap();
        let (status, said) = sim.post_to("switches", "/faults", faults);
        assert!(status < 300, "{said}");
    }

    /// Asks for a flow until there is an answer. A connection that breaks, a busy lane and a system that is not ready are
    /// reasons to ask again, with the same key.
    fn ask(&self, n: usize) -> (u16, Value) {
        let body = json!({"flowid": format!("flow-{n}"), "length": LENGTH});
        let key = format!("key-{n}");
        let mut said = Vec::new();
        for attempt in 0..TRIES {
            let part = if (n + attempt).is_multiple_of(2) { "northbound-1" } else { "northbound-2" };
            let northbound = self.running[part].read().unwrap();
            match northbound.try_post("/flow", &body, &[("Idempotency-Key", &key)]) {
                Some((status, answer)) if ![202, 429, 503].contains(&status) => return (status, answer),
                other => said.push(other.map(|(status, _)| status)),
            }
            drop(northbound);
            std::thread::yield_now();
        }
        panic!("flow-{n} has no answer after {TRIES} tries: {said:?}");
    }
}

#[test]
fn two_thousand_flows_through_every_fault_and_a_kill_of_each_process_on_kafka() {
    let cluster = Cluster::start();
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= FLOWS {
                        return;
                    }
                    let answer = cluster.ask(n);
                    answers.lock().unwrap().insert(n, answer);
                }
            });
        }
        // Each process dies once, at its share of the way.
        for (i, (part, role)) in PARTS.into_iter().enumerate() {
            let at = FLOWS * (i + 1) / (PARTS.len() + 1);
            while next.load(Ordering::Relaxed) < at {
                std::thread::yield_now();
            }
            cluster.restart(part, role);
        }
    });
    let answers = answers.into_inner().unwrap();
    assert_eq!(answers.len(), FLOWS);

    // The same answer for the same key, at any northbound.
    for n in (0..FLOWS).step_by(97) {
        assert_eq!(cluster.ask(n), answers[&n], "flow-{n}, asked once more");
    }

    // What degraded ends once the switches behave.
    let sim = cluster.running["sim"].read().unwrap();
    assert_eq!(sim.delete_at("switches", "/faults").0, 204);
    drop(sim);
    let live = || {
        let northbound = cluster.running["northbound-1"].read().unwrap();
        let (status, body) = northbound.get("/v1/operations?live=true");
        assert_eq!(status, 200, "{body}");
        body["operations"].as_array().unwrap().clone()
    };
    let mut looks = 0;
    while !live().is_empty() {
        looks += 1;
        assert!(looks < 200_000, "still open: {:?}", live());
    }

    // Rules stand where the answer says so, and nowhere else.
    let sim = cluster.running["sim"].read().unwrap();
    let mut stand: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for i in 1..=LENGTH {
        for rule in sim.rules(&format!("of:{i:02}")) {
            let flow = rule["flow"].as_str().unwrap().to_owned();
            stand.entry(flow).or_default().insert(rule["number"].as_u64().unwrap());
        }
    }
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for (n, (status, answer)) in &answers {
        *counts.entry(*status).or_default() += 1;
        let rules = stand.remove(&format!("flow-{n}")).unwrap_or_default();
        let expected = if [200, 201].contains(status) { (1..=u64::from(LENGTH)).collect() } else { BTreeSet::new() };
        assert_eq!(rules, expected, "flow-{n}: {status} {answer}");
        assert_ne!(answer["code"], "NAVE-0040", "nothing is parked: {answer}");
    }
    assert_eq!(stand, BTreeMap::new(), "rules that nobody asked for");
    println!("answers by status: {counts:?}");
    let known = |status: &u16| [200, 201, 502, 504].contains(status);
    assert!(counts.keys().all(known), "what becomes of a flow is one of these: {counts:?}");
    assert!(counts[&201] > FLOWS / 3, "most faults are mended: {counts:?}");
    assert!(counts.len() > 1, "some flows failed: {counts:?}");
}
