//! The whole system on a real Kafka: hub, worker, two northbounds and the simulated switch
//! controller as five processes. Every fault of the controller affects a share of the calls, and
//! each process is killed once during the load. Each client gets exactly one answer, the rules
//! match the answers, and no operation stays live.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use process::brokers;
use process::clients::{self, Progress, ReplaceableProcess};
use process::site::Site;
use serde_json::{Value, json};

/// Number of flows, and number of rules of each.
const FLOWS: usize = 2_000;
const LENGTH: u32 = 3;
/// Number of concurrent clients, each with one request at a time.
const CLIENTS: usize = 24;
/// A flow has six calls: with this percentage of calls, each fault affects one flow in twenty.
const PERCENT: f64 = 0.85;

/// Every kind of fault except the crash, which is a kill here.
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
    site: Site,
    /// Processes by name; there are two northbounds.
    running: BTreeMap<&'static str, ReplaceableProcess>,
}

const PROCESSES: [(&str, &str); 5] = [
    ("hub", "hub"),
    ("worker", "worker"),
    ("northbound-1", "northbound"),
    ("northbound-2", "northbound"),
    ("sim", "floodlight-sim"),
];

impl Cluster {
    fn start() -> Self {
        let site = Site::submitted(&brokers(), 1, &[]);
        let running = PROCESSES.iter().map(|(name, role)| (*name, ReplaceableProcess::new(site.run(role)))).collect();
        let cluster = Self { site, running };
        cluster.inject_faults(&faults());
        cluster
    }

    /// Kills a process and starts another in its place.
    fn restart(&self, name: &'static str, role: &str) {
        self.running[name].replace(|| self.site.run(role));
        if name == "sim" {
            self.inject_faults(&faults());
        }
    }

    fn inject_faults(&self, faults: &Value) {
        let (status, said) = self.running["sim"].current().post_to("switches", "/faults", faults);
        assert!(status < 300, "{said}");
    }

    fn request(&self, n: usize) -> (u16, Value) {
        clients::request(&[&self.running["northbound-1"], &self.running["northbound-2"]], n, LENGTH)
    }
}

#[test]
fn flows_survive_every_fault_and_a_kill_of_each_process_on_kafka() {
    let cluster = Cluster::start();
    let (next, progress, answers) = (AtomicUsize::new(0), Progress::default(), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let _guard = progress.of_client();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= FLOWS {
                        return;
                    }
                    let answer = cluster.request(n);
                    answers.lock().unwrap().insert(n, answer);
                    progress.answered();
                }
            });
        }
        // Each process is killed once, spread over the run.
        for (i, (name, role)) in PROCESSES.into_iter().enumerate() {
            progress.wait_for(FLOWS * (i + 1) / (PROCESSES.len() + 1));
            cluster.restart(name, role);
        }
    });
    let answers = answers.into_inner().unwrap();
    assert_eq!(answers.len(), FLOWS);

    // The same key gets the same answer at any northbound.
    for n in (0..FLOWS).step_by(97) {
        assert_eq!(cluster.request(n), answers[&n], "flow-{n}, repeated");
    }

    // Degraded operations end once the switches work.
    assert_eq!(cluster.running["sim"].current().delete_at("switches", "/faults").0, 204);
    clients::wait_until_idle(&cluster.running["northbound-1"]);
    let counts = clients::assert_rules_match(&cluster.running["sim"].current(), LENGTH, &answers);
    assert!(counts[&201] > FLOWS / 3, "retries overcome most faults: {counts:?}");
    assert!(counts.len() > 1, "some flows failed: {counts:?}");
}
