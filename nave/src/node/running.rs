//! The stages of one topology in this process, and their end.
//!
//! Stages with workflows end first, because workers must still answer their calls. So a stage ends
//! when it is drained and the groups of all stages before it are empty, or when the deadline has
//! passed.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, PollOutcome, Task};
use wire::WallTime;
use wire::control::{DesiredState, Submitted};
use wire::topics::Topics;

use super::control;
use super::deployment::Deployment;
use super::lanes::{Lanes, ThreadControl};
use super::runner::StageRunner;

/// One topology in this process.
pub(super) struct Running {
    submitted: Submitted,
    deployment: Arc<Deployment>,
    clock: Arc<dyn Clock>,
    /// Its members begin with this name, which was never used before.
    member: String,
    /// In the order in which they end.
    stages: Vec<Stage>,
    killed_by: Option<WallTime>,
}

struct Stage {
    name: String,
    /// None once it has ended.
    runner: Option<Box<dyn StageRunner>>,
    /// Threads that left the stage wait for the next rebalance.
    threads: Vec<Arc<ThreadControl>>,
}

impl Stage {
    fn unfinished(&self) -> usize {
        self.threads.iter().map(|thread| thread.unfinished()).sum()
    }
}

impl Running {
    pub(super) fn new(
        submitted: Submitted,
        deployment: Arc<Deployment>,
        clock: Arc<dyn Clock>,
        member: String,
    ) -> Self {
        let running = Self { submitted, deployment, clock, member, stages: Vec::new(), killed_by: None };
        running.apply_activity();
        running
    }

    pub(super) fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    pub(super) fn stages(&self) -> Vec<String> {
        self.stages.iter().map(|stage| stage.name.clone()).collect()
    }

    /// Returns each stage with its number of threads.
    pub(super) fn threads(&self) -> Vec<(String, usize)> {
        self.stages.iter().map(|stage| (stage.name.clone(), stage.threads.len())).collect()
    }

    /// Starts the lanes of a stage on this number of threads.
    pub(super) fn start(&mut self, stage: &str, threads: u32, runner: Box<dyn StageRunner>) -> std::io::Result<()> {
        let order = ending_order(&self.submitted);
        self.stages.push(Stage { name: stage.to_owned(), runner: Some(runner), threads: Vec::new() });
        self.stages.sort_by_key(|stage| order.iter().position(|name| *name == stage.name));
        self.set_threads(stage, threads)
    }

    /// Sets the number of threads that take part in a stage: new ones join it, or surplus ones leave it.
    /// Its lanes move between them as between processes.
    pub(super) fn set_threads(&mut self, stage: &str, threads: u32) -> std::io::Result<()> {
        let Some(Stage { runner: Some(runner), threads: known, .. }) =
            self.stages.iter_mut().find(|known| known.name == stage)
        else {
            return Ok(());
        };
        for thread in known.len()..threads as usize {
            let (deployment, clock) = (Arc::clone(&self.deployment), Arc::clone(&self.clock));
            let control = Arc::new(ThreadControl::default());
            known.push(Arc::clone(&control));
            let (stage, member) = (stage.to_owned(), format!("{}-{stage}-{thread}", self.member));
            let name = format!("{stage}-{thread}");
            let make = move || Ok(Box::new(Lanes::new(deployment, clock, stage, member, control)) as Box<dyn Task>);
            runner.spawn(&name, Box::new(make))?;
        }
        known.iter().zip(0..).for_each(|(thread, number)| thread.set_joined(number < threads));
        runner.wake();
        Ok(())
    }

    /// Pauses its spouts if the topology is inactive, and lets them continue otherwise.
    fn apply_activity(&self) {
        let active = self.submitted.desired != DesiredState::Inactive;
        self.deployment.status().values().for_each(|status| status.set_active(active));
        self.wake();
    }

    fn wake(&self) {
        self.stages.iter().filter_map(|stage| stage.runner.as_ref()).for_each(|runner| runner.wake());
    }

    /// Takes a second submission of the topology, which may have other settings, another desired state
    /// and other threads: `threads_of` returns their number for a stage.
    pub(super) fn submitted_again(&mut self, submitted: &Submitted, threads_of: impl Fn(&str) -> u32) {
        if self.submitted.settings != submitted.settings {
            tracing::info!(
                topology = submitted.name,
                "other settings were submitted; a lane uses them after its next takeover"
            );
        }
        if self.submitted.desired != submitted.desired {
            let desired = submitted.desired;
            tracing::info!(topology = submitted.name, ?desired, "its desired state has changed");
        }
        let is_rebalanced = self.submitted.threads != submitted.threads;
        self.submitted = submitted.clone();
        self.apply_activity();
        for stage in self.stages().into_iter().filter(|_| is_rebalanced) {
            let threads = threads_of(&stage);
            tracing::info!(topology = submitted.name, stage, threads, "rebalanced");
            if let Err(error) = self.set_threads(&stage, threads) {
                tracing::error!(topology = submitted.name, stage, %error, "a thread cannot be started");
            }
        }
    }

