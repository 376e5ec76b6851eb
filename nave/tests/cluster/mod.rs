//! A cluster of processes on an embedded bus, in virtual time.
#![expect(dead_code, reason = "each test file uses some of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, Embedded, EmbeddedOptions, ManualClock, Outgoing, PollOutcome, Reader, Record, Task};
use floodlight_sim::{SpeakerHandle, SpeakerService};
use nave::config::{BusKind, Layout};
use nave::node::control::{self, ControlReader};
use nave::node::runner::{InlineRunner, StageRunner};
use nave::node::status::NodeStatus;
use nave::node::submission::{self, Change};
use nave::node::{Node, NodeOptions, StageSelection};
use nave::program::Program;
use nave::spoke::SpokeTask;
use serde_json::json;
use topology::driver::Virtual;
use topology::{RecoveryOptions, Topology};
use wire::control::{DesiredState, Submitted};
use wire::topics::Topics;
use wire::{Code, Envelope, Kind, Problem};

/// A bus and its processes.
pub(crate) struct Cluster {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Embedded,
    pub(crate) topics: Topics,
    /// `None` if the process has ended.
    nodes: Vec<(Option<Box<Node>>, Arc<NodeStatus>)>,
    pub(crate) speaker: SpeakerHandle,
    part: Option<SpokeTask<SpeakerService>>,
    turns: Virtual,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: true, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let turns = Virtual::new(Arc::clone(&clock), 7);
        let speaker = SpeakerHandle::new();
        Self { clock, bus, topics: Topics::default(), nodes: Vec::new(), speaker, part: None, turns }
    }

    pub(crate) fn submit(&self, topology: &Topology) -> Result<Change, Problem> {
        self.submit_as(topology, false)
    }

    /// Submits a topology, and makes it inactive if `inactive`.
    pub(crate) fn submit_as(&self, topology: &Topology, inactive: bool) -> Result<Change, Problem> {
        let submitted = submission::submit(&self.bus, &self.topics, topology, self.clock.wall(), inactive, false);
        submitted.map(|(_, change)| change)
    }

    /// Starts a process and returns its index.
    pub(crate) fn start(&mut self, program: &Program, wanted: StageSelection) -> usize {
        self.start_on(Arc::new(self.bus.clone()), program, wanted)
    }

    /// Starts a process with its own view of the bus and returns its index.
    pub(crate) fn start_on(&mut self, bus: Arc<dyn Bus>, program: &Program, wanted: StageSelection) -> usize {
        let status = Arc::new(NodeStatus::default());
        let options = NodeOptions {
            topics: self.topics.clone(),
            wanted,
            process: format!("process-{}", self.nodes.len()),
            threads: Box::new(|_, _| 1),
            recovery: RecoveryOptions::default(),
            lane_stop_timeout: Duration::from_secs(6),
        };
        let runner = Box::new(|| Box::<InlineRunner>::default() as Box<dyn StageRunner>);
        let node = Node::open(bus, program.clone(), options, runner, Arc::clone(&status)).unwrap();
        self.nodes.push((Some(Box::new(node)), status));
        self.nodes.len() - 1
    }

    /// Shuts down a process that has no live operations.
    pub(crate) fn stop(&mut self, node: usize) {
        assert_eq!(self.stop_amid_work(node), 0, "live operations");
    }

    /// Shuts down a process and returns its number of live operations.
    pub(crate) fn stop_amid_work(&mut self, node: usize) -> usize {
        let (node, status) = &mut self.nodes[node];
        assert_eq!(Task::stop(node.take().expect("the process runs")), [""; 0]);
        status.unfinished()
    }

    /// Ends a process as `kill -9` does: its members stay in their groups until the session
    /// timeout.
    pub(crate) fn crash(&mut self, node: usize) {
        drop(self.nodes[node].0.take().expect("the process runs"));
    }

    /// The running processes.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].0.is_some()).collect()
    }

    pub(crate) fn start_speaker(&mut self) {
        self.part = Some(self.speaker.join(&self.bus, &self.topics, flows::SPEAKER, "speaker-0").unwrap());
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run_watched(ms, &[]);
    }

    /// Runs for `ms` milliseconds. Returns the reasons why any of the processes `ready` was not
    /// ready meanwhile, even during a takeover.
    pub(crate) fn run_watched(&mut self, ms: u64, ready: &[usize]) -> BTreeSet<String> {
        let until = self.clock.mono().plus_ms(ms);
        let of = ready.iter().map(|node| (*node, Arc::clone(&self.nodes[*node].1))).collect();
        let mut watch = ReadinessWatch { of, clock: Arc::clone(&self.clock), lines: BTreeSet::new() };
        let mut parts: Vec<&mut dyn Task> =
            self.nodes.iter_mut().filter_map(|(node, _)| Some(&mut **node.as_mut()? as &mut dyn Task)).collect();
        parts.extend(self.part.as_mut().map(|part| part as &mut dyn Task));
        parts.push(&mut watch);
        self.turns.run(&mut parts, until);
        self.clock.advance_to(until);
        watch.lines
    }

    /// Polls the processes in turn, this many times in total.
    pub(crate) fn run_polls(&mut self, polls: usize) {
        let mut parts: Vec<&mut dyn Task> =
            self.nodes.iter_mut().filter_map(|(node, _)| Some(&mut **node.as_mut()? as &mut dyn Task)).collect();
        self.turns.run_polls(&mut parts, polls);
    }

    /// Why a process is not ready; empty if it is.
    pub(crate) fn waiting(&self, node: usize) -> Vec<String> {
        self.nodes[node].1.waiting(self.clock.mono()).iter().map(ToString::to_string).collect()
    }

    pub(crate) fn stages(&self, node: usize) -> BTreeMap<String, Vec<String>> {
        self.nodes[node].1.stages()
    }

    pub(crate) fn refused(&self, node: usize, name: &str) -> Option<Code> {
        self.nodes[node].1.refused().get(name).map(|problem| problem.code.clone())
    }

    pub(crate) fn submissions(&self) -> BTreeMap<String, Submitted> {
        let mut reader = ControlReader::open(&self.bus, &self.topics).unwrap();
        reader.catch_up(&self.bus).unwrap();
        reader.topologies().clone()
    }

    pub(crate) fn kill(&self, name: &str, wait_ms: u64) {
        self.change(name, DesiredState::Kill { by: self.clock.wall().plus_ms(wait_ms) });
    }

    /// Writes another desired state of a topology, as a northbound does.
    pub(crate) fn change(&self, name: &str, desired: DesiredState) {
        self.write(name, |submitted| Submitted { desired, ..submitted });
    }

    /// Changes the number of threads of a topology.
    pub(crate) fn rebalance(&self, name: &str, threads: Option<u32>) {
        self.write(name, |submitted| Submitted { threads, ..submitted });
    }

    fn write(&self, name: &str, change: impl FnOnce(Submitted) -> Submitted) {
        let submitted = self.submissions().remove(name).expect("the topology was submitted");
        control::write(&self.bus, &self.topics, &change(submitted)).unwrap();
    }

    /// Writes a request for a flow directly to the inbox.
    pub(crate) fn request(&self, flow: &str) {
        let envelope = Envelope::new(Kind::Request, flow, "/test");
        let body = json!({"workflow": "create-flow", "request": {"flowid": flow, "length": 3}}).to_string();
        let record = Outgoing::keyed(&self.topics.inbox("flows", "hub"), flow.to_owned(), body).with(&envelope);
        self.bus.writer("test").unwrap().append(&[record]).unwrap();
    }

    /// The outcomes of answered operations: `done`, `failed`.
    pub(crate) fn answers(&self) -> Vec<String> {
        let outcome = |value: &String| {
            let body: serde_json::Value = serde_json::from_str(value).unwrap();
            body["outcome"].as_str().unwrap().to_owned()
        };
        self.values(&self.topics.egress("flows", "hub")).iter().map(outcome).collect()
    }

    /// The values of the records of a topic.
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let mut reader: Box<dyn Reader> = self.bus.reader().unwrap();
        for partition in 0..self.bus.topic(topic).unwrap().unwrap().partitions {
            reader.assign(topic, partition, 0).unwrap();
        }
        let mut records: Vec<Record> = Vec::new();
        reader.poll(usize::MAX, Duration::ZERO, &mut records).unwrap();
        records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
    }
}

