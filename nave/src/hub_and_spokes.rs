//! The usual topology of a workflow: its hub, and a worker for each service that it calls.

use topology::{BuildErrors, Mode, Topology};
use workers::{WorkerBolt, WorkerSpout};

use hub::{CALLS, HubBolt, HubSpout, Workflows};
use wire::call::CallCommand;
use workers::WorkerIn;

/// The stage of the hub, and of the workers that share it.
pub const HUB: &str = "hub";

/// A topology in which a hub runs the workflows `W`, one type or a tuple of several, with a worker for each of `services`: in
/// one stage, or each in one of its own where it is arranged apart.
///
/// # Errors
/// Where a name cannot be one, or a budget does not fit.
pub fn hub_and_spokes<W: Workflows>(name: &str, services: &[&'static str]) -> Result<Topology, BuildErrors> {
    const LANES: u32 = 4;
    let t = Topology::named(name);
    let requests = t.inbox_spout("hub-spout", HubSpout::default);
    let mut hub = t.bolt("hub", HubBolt::<W>::default).stage(HUB).lanes(LANES).reads(requests.local());
    for &service in services {
        let answers = t.inbox_spout(&format!("{service}-spout"), move || WorkerSpout::new(service));
        let worker = t.bolt(&format!("{service}-worker"), move || WorkerBolt::new(service));
        let worker = worker.stage(service).lanes(LANES).mode(Mode::AtLeastOnce).reads(answers.local());
        let calls = hub.side(CALLS).fields(|command: &CallCommand| command.call().operation.to_string()).or_local();
        // An abandoned call is told to all: who does not know it passes it over.
        let is_for = move |command: &CallCommand| match command {
            CallCommand::Start(call) => *call.service == *service,
            CallCommand::Abandon(_) => true,
        };
        let worker = worker.reads(calls.with(move |command| is_for(&command).then_some(WorkerIn::Command(command))));
        hub = hub.reads(worker.out().direct(|end| end.lane).or_local());
    }
    t.build()
}
