//! Processes start, stop and refuse submitted topologies, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bus::{Bus, BusError, Clock, FaultScript, FaultyBus, Outgoing, TopicFault, TopicSpec};
use cluster::{Cluster, flow_topology, has_live_lanes, program, stages};
use nave::config::{BusKind, Layout};
use nave::node::StageSelection;
use nave::node::control;
use nave::node::submission::Change;
use nave::program::Program;
use serde_json::json;
use topology::{Bolt, BuildErrors, Emitter, KafkaSink, Settings, SourceContext, Spout, Topology};
use wire::Code;
use wire::control::DesiredState;

#[derive(Default)]
struct Numbers(u32);
impl Spout for Numbers {
    type Out = u32;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<u32>) -> bool {
        self.0 += 1;
        out.emit(self.0);
        self.0.is_multiple_of(10)
    }
}

struct Forget;
impl Bolt for Forget {
    type In = u32;
    type Out = ();
    fn execute(&mut self, _: u32, _: &mut Emitter<()>) {}
}

/// A different topology.
fn numbers() -> Result<Topology, BuildErrors> {
    let t = Topology::named("numbers");
    let numbers = t.spout("numbers", Numbers::default);
    t.bolt("forget", || Forget).reads(numbers.local());
    t.build()
}

/// A different graph under the name of the flow topology.
fn other_flows() -> Result<Topology, BuildErrors> {
    let t = Topology::named("flows");
    let numbers = t.spout("numbers", Numbers::default);
    t.bolt("forget", || Forget).reads(numbers.local());
    t.build()
}

#[test]
fn a_topology_runs_if_submitted_before_or_after_process_start() {
    let mut cluster = Cluster::new();
    let early = cluster.start(&program(), StageSelection::Everything);
    cluster.run_ms(100);
    assert_eq!(cluster.waiting(early), ["topology `flows` is not submitted; nave submit flows"]);
    assert_eq!(cluster.submit(&flow_topology(false)), Ok(Change::New));
    cluster.start_speaker();
    let late = cluster.start(&program(), StageSelection::Everything);
    cluster.run_ms(10_000);
    assert!(has_live_lanes(&cluster, early) && has_live_lanes(&cluster, late), "{:?}", cluster.waiting(late));
    for flow in ["a", "b", "c", "d"] {
        cluster.request(flow);
    }
    cluster.run_ms(5_000);
    assert_eq!(cluster.answers(), ["done"; 4]);
}

#[test]
fn stages_in_separate_processes_work_like_one_process() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(true)).unwrap();
    cluster.start_speaker();
    let hub = cluster.start(&program(), stages(&["hub"]));
    let worker = cluster.start(&program(), stages(&["speaker"]));
    cluster.request("a");
    cluster.run_ms(5_000);
    assert_eq!(cluster.answers(), ["done"]);
    assert_eq!(
        (&cluster.stages(hub)["flows"][..], &cluster.stages(worker)["flows"][..]),
        (&["hub".to_owned()][..], &["speaker".to_owned()][..])
    );
}

#[test]
fn a_process_with_missing_or_other_code_reports_it_and_runs_nothing() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    let without_code = cluster.start(&Program::of(nave::about!(), [numbers]).unwrap(), StageSelection::Everything);
    let other = cluster.start(&Program::of(nave::about!(), [other_flows]).unwrap(), StageSelection::Everything);
    cluster.run_ms(1_000);
    assert_eq!(cluster.refused(without_code, "flows"), Some(Code::NoCode));
    assert_eq!(cluster.refused(other, "flows"), Some(Code::OtherGraph));
    assert!(cluster.waiting(without_code).iter().any(|line| line.starts_with("NAVE-0036: topology `flows`")));
    assert!(cluster.waiting(other).iter().any(|line| line.starts_with("NAVE-0033: topology `flows`")));
    assert!(cluster.stages(without_code).is_empty() && cluster.stages(other).is_empty());
}

