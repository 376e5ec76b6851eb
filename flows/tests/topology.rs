//! What the flow topology is made of: hub, worker and coordinator are ordinary components on the public interface.

use topology::Arrangement;

/// Lesson 18: nobody joined the coordinator by hand; whoever uses deadlines is joined to it.
#[test]
fn the_components_streams_and_groupings_are_these() {
    let topology = flows::flow_topology().unwrap();
    assert_eq!(
        topology.describe(),
        "\
topology flows
stage hub (4 lanes, exactly-once)
  inbox spout hub-spout
  inbox spout speaker-spout
  bolt hub
  bolt speaker-worker
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
"
    );
}

/// The same code, arranged in another way: each stage has its own coordinator, its own lanes, its own mode.
#[test]
fn hub_and_workers_part_without_a_change_of_code() {
    let together = flows::flow_topology().unwrap();
    let mut arrangement = Arrangement { apart: true, ..Arrangement::default() };
    arrangement.lanes.insert(flows::SPEAKER.into(), 2);
    let apart = together.arranged(&arrangement).unwrap();
    assert_eq!(
        apart.describe(),
        "\
topology flows
stage hub (4 lanes, exactly-once)
  inbox spout hub-spout
  bolt hub
  inbox spout coordinator-spout@hub
  bolt coordinator@hub
stage speaker (2 lanes, at-least-once)
  inbox spout speaker-spout
  bolt speaker-worker
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
"
    );
    assert_ne!(together.graph(), apart.graph(), "another shape is another graph");
    assert_eq!(
        apart.graph(),
        together.arranged(&Arrangement { apart: true, ..Arrangement::default() }).unwrap().graph()
    );
}

/// Lessons 21 and 22: parents that give up before their children are refused when the topology is built, and it is said what
/// would do.
#[test]
fn a_parent_that_gives_up_before_its_child_cannot_be_built() {
    let flows = flows::flow_topology().unwrap();
    let with = |name: &str, settings: serde_json::Value| {
        let settings = topology::Settings::default().with(name, &settings);
        flows.with_settings(&settings).err().map(|errors| errors.to_string()).unwrap_or_default()
    };
    let mut worker = serde_json::to_value(workers::WorkerSettings::default()).unwrap();
    worker["attempts"] = 10.into();
    let said = with("worker-speaker", worker);
    assert!(
        said.contains(
            "workflow create-flow, step install rules, a call: speaker may take 10 x 400 ms + 11100 ms back-off = 15100 ms, \
             but it waits 1600 ms; give the call at least 15100 ms, or the worker fewer attempts"
        ),
        "{said}"
    );
    let mut settings = serde_json::to_value(flows::FlowSettings::default()).unwrap();
    settings["step_ms"] = 1_000.into();
    assert!(with("flows", settings.clone()).contains("give the step at least 1600 ms"));
    settings["step_ms"] = 3_000.into();
    assert!(with("flows", settings.clone()).contains("a request: all steps of create-flow"));
    settings["request_ms"] = 12_000.into();
    assert_eq!(with("flows", settings), "", "four steps of three seconds fit");
}
