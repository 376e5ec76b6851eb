//! How the parts of a system are joined, whatever bus and clock they are given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, MonoTime};
use flows::{FlowSettings, SPEAKER, STAGE};
use hub::HubSettings;
use topology::{Arrangement, BuildErrors, Mode, Settings, Shard, ShardOptions, ShardStatus, Topology};
use wire::control::{Submitted, SubmittedStage, Wish};
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSettings};

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
    /// How the lanes of each stage stand in this process.
    pub status: BTreeMap<String, Arc<ShardStatus>>,
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
        let status = |stage: topology::Stage| (stage.name.to_string(), ShardStatus::new(&stage.name, stage.lanes));
        let status = topology.stages().into_iter().map(status).collect();
        Ok(Self { bus, options, topology, status })
    }

    /// The names of its stages.
    pub fn stages(&self) -> Vec<String> {
        self.status.keys().cloned().collect()
    }

    /// A line for each lane of these stages that is not live in this process, or that does not get on.
    pub fn waiting(&self, now: MonoTime) -> Vec<String> {
        self.status.values().flat_map(|status| status.waiting(now)).collect()
    }

    /// The lanes of a stage of one thread, as the member `name`.
    ///
    /// # Errors
    /// Where the bus does not let it join.
    ///
    /// # Panics
    /// Where there is no such stage.
    pub fn shard(&self, stage: &str, name: &str) -> Result<Shard, BusError> {
        let status = self.status.get(stage).unwrap_or_else(|| panic!("stage `{stage}` is not one of this topology"));
        let options = ShardOptions {
            topics: self.options.topics.clone(),
            stage: stage.to_owned(),
            member: name.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.topology.settings().clone(),
            session_timeout: self.options.session_timeout,
        };
        Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(status))
    }

    /// The topic of requests to the speaker.
    pub fn speaker_topic(&self) -> String {
        self.options.topics.spoke(SPEAKER)
    }

    /// The topology as it is submitted at `at`, for those who read the control topic.
    ///
    /// # Errors
    /// Where the bus does not say what topics it has.
    pub fn submitted(&self, at: wire::WallTime) -> Result<Submitted, BusError> {
        let (topics, name) = (&self.options.topics, self.topology.name());
        let stage = |stage: topology::Stage| {
            let names =
                [topics.inbox(name, &stage.name), topics.egress(name, &stage.name), topics.view(name, &stage.name)];
            let known = names.into_iter().map(|topic| {
                let info = self.bus.topic(&topic)?.ok_or_else(|| BusError::NoTopic(topic.clone()))?;
                Ok((topic, info.id))
            });
            Ok(SubmittedStage {
                name: stage.name.to_string(),
                lanes: stage.lanes,
                mode: stage.mode,
                topics: known.collect::<Result<_, BusError>>()?,
            })
        };
        Ok(Submitted {
            name: name.to_owned(),
            graph: self.topology.graph(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            wish: Wish::Run,
            stages: self.topology.stages().into_iter().map(stage).collect::<Result<_, BusError>>()?,
            settings: serde_json::Value::Null,
            workflows: self.topology.workflows(),
            services: vec![SPEAKER.to_owned()],
            description: self.topology.describe(),
        })
    }

    /// A northbound's options for this system.
    ///
    /// # Panics
    /// Where the topics are gone that it was made with.
    pub fn gateway_options(&self) -> northbound::GatewayOptions {
        let submitted = self.submitted(wire::WallTime::default()).expect("the topics are there");
        northbound::GatewayOptions::of(&self.options.topics, &submitted, northbound::GatewayLimits::default())
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
