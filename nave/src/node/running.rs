//! The stages of one topology in this process, and how they end.
//!
//! Stages with workflows end first: what they still ask of workers must be answered. So a stage ends when it is drained and no
//! process is left in the groups of those that end before it; or, drained or not, when the time that was given is over.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, Part, Turn};
use wire::WallTime;
use wire::control::Submitted;
use wire::topics::Topics;

use super::crew::Crew;
use super::lanes::{Gauge, Lanes};
use crate::control;
use crate::deployment::Deployment;

/// One topology in this process.
pub(super) struct Running {
    submitted: Submitted,
    deployment: Arc<Deployment>,
    clock: Arc<dyn Clock>,
    /// In the order in which they end.
    stages: Vec<Stage>,
    killed_by: Option<WallTime>,
}

struct Stage {
    name: String,
    /// None where it has ended.
    crew: Option<Box<dyn Crew>>,
    gauges: Vec<Arc<Gauge>>,
}

impl Stage {
    fn unfinished(&self) -> usize {
        self.gauges.iter().map(|gauge| gauge.unfinished()).sum()
    }
}

impl Running {
    pub(super) fn new(submitted: Submitted, deployment: Arc<Deployment>, clock: Arc<dyn Clock>) -> Self {
        Self { submitted, deployment, clock, stages: Vec::new(), killed_by: None }
    }

    pub(super) fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    pub(super) fn stages(&self) -> Vec<String> {
        self.stages.iter().map(|stage| stage.name.clone()).collect()
    }

    /// Each stage, with how many threads its lanes have.
    pub(super) fn threads(&self) -> Vec<(String, usize)> {
        self.stages.iter().map(|stage| (stage.name.clone(), stage.gauges.len())).collect()
    }

    /// Starts the lanes of a stage on so many threads.
    pub(super) fn start(
        &mut self,
        stage: &str,
        threads: u32,
        member: &str,
        crew: Box<dyn Crew>,
    ) -> std::io::Result<()> {
        let mut started = Stage { name: stage.to_owned(), crew: Some(crew), gauges: Vec::new() };
        for thread in 0..threads {
            let (deployment, clock) = (Arc::clone(&self.deployment), Arc::clone(&self.clock));
            let gauge = Arc::new(Gauge::default());
            started.gauges.push(Arc::clone(&gauge));
            let (of, name) = (stage.to_owned(), format!("{member}-{stage}-{thread}"));
            let make = Box::new(move || {
                let shard = deployment.shard(&of, &name)?;
                Ok(Box::new(Lanes { shard, gauge, clock, quiet: None }) as Box<dyn Part>)
            });
            if let Some(crew) = &mut started.crew {
                crew.spawn(&format!("{stage}-{thread}"), make)?;
            }
        }
        let order = ending_order(&self.submitted);
        self.stages.push(started);
        self.stages.sort_by_key(|stage| order.iter().position(|name| *name == stage.name));
        Ok(())
    }

    /// The same topology was submitted with other settings.
    pub(super) fn submitted_again(&mut self, submitted: &Submitted) {
        if self.submitted.settings != submitted.settings {
            tracing::info!(
                topology = submitted.name,
                "other settings were submitted; a lane gets them when it is next taken over"
            );
        }
        self.submitted = submitted.clone();
    }

    pub(super) fn turn(&mut self) -> Result<Turn, BusError> {
        let mut all = Turn { worked: false, next: None };
        for crew in self.stages.iter_mut().filter_map(|stage| stage.crew.as_mut()) {
            let turn = crew.turn()?;
            all.worked |= turn.worked;
            all.next = all.next.into_iter().chain(turn.next).min();
        }
        Ok(all)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.stages.iter().filter_map(|stage| stage.crew.as_ref()).any(|crew| crew.has_failed())
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed_by.is_some()
    }

    /// Spouts emit nothing more; what is there is finished, until `by` at the latest. Said twice, the last word counts.
    pub(super) fn drain(&mut self, by: WallTime) {
        tracing::info!(topology = self.submitted.name, %by, "being killed: it takes nothing new, and ends when it is drained");
        self.killed_by = Some(by);
        self.deployment.status().values().for_each(|status| status.drain());
        self.stages.iter().flat_map(|stage| &stage.gauges).for_each(|gauge| gauge.ask());
        self.stages.iter().filter_map(|stage| stage.crew.as_ref()).for_each(|crew| crew.wake());
    }

    /// Ends the stages whose time has come. True where none is left in any process: then the name is free.
    pub(super) fn go_on_ending(
        &mut self,
        bus: &dyn Bus,
        topics: &Topics,
        now: WallTime,
        most: Duration,
    ) -> Result<bool, BusError> {
        let over = self.killed_by.is_some_and(|by| by <= now);
        let order = ending_order(&self.submitted);
        let mut asked = Ok(());
        for stage in self.stages.iter_mut().filter(|stage| stage.crew.is_some()) {
            let drained = stage.gauges.iter().all(|gauge| gauge.is_drained());
            let before = order.iter().take_while(|name| **name != stage.name);
            let busy =
                before.map(|name| bus.members(&topics.inbox(&self.submitted.name, name))).sum::<Result<usize, _>>();
            let alone = match busy {
                Ok(busy) => busy == 0,
                Err(error) => {
                    asked = Err(error);
                    false
                }
            };
            if over || (drained && alone) {
                let faults = stage.crew.take().map(|crew| crew.stop(most)).unwrap_or_default();
                say_how_it_ended(&self.submitted.name, &stage.name, stage.unfinished(), &faults);
            }
        }
        asked?;
        if self.stages.iter().any(|stage| stage.crew.is_some()) || control::members(bus, topics, &self.submitted)? > 0 {
            // The name stays taken while anybody is left; past the time that was given nobody is waited for in this process.
            return Ok(false);
        }
        control::delete(bus, topics, &self.submitted.name)?;
        tracing::info!(topology = self.submitted.name, "killed; its name is free, its topics are kept");
        Ok(true)
    }

    /// Ends it at once.
    pub(super) fn end(&mut self, most: Duration, why: &str) {
        tracing::warn!(topology = self.submitted.name, why, "its stages end");
        for fault in self.stop(most) {
            tracing::warn!(topology = self.submitted.name, fault, "a stage did not stop in order");
        }
    }

    /// Number of operations in its lanes that are not over, once they have stopped.
    pub(super) fn unfinished(&self) -> usize {
        self.stages.iter().map(Stage::unfinished).sum()
    }

    /// Stops its stages in order; returns what went wrong.
    pub(super) fn stop(&mut self, most: Duration) -> Vec<String> {
        self.stages.iter_mut().filter_map(|stage| stage.crew.take()).flat_map(|crew| crew.stop(most)).collect()
    }
}

/// The stages of a topology in the order in which they end: those with workflows first, then as they were declared.
fn ending_order(submitted: &Submitted) -> Vec<String> {
    let has_workflows = |name: &str| submitted.workflows.iter().any(|workflow| workflow.stage == name);
    let mut order: Vec<String> = submitted.stages.iter().map(|stage| stage.name.clone()).collect();
    order.sort_by_key(|name| !has_workflows(name));
    order
}

fn say_how_it_ended(topology: &str, stage: &str, unfinished: usize, faults: &[String]) {
    if unfinished == 0 {
        tracing::info!(topology, stage, "the stage has ended; nothing was left undone");
    } else {
        tracing::warn!(topology, stage, unfinished, "the time is up: the stage ended before its operations did");
    }
    for fault in faults {
        tracing::warn!(topology, stage, fault, "the stage did not stop in order");
    }
}
