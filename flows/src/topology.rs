//! The flow topology: hub and speaker worker in one stage.

use ::topology::{BuildErrors, Settings, Topology};
use hub::{CALLS, HubBolt, HubSpout};
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSpout};

use crate::create::CreateFlow;

/// The name of the topology.
pub const NAME: &str = "flows";
/// The name of its stage.
pub const STAGE: &str = "hub";
/// The service that talks to switches.
pub const SPEAKER: &str = "speaker";

/// The topology, with so many lanes.
///
/// # Errors
/// Where `lanes` is 0.
pub fn flow_topology(topics: &Topics, lanes: u32, settings: Settings) -> Result<Topology, BuildErrors> {
    let egress = topics.egress(NAME, STAGE);
    let requests_topic = topics.spoke(SPEAKER);

    let t = Topology::named(NAME);
    t.settings(settings);
    let requests = t.inbox_spout("hub-spout", HubSpout::default);
    let answers = t.inbox_spout("speaker-spout", || WorkerSpout::new(SPEAKER));
    let hub = t.bolt("hub", move || HubBolt::<CreateFlow>::new(&egress)).stage(STAGE).lanes(lanes);
    let worker = t.bolt("speaker-worker", move || WorkerBolt::new(SPEAKER, &requests_topic));
    let worker = worker.reads(hub.side(CALLS).local()).reads(answers.local());
    hub.reads(requests.local()).reads(worker.local());
    t.build()
}
