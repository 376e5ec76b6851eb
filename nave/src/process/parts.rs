//! How a process is put together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Part};
use floodlight_sim::part::Heartbeats;
use floodlight_sim::{FaultPlan, SpeakerHandle, SpeakerOptions, SpeakerPart};
use topology::driver::Threads;
use uuid::Uuid;

use super::Purpose;
use super::front::Front;
use super::later::Later;
use super::starting::Step;
use crate::config::{BusKind, Config, Fault, Faults};
use crate::control;
use crate::node::crew::{Crew, OnThreads};
use crate::node::status::NodeStatus;
use crate::node::topics::{Serves, TopicWatch};
use crate::node::{Node, NodeOptions};
use crate::program::Program;
use crate::submission;

/// The parts of a process, in the order in which they stop.
pub(super) struct Parts {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) speaker: SpeakerHandle,
    /// Requests in, and answers out, where it serves the REST interface.
    pub(super) front: Option<Front>,
    /// What was submitted, and the lanes that are run of it.
    pub(super) node: Threads,
    pub(super) status: Arc<NodeStatus>,
    /// The simulated switch controller.
    pub(super) edges: Threads,
}

impl Parts {
    /// Submits what is to be submitted, and starts everything.
    pub(super) fn start(
        program: &Program,
        config: &Config,
        purpose: &Purpose,
        bus: Arc<dyn Bus>,
        step: &Step,
    ) -> anyhow::Result<Self> {
        let clock = bus.clock();
        let (topics, strict) = (config.topics(), config.bus.kafka.strict);
        step.waits_for(format!("the control topic `{}` is not there yet", topics.control()));
        bus.ensure_topic(&control::topic(&topics))?;
        if purpose.submits {
            for (name, topology) in program.topologies() {
                step.waits_for(format!("the topics of `{name}` are not there yet"));
                let topology =
                    config.topologies.get(name).map_or(Ok(topology.clone()), |layout| layout.apply(topology))?;
                let (submitted, change) = submission::submit(&*bus, &topics, &topology, clock.wall(), strict)?;
                tracing::info!(topology = name, change = change.as_str(), "submitted");
                if let Some(weakness) = submission::weakness(&*bus, &submitted)? {
                    tracing::warn!(topology = name, "{weakness}");
                }
            }
        }
        // A name that no process before or beside this one has: it is a transactional id.
        let process = Uuid::new_v4().simple().to_string();
        step.waits_for("its parts have not started yet");
        let mut edges = Threads::default();
        // `nave up` runs a spoke only while no other process does; `nave run` runs the spokes that it was told to run.
        let stands_by = purpose.submits;
        // Its directory belongs to the one process that simulates.
        let (speaker, plan) = if purpose.simulates { speaker(config)? } else { (SpeakerHandle::new(), None) };
        if purpose.simulates {
            if !purpose.submits {
                // A fault asks for it: a process of its own dies as it would by `kill -9`.
                speaker.on_crash(|| std::process::abort());
            }
            let (topic, name) = (topics.spoke(flows::SPEAKER), format!("{}-speaker-{process}", config.prefix));
            let (of, handle, at) = (Arc::clone(&bus), speaker.clone(), topic.clone());
            // It remembers call ids, so no answer needs to wait for one of Kafka's transactions.
            let transactional = config.bus.kind == BusKind::Embedded;
            let heartbeats = plan.map(|plan| Heartbeats {
                topic: topics.alive(flows::SPEAKER),
                instance: name.clone(),
                every_ms: plan.heartbeat_every_ms,
            });
            let options = SpeakerOptions { transactional, heartbeats, ..SpeakerOptions::default() };
            let join = move || {
                let part = SpeakerPart::join_with(&*of, &at, &name, handle, &options)?;
                Ok(Box::new(part) as Box<dyn Part>)
            };
            let of = Arc::clone(&bus);
            let later = move || Later::new(of, topic, Box::new(join)).standing_by(stands_by);
            let make = move || Ok(Box::new(later()) as Box<dyn Part>);
            edges.spawn("speaker", Arc::clone(&clock), Box::new(make))?;
        }
        for (service, make) in program.spokes().filter(|(service, _)| purpose.spokes.contains(*service)) {
            let (of, make, topics) = (Arc::clone(&bus), Arc::clone(make), topics.clone());
            let member = format!("{}-{service}-{process}", config.prefix);
            let (topic, named) = (topics.spoke(service), service.clone());
            let join = move || make().join(&*of, &topics, &named, &member);
            let of = Arc::clone(&bus);
            let later = move || Later::new(of, topic, Box::new(join)).standing_by(stands_by);
            let make = move || Ok(Box::new(later()) as Box<dyn Part>);
            edges.spawn(service, Arc::clone(&clock), Box::new(make))?;
        }
        let status = Arc::new(match config.bus.kind {
            BusKind::Embedded => NodeStatus::alone(),
            BusKind::Kafka => NodeStatus::default(),
        });
        let mut node = Threads::default();
        let layouts = config.topologies.clone();
        let serves = if purpose.northbound { Serves::Everything } else { Serves::Nothing };
        let watch = TopicWatch::new(Arc::clone(&bus), topics.clone(), program.clone(), Arc::clone(&status), serves);
        let options = NodeOptions {
            topics,
            wanted: purpose.wanted.clone(),
            process,
            threads: Box::new(move |topology, stage| layouts.get(topology).map_or(1, |layout| layout.threads(stage))),
            upkeep: config.upkeep(),
            lanes_end: Duration::from_millis(config.shutdown.lanes_ms),
        };
        let (of, program, told, time) = (Arc::clone(&bus), program.clone(), Arc::clone(&status), Arc::clone(&clock));
        let make = move || {
            let crew = Box::new(move || Box::new(OnThreads::new(Arc::clone(&time))) as Box<dyn Crew>);
            Node::open(of, program, options, crew, told).map(|node| Box::new(node) as Box<dyn Part>)
        };
        node.spawn("control", Arc::clone(&clock), Box::new(make))?;
        node.spawn("topics", Arc::clone(&clock), Box::new(move || Ok(Box::new(watch) as Box<dyn Part>)))?;
        step.waits_for(format!("the control topic `{}` is not read to its end yet", config.topics().control()));
        let front = purpose.northbound.then(|| Front::open(&bus, config, &clock)).transpose()?;
        Ok(Self { bus, speaker, front, node, status, edges })
    }

    pub(super) fn has_failed(&self) -> bool {
        let front = self.front.as_ref().is_some_and(Front::has_failed);
        front || self.status.has_failed() || self.node.has_failed() || self.edges.has_failed()
    }
}

/// The simulated controller as it is configured, and what is to go wrong with it.
fn speaker(config: &Config) -> anyhow::Result<(SpeakerHandle, Option<FaultPlan>)> {
    let speaker = match config.sim_directory() {
        None => SpeakerHandle::new(),
        Some(data) => SpeakerHandle::open(&data).with_context(|| format!("sim.data: {}", data.display()))?,
    };
    let plan = &config.sim.plan;
    if plan.is_empty() {
        return Ok((speaker, None));
    }
    let fault = |error: &dyn fmt::Display| Faults::from(Fault::file("sim.plan", plan, error));
    let text = std::fs::read_to_string(plan).map_err(|error| fault(&error))?;
    let plan = FaultPlan::from_toml(&text).map_err(|error| fault(&error))?;
    speaker.apply(&plan).map_err(|error| fault(&error))?;
    Ok((speaker, Some(plan)))
}
