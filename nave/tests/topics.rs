//! Reports of a running process about topics that are deleted, recreated or changed: in virtual
//! time, and with processes over a real Kafka.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Once};
use std::time::Duration;

use bus::{
    Bus, BusError, Clock, Embedded, EmbeddedOptions, FaultScript, FaultyBus, Kafka, KafkaOptions, ManualClock,
    TopicFault, TopicSpec,
};
use nave::SystemClock;
use nave::config::{BusKind, Layout};
use nave::node::runner::{InlineRunner, StageRunner};
use nave::node::status::NodeStatus;
use nave::node::submission;
use nave::node::topics::{ServedTopologies, TopicWatch};
use nave::node::{Node, NodeOptions, StageSelection};
use nave::program::Program;
use northbound::Waiting;
use process::brokers;
use process::site::Site;
use serde_json::json;
use topology::RecoveryOptions;
use topology::driver::Virtual;
use wire::topics::Topics;

const INBOX: &str = "nave.flows.hub.in";
/// Time for two checks: a topology is new at the first one.
const TWO_CHECKS_MS: u64 = 10_100;

/// A process with the flow topology submitted.
struct Process {
    clock: Arc<ManualClock>,
    bus: Embedded,
    script: Arc<FaultScript>,
    node: Node,
    watch: TopicWatch,
    status: Arc<NodeStatus>,
    turns: Virtual,
}

impl Process {
    fn new(wanted: StageSelection, serves: ServedTopologies) -> Self {
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let topics = Topics::default();
        let program = Program::flows().unwrap();
        let code = program.topology("flows").unwrap();
        let flows = Layout::of(code, BusKind::Embedded).apply(code).unwrap();
        submission::submit(&bus, &topics, &flows, clock.wall(), false, false).unwrap();

        let script = Arc::new(FaultScript::default());
        let seen: Arc<dyn Bus> = Arc::new(FaultyBus::new(Arc::new(bus.clone()), Arc::clone(&script) as _));
        let status = Arc::new(NodeStatus::alone());
        let watch = TopicWatch::new(Arc::clone(&seen), topics.clone(), program.clone(), Arc::clone(&status), serves);
        let options = NodeOptions {
            topics,
            wanted,
            process: "process".into(),
            threads: Box::new(|_, _| 1),
            recovery: RecoveryOptions::default(),
            lane_stop_timeout: Duration::from_secs(6),
        };
        let runner = Box::new(|| Box::<InlineRunner>::default() as Box<dyn StageRunner>);
        let node = Node::open(seen, program, options, runner, Arc::clone(&status)).unwrap();
        let turns = Virtual::new(Arc::clone(&clock), 7);
        Self { clock, bus, script, node, watch, status, turns }
    }

    /// A process that runs every stage and is ready.
    fn running() -> Self {
        let mut process = Self::new(StageSelection::Everything, ServedTopologies::None);
        process.run_ms(TWO_CHECKS_MS);
        assert_eq!(process.lines(), [""; 0]);
        assert_eq!(process.status.stages()["flows"], ["hub"]);
        process
    }

    fn run_ms(&mut self, ms: u64) {
        let until = self.clock.mono().plus_ms(ms);
        self.turns.run(&mut [&mut self.node, &mut self.watch], until);
        self.clock.advance_to(until);
    }

    fn waiting(&self) -> Vec<Waiting> {
        self.status.waiting(self.clock.mono())
    }

