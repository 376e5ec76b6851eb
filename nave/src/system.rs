//! The flow topology on a bus, for tests and benchmarks, which poll its shards themselves. A
//! running process uses [`crate::node`] with submitted topologies instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, MonoTime};
pub use flows::SPEAKER;
use flows::{FlowSettings, STAGE};
use hub::HubSettings;
use topology::{Arrangement, BuildErrors, DeliveryMode, RecoveryOptions, Settings, Shard, Topology};
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSettings};

use crate::deployment::Deployment;
use crate::submission;

/// The stage that runs the workflows.
pub const HUB: &str = STAGE;

/// The options of a [`System`].
#[derive(Debug, Clone)]
pub struct SystemOptions {
    /// Names of the topics.
    pub topics: Topics,
    /// Lanes per stage; fixed for the lifetime of the topics.
    pub lanes: u32,
    /// True: hub and workers are separate stages with a topic between them.
    pub apart: bool,
    /// The delivery mode of stages that do not use the default of the topology.
    pub modes: BTreeMap<String, DeliveryMode>,
    /// Settings of the flow workflows.
    pub flows: FlowSettings,
    /// Settings of the hub.
    pub hub: HubSettings,
    /// Settings of the worker for the speaker.
    pub speaker: WorkerSettings,
    /// Session timeout: a member that is silent for longer loses its lanes to others.
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
    /// The options.
    pub options: SystemOptions,
    /// The topology.
    pub topology: Topology,
    deployment: Deployment,
}

impl System {
    /// Builds the topology and creates its topics.
    ///
    /// # Errors
    /// If the topology cannot be built, or a topic has the wrong shape.
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
            RecoveryOptions { session_timeout: options.session_timeout, ..RecoveryOptions::default() },
        );
        Ok(Self { bus, options, topology, deployment })
    }

    /// Returns the names of the stages.
    pub fn stages(&self) -> Vec<String> {
        self.deployment.status().keys().cloned().collect()
    }

    /// Returns a line for each lane that is not live in this process or makes no progress.
    pub fn waiting(&self, now: MonoTime) -> Vec<String> {
        self.deployment.status().values().flat_map(|status| status.waiting(now)).map(|(_lane, line)| line).collect()
    }

    /// Joins the lanes of a stage with one thread, as the member `name`.
    ///
    /// # Errors
    /// If the bus refuses the member.
    ///
    /// # Panics
    /// If there is no such stage.
    pub fn shard(&self, stage: &str, name: &str) -> Result<Shard, BusError> {
        self.deployment.shard(stage, name)
    }

    /// Returns the topic of requests to the speaker.
    pub fn speaker_topic(&self) -> String {
        self.options.topics.spoke(SPEAKER)
    }

    /// Returns the options of a northbound for this system.
    ///
    /// # Panics
    /// If the topics of the system were deleted.
    pub fn gateway_options(&self) -> northbound::GatewayOptions {
        let (topics, at) = (&self.options.topics, wire::WallTime::default());
        let submitted = submission::describe(&*self.bus, topics, &self.topology, at).expect("the topics exist");
        northbound::GatewayOptions::of(topics, &submitted, northbound::GatewayLimits::default())
    }
}

/// Why a system cannot be created.
#[derive(Debug)]
pub enum SystemError {
    /// The topology cannot be built.
    Build(BuildErrors),
    /// The bus failed.
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
