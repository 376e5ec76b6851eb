//! How a node stands, for others: what `/readyz` says, and whether it failed.
//!
//! | a lane of a stage that runs here | at the start | later |
//! |---|---|---|
//! | is live | ready | ready |
//! | is being taken over | not ready | ready for as long as a lane may be silent, then not ready |
//! | is not here, and other processes may have it | ready | ready: a northbound names it when it is silent |
//! | is not here, and there are no other processes | not ready | not ready |
//! | makes no progress | not ready | not ready |
//!
//! The start of a stage is over when its group has assigned lanes to each of its threads, and none of them is being taken over. So lanes can
//! move between processes while all of them are ready and refuse nothing: a request that comes meanwhile waits in the inbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::MonoTime;
use northbound::{Waiting, silence};
use topology::{Handover, ShardStatus};
use wire::control::Submitted;
use wire::{Code, Problem};

use crate::deployment::Deployment;

/// Shared between a node and those who ask for it.
#[derive(Default)]
pub struct NodeStatus {
    inner: Mutex<Inner>,
    /// True where no other process can run lanes: the bus is in this one.
    is_alone: bool,
}

#[derive(Default)]
struct Inner {
    /// The topologies that run here, by name.
    running: BTreeMap<String, TakenUp>,
    /// Why a topology is not run here.
    refused: BTreeMap<String, Problem>,
    /// What is wrong with the topics of what runs or is served here.
    topics: BTreeMap<String, Problem>,
    /// The fault of the control topic.
    control: Option<Problem>,
    /// Topologies that this process waits for.
    missing: Vec<String>,
    /// What was submitted.
    known: BTreeMap<String, Submitted>,
    /// True once the control topic was read for the first time.
    begun: bool,
    failed: bool,
    /// Number of operations that were not over when the lanes stopped.
    unfinished: usize,
}

/// A topology that runs here.
struct TakenUp {
    deployment: Arc<Deployment>,
    stages: Vec<StageHere>,
}

/// One of its stages.
struct StageHere {
    name: String,
    /// How many threads its lanes have.
    threads: usize,
    /// True once its start is over.
    is_settled: bool,
}

impl StageHere {
    fn settle(&mut self, status: &ShardStatus, is_alone: bool) {
        let mut lanes = (0..).take(status.lanes()).map(|lane| status.handover(lane));
        self.is_settled |= status.joined() >= self.threads
            && lanes.all(|handover| match handover {
                None => true,
                Some((Handover::Away, _)) => !is_alone,
                Some((Handover::Recovering, _)) => false,
            });
    }

    /// Each thing that requests to this stage wait for.
    fn waiting(&self, deployment: &Deployment, now: MonoTime, is_alone: bool) -> Vec<Waiting> {
        let joined = deployment.status().get(&self.name).map_or(0, |status| status.joined());
        if joined < self.threads && !is_alone {
            let line = format!("{}: its group has not assigned lanes to this process yet", self.name);
            return vec![Waiting::of_topology(deployment.topology().name(), line)];
        }
        deployment.waiting(&self.name, now, |handover, since| match handover {
            Handover::Away => is_alone,
            Handover::Recovering => !self.is_settled || now.since(since) >= silence::LIMIT,
        })
    }
}