    /// The lines of `/readyz`; empty if the process is ready.
    fn lines(&self) -> Vec<String> {
        self.waiting().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_deleted_topic_is_reported_until_it_exists_again() {
    let mut process = Process::running();
    process.script.topic(INBOX, TopicFault::Deleted);
    process.run_ms(5_000);
    let [line] = &process.lines()[..] else { panic!("one line, not {:?}", process.lines()) };
    assert!(
        line.starts_with("NAVE-0038") && line.contains("`nave.flows.hub.in` of topology `flows` is gone"),
        "{line}"
    );
    // Its northbound refuses requests for this topology only.
    assert!(process.waiting()[0].concerns("flows", INBOX, 3));
    assert!(!process.waiting()[0].concerns("trips", "nave.trips.hub.in", 3));
    process.script.topic(INBOX, TopicFault::None);
    process.run_ms(5_000);
    assert_eq!(process.lines(), [""; 0]);
}

thread_local! {
    /// The log lines of this thread while a test collects them.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes to [`LOGGED`] of the logging thread.
struct ToThread;

impl Write for ToThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.as_mut().map(|logged| logged.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the lines that this thread logs during `meanwhile`. All tests share one subscriber: if a
/// test without a subscriber reached a log statement first, the statement would be disabled for all
/// tests.
fn logged(meanwhile: impl FnOnce()) -> String {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing_subscriber::fmt().with_writer(|| ToThread).with_ansi(false).init());
    LOGGED.set(Some(Vec::new()));
    meanwhile();
    String::from_utf8(LOGGED.take().unwrap()).unwrap()
}

#[test]
fn a_missing_topic_and_its_return_are_logged_once_each() {
    let mut process = Process::running();
    let log = logged(|| {
        for fate in [TopicFault::Deleted, TopicFault::None] {
            process.script.topic(INBOX, fate);
            process.run_ms(30_000);
        }
    });
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("node::topics")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("NAVE-0038") && lines[0].contains(INBOX), "{log}");
    assert!(lines[1].contains("WARN") && lines[1].contains("as recorded again"), "{log}");
}

#[test]
fn every_topic_and_every_recorded_property_is_checked() {
    let deleted = ["hub.in", "hub.out", "hub.view", "hub.snap", "dead"].map(|topic| format!("nave.flows.{topic}"));
    let deleted = deleted.into_iter().chain(["nave.spoke.speaker".to_owned(), "nave.spoke.speaker.alive".to_owned()]);
    let deleted = deleted.map(|topic| (topic, TopicFault::Deleted, ["NAVE-0038", "is gone"]));
    let changed = [
        (TopicFault::Recreated, ["NAVE-0038", "recreated"]),
        (TopicFault::PartitionsChanged(8), ["NAVE-0032", "8 partitions, not 4"]),
        (TopicFault::TimestampTypeChanged, ["NAVE-0032", "message.timestamp.type"]),
    ];
    let changed = changed.map(|(fate, said)| (INBOX.to_owned(), fate, said));
    let mut process = Process::running();
    for (topic, fate, said) in deleted.chain(changed) {
        assert!(process.bus.topic(&topic).unwrap().is_some(), "not a topic of the topology: {topic}");
        process.script.topic(&topic, fate);
        process.run_ms(5_000);
        let lines = process.lines();
        let named = |line: &String| line.contains(&topic) && said.iter().all(|part| line.contains(part));
        assert!(lines.len() == 1 && named(&lines[0]), "{topic}, {said:?}: {lines:?}");
        process.script.topic(&topic, TopicFault::None);
        process.run_ms(5_000);
        assert_eq!(process.lines(), [""; 0]);
    }
}

#[test]
fn a_missing_control_topic_is_reported_and_blocks_nothing() {
    let mut process = Process::running();
    process.script.topic("nave.control", TopicFault::Deleted);
    process.run_ms(5_000);
    let ready = Waiting::readiness(&process.waiting()).unwrap();
    let line = ready["held_up"][0].as_str().unwrap();
    assert!(line.starts_with("NAVE-0038: control topic `nave.control` is gone: running topologies continue"), "{line}");
    process.script.topic("nave.control", TopicFault::None);
    process.run_ms(5_000);
    assert_eq!(process.lines(), [""; 0]);
}

#[test]
fn an_unavailable_bus_does_not_change_the_status_of_a_topic() {
    let unavailable = || TopicFault::Fails(BusError::Unavailable("the broker does not answer".into()));
    let mut process = Process::running();
    process.script.topic(INBOX, unavailable());
    process.run_ms(60_000);
    assert_eq!(process.lines(), [""; 0]);
    process.script.topic(INBOX, TopicFault::Deleted);
    process.run_ms(5_000);
    let gone = process.lines();
    assert!(gone[0].starts_with("NAVE-0038"), "{gone:?}");
    process.script.topic(INBOX, unavailable());
    process.run_ms(60_000);
    assert_eq!(process.lines(), gone);
}

#[test]
fn only_processes_that_run_or_serve_a_topology_check_its_topics() {
    for (serves, lines) in [(ServedTopologies::All, 1), (ServedTopologies::None, 0)] {
        let mut process = Process::new(StageSelection::Stages(Vec::new()), serves);
        process.script.topic(INBOX, TopicFault::Deleted);
        process.run_ms(TWO_CHECKS_MS);
        assert_eq!(process.lines().len(), lines, "{serves:?}: {:?}", process.lines());
    }
}

#[test]
fn a_recreated_inbox_is_reported_by_its_live_lanes() {
    let mut process = Process::running();
    process.script.topic(INBOX, TopicFault::RecreatedWithSameId);
    process.run_ms(60_000);
    let lines = process.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("its inbox ended before offset") && line.contains("NAVE-0062")));
    // When the inbox is longer than the lane's position again, the lost records are still missing.
    process.script.topic(INBOX, TopicFault::None);
    process.run_ms(60_000);
    assert_eq!(process.lines(), lines);
}

