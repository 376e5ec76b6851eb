//! The hub crashes in each phase of a flow, on a real Kafka, while the switch controller stays up.
//! Another hub takes over its lanes, and the outcome does not change. (`crash.rs` does the same on
//! the embedded bus, at every point.)
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusError, Clock, Kafka, KafkaOptions, PollOutcome, Reader, Task};
use floodlight_sim::{Fault, SpeakerHandle};
use nave::SystemClock;
use nave::testing::{HUB, System};
use northbound::{Gateway, Inlet, InletHandle, Outlet, Submission};
use serde_json::{Value, json};
use topology::driver::Threads;
use uuid::Uuid;
use wire::answer::Answer;
use wire::topics::Topics;

/// A task that can be killed: it ends without a final commit.
struct Killable {
    part: Box<dyn Task>,
    killed: Arc<AtomicBool>,
}

impl Task for Killable {
    fn name(&self) -> &str {
        self.part.name()
    }
    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        if self.killed.load(Ordering::SeqCst) {
            return Err(BusError::Refused("killed".into()));
        }
        self.part.poll(wait.min(Duration::from_millis(20)))
    }
    fn stop(self: Box<Self>) -> Vec<String> {
        if self.killed.load(Ordering::SeqCst) { vec!["killed".to_owned()] } else { self.part.stop() }
    }
}

struct Hub {
    threads: Threads,
    killed: Arc<AtomicBool>,
}

struct Cluster {
    clock: Arc<dyn Clock>,
    system: Arc<System>,
    speaker: SpeakerHandle,
    gateway: Arc<Gateway>,
    inlet: InletHandle,
    edges: Threads,
    hubs: u32,
}

impl Cluster {
    fn start() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
        let brokers = std::fs::read_to_string(&file).unwrap_or_else(|_| {
            panic!("no broker runs: use ./test, or first tools/kafka start ({} is missing)", file.display())
        });
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let bus: Arc<dyn Bus> = Arc::new(Kafka::open(Arc::clone(&clock), KafkaOptions::new(brokers.trim())).unwrap());
        // Long deadlines: the test is about takeovers, not timeouts.
        let mut options = support::options();
        options.topics = Topics::new(&format!("d{}", Uuid::new_v4().simple()));
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (20_000, 65_000, 70_000);
        options.flows.request_ms = 300_000;
        let system = Arc::new(System::new(bus, options).unwrap());
        let gateway = Arc::new(Gateway::new(system.gateway_options(), Arc::clone(&clock)));
        let mut edges = Threads::default();
        let speaker = SpeakerHandle::new();
        let member = name(&system, "speaker", 0);
        let part = speaker.join(&*system.bus, &system.options.topics, flows::SPEAKER, &member).unwrap();
        edges.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(part) as Box<dyn Task>))).unwrap();
        // If the workers have a separate stage, they stay up.
        for stage in system.stages().into_iter().filter(|stage| stage != HUB) {
            let (system, name) = (Arc::clone(&system), name(&system, &stage, 0));
            let make = Box::new(move || system.shard(&stage, &name).map(|shard| Box::new(shard) as Box<dyn Task>));
            edges.spawn("workers", Arc::clone(&clock), make).unwrap();
        }
        let outlet = Outlet::open(Arc::clone(&system.bus), Arc::clone(&gateway)).unwrap();
        edges.spawn("outlet", Arc::clone(&clock), Box::new(move || Ok(Box::new(outlet) as Box<dyn Task>))).unwrap();
        let part = Inlet::open(&*system.bus).unwrap();
        let inlet = part.handle();
        edges.spawn("inlet", Arc::clone(&clock), Box::new(move || Ok(Box::new(part) as Box<dyn Task>))).unwrap();
        Self { clock, system, speaker, gateway, inlet, edges, hubs: 0 }
    }

    fn start_hub(&mut self) -> Hub {
        self.hubs += 1;
        let (system, killed) = (Arc::clone(&self.system), Arc::new(AtomicBool::new(false)));
        let (name, killed_too) = (name(&system, "hub", self.hubs), Arc::clone(&killed));
        let make = Box::new(move || {
            let shard: Box<dyn Task> = Box::new(system.shard(HUB, &name)?);
            Ok(Box::new(Killable { part: shard, killed: killed_too }) as Box<dyn Task>)
        });
        let mut threads = Threads::default();
        threads.spawn("hub", Arc::clone(&self.clock), make).unwrap();
        Hub { threads, killed }
    }

    /// Returns a reader of new records in the speaker's topic.
    fn calls(&self) -> Box<dyn Reader> {
        let (topic, bus) = (self.system.speaker_topic(), &self.system.bus);
        let mut reader = bus.reader().unwrap();
        for partition in 0..self.system.options.lanes {
            reader.assign(&topic, partition, bus.bounds(&topic, partition).unwrap().end).unwrap();
        }
        reader
    }
}

