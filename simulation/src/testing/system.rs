//! The flow topology on a bus, for tests and benchmarks that poll its shards themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError};
pub use flows::SPEAKER;
use flows::{FlowSettings, STAGE};
use hub::HubSettings;
use topology::{
    Arrangement, BuildErrors, DeliveryMode, InboxLimit, RecoveryOptions, Settings, Shard, ShardOptions, ShardStatus,
    Topology,
};
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSettings};

/// The stage that runs the workflows.
pub const HUB: &str = STAGE;

/// The build name in owner records.
const BUILD: &str = env!("CARGO_PKG_VERSION");

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

impl SystemOptions {
    /// Builds the topology.
    ///
    /// # Errors
    /// If the options do not fit it.
    pub fn topology(&self) -> Result<Topology, BuildErrors> {
        let settings = Settings::default()
            .with("flows", &self.flows)
            .with("hub", &self.hub)
            .with(&WorkerBolt::settings_name(SPEAKER), &self.speaker);
        let topology = flows::flow_topology()?.with_settings(&settings)?;
        let mut arrangement = Arrangement { apart: self.apart, modes: self.modes.clone(), ..Arrangement::default() };
        let stages = topology.arranged(&arrangement)?.stages();
        arrangement.lanes = stages.iter().map(|stage| (stage.name.to_string(), self.lanes)).collect();
        topology.arranged(&arrangement)
    }

    /// Returns the recovery options of the lanes.
    pub fn recovery(&self) -> RecoveryOptions {
        RecoveryOptions { session_timeout: self.session_timeout, ..RecoveryOptions::default() }
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
}

impl System {
    /// Builds the topology and creates its topics.
    ///
    /// # Errors
    /// If the topology cannot be built, or a topic has the wrong shape.
    pub fn new(bus: Arc<dyn Bus>, options: SystemOptions) -> Result<Self, SystemError> {
        let topology = options.topology()?;
        for spec in topology.topics(&options.topics) {
            bus.ensure_topic(&spec)?;
        }
        Ok(Self { bus, options, topology })
    }

    /// Returns the names of the stages.
    pub fn stages(&self) -> Vec<String> {
        self.topology.stages().into_iter().map(|stage| stage.name.to_string()).collect()
    }

    /// Joins the lanes of a stage with one thread, as the member `name`.
    ///
    /// # Errors
    /// If the bus refuses the member.
    pub fn shard(&self, stage: &str, name: &str) -> Result<Shard, BusError> {
        self.shard_on(Arc::clone(&self.bus), stage, name, self.options.recovery())
    }

    /// Joins the lanes of a stage like [`System::shard`], through another view of the bus and with
    /// these recovery options.
    ///
    /// # Errors
    /// If the bus refuses the member.
    pub fn shard_on(
        &self,
        bus: Arc<dyn Bus>,
        stage: &str,
        name: &str,
        recovery: RecoveryOptions,
    ) -> Result<Shard, BusError> {
        let options = ShardOptions {
            topics: self.options.topics.clone(),
            stage: stage.to_owned(),
            member: name.to_owned(),
            build: BUILD.to_owned(),
            settings: self.topology.settings().clone(),
            recovery,
            inbox_limit: InboxLimit::default(),
        };
        Shard::join(bus, self.topology.clone(), options, ShardStatus::new(stage, self.options.lanes))
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
        let submitted = self.topology.record(&*self.bus, topics, BUILD, at).expect("the topics exist");
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
