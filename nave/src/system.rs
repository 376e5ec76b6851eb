//! How the parts of a system are joined, whatever bus and clock they are given.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Cleanup, TopicSpec};
use flows::{FlowSettings, SPEAKER, STAGE};
use hub::HubSettings;
use topology::{BuildErrors, Settings, Shard, ShardOptions, ShardStatus, Topology};
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSettings};

/// What a system is made of, beside bus and clock.
#[derive(Debug, Clone)]
pub struct SystemOptions {
    /// What topics are called.
    pub topics: Topics,
    /// How many lanes the hub stage has: fixed for the life of its topics.
    pub lanes: u32,
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
            lanes: 4,
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
    /// How its lanes stand in this process.
    pub status: Arc<ShardStatus>,
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
        let topology = flows::flow_topology(&options.topics, options.lanes, settings)?;
        for spec in topology.topics(&options.topics) {
            bus.ensure_topic(&spec)?;
        }
        // Requests to a spoke are of no use once their calls are over: an hour is for people who look.
        let requests = TopicSpec::log(&options.topics.spoke(SPEAKER), options.lanes);
        bus.ensure_topic(&requests.cleaned(Cleanup::DeleteAfterMs(3_600_000)))?;
        let status = ShardStatus::new(options.lanes);
        Ok(Self { bus, options, topology, status })
    }

    /// The lanes of one thread, as the member `name`.
    ///
    /// # Errors
    /// Where the bus does not let it join.
    pub fn shard(&self, name: &str) -> Result<Shard, BusError> {
        let options = ShardOptions {
            topics: self.options.topics.clone(),
            stage: STAGE.to_owned(),
            member: name.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.topology.settings().clone(),
            session_timeout: self.options.session_timeout,
        };
        Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(&self.status))
    }

    /// The topic of requests to the speaker.
    pub fn speaker_topic(&self) -> String {
        self.options.topics.spoke(SPEAKER)
    }

    /// A northbound's options for this system.
    pub fn gateway_options(&self) -> northbound::GatewayOptions {
        let (topics, name) = (&self.options.topics, self.topology.name());
        northbound::GatewayOptions::new(
            &topics.inbox(name, STAGE),
            &topics.egress(name, STAGE),
            &topics.view(name, STAGE),
            self.options.lanes,
        )
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
