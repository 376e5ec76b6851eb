//! Checks periodically that the topics of running and served topologies are unchanged.
//!
//! Lanes of a deleted topic have no records and would look idle. So the process reports it: in
//! `/readyz`, which makes a northbound refuse requests for that topology, and in the log, once when
//! it begins and once when it ends.
//!
//! | answer of the bus | entry in `/readyz` |
//! |---|---|
//! | a topic is gone or was recreated | its code and its name, until a check finds the recorded topic |
//! | all topics are as recorded | none |
//! | none | unchanged |
//! | the control topic is gone | its code and its name, in `held_up`: running topologies continue |
//!
//! The check is a task of its own: a slow bus delays neither the control topic nor the end of
//! lanes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, PollOutcome, Task};
use wire::topics::Topics;
use wire::{Code, Problem};

use super::deployment;
use super::recorded::RecordedTopics;
use super::status::NodeStatus;
use crate::program::Program;

/// Interval between two checks in milliseconds. A client waits 10 s for its answer, so the report
/// comes before the first such client times out. A topology has a dozen topics, at 1 ms per query.
const CHECK_MS: u64 = 5_000;

/// The topologies to check beside those that run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedTopologies {
    /// None.
    None,
    /// All submitted topologies: the process has a northbound.
    All,
}

/// Checks the topics of a process.
pub struct TopicWatch {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    topics: Topics,
    program: Program,
    status: Arc<NodeStatus>,
    serves: ServedTopologies,
    /// Time of the next check.
    check_at: MonoTime,
    /// The topologies of the last check.
    watched_before: BTreeSet<String>,
    /// False while the bus does not answer.
    is_answered: bool,
}

impl TopicWatch {
    /// Creates a check of the topics that `status` reports as running, and of the served ones.
    pub fn new(
        bus: Arc<dyn Bus>,
        topics: Topics,
        program: Program,
        status: Arc<NodeStatus>,
        serves: ServedTopologies,
    ) -> Self {
        let clock = bus.clock();
        let check_at = clock.mono();
        Self {
            bus,
            clock,
            topics,
            program,
            status,
            serves,
            check_at,
            watched_before: BTreeSet::new(),
            is_answered: true,
        }
    }

    fn check_all(&mut self) {
        let deployments = self.status.deployments();
        let served = self.served();
        let watched: Vec<&RecordedTopics> =
            deployments.iter().map(|deployment| deployment.recorded()).chain(&served).collect();
        let names: BTreeSet<String> = watched.iter().map(|recorded| recorded.topology().to_owned()).collect();
        self.status.watches(&names);
        // Skip new topologies: their topics were just created, and brokers learn of them one after
        // another.
        let watched_before = std::mem::replace(&mut self.watched_before, names);
        let due = watched.into_iter().filter(|recorded| watched_before.contains(recorded.topology()));
        let answered =
            due.map(|recorded| self.check(recorded)).find(Result::is_err).unwrap_or_else(|| self.check_control());
        if let (true, Err(error)) = (self.is_answered, &answered) {
            tracing::warn!(%error, "topics cannot be checked; earlier results remain valid");
        }
        self.is_answered = answered.is_ok();
    }

    /// Returns the topics of topologies that are served but do not run here.
    fn served(&self) -> Vec<RecordedTopics> {
        if self.serves == ServedTopologies::None {
            return Vec::new();
        }
        let running = self.status.stages();
        let submitted = self.status.submitted().into_values();
        let served = submitted.filter(|one| one.desired.ends().is_none() && !running.contains_key(&one.name));
        let recorded = served.map(|one| {
            let code = self.program.topology(&one.name);
            RecordedTopics::of(&one, code.map(|code| deployment::needed(code, &one, &self.topics)).unwrap_or_default())
        });
        recorded.collect()
    }

    /// Checks that the control topic exists. Without it lanes continue, but a process that starts
    /// finds no topology.
    fn check_control(&self) -> Result<(), BusError> {
        let topic = self.topics.control();
        let is_gone = self.bus.topic(&topic)?.is_none();
        let problem = is_gone.then(|| {
            let detail = format!(
                "control topic `{topic}` is gone: running topologies continue, but a process that starts finds none; submit each topology \
                 again, then restart all processes one by one"
            );
            Problem::new(Code::TopicReplaced, detail)
        });
        if self.status.set_control_problem(problem) {
            tracing::error!(
                topic,
                code = %Code::TopicReplaced,
                "the control topic is gone: manual repair needed"
            );
        }
        Ok(())
    }

    fn check(&self, recorded: &RecordedTopics) -> Result<(), BusError> {
        let topology = recorded.topology();
        let found = recorded.check(&*self.bus)?;
        let before = self.status.set_topic_problem(topology, found.clone());
        match (before, found) {
            (before, Some(problem)) if before.as_ref() != Some(&problem) => {
                let code = problem.code.as_str();
                tracing::error!(topology, code, problem.detail, "a topic is not as recorded: manual repair needed");
            }
            (Some(_), None) => tracing::warn!(topology, "topics are as recorded again"),
            (_same, _found) => {}
        }
        Ok(())
    }
}

impl Task for TopicWatch {
    fn name(&self) -> &'static str {
        "topics"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let now = self.clock.mono();
        if now < self.check_at {
            std::thread::park_timeout(wait.min(self.check_at.since(now)));
        } else {
            self.check_all();
            self.check_at = self.clock.mono().plus_ms(CHECK_MS);
        }
        Ok(PollOutcome { worked: false, next: Some(self.check_at) })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        Vec::new()
    }
}