#[test]
fn a_topology_starts_as_soon_as_the_bus_is_available() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    let script = Arc::new(FaultScript::default());
    script.topic("nave.flows.hub.in", TopicFault::Fails(BusError::Unavailable("as the script says".into())));
    let bus = FaultyBus::new(Arc::new(cluster.bus.clone()), Arc::clone(&script) as _);
    let process = cluster.start_on(Arc::new(bus), &program(), StageSelection::Everything);
    cluster.run_ms(3_000);
    assert_eq!(cluster.refused(process, "flows"), Some(Code::NotReady));
    script.topic("nave.flows.hub.in", TopicFault::None);
    cluster.run_ms(3_000);
    assert_eq!(cluster.refused(process, "flows"), None);
    assert!(has_live_lanes(&cluster, process), "{:?}", cluster.waiting(process));
}

#[test]
fn an_unknown_stage_is_reported_with_the_known_ones() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    let worker = cluster.start(&program(), stages(&["speaker"]));
    cluster.run_ms(1_000);
    let waiting = cluster.waiting(worker).join("\n");
    assert!(waiting.contains("without a stage `speaker`; available: hub"), "{waiting}");
}

#[test]
fn a_resubmission_may_change_settings_only() {
    let cluster = Cluster::new();
    let flows = flow_topology(false);
    assert_eq!(cluster.submit(&flows), Ok(Change::New));
    assert_eq!(cluster.submit(&flows), Ok(Change::Same));
    let hub = hub::HubSettings { live: 10, ..hub::HubSettings::default() };
    let settings = flows.with_settings(&Settings::default().with("hub", &hub)).unwrap();
    assert_eq!(cluster.submit(&settings), Ok(Change::Settings));
    assert_eq!(cluster.submissions()["flows"].settings["hub"]["live"], 10);

    let code = |topology: &Topology| cluster.submit(topology).unwrap_err().code;
    assert_eq!(code(&flow_topology(true)), Code::OtherGraph);
    assert_eq!(code(&other_flows().unwrap()), Code::OtherGraph);
    let program = program();
    let declared = program.topology("flows").unwrap();
    let changed = |change: fn(&mut nave::config::StageLayout)| {
        let mut layout = Layout::of(declared, BusKind::Embedded);
        change(layout.stages.get_mut("hub").unwrap());
        layout.apply(declared).unwrap()
    };
    assert_eq!(code(&changed(|hub| hub.lanes = 8)), Code::FixedForLife);
    assert_eq!(code(&changed(|hub| hub.mode = topology::DeliveryMode::AtLeastOnce)), Code::FixedForLife);
}

#[test]
fn a_recreated_topic_is_refused_on_submission_and_on_start() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    // As if the topics had been recreated: the recorded topic id differs.
    let mut submitted = cluster.submissions().remove("flows").unwrap();
    submitted.stages[0].topics[0].1 = "another".into();
    control::write(&cluster.bus, &cluster.topics, &submitted).unwrap();
    assert_eq!(cluster.submit(&flow_topology(false)).unwrap_err().code, Code::TopicReplaced);
    let node = cluster.start(&program(), StageSelection::Everything);
    cluster.run_ms(1_000);
    assert_eq!(cluster.refused(node, "flows"), Some(Code::TopicReplaced));
}

#[test]
fn a_topic_with_wrong_partitions_is_reported() {
    let cluster = Cluster::new();
    cluster.bus.ensure_topic(&bus::TopicSpec::log("nave.flows.hub.in", 3)).unwrap();
    let problem = cluster.submit(&flow_topology(false)).unwrap_err();
    assert_eq!(problem.code, Code::WrongTopic);
    assert!(problem.detail.contains("`nave.flows.hub.in` has partitions 3; required: 4"), "{problem}");
    assert!(cluster.submissions().is_empty());
}

