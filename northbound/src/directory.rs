//! Which topologies there are, and the gateway of each.
//!
//! What stands in the control topic is taken here by the [`crate::Outlet`], which then follows the topics of what is new. A
//! topology that is being killed takes no new requests; when its time is over and nobody waits here any more, it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bus::{Clock, Outgoing};
use wire::control::{Mode, Submitted, SubmittedStage, Wish, WorkflowType};
use wire::topics::Topics;
use wire::{Code, OperationId, Problem, WallTime};

use crate::gateway::{Gateway, GatewayLimits, GatewayOptions};
use crate::spokes::{Service, Spokes};
use crate::waiting::Waiting;

/// So many topologies are known. Each that runs costs some 100 MB at most (see [`GatewayLimits`]), most of them far less; one
/// more than this is not opened, and it is said in the log.
const TOPOLOGIES: usize = 256;

/// Which topologies there are.
pub struct Directory {
    topics: Topics,
    clock: Arc<dyn Clock>,
    limits: GatewayLimits,
    topologies: RwLock<BTreeMap<String, Arc<Entry>>>,
    spokes: Spokes,
    /// Grows when the list of topologies does not stand as it stood: the outlet has to look again.
    version: AtomicU64,
}

/// A topology that was submitted.
#[derive(Debug)]
pub struct Entry {
    /// As it was submitted last.
    pub submitted: Submitted,
    /// Its requests and answers.
    pub gateway: Arc<Gateway>,
    /// True once its answers are read: then requests are taken.
    pub(crate) followed: Arc<AtomicBool>,
}

/// How a topology stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was submitted, and its answers are not read here yet.
    Starting,
    /// It takes requests.
    Running,
    /// It is being killed: it takes no requests, and finishes what it has.
    Ending,
}

impl Directory {
    /// A directory that knows no topology yet. Topics are called as `topics` says.
    pub fn new(topics: Topics, limits: GatewayLimits, clock: Arc<dyn Clock>) -> Self {
        let (topologies, spokes, version) = (RwLock::default(), Spokes::default(), AtomicU64::new(0));
        Self { topics, clock, limits, topologies, spokes, version }
    }

    /// A directory of one topology that nobody submitted: for those who run one in their own process.
    pub fn of(gateway: Arc<Gateway>, clock: Arc<dyn Clock>) -> Self {
        let options = gateway.options();
        let stage = |stage: &crate::StageOptions| SubmittedStage {
            name: stage.name.clone(),
            lanes: stage.lanes,
            mode: Mode::default(),
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
            wish: Wish::Run,
            stages: options.stages.iter().map(stage).collect(),
            settings: serde_json::Value::Null,
            workflows: options.workflows.iter().map(workflow).collect(),
            services: Vec::new(),
            description: String::new(),
        };
        let directory = Self::new(Topics::default(), options.limits.clone(), clock);
        let entry = Entry { submitted, gateway, followed: Arc::default() };
        directory.change(|topologies| topologies.insert(entry.submitted.name.clone(), Arc::new(entry)));
        directory
    }

    /// Takes a topology as it was submitted: what stands in the control topic under its name.
    ///
    /// # Errors
    /// Why it cannot be opened here, in words.
    pub fn take(&self, submitted: Submitted) -> Result<(), String> {
        let name = submitted.name.clone();
        if matches!(submitted.wish, Wish::Kill { by } if by <= self.clock.wall()) && self.topology(&name).is_none() {
            return Ok(());
        }
        if let Some(stage) = submitted.stages.iter().find(|stage| stage.lanes == 0) {
            return Err(format!("stage `{}` has no lanes", stage.name));
        }
        if let Some(workflow) = submitted.workflows.iter().find(|workflow| submitted.stage(&workflow.stage).is_none()) {
            return Err(format!(
                "workflow `{}` runs in stage `{}`, which there is none of",
                workflow.name, workflow.stage
            ));
        }
        let known = self.topology(&name);
        if known.is_none() && self.read().len() >= TOPOLOGIES {
            return Err(format!("{TOPOLOGIES} topologies are open, which is as many as may be"));
        }
        let options = GatewayOptions::of(&self.topics, &submitted, self.limits.clone());
        let entry = if let Some(known) = known.filter(|known| *known.gateway.options() == options) {
            Entry { submitted, gateway: Arc::clone(&known.gateway), followed: Arc::clone(&known.followed) }
        } else {
            // New, or of another shape: what it knew is read again.
            let gateway = Arc::new(Gateway::new(options, Arc::clone(&self.clock)));
            Entry { submitted, gateway, followed: Arc::default() }
        };
        self.change(|topologies| topologies.insert(name, Arc::new(entry)));
        Ok(())
    }

    /// A topology is no longer submitted.
    pub fn remove(&self, name: &str) {
        self.change(|topologies| topologies.remove(name));
    }

