//! The flow topology on a bus, laid out and set up by hand: what tests and benchmarks turn themselves. A running process goes
//! through [`crate::node`] instead, by what was submitted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, MonoTime};
use flows::{FlowSettings, SPEAKER, STAGE};
use hub::HubSettings;
use topology::{Arrangement, BuildErrors, Mode, Settings, Shard, Topology, Upkeep};
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSettings};

use crate::deployment::Deployment;
use crate::submission;

/// The stage that runs the workflows.
pub const HUB: &str = STAGE;

/// What a system is made of, beside bus and clock.
#[derive(Debug, Clone)]
pub struct SystemOptions {
    /// What topics are called.
    pub topics: Topics,
    /// How many lanes each stage has: fixed for the life of its topics.
    pub lanes: u32,
    /// True: hub and workers are stages of their own, with a topic between them.
    pub apart: bool,
    /// When the effects of a stage leave, where it is not as the topology says.
    pub modes: BTreeMap<String, Mode>,
    /// How flows are made.
    pub flows: FlowSettings,
    /// What bounds the hub.
    pub hub: HubSettings,
    /// How the speaker's worker tries.
    pub speaker: WorkerSettings,
    /// After so long without a sign of life a member's lanes go to others.
    pub session_timeout: Duration,
}

impl Default for SystemOptions {
    fn default() -> Self {
        Self {
            topics: Topics::default(),
            lanes: flows::LANES,
            apart: false,
            modes: BTreeMap::new(),
            flows: FlowSettings::default(),
            hub: HubSettings::default(),
            speaker: WorkerSettings::default(),
            session_timeout: bus::MemberSpec::SESSION,
        }
    }
}

/// The flow topology on a bus.
pub struct System {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// What it is made of.
    pub options: SystemOptions,
    /// The topology.
    pub topology: Topology,
    deployment: Deployment,
}

impl System {
    /// Builds the topology and sees to its topics.
    ///
    /// # Errors
    /// Where the topology cannot be built, or a topic is not as it should be.
    pub fn new(bus: Arc<dyn Bus>, options: SystemOptions) -> Result<Self, SystemError> {
        let settings = Settings::default()
            .with("flows", &options.flows)
            .with("hub", &options.hub)
            .with(&WorkerBolt::settings_name(SPEAKER), &options.speaker);
        let topology = flows::flow_topology()?.with_settings(&settings)?;
        let mut arrangement =
            Arrangement { apart: options.apart, modes: options.modes.clone(), ..Arrangement::default() };
        let stages = topology.arranged(&arrangement)?.stages();
        arrangement.lanes = stages.iter().map(|stage| (stage.name.to_string(), options.lanes)).collect();
        let topology = topology.arranged(&arrangement)?;
        for spec in topology.topics(&options.topics) {
            bus.ensure_topic(&spec)?;
        }
        let deployment = Deployment::new(
            Arc::clone(&bus),
            options.topics.clone(),
            topology.clone(),
            Upkeep { session_timeout: options.session_timeout, ..Upkeep::default() },
        );
        Ok(Self { bus, options, topology, deployment })
    }

    /// The names of its stages.
    pub fn stages(&self) -> Vec<String> {
        self.deployment.status().keys().cloned().collect()
    }

    /// A line for each lane of these stages that is not live in this process, or that does not get on.
    pub fn waiting(&self, now: MonoTime) -> Vec<String> {
        self.deployment.status().values().flat_map(|status| status.waiting(now)).map(|(_lane, line)| line).collect()
    }

    /// The lanes of a stage of one thread, as the member `name`.
    ///
    /// # Errors
    /// Where the bus does not let it join.
    ///
    /// # Panics
    /// Where there is no such stage.
    pub fn shard(&self, stage: &str, name: &str) -> Result<Shard, BusError> {
        self.deployment.shard(stage, name)
    }

    /// The topic of requests to the speaker.
    pub fn speaker_topic(&self) -> String {
        self.options.topics.spoke(SPEAKER)
    }

    /// A northbound's options for this system.
    ///
    /// # Panics
    /// Where the topics are gone that it was made with.
    pub fn gateway_options(&self) -> northbound::GatewayOptions {
        let (topics, at) = (&self.options.topics, wire::WallTime::default());
        let submitted = submission::describe(&*self.bus, topics, &self.topology, at).expect("the topics are there");
        northbound::GatewayOptions::of(topics, &submitted, northbound::GatewayLimits::default())
    }
}

/// Why a system cannot be made.
#[derive(Debug)]
pub enum SystemError {
    /// The topology cannot be built.
    Build(BuildErrors),
    /// The bus refused.
    Bus(BusError),
}

impl std::fmt::Display for SystemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SystemError::Build(errors) => errors.fmt(f),
            SystemError::Bus(error @ BusError::WrongTopic { .. }) => write!(f, "{}: {error}", wire::Code::WrongTopic),
            SystemError::Bus(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SystemError {}

impl From<BuildErrors> for SystemError {
    fn from(errors: BuildErrors) -> Self {
        SystemError::Build(errors)
    }
}

impl From<BusError> for SystemError {
    fn from(error: BusError) -> Self {
        SystemError::Bus(error)
    }
}