#[test]
fn a_kill_drains_operations_and_then_frees_the_name() {
    for apart in [false, true] {
        let mut cluster = Cluster::new();
        cluster.submit(&flow_topology(apart)).unwrap();
        cluster.start_speaker();
        let hub = cluster.start(&program(), stages(&["hub"]));
        let worker = apart.then(|| cluster.start(&program(), stages(&["speaker"])));
        cluster.run_ms(1_000);
        cluster
            .speaker
            .inject(
                serde_json::from_value(
                    json!({"when": {"command": "install"}, "kind": {"delay_reply": {"ms": 300}}, "times": 1}),
                )
                .unwrap(),
            )
            .unwrap();
        for flow in ["a", "b", "c", "d"] {
            cluster.request(flow);
        }
        cluster.run_ms(20);
        assert!(cluster.answers().len() < 4, "some operations are in progress");
        cluster.kill("flows", 60_000);
        cluster.run_ms(50);
        let refused = cluster.submit(&flow_topology(apart)).unwrap_err();
        assert_eq!(refused.code, Code::NameTaken, "{refused}");
        cluster.run_ms(5_000);
        assert_eq!(cluster.answers(), ["done"; 4], "apart: {apart}");
        assert!(cluster.submissions().is_empty(), "the last process frees the name");
        assert!(cluster.stages(hub).is_empty() && worker.is_none_or(|worker| cluster.stages(worker).is_empty()));
        assert_eq!(cluster.submit(&flow_topology(apart)), Ok(Change::New));
        cluster.request("after");
        cluster.run_ms(10_000);
        assert_eq!(cluster.answers(), ["done"; 5], "the same processes can run it again");
    }
}

#[test]
fn a_kill_ends_after_its_wait_and_can_be_repeated() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    // Without a speaker the flow fails, and its rollback retries forever.
    cluster.start(&program(), StageSelection::Everything);
    cluster.run_ms(1_000);
    cluster.request("a");
    cluster.run_ms(100);
    cluster.kill("flows", 1_000);
    cluster.run_ms(500);
    assert_eq!(cluster.submissions()["flows"].desired, DesiredState::Kill { by: cluster.clock.wall().plus_ms(500) });
    cluster.kill("flows", 1_000);
    cluster.run_ms(700);
    assert_eq!(cluster.submissions().len(), 1, "the second kill extended the wait");
    cluster.run_ms(1_000);
    assert!(cluster.submissions().is_empty());
    // The operation is still in the inbox, and the next process finishes it.
    cluster.start_speaker();
    cluster.submit(&flow_topology(false)).unwrap();
    cluster.run_ms(20_000);
    assert_eq!(cluster.answers().len(), 1);
}

#[test]
fn a_killed_topology_stops_its_spouts_and_ends() {
    let mut cluster = Cluster::new();
    let program = Program::of(nave::about!(), [numbers]).unwrap();
    cluster.submit(program.topology("numbers").unwrap()).unwrap();
    let node = cluster.start(&program, StageSelection::Everything);
    cluster.run_ms(1_000);
    assert!(has_live_lanes(&cluster, node), "{:?}", cluster.waiting(node));
    cluster.kill("numbers", 60_000);
    cluster.run_ms(2_000);
    assert!(cluster.submissions().is_empty() && cluster.stages(node).is_empty());
}

/// Counts how often it is opened and called.
#[derive(Clone, Default)]
struct Counted {
    opened: Arc<AtomicU32>,
    called: Arc<AtomicU32>,
}

impl Spout for Counted {
    type Out = u32;
    type Position = ();
    fn open(&mut self, _: &SourceContext) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }
    fn next(&mut self, (): &mut (), out: &mut Emitter<u32>) -> bool {
        out.emit(1);
        self.called.fetch_add(1, Ordering::Relaxed) < 10
    }
}

