//! The status of a node: the entries of `/readyz`, and whether a task failed.
//!
//! | a lane of a stage that runs here | during the start | later |
//! |---|---|---|
//! | is live | ready | ready |
//! | is being taken over | not ready | ready within the silence limit of a lane, then not ready |
//! | is not here, maybe in another process | ready | ready: a northbound reports it if it is silent |
//! | is not here, no other processes | not ready | not ready |
//! | makes no progress | not ready | not ready |
//!
//! The start of a stage ends once its group has assigned lanes to each of its threads, and none of
//! them is being taken over. After that, lanes move between processes without making them unready:
//! requests meanwhile wait in the inbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::MonoTime;
use northbound::{Waiting, silence};
use topology::{Handover, ShardStatus};
use wire::control::Submitted;
use wire::{Code, Problem};

use super::deployment::Deployment;

/// The status, shared between a node and its readers.
#[derive(Default)]
pub struct NodeStatus {
    inner: Mutex<Inner>,
    /// True if no other process can run lanes, because the bus is inside this one.
    is_alone: bool,
}

#[derive(Default)]
struct Inner {
    /// The topologies that run here, by name.
    running: BTreeMap<String, RunningTopology>,
    /// Why a topology does not run here, by name.
    refused: BTreeMap<String, Problem>,
    /// Problems with the topics of running and served topologies.
    topics: BTreeMap<String, Problem>,
    /// Problem with the control topic.
    control: Option<Problem>,
    /// Topologies that this process should run and that are not submitted.
    missing: Vec<String>,
    /// The submitted topologies.
    submitted: BTreeMap<String, Submitted>,
    /// True once the control topic was read for the first time.
    has_read_control: bool,
    failed: bool,
    /// Number of operations that were not over when the lanes stopped.
    unfinished: usize,
}

/// A topology that runs here.
struct RunningTopology {
    deployment: Arc<Deployment>,
    stages: Vec<RunningStage>,
}

/// One of its stages.
struct RunningStage {
    name: String,
    /// Number of threads.
    threads: usize,
    /// True once its start has ended.
    is_settled: bool,
}

impl RunningStage {
    fn settle(&mut self, status: &ShardStatus, is_alone: bool) {
        let mut lanes = (0..).take(status.lanes()).map(|lane| status.handover(lane));
        self.is_settled |= status.joined() >= self.threads
            && lanes.all(|handover| match handover {
                None => true,
                Some((Handover::Away, _)) => !is_alone,
                Some((Handover::Recovering, _)) => false,
            });
    }

