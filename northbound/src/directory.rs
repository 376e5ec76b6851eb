//! The submitted topologies, and the gateway of each.
//!
//! The [`crate::Outlet`] reads the control topic into the directory and follows the topics of each
//! new topology. A topology that is being killed accepts no new requests. It is dropped when its
//! time is over and no request waits here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bus::{Clock, Outgoing};
use wire::control::{DeliveryMode, DesiredState, Submitted, SubmittedStage, WorkflowType};
use wire::topics::Topics;
use wire::{Code, OperationId, Problem, WallTime};

use crate::gateway::{Gateway, GatewayLimits, GatewayOptions};
use crate::spokes::{Service, Spokes};
use crate::waiting::Waiting;

/// Maximum number of topologies. Each costs at most 100 MB (see [`GatewayLimits`]), most of them
/// far less. Further ones are not opened, and logged.
const MAX_TOPOLOGIES: usize = 256;

/// The submitted topologies.
pub struct Directory {
    topics: Topics,
    clock: Arc<dyn Clock>,
    limits: GatewayLimits,
    topologies: RwLock<BTreeMap<String, Arc<TopologyEntry>>>,
    spokes: Spokes,
    /// Incremented with each change of the list, so that the outlet follows it.
    version: AtomicU64,
}

/// A submitted topology.
#[derive(Debug)]
pub struct TopologyEntry {
    /// The latest submission.
    pub submitted: Submitted,
    /// Its requests and answers.
    pub gateway: Arc<Gateway>,
    /// True once its answers are read. It accepts requests only then.
    pub(crate) followed: Arc<AtomicBool>,
}

/// The state of a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TopologyState {
    /// Submitted, but its answers are not read here yet.
    Starting,
    /// It accepts requests.
    Running,
    /// Its spouts pause, and it accepts no requests until it is activated.
    Inactive,
    /// It is being killed: it accepts no requests and completes the running ones.
    Ending,
}

impl Directory {
    /// An empty directory; `topics` gives the topic names.
    pub fn new(topics: Topics, limits: GatewayLimits, clock: Arc<dyn Clock>) -> Self {
        let (topologies, spokes, version) = (RwLock::default(), Spokes::default(), AtomicU64::new(0));
        Self { topics, clock, limits, topologies, spokes, version }
    }

    /// A directory of one topology without a submission: for programs that run it in their own
    /// process.
    pub fn of(gateway: Arc<Gateway>, clock: Arc<dyn Clock>) -> Self {
        let options = gateway.options();
        let stage = |stage: &crate::StageOptions| SubmittedStage {
            name: stage.name.clone(),
            lanes: stage.lanes,
            mode: DeliveryMode::default(),
            topics: Vec::new(),
        };
        let workflow = |(name, stage): (&String, &String)| WorkflowType {
            name: name.clone(),
            stage: stage.clone(),
            request: serde_json::Value::Bool(true),
        };
        let submitted = Submitted {
            name: options.topology.clone(),
            graph: wire::graph::Graph::default(),
            build: String::new(),
            at: clock.wall(),
            desired: DesiredState::Run,
            threads: None,
            stages: options.stages.iter().map(stage).collect(),
            settings: serde_json::Value::Null,
            workflows: options.workflows.iter().map(workflow).collect(),
            services: Vec::new(),
            description: String::new(),
        };
        let directory = Self::new(Topics::default(), options.limits.clone(), clock);
        let entry = TopologyEntry { submitted, gateway, followed: Arc::default() };
        directory.change(|topologies| topologies.insert(entry.submitted.name.clone(), Arc::new(entry)));
        directory
    }

    /// Adds or updates a submitted topology from a record of the control topic.
    ///
    /// # Errors
    /// The reason why it cannot be opened here.
    pub fn take(&self, submitted: Submitted) -> Result<(), String> {
        let name = submitted.name.clone();
        if submitted.desired.ends().is_some_and(|by| by <= self.clock.wall()) && self.topology(&name).is_none() {
            return Ok(());
        }
        if let Some(stage) = submitted.stages.iter().find(|stage| stage.lanes == 0) {
            return Err(format!("stage `{}` has no lanes", stage.name));
        }
        if let Some(workflow) = submitted.workflows.iter().find(|workflow| submitted.stage(&workflow.stage).is_none()) {
            return Err(format!(
                "workflow `{}` runs in stage `{}`, which does not exist",
                workflow.name, workflow.stage
            ));
        }
        let known = self.topology(&name);
        if known.is_none() && self.read().len() >= MAX_TOPOLOGIES {
            return Err(format!("the limit of {MAX_TOPOLOGIES} topologies is reached"));
        }
        let options = GatewayOptions::of(&self.topics, &submitted, self.limits.clone());
        let entry = if let Some(known) = known.filter(|known| *known.gateway.options() == options) {
            TopologyEntry { submitted, gateway: Arc::clone(&known.gateway), followed: Arc::clone(&known.followed) }
        } else {
            // New, or with another shape: its topics are read from the beginning.
            let gateway = Arc::new(Gateway::new(options, Arc::clone(&self.clock)));
            TopologyEntry { submitted, gateway, followed: Arc::default() }
        };
        self.change(|topologies| topologies.insert(name, Arc::new(entry)));
        Ok(())
    }

    /// Removes a topology that is no longer submitted.
    pub fn remove(&self, name: &str) {
        self.change(|topologies| topologies.remove(name));
    }

    /// Drops the topologies whose time is over and for which no request waits here.
    pub(crate) fn drop_ended(&self) {
        let now = self.clock.wall();
        let ended = |entry: &TopologyEntry| {
            entry.submitted.desired.ends().is_some_and(|by| by <= now) && entry.gateway.unanswered() == 0
        };
        let names: Vec<String> = self.all().iter().filter(|entry| ended(entry)).map(|entry| entry.name()).collect();
        for name in names {
            tracing::info!(topology = name, "the topology has ended; its topics are no longer followed");
            self.remove(&name);
        }
    }

