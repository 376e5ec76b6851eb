//! The usual topology of a workflow: its hub, and a worker for each service that it calls.

use topology::{BuildErrors, DeliveryMode, Topology};
use workers::{WorkerBolt, WorkerSpout};

use hub::{CALLS, HubBolt, HubSpout, Workflows};
use wire::call::CallCommand;
use workers::WorkerIn;

/// The stage of the hub, and of workers that share it.
pub(crate) const HUB: &str = "hub";

/// Builds a topology with a hub that runs the workflows `W` (one type or a tuple of types), and a
/// worker for each service that they list. All share one stage, or each has its own if the topology
/// is arranged apart.
///
/// # Errors
/// If a name is invalid, or the budgets of the steps do not fit together.
pub fn hub_and_spokes<W: Workflows>(name: &str) -> Result<Topology, BuildErrors> {
    const LANES: u32 = 4;
    let t = Topology::named(name);
    let requests = t.inbox_spout("hub-spout", HubSpout::default);
    let mut hub = t.bolt("hub", HubBolt::<W>::default).stage(HUB).lanes(LANES).reads(requests.local());
    for service in W::services() {
        let answers = t.inbox_spout(&format!("{service}-spout"), move || WorkerSpout::new(service));
        let worker = t.bolt(&format!("{service}-worker"), move || WorkerBolt::new(service));
        let worker = worker.stage(service).lanes(LANES).mode(DeliveryMode::AtLeastOnce).reads(answers.local());
        let calls = hub.side(CALLS).fields(|command: &CallCommand| command.call().operation.as_str()).or_local();
        // Every worker gets an abandoned call; those that do not know it ignore it.
        let is_for = move |command: &CallCommand| match command {
            CallCommand::Start(call) => *call.service == *service,
            CallCommand::Abandon(_) => true,
        };
        let worker = worker.reads(calls.with(move |command| is_for(&command).then_some(WorkerIn::Command(command))));
        hub = hub.reads(worker.out().direct(|end| end.lane).or_local());
    }
    t.build()
}
