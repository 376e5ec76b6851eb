//! How a node stands, for those outside: what `/readyz` says, and whether it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::MonoTime;
use northbound::Waiting;
use wire::control::Submitted;
use wire::{Code, Problem};

use crate::deployment::Deployment;

/// Shared between a node and those who ask for it.
#[derive(Default)]
pub struct NodeStatus(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// What is run of each topology: the stages in this process.
    running: BTreeMap<String, (Arc<Deployment>, Vec<String>)>,
    /// Why a topology is not run here.
    refused: BTreeMap<String, Problem>,
    /// What is wrong with the topics of what runs or is served here.
    topics: BTreeMap<String, Problem>,
    /// Topologies that this process waits for.
    missing: Vec<String>,
    /// What was submitted.
    known: BTreeMap<String, Submitted>,
    /// True once the control topic was read for the first time.
    begun: bool,
    failed: bool,
}

impl NodeStatus {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked while it held this left nothing half done: each change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn running(&self, name: &str, deployment: &Arc<Deployment>, stages: Vec<String>) {
        let mut inner = self.inner();
        inner.running.insert(name.to_owned(), (Arc::clone(deployment), stages));
        inner.refused.remove(name);
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
        self.inner().running.values().map(|(deployment, _)| Arc::clone(deployment)).collect()
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

    /// What was submitted, by name.
    pub fn submitted(&self) -> BTreeMap<String, Submitted> {
        self.inner().known.clone()
    }

    /// From now on no spout of this process emits anything more.
    pub fn drain(&self) {
        for (deployment, _) in self.inner().running.values() {
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
        self.inner().running.iter().map(|(name, (_, stages))| (name.clone(), stages.clone())).collect()
    }

    /// Each thing that is waited for. `alone`: no other process runs lanes, so each must be live here.
    pub fn waiting(&self, now: MonoTime, alone: bool) -> Vec<Waiting> {
        let inner = self.inner();
        if !inner.begun {
            return vec![Waiting::all("the control topic is not followed yet")];
        }
        let mut lines: Vec<Waiting> = inner
            .missing
            .iter()
            .map(|name| Waiting::of_topology(name, format!("topology `{name}` is not submitted; nave submit {name}")))
            .collect();
        // What others run is said where this process has nothing to do, and in the log.
        let of_others = |problem: &&Problem| problem.code == Code::NoCode && !inner.running.is_empty();
        let refused = inner.refused.iter().filter(|(_, problem)| !of_others(problem));
        lines.extend(refused.map(|(name, problem)| Waiting::of_topology(name, problem.to_string())));
        // What was refused for its topics has said so.
        let said =
            |name: &str, problem: &Problem| inner.refused.get(name).is_some_and(|said| said.code == problem.code);
        let topics = inner.topics.iter().filter(|(name, problem)| !said(name, problem));
        lines.extend(topics.map(|(name, problem)| Waiting::of_topology(name, problem.to_string())));
        for (deployment, stages) in inner.running.values() {
            for stage in stages {
                let waiting = deployment.waiting(stage, now);
                // Among several processes a lane without an owner here has one elsewhere.
                lines.extend(
                    waiting.into_iter().filter(|waiting| alone || !waiting.line.ends_with("no owner in this process")),
                );
            }
        }
        lines
    }
}