    /// The topology of this name.
    pub fn topology(&self, name: &str) -> Option<Arc<TopologyEntry>> {
        self.read().get(name).cloned()
    }

    /// The topology of this name.
    ///
    /// # Errors
    /// [`Code::UnknownTopology`].
    pub fn required(&self, name: &str) -> Result<Arc<TopologyEntry>, Problem> {
        self.topology(name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            Problem::new(
                Code::UnknownTopology,
                format!("topology `{shown}` is not submitted; the command `submit` submits it"),
            )
        })
    }

    /// All topologies, by name.
    pub fn all(&self) -> Vec<Arc<TopologyEntry>> {
        self.read().values().cloned().collect()
    }

    /// The topology whose cache has this operation.
    pub fn of_operation(&self, id: &OperationId) -> Option<Arc<TopologyEntry>> {
        self.read().values().find(|entry| entry.gateway.operation(id).is_some()).cloned()
    }

    /// The services of all topologies, by name.
    pub fn services(&self) -> BTreeSet<String> {
        self.read().values().flat_map(|entry| entry.submitted.services.iter().cloned()).collect()
    }

    /// The heartbeats of the spokes.
    pub fn spokes(&self) -> &Spokes {
        &self.spokes
    }

    /// The state of a service and its instances, by their heartbeats and by the verdicts of its
    /// workers.
    pub(crate) fn spoke(&self, service: &str) -> Service {
        let of = |entry: &Arc<TopologyEntry>| entry.gateway.workers_of(service);
        let workers = self.read().values().flat_map(of).collect();
        Service { workers, ..self.spokes.service(service, &*self.clock) }
    }

    /// The topic names.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Number of unanswered requests and commands of all topologies.
    pub fn unanswered(&self) -> usize {
        self.read().values().map(|entry| entry.gateway.unanswered()).sum()
    }

    /// The lanes that are silent and those whose inbox is full.
    pub fn slow_lanes(&self) -> Vec<Waiting> {
        let of = |gateway: &Gateway| gateway.silent_lanes().into_iter().chain(gateway.full_lanes());
        self.read().values().flat_map(|entry| of(&entry.gateway)).collect()
    }

    /// The topologies whose answers are not read here yet.
    pub fn waiting(&self) -> Vec<Waiting> {
        let starting = |entry: &&Arc<TopologyEntry>| entry.state() == TopologyState::Starting;
        let line = |entry: &Arc<TopologyEntry>| {
            let name = &entry.submitted.name;
            Waiting::of_topology(name, format!("topology {name}: its answers are not read yet"))
        };
        self.read().values().filter(starting).map(line).collect()
    }

    /// Applies another desired state that is durable, before its record is read back: it holds from the
    /// confirmation on.
    pub(crate) fn changed(&self, changed: &Submitted) {
        self.change(|topologies| {
            if let Some(entry) = topologies.get_mut(&changed.name)
                && entry.submitted.at == changed.at
            {
                let (gateway, followed) = (Arc::clone(&entry.gateway), Arc::clone(&entry.followed));
                *entry = Arc::new(TopologyEntry { submitted: changed.clone(), gateway, followed });
            }
        });
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The wall time, for deadlines.
    pub(crate) fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<TopologyEntry>>> {
        self.topologies.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<TopologyEntry>>) -> T) {
        change(&mut self.topologies.write().unwrap_or_else(PoisonError::into_inner));
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

impl TopologyEntry {
    /// The name of the topology.
    pub fn name(&self) -> String {
        self.submitted.name.clone()
    }

    /// The state of the topology.
    pub fn state(&self) -> TopologyState {
        match self.submitted.desired {
            DesiredState::Kill { .. } => TopologyState::Ending,
            _ if !self.followed.load(Ordering::Acquire) => TopologyState::Starting,
            DesiredState::Run => TopologyState::Running,
            DesiredState::Inactive => TopologyState::Inactive,
        }
    }

    /// Checks that it accepts new requests.
    ///
    /// # Errors
    /// [`Code::TopologyEnds`], [`Code::TopologyInactive`], or [`Code::NotReady`] if its answers are not read yet.
    pub fn takes_requests(&self) -> Result<(), Problem> {
        let name = &self.submitted.name;
        match self.state() {
            TopologyState::Running => Ok(()),
            TopologyState::Starting => Err(Problem::new(
                Code::NotReady,
                format!("the answers of topology `{name}` are not read here yet; try again later"),
            )),
            TopologyState::Inactive => Err(Problem::new(
                Code::TopologyInactive,
                format!(
                    "topology `{name}` is inactive: it completes its operations and accepts no new requests; the command \
                     `topologies activate {name}` activates it"
                ),
            )),
            TopologyState::Ending => Err(self.is_being_killed()),
        }
    }

    /// The refusal of everything that a topology cannot take while it is being killed.
    pub(crate) fn is_being_killed(&self) -> Problem {
        let name = &self.submitted.name;
        Problem::new(
            Code::TopologyEnds,
            format!("topology `{name}` is being killed: it completes its operations and accepts no new requests"),
        )
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.read().keys().cloned().collect();
        f.debug_struct("Directory").field("topologies", &names).finish_non_exhaustive()
    }
}

/// The control record that submits a topology.
pub fn control_record(topics: &Topics, submitted: &Submitted) -> Outgoing {
    let value = serde_json::to_vec(submitted).expect("a submitted topology is plain data");
    Outgoing::keyed(&topics.control(), submitted.name.clone().into_bytes(), value)
}
