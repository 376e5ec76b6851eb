//! The whole conversation on a real Kafka: hub, worker, two northbounds and the simulated switch controller as five processes;
//! every fault of the simulator, each on a share of the calls; each process killed once, with flows in flight. Each client
//! gets exactly one answer, the rule tables are what the answers say, and in the end nothing is open.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use process::brokers;
use process::clients::{self, Part};
use process::site::Site;
use serde_json::{Value, json};

/// So many flows there are, of so many rules each.
const FLOWS: usize = 2_000;
const LENGTH: u32 = 3;
/// So many clients ask side by side, each for one flow after the other.
const CLIENTS: usize = 24;
/// A flow has six calls: at this percentage of calls, each fault strikes one flow in twenty.
const PERCENT: f64 = 0.85;

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
    site: Site,
    /// By role; there are two northbounds.
    running: BTreeMap<&'static str, Part>,
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
        let site = Site::submitted(&brokers(), 1, &[]);
        let running = PARTS.iter().map(|(part, role)| (*part, Part::new(site.run(role)))).collect();
        let cluster = Self { site, running };
        cluster.misbehave(&faults());
        cluster
    }

    /// Kills a process, and starts another in its place.
    fn restart(&self, part: &'static str, role: &str) {
        self.running[part].replace(|| self.site.run(role));
        if part == "sim" {
            self.misbehave(&faults());
        }
    }

    fn misbehave(&self, faults: &Value) {
        let (status, said) = self.running["sim"].now().post_to("switches", "/faults", faults);
        assert!(status < 300, "{said}");
    }

    fn ask(&self, n: usize) -> (u16, Value) {
        clients::ask(&[&self.running["northbound-1"], &self.running["northbound-2"]], n, LENGTH)
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
    assert_eq!(cluster.running["sim"].now().delete_at("switches", "/faults").0, 204);
    clients::until_nothing_is_open(&cluster.running["northbound-1"]);
    let counts = clients::rules_are_as_told(&cluster.running["sim"].now(), LENGTH, &answers);
    assert!(counts[&201] > FLOWS / 3, "most faults are mended: {counts:?}");
    assert!(counts.len() > 1, "some flows failed: {counts:?}");
}