    pub(super) fn poll(&mut self) -> Result<PollOutcome, BusError> {
        let mut total = PollOutcome { worked: false, next: None };
        for runner in self.stages.iter_mut().filter_map(|stage| stage.runner.as_mut()) {
            let polled = runner.poll()?;
            total.worked |= polled.worked;
            total.next = total.next.into_iter().chain(polled.next).min();
        }
        Ok(total)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.stages.iter().filter_map(|stage| stage.runner.as_ref()).any(|runner| runner.has_failed())
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed_by.is_some()
    }

    /// Stops the spouts and starts draining, which ends at `by` at the latest. A second call
    /// replaces the deadline.
    pub(super) fn drain(&mut self, by: WallTime) {
        tracing::info!(topology = self.submitted.name, %by, "being killed: no new input; ends when drained");
        self.killed_by = Some(by);
        self.deployment.status().values().for_each(|status| status.drain());
        self.stages.iter().flat_map(|stage| &stage.threads).for_each(|thread| thread.watch());
        self.wake();
    }

    /// Ends the stages that may end now. Returns true once no process runs any stage and the name
    /// is free.
    pub(super) fn continue_ending(
        &mut self,
        bus: &dyn Bus,
        topics: &Topics,
        now: WallTime,
        timeout: Duration,
    ) -> Result<bool, BusError> {
        let is_overdue = self.killed_by.is_some_and(|by| by <= now);
        let order = ending_order(&self.submitted);
        let mut queried = Ok(());
        for stage in self.stages.iter_mut().filter(|stage| stage.runner.is_some()) {
            let drained = stage.threads.iter().all(|thread| thread.is_drained());
            let before = order.iter().take_while(|name| **name != stage.name);
            let busy =
                before.map(|name| bus.members(&topics.inbox(&self.submitted.name, name))).sum::<Result<usize, _>>();
            let is_alone = match busy {
                Ok(busy) => busy == 0,
                Err(error) => {
                    queried = Err(error);
                    false
                }
            };
            if is_overdue || (drained && is_alone) {
                let faults = stage.runner.take().map(|runner| runner.stop(timeout)).unwrap_or_default();
                log_end(&self.submitted.name, &stage.name, stage.unfinished(), &faults);
            }
        }
        queried?;
        if self.stages.iter().any(|stage| stage.runner.is_some()) || control::members(bus, topics, &self.submitted)? > 0
        {
            // The name stays in use while any process runs a stage. After the deadline this process
            // has ended all of its own.
            return Ok(false);
        }
        control::delete(bus, topics, &self.submitted.name)?;
        tracing::info!(topology = self.submitted.name, "killed; its name is free, its topics remain");
        Ok(true)
    }

    /// Ends all stages immediately.
    pub(super) fn end(&mut self, timeout: Duration, why: &str) {
        tracing::warn!(topology = self.submitted.name, why, "stages are ended");
        for fault in self.stop(timeout) {
            tracing::warn!(topology = self.submitted.name, fault, "a stage did not stop cleanly");
        }
    }

    /// Number of operations that are not over, once its lanes have stopped.
    pub(super) fn unfinished(&self) -> usize {
        self.stages.iter().map(Stage::unfinished).sum()
    }

    /// Stops its stages in order; returns errors.
    pub(super) fn stop(&mut self, timeout: Duration) -> Vec<String> {
        self.stages.iter_mut().filter_map(|stage| stage.runner.take()).flat_map(|runner| runner.stop(timeout)).collect()
    }
}

/// Returns the stages in the order in which they end: first those with workflows, then as declared.
fn ending_order(submitted: &Submitted) -> Vec<String> {
    let has_workflows = |name: &str| submitted.workflows.iter().any(|workflow| workflow.stage == name);
    let mut order: Vec<String> = submitted.stages.iter().map(|stage| stage.name.clone()).collect();
    order.sort_by_key(|name| !has_workflows(name));
    order
}

fn log_end(topology: &str, stage: &str, unfinished: usize, faults: &[String]) {
    if unfinished == 0 {
        tracing::info!(topology, stage, "the stage has ended; nothing unfinished");
    } else {
        tracing::warn!(topology, stage, unfinished, "deadline reached: the stage ended before its operations");
    }
    for fault in faults {
        tracing::warn!(topology, stage, fault, "the stage did not stop cleanly");
    }
}