/// Resubmissions and restarts change nothing about it.
#[test]
fn a_topology_submitted_inactive_neither_opens_nor_emits_until_activated() {
    let (spout, mut cluster) = (Counted::default(), Cluster::new());
    let (opened, called) = (Arc::clone(&spout.opened), Arc::clone(&spout.called));
    let counted = || [opened.load(Ordering::Relaxed), called.load(Ordering::Relaxed)];
    let make = move || {
        let t = Topology::named("counted");
        let numbers = t.spout("numbers", move || spout.clone());
        t.bolt("forget", || Forget).reads(numbers.local());
        t.build()
    };
    let program = Program::of(nave::about!(), [make]).unwrap();
    let topology = program.topology("counted").unwrap();
    assert_eq!(cluster.submit_as(topology, true), Ok(Change::New));
    let first = cluster.start(&program, StageSelection::Everything);
    cluster.run_ms(1_000);
    assert!(has_live_lanes(&cluster, first), "{:?}", cluster.waiting(first));
    cluster.stop(first);
    let second = cluster.start(&program, StageSelection::Everything);
    assert_eq!(cluster.submit(topology), Ok(Change::Same));
    cluster.run_ms(1_000);
    assert!(has_live_lanes(&cluster, second), "{:?}", cluster.waiting(second));
    assert_eq!((counted(), cluster.submissions()["counted"].desired), ([0, 0], DesiredState::Inactive));

    cluster.change("counted", DesiredState::Run);
    cluster.run_ms(1_000);
    let [opens, calls] = counted();
    assert!(opens == topology.stages()[0].lanes && calls > 10, "{opens} opened, {calls} calls");
    assert_eq!(cluster.submit_as(topology, true), Ok(Change::Same));
    cluster.run_ms(1_000);
    let [_, calls] = counted();
    cluster.run_ms(1_000);
    assert_eq!(counted(), [opens, calls], "submitting it as inactive deactivates it");
}

/// Copies the numbers of topic `numbers` to topic `copies`, in two stages of two lanes.
fn copies() -> Result<Topology, BuildErrors> {
    let t = Topology::named("copies");
    t.kafka_source("numbers", "numbers")
        .lanes(2)
        .fields(|number: &u32| number)
        .map("copy", |number| number)
        .lanes(2)
        .kafka_sink("copies", KafkaSink::topic("copies").key(|number: &u32| *number));
    t.build()
}

/// Writes numbers to topic `numbers`.
fn write_numbers(cluster: &Cluster, numbers: Range<u32>) {
    let records: Vec<Outgoing> = numbers.map(|n| Outgoing::keyed("numbers", "", n.to_string()).to(n % 3)).collect();
    cluster.bus.writer("test").unwrap().append(&records).unwrap();
}

/// The numbers in topic `copies`, in ascending order.
fn copied(cluster: &Cluster) -> Vec<u32> {
    let mut copied: Vec<u32> = cluster.values("copies").iter().map(|value| value.parse().unwrap()).collect();
    copied.sort_unstable();
    copied
}

/// A cluster with the topology `copies` and its program.
fn copying() -> (Cluster, Program) {
    let (cluster, program) = (Cluster::new(), Program::of(nave::about!(), [copies]).unwrap());
    for topic in ["numbers", "copies"] {
        cluster.bus.ensure_topic(&TopicSpec::log(topic, 3)).unwrap();
    }
    cluster.submit(program.topology("copies").unwrap()).unwrap();
    (cluster, program)
}

