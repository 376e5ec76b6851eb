//! What the flow topology is made of: hub, worker and coordinator are ordinary components on the public interface.

use topology::Settings;
use wire::topics::Topics;

/// LESSONS 18: nobody joined the coordinator by hand; whoever uses deadlines is joined to it.
#[test]
fn the_components_streams_and_groupings_are_these() {
    let topology = flows::flow_topology(&Topics::default(), 4, Settings::default()).unwrap();
    assert_eq!(
        topology.describe(),
        "\
topology flows
stage hub (4 lanes)
  inbox spout hub-spout
  inbox spout speaker-spout
  bolt hub
  bolt speaker-worker
  inbox spout coordinator-spout@hub
  bolt coordinator@hub
hub --calls--> speaker-worker   local, in the lane
speaker-spout --default--> speaker-worker   local, in the lane
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
