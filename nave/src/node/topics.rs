//! Looks from time to time whether the topics of what runs or is served here are still those that were recorded.
//!
//! Where a topic was deleted, lanes may have nothing to do, and would be taken for idle. So the process says it by itself: in `/readyz`, which
//! lets a northbound refuse requests for that topology, and in the log, once when it begins and once when it is over.
//!
//! | the bus says | what stands in `/readyz` |
//! |---|---|
//! | a topic is gone, or another one | its code and its name, until a look finds it as it was recorded |
//! | all are as they were recorded | nothing |
//! | nothing | what stood there before |
//! | the control topic is gone | its code and its name, in `held_up`: what runs goes on |
//!
//! It is a part of its own: a bus that is slow to answer holds up neither the control topic nor the end of lanes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, Part, Turn};
use wire::control::Wish;
use wire::topics::Topics;
use wire::{Code, Problem};

use super::status::NodeStatus;
use crate::deployment;
use crate::program::Program;
use crate::recorded::Recorded;

/// Between two looks. A client waits ten seconds for its answer, so it is named before the first of them who wait in vain gives up. The dozen
/// topics of a topology take a millisecond each to ask for.
const LOOK_MS: u64 = 5_000;

/// What is looked at besides what runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Nothing.
    Nothing,
    /// Every topology that was submitted: the process has a northbound.
    Everything,
}

/// Looks at the topics of a process.
pub struct TopicWatch {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    topics: Topics,
    program: Program,
    status: Arc<NodeStatus>,
    serves: Serves,
    /// When to look next.
    look: MonoTime,
    /// The topologies that were there at the last look.
    known: BTreeSet<String>,
    /// False while the bus does not answer.
    is_answered: bool,
}

impl TopicWatch {
    /// Looks at the topics of what `status` says is run, and of what is served.
    pub fn new(bus: Arc<dyn Bus>, topics: Topics, program: Program, status: Arc<NodeStatus>, serves: Serves) -> Self {
        let clock = bus.clock();
        let look = clock.mono();
        Self { bus, clock, topics, program, status, serves, look, known: BTreeSet::new(), is_answered: true }
    }

    fn look(&mut self) {
        let deployments = self.status.deployments();
        let served = self.served();
        let watched: Vec<&Recorded> =
            deployments.iter().map(|deployment| deployment.recorded()).chain(&served).collect();
        let names: BTreeSet<String> = watched.iter().map(|recorded| recorded.topology().to_owned()).collect();
        self.status.watches(&names);
        // A topology that is new has just been submitted, or taken up: brokers hear of new topics one after another.
        let known = std::mem::replace(&mut self.known, names);
        let asked = watched.into_iter().filter(|recorded| known.contains(recorded.topology()));
        let answered =
            asked.map(|recorded| self.check(recorded)).find(Result::is_err).unwrap_or_else(|| self.check_control());
        if let (true, Err(error)) = (self.is_answered, &answered) {
            tracing::warn!(%error, "topics cannot be asked for; what was found before stands");
        }
        self.is_answered = answered.is_ok();
    }

    /// What is served here and not run.
    fn served(&self) -> Vec<Recorded> {
        if self.serves == Serves::Nothing {
            return Vec::new();
        }
        let running = self.status.stages();
        let submitted = self.status.submitted().into_values();
        let served = submitted.filter(|one| one.wish == Wish::Run && !running.contains_key(&one.name));
        let recorded = served.map(|one| {
            let code = self.program.topology(&one.name);
            Recorded::of(&one, code.map(|code| deployment::needed(code, &one, &self.topics)).unwrap_or_default())
        });
        recorded.collect()
    }

    /// Looks whether the control topic is there. Without it lanes go on, and a process that starts finds no topology.
    fn check_control(&self) -> Result<(), BusError> {
        let topic = self.topics.control();
        let is_gone = self.bus.topic(&topic)?.is_none();
        let problem = is_gone.then(|| {
            let detail = format!(
                "control topic `{topic}` is gone: what runs goes on, and a process that starts finds no topology; submit each topology \
                 again, then restart all processes one by one"
            );
            Problem::new(Code::TopicReplaced, detail)
        });
        if self.status.judged_control(problem) {
            tracing::error!(
                topic,
                code = Code::TopicReplaced.as_str(),
                "the control topic is gone: a person is needed"
            );
        }
        Ok(())
    }

    fn check(&self, recorded: &Recorded) -> Result<(), BusError> {
        let topology = recorded.topology();
        let found = recorded.check(&*self.bus)?;
        let before = self.status.judged(topology, found.clone());
        match (before, found) {
            (before, Some(problem)) if before.as_ref() != Some(&problem) => {
                let code = problem.code.as_str();
                tracing::error!(
                    topology,
                    code,
                    problem.detail,
                    "a topic is not as it was recorded: a person is needed"
                );
            }
            (Some(_), None) => tracing::warn!(topology, "its topics are as they were recorded again"),
            (_same, _found) => {}
        }
        Ok(())
    }
}

impl Part for TopicWatch {
    fn name(&self) -> &'static str {
        "topics"
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        let now = self.clock.mono();
        if now < self.look {
            std::thread::park_timeout(wait.min(self.look.since(now)));
        } else {
            self.look();
            self.look = self.clock.mono().plus_ms(LOOK_MS);
        }
        Ok(Turn { worked: false, next: Some(self.look) })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        Vec::new()
    }
}