impl Hub {
    fn kill(self) {
        self.killed.store(true, Ordering::SeqCst);
        let left = self.threads.stop();
        assert!(left.len() == 1 && left[0].ends_with("killed"), "{left:?}");
    }
}

fn name(system: &System, part: &str, n: u32) -> String {
    format!("{}-{part}-{n}", system.speaker_topic())
}

fn fault(when: &Value, kind: &Value) -> Fault {
    serde_json::from_value(json!({"when": when, "kind": kind, "times": 1})).unwrap()
}

/// Kills the hub after the speaker received the command `command` after the command `before`. The
/// speaker's reply is delayed until then. With `refused`, the flow fails.
fn crash_hub_at(
    cluster: &mut Cluster,
    hub: Hub,
    flow: &str,
    before: Option<&str>,
    command: &str,
    refused: bool,
) -> Hub {
    if refused {
        cluster
            .speaker
            .inject(fault(
                &json!({"command": "install", "rule": 2}),
                &json!({"error": {"code": "full", "retry": false}}),
            ))
            .unwrap();
    }
    if command == "read" && refused {
        // The flow fails before validation, so the only reads are those of the removal check.
        assert_eq!(before, Some("remove"));
    }
    cluster
        .speaker
        .inject(fault(&json!({"command": command, "rule": 1}), &json!({"delay_reply": {"ms": 1_500}})))
        .unwrap();
    let mut calls = cluster.calls();
    let ticket = cluster
        .gateway
        .submit(Submission::new(
            "create-flow",
            flow,
            json!({"flowid": flow, "length": 3, "error": null}),
            Uuid::new_v4(),
        ))
        .unwrap();
    cluster.inlet.send(&ticket).unwrap();
    let (mut seen, mut records) = (before.is_none(), Vec::new());
    let contains_command = |records: &[bus::Record], command: &str| {
        records
            .iter()
            .any(|record| String::from_utf8_lossy(&record.value).contains(&format!("\"command\":\"{command}\"")))
    };
    for _ in 0..100 {
        records.clear();
        calls.poll(100, Duration::from_secs(1), &mut records).unwrap();
        seen |= before.is_some_and(|before| contains_command(&records, before));
        if seen && contains_command(&records, command) {
            break;
        }
    }
    assert!(seen && contains_command(&records, command), "{flow}: the speaker never received {command}");
    hub.kill();
    let replacement = cluster.start_hub();
    let operation = ticket.answer.blocking_recv().unwrap().unwrap();
    let rules = cluster.speaker.all_rules().into_iter().filter(|rule| *rule.flow == *flow).count();
    match operation.answer {
        Some(Answer::Done(_)) => assert_eq!((refused, rules), (false, 3), "{flow}"),
        Some(Answer::Failed(body)) => {
            assert_eq!((refused, rules, &body["degraded"]), (true, 0, &json!(false)), "{flow}: {body}");
            assert_eq!(body["code"], "NAVE-0101", "{flow}: {body}");
        }
        other @ (Some(Answer::Refused(_)) | None) => panic!("{flow}: {other:?}"),
    }
    replacement
}

#[test]
fn a_hub_crash_in_any_phase_on_kafka_does_not_change_the_outcome() {
    let mut cluster = Cluster::start();
    let hub = cluster.start_hub();
    let hub = crash_hub_at(&mut cluster, hub, "crash-in-installation", None, "install", false);
    let hub = crash_hub_at(&mut cluster, hub, "crash-in-validation", Some("install"), "read", false);
    let hub = crash_hub_at(&mut cluster, hub, "crash-in-removal", Some("install"), "remove", true);
    let hub = crash_hub_at(&mut cluster, hub, "crash-in-removal-check", Some("remove"), "read", true);
    hub.kill();

    let mut executed: BTreeMap<String, u32> = BTreeMap::new();
    for entry in cluster.speaker.audit() {
        let line = serde_json::to_value(&entry).unwrap();
        if line["outcome"].to_string().contains("executed") && line["command"] != "read" {
            *executed.entry(line["call"].to_string()).or_default() += 1;
        }
    }
    assert!(
        executed.len() >= 12 && executed.values().all(|times| *times == 1),
        "no call is executed twice: {executed:?}"
    );
    assert_eq!(cluster.edges.stop(), Vec::<String>::new());
}