    /// Drops the topologies whose time is over and for which nobody waits here.
    pub(crate) fn drop_ended(&self) {
        let now = self.clock.wall();
        let ended = |entry: &Entry| {
            matches!(entry.submitted.wish, Wish::Kill { by } if by <= now) && entry.gateway.unanswered() == 0
        };
        let names: Vec<String> = self.all().iter().filter(|entry| ended(entry)).map(|entry| entry.name()).collect();
        for name in names {
            tracing::info!(topology = name, "its time is over; it is no longer followed");
            self.remove(&name);
        }
    }

    /// A topology.
    pub fn topology(&self, name: &str) -> Option<Arc<Entry>> {
        self.read().get(name).cloned()
    }

    /// The same, or the problem that there is none.
    ///
    /// # Errors
    /// [`Code::UnknownTopology`].
    pub fn required(&self, name: &str) -> Result<Arc<Entry>, Problem> {
        self.topology(name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            Problem::new(Code::UnknownTopology, format!("no topology `{shown}` runs; `nave submit` submits one"))
        })
    }

    /// All topologies, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.read().values().cloned().collect()
    }

    /// The topology that an operation is known of.
    pub fn of_operation(&self, id: &OperationId) -> Option<Arc<Entry>> {
        self.read().values().find(|entry| entry.gateway.operation(id).is_some()).cloned()
    }

    /// The services of all topologies, in the order of their names.
    pub fn services(&self) -> BTreeSet<String> {
        self.read().values().flat_map(|entry| entry.submitted.services.iter().cloned()).collect()
    }

    /// Which spokes live.
    pub fn spokes(&self) -> &Spokes {
        &self.spokes
    }

    /// How a service and its instances stand now, by their heartbeats and as its workers judge it.
    pub(crate) fn spoke(&self, service: &str) -> Service {
        let of = |entry: &Arc<Entry>| entry.gateway.workers_of(service);
        let workers = self.read().values().flat_map(of).collect();
        Service { workers, ..self.spokes.service(service, &*self.clock) }
    }

    /// What topics are called.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// How many requests and commands are unanswered, in all topologies.
    pub fn unanswered(&self) -> usize {
        self.read().values().map(|entry| entry.gateway.unanswered()).sum()
    }

    /// Each lane that was asked something and says nothing, and each whose inbox is full.
    pub fn slow_lanes(&self) -> Vec<Waiting> {
        let of = |gateway: &Gateway| gateway.silent_lanes().into_iter().chain(gateway.full_lanes());
        self.read().values().flat_map(|entry| of(&entry.gateway)).collect()
    }

    /// Each topology whose answers are not read here yet.
    pub fn waiting(&self) -> Vec<Waiting> {
        let starting = |entry: &&Arc<Entry>| entry.state() == State::Starting;
        let line = |entry: &Arc<Entry>| {
            let name = &entry.submitted.name;
            Waiting::of_topology(name, format!("topology {name}: its answers are not followed yet"))
        };
        self.read().values().filter(starting).map(line).collect()
    }

    /// The record that says: this topology ends, finished or not, after so many milliseconds. And how it stands then.
    pub fn kill(&self, entry: &Entry, wait_ms: u64) -> (Outgoing, Submitted) {
        let by = self.clock.wall().plus_ms(wait_ms);
        let submitted = Submitted { wish: Wish::Kill { by }, ..entry.submitted.clone() };
        (control_record(&self.topics, &submitted), submitted)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The time of day, for what expires.
    pub(crate) fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.topologies.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Entry>>) -> T) {
        change(&mut self.topologies.write().unwrap_or_else(PoisonError::into_inner));
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

impl Entry {
    /// Its name.
    pub fn name(&self) -> String {
        self.submitted.name.clone()
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match self.submitted.wish {
            Wish::Kill { .. } => State::Ending,
            Wish::Run if self.followed.load(Ordering::Acquire) => State::Running,
            Wish::Run => State::Starting,
        }
    }

    /// Whether it takes new requests.
    ///
    /// # Errors
    /// [`Code::TopologyEnds`], or [`Code::NotReady`] where its answers are not read yet.
    pub fn takes_requests(&self) -> Result<(), Problem> {
        let name = &self.submitted.name;
        match self.state() {
            State::Running => Ok(()),
            State::Starting => {
                Err(Problem::new(Code::NotReady, format!("answers of topology `{name}` are not read here yet")))
            }
            State::Ending => Err(Problem::new(
                Code::TopologyEnds,
                format!("topology `{name}` is being killed: it finishes what it has, and takes nothing new"),
            )),
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.read().keys().cloned().collect();
        f.debug_struct("Directory").field("topologies", &names).finish_non_exhaustive()
    }
}

/// The record of the control topic that submits a topology.
pub fn control_record(topics: &Topics, submitted: &Submitted) -> Outgoing {
    let value = serde_json::to_vec(submitted).expect("a submitted topology is plain data");
    Outgoing::keyed(&topics.control(), submitted.name.clone().into_bytes(), value)
}