/// Waits until a topic has a record in every lane.
fn wait_for_records(bus: &Kafka, topic: &str) {
    let (mut reader, mut missing) = (bus.reader().unwrap(), (0..flows::LANES).collect::<BTreeSet<_>>());
    for lane in &missing {
        reader.assign(topic, *lane, 0).unwrap();
    }
    let (until, mut records) = (bus.clock().mono().plus_ms(60_000), Vec::new());
    while !missing.is_empty() {
        assert!(bus.clock().mono() < until, "no record of `{topic}` in the lanes {missing:?}");
        reader.poll(100, Duration::from_millis(100), &mut records).unwrap();
        for record in records.drain(..) {
            missing.remove(&record.partition);
        }
    }
}

#[test]
fn a_deleted_inbox_on_kafka_is_reported_by_all_its_processes() {
    let brokers = brokers();
    let site = Site::submitted(&brokers, 1, &[]);
    let (hub, front) = (site.run("hub"), site.run("northbound"));
    let bus = Kafka::open(Arc::new(SystemClock::default()), KafkaOptions::new(brokers)).unwrap();
    let (inbox, snapshots) = (site.topics().inbox("flows", "hub"), site.topics().snapshot("flows", "hub"));
    // A lane's snapshot covers its first record, which names its owner.
    wait_for_records(&bus, &snapshots);
    front.wait_until_ready("REST");

    bus.delete_topic(&inbox).unwrap();
    let gone = format!("NAVE-0038: topic `{inbox}` of topology `flows` is gone");
    for (up, interface) in [(&hub, "health"), (&front, "REST")] {
        up.wait_until(interface, "/readyz", |_, body| body.to_string().contains(&gone));
    }
    let (status, refused) = front.post("/flow", &json!({"flowid": "a", "length": 3}), &[]);
    assert_eq!((status, refused["code"].as_str()), (503, Some("NAVE-0006")), "{refused}");
    assert!(refused.to_string().contains(&gone), "{refused}");
    assert_eq!(bus.topic(&inbox), Ok(None), "no process recreates the topic");

    // The new topic has the name of the old one, but none of its records.
    bus.ensure_topic(&TopicSpec::log(&inbox, flows::LANES)).unwrap();
    let cut = |lane: u32| format!("hub lane {lane}: recovering at offset 1; NAVE-0062");
    hub.wait_until("health", "/readyz", |_, body| (0..flows::LANES).all(|lane| body.to_string().contains(&cut(lane))));
    for (up, interface) in [(&hub, "health"), (&front, "REST")] {
        up.wait_until(interface, "/readyz", |_, body| !body.to_string().contains("NAVE-0038"));
        up.wait_for_log("as recorded again");
    }
    for up in [hub, front] {
        let said = up.log();
        let times = |line| said.matches(line).count();
        assert_eq!(times("is not as recorded"), 1, "the deletion is logged once: {said}");
        assert_eq!(times("as recorded again"), 1, "the return is logged once: {said}");
    }
}
