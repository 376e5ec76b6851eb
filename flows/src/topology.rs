//! The flow topology: hub and speaker worker, in one stage or in two.

use ::topology::{BuildErrors, DeliveryMode, Topology};
use hub::{CALLS, HubBolt, HubSpout};
use wire::call::Call;
use workers::{WorkerBolt, WorkerSpout};

use crate::create::CreateFlow;
use crate::remove::RemoveFlow;

/// The name of the topology.
pub const NAME: &str = "flows";
/// The name of the hub's stage.
pub const STAGE: &str = "hub";
/// The service of the switches, and the stage of its worker in a topology of two stages.
pub const SPEAKER: &str = flow_messages::speaker::SPEAKER.name();
/// The default number of lanes.
pub const LANES: u32 = 4;

/// The topology. In two stages, all calls of an operation go to the worker lane of its id.
///
/// # Errors
/// None: the topology is fixed, and tests build it.
pub fn flow_topology() -> Result<Topology, BuildErrors> {
    let t = Topology::named(NAME);
    let requests = t.inbox_spout("hub-spout", HubSpout::default);
    let answers = t.inbox_spout("speaker-spout", || WorkerSpout::new(SPEAKER));
    let hub = t.bolt("hub", HubBolt::<(CreateFlow, RemoveFlow)>::default).stage(STAGE).lanes(LANES);
    let worker = t.bolt("speaker-worker", || WorkerBolt::new(SPEAKER).dropping(is_dropped)).stage(SPEAKER).lanes(LANES);
    let worker = worker.mode(DeliveryMode::AtLeastOnce).reads(answers.local());
    let worker = worker.reads(hub.side(CALLS).fields(|command| command.call().operation.as_str()).or_local());
    hub.reads(requests.local()).reads(worker.out().direct(|end| end.lane).or_local());
    t.build()
}

/// Fault injection `IN_WORKER`: true for a command that the worker drops. `error` is the last field
/// of a [`Command`](flow_messages::speaker::Command).
fn is_dropped(call: &Call) -> bool {
    call.body.ends_with(r#""error":"IN_WORKER"}"#)
}
