//! The tasks of a process.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Task};
use spoke::{Delivery, SpokeOptions};
use topology::driver::Threads;
use uuid::Uuid;
use wire::control::DesiredState;

use super::Purpose;
use super::delayed::DelayedSpoke;
use super::frontend::Frontend;
use super::starting::Step;
use crate::config::{BusKind, Config};
use crate::embed::create_foreign_topics;
use crate::node::control;
use crate::node::runner::{StageRunner, ThreadedRunner};
use crate::node::status::NodeStatus;
use crate::node::submission;
use crate::node::topics::{ServedTopologies, TopicWatch};
use crate::node::{Node, NodeOptions};
use crate::program::{OpenSimulator, Program, Simulator};

/// The tasks of a process, in the order in which they stop.
pub(super) struct Tasks {
    pub(super) bus: Arc<dyn Bus>,
    /// The HTTP interface of the simulator, if this process runs it.
    pub(super) simulator: Option<northbound::Router>,
    /// Requests and answers of the REST interface, if it is served.
    pub(super) front: Option<Frontend>,
    /// The node and its check of the topics.
    pub(super) node: Threads,
    pub(super) status: Arc<NodeStatus>,
    /// The simulator and spokes in Rust.
    pub(super) spokes: Threads,
}

impl Tasks {
    /// Submits topologies if it should, and starts all tasks.
    pub(super) fn start(
        program: &Program,
        config: &Config,
        purpose: &Purpose,
        bus: Arc<dyn Bus>,
        step: &Step,
    ) -> anyhow::Result<Self> {
        let clock = bus.clock();
        let (topics, strict) = (config.topics(), config.bus.kafka.strict);
        step.waits_for(format!("the control topic `{}` does not exist yet", topics.control()));
        bus.ensure_topic(&control::topic(&topics))?;
        if purpose.submits {
            for (name, topology) in program.topologies() {
                if config.bus.kind == BusKind::Embedded {
                    create_foreign_topics(&*bus, topology)?;
                }
                step.waits_for(format!("the topics of `{name}` do not exist yet"));
                let topology =
                    config.topologies.get(name).map_or(Ok(topology.clone()), |layout| layout.apply(topology))?;
                let (submitted, change) = submission::submit(&*bus, &topics, &topology, clock.wall(), false, strict)?;
                tracing::info!(topology = name, change = change.as_str(), "submitted");
                if submitted.desired == DesiredState::Inactive {
                    let command = format!("{} topologies activate {name}", crate::program::name());
                    tracing::warn!(topology = name, command, "the topology is inactive; the command activates it");
                }
                if let Some(weakness) = submission::weakness(&*bus, &submitted)? {
                    tracing::warn!(topology = name, "{weakness}");
                }
            }
        }
        // A name that was never used: it is part of transactional ids.
        let process = Uuid::new_v4().simple().to_string();
        step.waits_for("its tasks have not started yet");
        let mut spokes = Threads::default();
        // `nave up` runs a spoke only while no other process does; `nave run` always runs the given
        // spokes.
        let is_standby = purpose.submits;
        let mut simulator = None;
        // Only the simulating process may open the directory.
        if let Some(Simulator { service, open, .. }) = program.simulator().filter(|_| purpose.simulates) {
            let OpenSimulator { router, heartbeat_ms, join } = open(config, !purpose.submits)?;
            simulator = Some(router);
            let (topic, name) = (topics.spoke(service), format!("{}-{service}-{process}", config.prefix));
            let (own_bus, topics) = (Arc::clone(&bus), topics.clone());
            let delivery = match config.bus.kind {
                BusKind::Embedded => Delivery::Transactional,
                // The simulator remembers call ids, so its answers need no Kafka transaction.
                BusKind::Kafka => Delivery::immediate(),
            };
            let options = SpokeOptions { delivery, heartbeat_ms, memory: None };
            let join = move || join(&*own_bus, &topics, &name, &options);
            let own_bus = Arc::clone(&bus);
            let delayed = move || DelayedSpoke::new(own_bus, topic, Box::new(join)).standby(is_standby);
            let make = move || Ok(Box::new(delayed()) as Box<dyn Task>);
            spokes.spawn(service, Arc::clone(&clock), Box::new(make))?;
        }
        for (service, spoke) in program.spokes().filter(|(service, _)| purpose.spokes.contains(*service)) {
            let (own_bus, spoke, topics) = (Arc::clone(&bus), spoke.clone(), topics.clone());
            let options = spoke_options(&spoke.options, config);
            let member = format!("{}-{service}-{process}", config.prefix);
            let (topic, own_service) = (topics.spoke(service), service.clone());
            let join = move || (spoke.make)().join(&*own_bus, &topics, &own_service, &member, &options);
            let own_bus = Arc::clone(&bus);
            let delayed = move || DelayedSpoke::new(own_bus, topic, Box::new(join)).standby(is_standby);
            let make = move || Ok(Box::new(delayed()) as Box<dyn Task>);
            spokes.spawn(service, Arc::clone(&clock), Box::new(make))?;
        }
        let status = Arc::new(match config.bus.kind {
            BusKind::Embedded => NodeStatus::alone(),
            BusKind::Kafka => NodeStatus::default(),
        });
        let mut node = Threads::default();
        let layouts = config.topologies.clone();
        let serves = if purpose.northbound { ServedTopologies::All } else { ServedTopologies::None };
        let watch = TopicWatch::new(Arc::clone(&bus), topics.clone(), program.clone(), Arc::clone(&status), serves);
        let options = NodeOptions {
            topics,
            wanted: purpose.wanted.clone(),
            process,
            threads: Box::new(move |topology, stage| layouts.get(topology).map_or(1, |layout| layout.threads(stage))),
            recovery: config.recovery(),
            lane_stop_timeout: Duration::from_millis(config.shutdown.lanes_ms),
        };
        let (own_bus, program, shared, own_clock) =
            (Arc::clone(&bus), program.clone(), Arc::clone(&status), Arc::clone(&clock));
        let make = move || {
            let runner =
                Box::new(move || Box::new(ThreadedRunner::new(Arc::clone(&own_clock))) as Box<dyn StageRunner>);
            Node::open(own_bus, program, options, runner, shared).map(|node| Box::new(node) as Box<dyn Task>)
        };
        node.spawn("control", Arc::clone(&clock), Box::new(make))?;
        node.spawn("topics", Arc::clone(&clock), Box::new(move || Ok(Box::new(watch) as Box<dyn Task>)))?;
        step.waits_for(format!("the control topic `{}` has not been read to its end yet", config.topics().control()));
        let front = purpose.northbound.then(|| Frontend::open(&bus, config, &clock)).transpose()?;
        Ok(Self { bus, simulator, front, node, status, spokes })
    }

