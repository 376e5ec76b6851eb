//! The hub dies in each phase of a flow, on a real Kafka; the switch controller lives on. Another hub takes its lanes over, and
//! the flow ends as if nothing had happened. (`crash.rs` does the same on the embedded bus, at every instant.)
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusError, Clock, Kafka, KafkaOptions, Part, Reader, Turn};
use floodlight_sim::{Fault, SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{HUB, System};
use northbound::{Gateway, Inlet, InletHandle, Outlet, Submission};
use serde_json::{Value, json};
use topology::driver::Threads;
use uuid::Uuid;
use wire::answer::Answer;
use wire::topics::Topics;

/// A part that can be killed: it ends without a last commit, without a word.
struct Mortal {
    part: Box<dyn Part>,
    killed: Arc<AtomicBool>,
}

impl Part for Mortal {
    fn name(&self) -> &str {
        self.part.name()
    }
    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        if self.killed.load(Ordering::SeqCst) {
            return Err(BusError::Refused("killed".into()));
        }
        self.part.turn(wait.min(Duration::from_millis(20)))
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
        // Long deadlines: what is tested is the takeover, not how patient a flow is.
        let mut options = support::options();
        options.topics = Topics::new(&format!("d{}", Uuid::new_v4().simple()));
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (20_000, 65_000, 70_000);
        options.flows.request_ms = 300_000;
        let system = Arc::new(System::new(bus, options).unwrap());
        let gateway = Arc::new(Gateway::new(system.gateway_options(), Arc::clone(&clock)));
        let mut edges = Threads::default();
        let speaker = SpeakerHandle::new();
        let part =
            SpeakerPart::join(&*system.bus, &system.speaker_topic(), &name(&system, "speaker", 0), speaker.clone())
                .unwrap();
        edges.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(part) as Box<dyn Part>))).unwrap();
        // The workers live on while the hub dies, where they have a stage of their own.
        for stage in system.stages().into_iter().filter(|stage| stage != HUB) {
            let (system, name) = (Arc::clone(&system), name(&system, &stage, 0));
            let make = Box::new(move || system.shard(&stage, &name).map(|shard| Box::new(shard) as Box<dyn Part>));
            edges.spawn("workers", Arc::clone(&clock), make).unwrap();
        }
        let outlet = Outlet::open(Arc::clone(&system.bus), Arc::clone(&gateway)).unwrap();
        edges.spawn("outlet", Arc::clone(&clock), Box::new(move || Ok(Box::new(outlet) as Box<dyn Part>))).unwrap();
        let part = Inlet::open(&*system.bus).unwrap();
        let inlet = part.handle();
        edges.spawn("inlet", Arc::clone(&clock), Box::new(move || Ok(Box::new(part) as Box<dyn Part>))).unwrap();
        Self { clock, system, speaker, gateway, inlet, edges, hubs: 0 }
    }

    fn start_hub(&mut self) -> Hub {
        self.hubs += 1;
        let (system, killed) = (Arc::clone(&self.system), Arc::new(AtomicBool::new(false)));
        let (name, dies) = (name(&system, "hub", self.hubs), Arc::clone(&killed));
        let make = Box::new(move || {
            let shard: Box<dyn Part> = Box::new(system.shard(HUB, &name)?);
            Ok(Box::new(Mortal { part: shard, killed: dies }) as Box<dyn Part>)
        });
        let mut threads = Threads::default();
        threads.spawn("hub", Arc::clone(&self.clock), make).unwrap();
        Hub { threads, killed }
    }

    /// What comes on the speaker's topic from now on.
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

/// Kills the hub once the speaker has got `word` after `before`, while its answer is delayed; `refused` lets the flow fail.
fn the_hub_dies_at(
    cluster: &mut Cluster,
    hub: Hub,
    flow: &str,
    before: Option<&str>,
    word: &str,
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
    if word == "read" && refused {
        // The reads of the validation never come: the flow fails before.
        assert_eq!(before, Some("remove"));
    }
    cluster
        .speaker
        .inject(fault(&json!({"command": word, "rule": 1}), &json!({"delay_reply": {"ms": 1_500}})))
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
    let told = |records: &[bus::Record], word: &str| {
        records.iter().any(|record| String::from_utf8_lossy(&record.value).contains(&format!("\"command\":\"{word}\"")))
    };
    for _ in 0..100 {
        records.clear();
        calls.poll(100, Duration::from_secs(1), &mut records).unwrap();
        seen |= before.is_some_and(|before| told(&records, before));
        if seen && told(&records, word) {
            break;
        }
    }
    assert!(seen && told(&records, word), "{flow}: the speaker was never asked to {word}");
    hub.kill();
    let heir = cluster.start_hub();
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
    heir
}

#[test]
fn the_hub_dies_in_each_phase_on_kafka_and_the_flow_ends_as_if_nothing_had_happened() {
    let mut cluster = Cluster::start();
    let hub = cluster.start_hub();
    let hub = the_hub_dies_at(&mut cluster, hub, "dies-installing", None, "install", false);
    let hub = the_hub_dies_at(&mut cluster, hub, "dies-validating", Some("install"), "read", false);
    let hub = the_hub_dies_at(&mut cluster, hub, "dies-removing", Some("install"), "remove", true);
    let hub = the_hub_dies_at(&mut cluster, hub, "dies-checking", Some("remove"), "read", true);
    hub.kill();

    let mut executed: BTreeMap<String, u32> = BTreeMap::new();
    for entry in cluster.speaker.audit() {
        let line = serde_json::to_value(&entry).unwrap();
        if line["deed"].to_string().contains("executed") && line["command"] != "read" {
            *executed.entry(line["call"].to_string()).or_default() += 1;
        }
    }
    assert!(
        executed.len() >= 12 && executed.values().all(|times| *times == 1),
        "no call is executed twice: {executed:?}"
    );
    assert_eq!(cluster.edges.stop(), Vec::<String>::new());
}