#[test]
fn a_deactivated_topology_resumes_where_it_stopped() {
    let (mut cluster, program) = copying();
    let mut process = cluster.start(&program, StageSelection::Everything);
    cluster.start(&program, StageSelection::Everything);
    cluster.run_ms(10_000);
    let (mut written, mut interrupted) = (0, false);
    for round in 0..8 {
        write_numbers(&cluster, written..written + 50);
        written += 50;
        // While records are in all places: unread, polled, in the inbox, or written to the sink.
        cluster.run_polls(3 + 2 * round);
        cluster.change("copies", DesiredState::Inactive);
        cluster.run_ms(1_000);
        let before = cluster.values("copies").len();
        interrupted |= before < written as usize;
        write_numbers(&cluster, written..written + 1);
        written += 1;
        if round % 2 == 0 {
            cluster.crash(process);
            process = cluster.start(&program, StageSelection::Everything);
        }
        cluster.run_ms(20_000);
        assert_eq!(cluster.values("copies").len(), before, "no spout is called");
        cluster.change("copies", DesiredState::Run);
        cluster.run_ms(1_000);
        assert_eq!(copied(&cluster), (0..written).collect::<Vec<_>>(), "round {round}");
    }
    assert!(interrupted, "no deactivation came between the records");
}

#[test]
fn a_rebalance_changes_threads_and_loses_nothing() {
    let (mut cluster, program) = copying();
    let members = |cluster: &Cluster| {
        ["numbers", "copy"].map(|stage| cluster.bus.members(&cluster.topics.inbox("copies", stage)).unwrap())
    };
    let mut process = cluster.start(&program, StageSelection::Everything);
    cluster.run_ms(1_000);
    assert_eq!(members(&cluster), [1, 1], "as configured");
    let mut written = 0;
    for (round, threads) in (0..).zip([Some(2), Some(4), Some(1), Some(3), None, Some(2), None, Some(3)]) {
        write_numbers(&cluster, written..written + 50);
        written += 50;
        cluster.run_polls(3 + 4 * round);
        cluster.rebalance("copies", threads);
        cluster.run_ms(1_000);
        let expected = threads.unwrap_or(1) as usize;
        assert_eq!(members(&cluster), [expected; 2], "round {round}");
        assert!(has_live_lanes(&cluster, process), "{:?}", cluster.waiting(process));
        assert_eq!(copied(&cluster), (0..written).collect::<Vec<_>>(), "round {round}");
    }
    let lanes: Vec<u32> = cluster.submissions()["copies"].stages.iter().map(|stage| stage.lanes).collect();
    assert_eq!(lanes, [2, 2]);
    // The number is part of the submission: a restart and a resubmission keep it.
    cluster.stop(process);
    assert_eq!(cluster.submit(program.topology("copies").unwrap()), Ok(Change::Same));
    process = cluster.start(&program, StageSelection::Everything);
    cluster.run_ms(1_000);
    assert_eq!(members(&cluster), [3, 3]);
    cluster.rebalance("copies", Some(1));
    cluster.run_ms(1_000);
    cluster.kill("copies", 60_000);
    cluster.run_ms(2_000);
    assert!(cluster.submissions().is_empty() && cluster.stages(process).is_empty(), "threads that left are drained");
}

#[test]
fn an_inactive_topology_completes_its_operations() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    cluster.start_speaker();
    cluster.start(&program(), StageSelection::Everything);
    cluster.run_ms(1_000);
    cluster.request("a");
    cluster.change("flows", DesiredState::Inactive);
    cluster.run_ms(5_000);
    assert_eq!(cluster.answers(), ["done"]);
    cluster.kill("flows", 60_000);
    cluster.run_ms(2_000);
    assert!(cluster.submissions().is_empty(), "an inactive topology can be killed");
}

#[test]
fn unreadable_control_records_are_skipped() {
    let mut cluster = Cluster::new();
    cluster.bus.ensure_topic(&control::topic(&cluster.topics)).unwrap();
    let topic = cluster.topics.control();
    let records = [Outgoing::keyed(&topic, "flows", "no json"), Outgoing::keyed(&topic, vec![0xff], "{}")];
    cluster.bus.writer("test").unwrap().append(&records).unwrap();
    let node = cluster.start(&program(), StageSelection::Everything);
    cluster.run_ms(100);
    assert_eq!(cluster.waiting(node).len(), 1);
    cluster.submit(&flow_topology(false)).unwrap();
    cluster.run_ms(1_000);
    assert!(has_live_lanes(&cluster, node));
}
