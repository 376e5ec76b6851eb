//! Hub, worker, two northbounds and the simulated switch controller as five processes over a real
//! Kafka.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Kafka, KafkaOptions};
use nave::SystemClock;
use nave::node::control::{self, ControlReader};
use process::{Up, any_ports, brokers, nave};
use serde_json::{Value, json};
use wire::control::DesiredState;
use wire::topics::Topics;

/// A deployment under a unique topic prefix.
struct Deployment {
    brokers: String,
    prefix: String,
}

impl Deployment {
    fn new() -> Self {
        Self { brokers: brokers(), prefix: format!("t{}", uuid::Uuid::new_v4().simple()) }
    }

    fn args<'a>(&'a self, first: &[&'a str]) -> Vec<&'a str> {
        [first, &["--bus", "kafka", "--brokers", &self.brokers, "--prefix", &self.prefix]].concat()
    }

    fn run(&self, role: &str) -> Up {
        let run = ["run", "--role", role];
        Up::start(&self.args(&[&run[..], &any_ports(&run)].concat()))
    }

    fn submit(&self, more: &[&str]) -> Output {
        nave(&[&self.args(&["submit", "flows", "--json"])[..], more].concat()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn change(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    body["change"].as_str().unwrap().to_owned()
}

/// Offsets in view topics, by topic and lane: later records are new.
type Offsets = BTreeMap<(String, u32), u64>;

/// The offsets `from` for every lane of the topology.
fn view_offsets(topics: &Topics, from: impl Fn(&str, u32) -> u64) -> Offsets {
    let views = ["hub", "speaker"].map(|stage| topics.view("flows", stage));
    let of_view =
        |view: &String| (0..flows::LANES).map(|lane| ((view.clone(), lane), from(view, lane))).collect::<Vec<_>>();
    views.iter().flat_map(of_view).collect()
}

/// Waits until every lane has published a new position: then it is live.
fn until_live(bus: &dyn Bus, mut pending: Offsets) {
    let mut reader = bus.reader().unwrap();
    for ((topic, lane), from) in &pending {
        reader.assign(topic, *lane, *from).unwrap();
    }
    let until = bus.clock().mono().plus_ms(60_000);
    let mut records = Vec::new();
    while !pending.is_empty() {
        reader.poll(100, Duration::from_millis(100), &mut records).unwrap();
        for record in records.drain(..) {
            pending.remove(&(record.topic.to_string(), record.partition));
        }
        assert!(bus.clock().mono() < until, "these lanes published no position: {pending:?}");
    }
}

#[test]
fn five_processes_on_kafka_serve_flows_and_stop_after_a_kill() {
    let deployment = Deployment::new();
    // Some processes start before the topology is submitted.
    let hub = deployment.run("hub");
    let sim = deployment.run("floodlight-sim");
    let first = deployment.run("northbound");
    assert_eq!(hub.get_from("health", "/readyz").0, 503);
    let refused = deployment.submit(&["--strict"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("NAVE-0039"), "{}", text(&refused.stderr));
    let submitted = deployment.submit(&[]);
    assert!(change(&submitted).starts_with("submitted") && text(&submitted.stdout).contains("NAVE-0039"));
    assert!(change(&deployment.submit(&[])).contains("nothing changed"));
    let worker = deployment.run("worker");
    let second = deployment.run("northbound");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = Kafka::open(clock, KafkaOptions::new(deployment.brokers.clone())).unwrap();
    let topics = Topics::new(&deployment.prefix);
    until_live(&bus, view_offsets(&topics, |_, _| 0));

    let (body, key) = (json!({"flowid": "test-01", "length": 10}), [("Idempotency-Key", "monday")]);
    let up = first.post("/flow", &body, &key);
    assert_eq!((up.0, &up.1["message"]), (201, &json!("all operation is successful")), "{}", up.1);
    assert_eq!(second.post("/flow", &body, &key), up, "the same key gets the same answer at the other northbound");
    for (error, status, message) in [
        (0, 504, "error in hub by timeout"),
        (1, 502, "error in worker on rule install"),
        (2, 502, "error in worker on rule install"),
    ] {
        let flow = format!("fails-{error}");
        let (got, answer) = second.post("/flow", &json!({"flowid": flow, "length": 3, "error": error}), &[]);
        assert_eq!((got, answer["message"].as_str()), (status, Some(message)), "{answer}");
    }
    assert_eq!(
        (sim.rules("of:01").len(), sim.rules("of:10").len()),
        (1, 1),
        "one flow exists, the others were rolled back"
    );
    for (up, interface) in
        [(&hub, "health"), (&worker, "health"), (&sim, "health"), (&first, "REST"), (&second, "REST")]
    {
        assert_eq!(up.get_from(interface, "/readyz").0, 200, "{:?}", up.get_from(interface, "/readyz"));
    }

    let refused = |more: &[&str], code: &str| {
        let said = text(&deployment.submit(more).stderr);
        assert!(said.contains(code), "{more:?}: {said}");
    };
    refused(&["--set", "topologies.flows.stages.hub.lanes=8"], "NAVE-0034");
    refused(&["--set", "topologies.flows.apart=false"], "NAVE-0033");

    kill(&bus, &deployment);
    let ends = view_offsets(&topics, |topic, lane| bus.bounds(topic, lane).unwrap().end);
    assert!(change(&deployment.submit(&[])).starts_with("submitted; processes"), "the name is free");
    // A process that is stopped during a takeover reports that the state of its lanes is unknown.
    until_live(&bus, ends);
    for up in [hub, worker, first, second, sim] {
        let said = up.interrupt();
        assert!(said.contains("nothing unfinished"), "{said}");
    }
}

/// Kills the topology and waits until the last process has removed it.
fn kill(bus: &Kafka, deployment: &Deployment) {
    let topics = Topics::new(&deployment.prefix);
    let mut reader = ControlReader::open(bus, &topics).unwrap();
    reader.catch_up(bus).unwrap();
    let mut flows = reader.topologies()["flows"].clone();
    let by = bus.clock().wall().plus_ms(60_000);
    flows.desired = DesiredState::Kill { by };
    control::write(bus, &topics, &flows).unwrap();
    while !reader.topologies().is_empty() {
        reader.poll(Duration::from_millis(100)).unwrap();
        assert!(bus.clock().wall() < by, "everything is drained, so the kill ends early");
    }
    assert_eq!(control::members(bus, &topics, &flows), Ok(0));
}