impl NodeStatus {
    /// Of a process beside which no other can run lanes, since its bus is inside it.
    pub fn alone() -> Self {
        Self { is_alone: true, ..Self::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked while it held this left nothing half done: each change is one insertion.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These stages of a topology run here, each on so many threads.
    pub(super) fn running(&self, name: &str, deployment: &Arc<Deployment>, stages: Vec<(String, usize)>) {
        let stages = stages.into_iter().map(|(name, threads)| StageHere { name, threads, is_settled: false });
        let taken_up = TakenUp { deployment: Arc::clone(deployment), stages: stages.collect() };
        let mut inner = self.inner();
        inner.running.insert(name.to_owned(), taken_up);
        inner.refused.remove(name);
    }

    /// Looks which stages have come to the end of their start.
    pub(super) fn settle(&self) {
        self.inner().settle(self.is_alone);
    }

    /// Its lanes have stopped, with so many operations that are not over.
    pub(super) fn stopped(&self, unfinished: usize) {
        self.inner().unfinished = unfinished;
    }

    /// Number of operations that were not over when the lanes stopped.
    pub fn unfinished(&self) -> usize {
        self.inner().unfinished
    }

    pub(super) fn gone(&self, name: &str) {
        let mut inner = self.inner();
        inner.running.remove(name);
        inner.refused.remove(name);
        inner.topics.remove(name);
    }

    pub(super) fn refuse(&self, name: &str, problem: Problem) {
        self.inner().refused.insert(name.to_owned(), problem);
    }

    pub(super) fn follows(&self, known: BTreeMap<String, Submitted>, missing: Vec<String>) {
        let mut inner = self.inner();
        (inner.known, inner.missing, inner.begun) = (known, missing, true);
    }

    /// What runs here.
    pub(super) fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.inner().running.values().map(|taken_up| Arc::clone(&taken_up.deployment)).collect()
    }

    /// The topics of these topologies are looked at, and of others nothing is known any more.
    pub(super) fn watches(&self, names: &BTreeSet<String>) {
        self.inner().topics.retain(|name, _| names.contains(name));
    }

    /// What is wrong with the topics of a topology now; what was before.
    pub(super) fn judged(&self, name: &str, found: Option<Problem>) -> Option<Problem> {
        let mut inner = self.inner();
        match found {
            Some(problem) => inner.topics.insert(name.to_owned(), problem),
            None => inner.topics.remove(name),
        }
    }

    /// Takes the fault of the control topic as it is now; true where it is new.
    pub(super) fn judged_control(&self, found: Option<Problem>) -> bool {
        let mut inner = self.inner();
        let is_new = found.is_some() && inner.control != found;
        inner.control = found;
        is_new
    }

    /// What was submitted, by name.
    pub fn submitted(&self) -> BTreeMap<String, Submitted> {
        self.inner().known.clone()
    }

    /// From now on no spout of this process emits anything more.
    pub fn drain(&self) {
        for TakenUp { deployment, .. } in self.inner().running.values() {
            deployment.status().values().for_each(|status| status.drain());
        }
    }

    pub(super) fn fail(&self) {
        self.inner().failed = true;
    }

    /// True where a part ended with a fault.
    pub fn has_failed(&self) -> bool {
        self.inner().failed
    }

    /// Why each topology that was submitted is not run here, by name.
    pub fn refused(&self) -> BTreeMap<String, Problem> {
        self.inner().refused.clone()
    }

    /// What is run here: topologies, and their stages.
    pub fn stages(&self) -> BTreeMap<String, Vec<String>> {
        let names = |taken_up: &TakenUp| taken_up.stages.iter().map(|stage| stage.name.clone()).collect();
        self.inner().running.iter().map(|(name, taken_up)| (name.clone(), names(taken_up))).collect()
    }

    /// Each thing that requests wait for.
    pub fn waiting(&self, now: MonoTime) -> Vec<Waiting> {
        let mut inner = self.inner();
        inner.settle(self.is_alone);
        if !inner.begun {
            return vec![Waiting::all("the control topic is not followed yet")];
        }
        let mut lines: Vec<Waiting> =
            inner.missing.iter().map(|name| Waiting::of_topology(name, not_submitted(name, self.is_alone))).collect();
        // Lanes go on without it, so requests are taken.
        lines.extend(inner.control.iter().map(|problem| Waiting::held_up(problem.to_string())));
        // What others run is said where this process has nothing to do, and in the log.
        let of_others = |problem: &&Problem| problem.code == Code::NoCode && !inner.running.is_empty();
        let refused = inner.refused.iter().filter(|(_, problem)| !of_others(problem));
        lines.extend(refused.map(|(name, problem)| Waiting::of_topology(name, problem.to_string())));
        // What was refused for its topics has said so.
        let said =
            |name: &str, problem: &Problem| inner.refused.get(name).is_some_and(|said| said.code == problem.code);
        let topics = inner.topics.iter().filter(|(name, problem)| !said(name, problem));
        lines.extend(topics.map(|(name, problem)| Waiting::of_topology(name, problem.to_string())));
        for TakenUp { deployment, stages } in inner.running.values() {
            lines.extend(stages.iter().flat_map(|stage| stage.waiting(deployment, now, self.is_alone)));
            lines.extend(deployment.status().values().flat_map(|status| status.full()).map(Waiting::held_up));
        }
        lines
    }
}

/// Says that a topology was not submitted, or was killed, and how to submit it. A bus inside this process takes no submission from another one.
fn not_submitted(name: &str, is_alone: bool) -> String {
    let advice = if is_alone { "stop this process and start it again" } else { &format!("nave submit {name}") };
    format!("topology `{name}` is not submitted; {advice}")
}

impl Inner {
    fn settle(&mut self, is_alone: bool) {
        for TakenUp { deployment, stages } in self.running.values_mut() {
            for stage in stages.iter_mut().filter(|stage| !stage.is_settled) {
                if let Some(status) = deployment.status().get(&stage.name) {
                    stage.settle(status, is_alone);
                }
            }
        }
    }
}