    /// Returns each reason why requests to this stage wait.
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
    /// Creates the status of a process that is alone, because its bus is inside it.
    pub fn alone() -> Self {
        Self { is_alone: true, ..Self::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked while it held the lock left a consistent state: each change is one
        // insertion.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that these stages of a topology run here, each with its number of threads.
    pub(super) fn running(&self, name: &str, deployment: &Arc<Deployment>, stages: Vec<(String, usize)>) {
        let stages = stages.into_iter().map(|(name, threads)| RunningStage { name, threads, is_settled: false });
        let topology = RunningTopology { deployment: Arc::clone(deployment), stages: stages.collect() };
        let mut inner = self.inner();
        inner.running.insert(name.to_owned(), topology);
        inner.refused.remove(name);
    }

    /// Marks stages whose start has ended.
    pub(super) fn settle(&self) {
        self.inner().settle(self.is_alone);
    }

    /// Records the number of operations that were not over when the lanes stopped.
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

    pub(super) fn follows(&self, submitted: BTreeMap<String, Submitted>, missing: Vec<String>) {
        let mut inner = self.inner();
        (inner.submitted, inner.missing, inner.has_read_control) = (submitted, missing, true);
    }

    /// Returns the running topologies.
    pub(super) fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.inner().running.values().map(|topology| Arc::clone(&topology.deployment)).collect()
    }

    /// Forgets topic problems of all topologies but these.
    pub(super) fn watches(&self, names: &BTreeSet<String>) {
        self.inner().topics.retain(|name, _| names.contains(name));
    }

    /// Replaces the problem with the topics of a topology; returns the previous one.
    pub(super) fn set_topic_problem(&self, name: &str, found: Option<Problem>) -> Option<Problem> {
        let mut inner = self.inner();
        match found {
            Some(problem) => inner.topics.insert(name.to_owned(), problem),
            None => inner.topics.remove(name),
        }
    }

    /// Replaces the problem with the control topic; returns true if it is new.
    pub(super) fn set_control_problem(&self, found: Option<Problem>) -> bool {
        let mut inner = self.inner();
        let is_new = found.is_some() && inner.control != found;
        inner.control = found;
        is_new
    }

    /// Returns the submitted topologies by name.
    pub fn submitted(&self) -> BTreeMap<String, Submitted> {
        self.inner().submitted.clone()
    }

    /// Stops all spouts of this process.
    pub fn drain(&self) {
        for RunningTopology { deployment, .. } in self.inner().running.values() {
            deployment.status().values().for_each(|status| status.drain());
        }
    }

    pub(super) fn fail(&self) {
        self.inner().failed = true;
    }

    /// Returns true if a task failed.
    pub fn has_failed(&self) -> bool {
        self.inner().failed
    }

    /// Returns why each submitted topology does not run here, by name.
    pub fn refused(&self) -> BTreeMap<String, Problem> {
        self.inner().refused.clone()
    }

    /// Returns the running topologies and their stages.
    pub fn stages(&self) -> BTreeMap<String, Vec<String>> {
        let names = |topology: &RunningTopology| topology.stages.iter().map(|stage| stage.name.clone()).collect();
        self.inner().running.iter().map(|(name, topology)| (name.clone(), names(topology))).collect()
    }

    /// Returns each reason why requests wait.
    pub fn waiting(&self, now: MonoTime) -> Vec<Waiting> {
        let mut inner = self.inner();
        inner.settle(self.is_alone);
        if !inner.has_read_control {
            return vec![Waiting::all("the control topic has not been read yet")];
        }
        let mut lines: Vec<Waiting> =
            inner.missing.iter().map(|name| Waiting::of_topology(name, not_submitted(name, self.is_alone))).collect();
        // Lanes run without the control topic, so requests are accepted.
        lines.extend(inner.control.iter().map(|problem| Waiting::held_up(problem.to_string())));
        // A process with topologies of its own only logs that it has no code for others.
        let of_others = |problem: &&Problem| problem.code == Code::NoCode && !inner.running.is_empty();
        let refused = inner.refused.iter().filter(|(_, problem)| !of_others(problem));
        lines.extend(refused.map(|(name, problem)| Waiting::of_topology(name, problem.to_string())));
        // Do not report a problem twice that is also the reason for a refusal.
        let is_reported =
            |name: &str, problem: &Problem| inner.refused.get(name).is_some_and(|refused| refused.code == problem.code);
        let topics = inner.topics.iter().filter(|(name, problem)| !is_reported(name, problem));
        lines.extend(topics.map(|(name, problem)| Waiting::of_topology(name, problem.to_string())));
        for RunningTopology { deployment, stages } in inner.running.values() {
            lines.extend(stages.iter().flat_map(|stage| stage.waiting(deployment, now, self.is_alone)));
            lines.extend(deployment.status().values().flat_map(|status| status.full()).map(Waiting::held_up));
        }
        lines
    }
}

/// Returns the text for a topology that is not submitted or was killed. The bus inside a process
/// accepts no submissions from others.
fn not_submitted(name: &str, is_alone: bool) -> String {
    let advice = if is_alone {
        "stop this process and start it again"
    } else {
        &format!("{} submit {name}", crate::program::name())
    };
    format!("topology `{name}` is not submitted; {advice}")
}

impl Inner {
    fn settle(&mut self, is_alone: bool) {
        for RunningTopology { deployment, stages } in self.running.values_mut() {
            for stage in stages.iter_mut().filter(|stage| !stage.is_settled) {
                if let Some(status) = deployment.status().get(&stage.name) {
                    stage.settle(status, is_alone);
                }
            }
        }
    }
}
