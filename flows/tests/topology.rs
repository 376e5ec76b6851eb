//! The parts of the flow topology. Hub, worker and coordinator are ordinary components that use the
//! public interface.

use topology::Arrangement;

/// Components that use deadlines are connected to a coordinator automatically.
#[test]
fn the_topology_has_these_components_streams_and_groupings() {
    let topology = flows::flow_topology().unwrap();
    assert_eq!(
        topology.describe(),
        "\
topology flows
stage hub (4 lanes, exactly-once)
  inbox spout hub-spout
  inbox spout speaker-spout
  bolt hub   saved
  bolt speaker-worker   saved
  inbox spout coordinator-spout@hub
  bolt coordinator@hub
speaker-spout --default--> speaker-worker   local, in the lane
hub --calls--> speaker-worker   local, in the lane
hub-spout --default--> hub   local, in the lane
speaker-worker --default--> hub   local, in the lane
coordinator-spout@hub --default--> coordinator@hub   local, in the lane
hub --deadlines--> coordinator@hub   local, in the lane
coordinator@hub --default--> hub   local, in the lane
speaker-worker --deadlines--> coordinator@hub   local, in the lane
coordinator@hub --default--> speaker-worker   local, in the lane
creates 7 topics
"
    );
}

/// In two stages, each stage has a separate coordinator, its own number of lanes and its own
/// delivery mode.
#[test]
fn hub_and_workers_can_be_separate_stages_without_code_changes() {
    let together = flows::flow_topology().unwrap();
    let mut arrangement = Arrangement { apart: true, ..Arrangement::default() };
    arrangement.lanes.insert(flows::SPEAKER.into(), 2);
    let apart = together.arranged(&arrangement).unwrap();
    assert_eq!(
        apart.describe(),
        "\
topology flows
stage hub (4 lanes): at-least-once, since `speaker` may repeat tuples
  inbox spout hub-spout
  bolt hub   saved
  inbox spout coordinator-spout@hub
  bolt coordinator@hub
stage speaker (2 lanes, at-least-once)
  inbox spout speaker-spout
  bolt speaker-worker   saved
  inbox spout coordinator-spout@speaker
  bolt coordinator@speaker
speaker-spout --default--> speaker-worker   local, in the lane
hub --calls--> speaker-worker   fields, by topic
hub-spout --default--> hub   local, in the lane
speaker-worker --default--> hub   direct, by topic
coordinator-spout@hub --default--> coordinator@hub   local, in the lane
hub --deadlines--> coordinator@hub   local, in the lane
coordinator@hub --default--> hub   local, in the lane
coordinator-spout@speaker --default--> coordinator@speaker   local, in the lane
speaker-worker --deadlines--> coordinator@speaker   local, in the lane
coordinator@speaker --default--> speaker-worker   local, in the lane
creates 11 topics
"
    );
    assert_ne!(together.graph(), apart.graph(), "another arrangement has another graph");
    assert_eq!(
        apart.graph(),
        together.arranged(&Arrangement { apart: true, ..Arrangement::default() }).unwrap().graph()
    );
}

/// A parent with a shorter timeout than its children is refused at build time, and the error names
/// a sufficient value.
#[test]
fn a_parent_with_a_shorter_timeout_than_its_child_is_refused() {
    let flows = flows::flow_topology().unwrap();
    let with = |name: &str, settings: serde_json::Value| {
        let settings = topology::Settings::default().with(name, &settings);
        flows.with_settings(&settings).err().map(|errors| errors.to_string()).unwrap_or_default()
    };
    let mut worker = serde_json::to_value(workers::WorkerSettings::default()).unwrap();
    worker["attempts"] = 10.into();
    let errors = with("worker-speaker", worker);
    assert!(
        errors.contains(
            "workflow create-flow, step install rules, a call: speaker may take 10 x 400 ms + 11100 ms back-off = 15100 ms, \
             but it waits 1600 ms; allow the call at least 15100 ms, or reduce the attempts of the worker"
        ),
        "{errors}"
    );
    let mut settings = serde_json::to_value(flows::FlowSettings::default()).unwrap();
    settings["step_ms"] = 1_000.into();
    assert!(with("flows", settings.clone()).contains("allow the step at least 1600 ms"));
    settings["step_ms"] = 3_000.into();
    assert!(with("flows", settings.clone()).contains("a request: all steps of create-flow"));
    settings["request_ms"] = 12_000.into();
    assert_eq!(with("flows", settings), "", "four steps of three seconds fit");
}