    pub(super) fn has_failed(&self) -> bool {
        let front = self.front.as_ref().is_some_and(Frontend::has_failed);
        front || self.status.has_failed() || self.node.has_failed() || self.spokes.has_failed()
    }
}

/// Returns the options of a spoke in this process.
fn spoke_options(options: &SpokeOptions, config: &Config) -> SpokeOptions {
    // The calls of a bus in memory end with the process.
    let memory = options.memory.clone().filter(|_| !super::in_memory(config));
    SpokeOptions { memory, ..options.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spoke_remembers_its_calls_for_as_long_as_the_bus_remembers_them() {
        let options = SpokeOptions {
            heartbeat_ms: SpokeOptions::HEARTBEAT_MS,
            memory: Some("hotel.memory".into()),
            ..SpokeOptions::default()
        };
        let config = |kind| Config::defaults(&Program::flows().expect("it builds"), kind);
        let in_memory = config(BusKind::Embedded);
        assert_eq!(spoke_options(&options, &in_memory), SpokeOptions { memory: None, ..options.clone() });
        let mut on_disk = config(BusKind::Embedded);
        on_disk.bus.disk.data = "data".into();
        assert_eq!(spoke_options(&options, &on_disk), options);
        assert_eq!(spoke_options(&options, &config(BusKind::Kafka)), options);
    }
}