pub(crate) fn program() -> Program {
    Program::flows().unwrap()
}

pub(crate) fn flow_topology(apart: bool) -> Topology {
    let program = program();
    let code = program.topology("flows").unwrap();
    Layout { apart, ..Layout::of(code, BusKind::Embedded) }.apply(code).unwrap()
}

pub(crate) fn stages(names: &[&str]) -> StageSelection {
    StageSelection::Stages(names.iter().map(|name| ("flows".to_owned(), (*name).to_owned())).collect())
}

pub(crate) fn has_live_lanes(cluster: &Cluster, node: usize) -> bool {
    !cluster.stages(node).is_empty() && cluster.waiting(node).is_empty()
}

/// Records in each round why processes are not ready.
struct ReadinessWatch {
    of: Vec<(usize, Arc<NodeStatus>)>,
    clock: Arc<ManualClock>,
    lines: BTreeSet<String>,
}

impl Task for ReadinessWatch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn poll(&mut self, _: Duration) -> Result<PollOutcome, BusError> {
        for (node, status) in &self.of {
            let waiting = status.waiting(self.clock.mono());
            self.lines.extend(waiting.iter().map(|waiting| format!("process {node}: {waiting}")));
        }
        Ok(PollOutcome { worked: false, next: None })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        Vec::new()
    }
}
