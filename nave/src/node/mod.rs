//! What one process does about the topologies that were submitted: it follows the control topic, takes stages up, and ends them.
//!
//! | the control topic says of a topology | this process runs it | what it does |
//! |---|---|---|
//! | run | no, and it has the code | takes up the stages that it was told to run |
//! | run | no, and it lacks the code, or has another graph | says so: in the log, once, and in `/readyz` |
//! | run, with other settings | yes | nothing: lanes get them with their next owner record |
//! | kill | yes | drains, at most until the time that was given, then ends its stages in order |
//! | kill | no | nothing |
//! | gone | yes | ends its stages at once |
//!
//! A node is a part: it has no thread of its own, and a test turns it in virtual time.
//!
//! Read in this order: this file, `running` (the stages of one topology, and how they end), [`crew`] (who turns lanes),
//! `lanes` (and whether they are drained), [`status`] (how it stands, for others), [`topics`] (whether its topics are still there).

pub mod crew;
mod lanes;
mod running;
pub mod status;
pub mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, Part, Pause, Turn};
use topology::Upkeep;
use wire::control::{Submitted, Wish};
use wire::topics::Topics;
use wire::{Code, Problem};

use self::crew::MakeCrew;
use self::running::Running;
use self::status::NodeStatus;
use crate::control::ControlReader;
use crate::deployment::Deployment;
use crate::program::Program;

/// Between two looks at how a killed topology ends.
const LOOK_MS: u64 = 100;
/// Interval between two attempts to take a topology up while the bus does not answer: each asks for a dozen topics.
const AGAIN_MS: u64 = 1_000;

/// What a process is told to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every stage of every topology that it has code for.
    Everything,
    /// These stages: topology and stage.
    Stages(Vec<(String, String)>),
}

impl Wanted {
    /// The stages of a topology that are wanted, of those that it has; none where nothing of it is.
    fn of(&self, topology: &str, has: &[String]) -> Option<Vec<String>> {
        match self {
            Wanted::Everything => Some(has.to_vec()),
            Wanted::Stages(stages) => {
                let of_it: Vec<&(String, String)> = stages.iter().filter(|(name, _)| name == topology).collect();
                (!of_it.is_empty()).then(|| of_it.into_iter().map(|(_, stage)| stage.clone()).collect())
            }
        }
    }

    fn names(&self, program: &Program) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Wanted::Everything => program.topologies().map(|(name, _)| name.to_owned()).collect(),
            Wanted::Stages(stages) => stages.iter().map(|(name, _)| name.clone()).collect(),
        };
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Threads for the lanes of a stage of a topology.
pub type ThreadsOf = Box<dyn Fn(&str, &str) -> u32 + Send>;

/// How a node works.
pub struct NodeOptions {
    /// What topics are called.
    pub topics: Topics,
    /// What it runs.
    pub wanted: Wanted,
    /// A name that no process before or beside it has: transactional ids begin with it.
    pub process: String,
    /// Threads for the lanes of a stage of a topology.
    pub threads: ThreadsOf,
    /// How its lanes come from one owner to the next.
    pub upkeep: Upkeep,
    /// So long its lanes have to end.
    pub lanes_end: Duration,
}

/// One process's share of all topologies.
pub struct Node {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    program: Program,
    options: NodeOptions,
    make_crew: MakeCrew,
    control: ControlReader,
    status: Arc<NodeStatus>,
    running: BTreeMap<String, Running>,
    /// The submissions that were judged already, so that each is said once.
    judged: BTreeMap<String, Submitted>,
    begun: bool,
    look: Option<MonoTime>,
    /// When to judge once more, since the bus did not answer.
    again: Option<MonoTime>,
    take_ups: u32,
    pause: Pause,
}

impl Node {
    /// A node that runs nothing yet.
    ///
    /// # Errors
    /// Where the bus does not answer.
    pub fn open(
        bus: Arc<dyn Bus>,
        program: Program,
        options: NodeOptions,
        make_crew: MakeCrew,
        status: Arc<NodeStatus>,
    ) -> Result<Self, BusError> {
        let control = ControlReader::open(&*bus, &options.topics)?;
        Ok(Self {
            clock: bus.clock(),
            bus,
            program,
            options,
            make_crew,
            control,
            status,
            running: BTreeMap::new(),
            judged: BTreeMap::new(),
            begun: false,
            look: None,
            again: None,
            take_ups: 0,
            pause: Pause::default(),
        })
    }

    /// Compares what is wanted of each topology with what this process does.
    fn judge(&mut self) {
        self.again = None;
        let known = self.control.known().clone();
        let wanted = self.options.wanted.names(&self.program);
        let gone: Vec<String> = self.judged.keys().filter(|name| !known.contains_key(*name)).cloned().collect();
        for name in gone {
            self.judged.remove(&name);
            if let Some(mut running) = self.running.remove(&name) {
                running.end(self.options.lanes_end, "it is gone from the control topic");
            }
            self.status.gone(&name);
        }
        for (name, submitted) in known.clone() {
            if self.judged.get(&name) == Some(&submitted) {
                continue;
            }
            match (submitted.wish, self.running.get_mut(&name)) {
                (Wish::Run, None) => {
                    if !self.try_to_take_up(&submitted) {
                        self.again = Some(self.clock.mono().plus_ms(AGAIN_MS));
                        continue;
                    }
                }
                (Wish::Run, Some(running)) => running.submitted_again(&submitted),
                (Wish::Kill { by }, Some(running)) => {
                    running.drain(by);
                    self.look = Some(self.clock.mono());
                }
                (Wish::Kill { .. }, None) => self.status.gone(&name),
            }
            self.judged.insert(name, submitted);
        }
        // Last: whoever sees that a topology is known sees what this process makes of it too.
        let missing = wanted.into_iter().filter(|name| !known.contains_key(name)).collect();
        self.status.follows(known, missing);
    }

    /// Takes a topology up, or says why not. False where that may be otherwise the next time.
    fn try_to_take_up(&mut self, submitted: &Submitted) -> bool {
        let name = &submitted.name;
        let stages: Vec<String> = submitted.stages.iter().map(|stage| stage.name.clone()).collect();
        let Some(stages) = self.options.wanted.of(name, &stages) else { return true };
        match self.take_up(submitted, stages) {
            Ok(running) => {
                tracing::info!(topology = name, stages = running.stages().join(", "), "stages are taken up");
                self.status.running(name, running.deployment(), running.threads());
                self.running.insert(name.clone(), running);
                true
            }
            Err(problem) if problem.code == Code::NotReady => {
                tracing::warn!(topology = name, problem.detail, "not taken up yet; trying again");
                self.status.refuse(name, problem);
                false
            }
            Err(problem) => {
                // A topology that others run is no fault of this process; one that it was told to run is.
                let code = problem.code.as_str();
                if problem.code == Code::NoCode && self.options.wanted == Wanted::Everything {
                    tracing::warn!(topology = name, code, problem.detail, "not taken up");
                } else {
                    tracing::error!(topology = name, code, problem.detail, "not taken up");
                }
                self.status.refuse(name, problem);
                true
            }
        }
    }

    fn take_up(&mut self, submitted: &Submitted, stages: Vec<String>) -> Result<Running, Problem> {
        let NodeOptions { topics, process, upkeep, .. } = &self.options;
        let name = &submitted.name;
        let Some(code) = self.program.topology(name) else {
            let here = self.program.names();
            let detail =
                format!("topology `{name}` was submitted, and this program has no code for it; it has: {here}");
            return Err(Problem::new(Code::NoCode, detail));
        };
        let deployment = Deployment::of(&self.bus, topics, code, submitted, *upkeep)?;
        if let Some(stage) = stages.iter().find(|stage| submitted.stage(stage).is_none()) {
            let known: Vec<&str> = submitted.stages.iter().map(|stage| stage.name.as_str()).collect();
            let detail = format!(
                "topology `{name}` was submitted without a stage `{stage}`; it has: {}. Hub and workers are stages of their own \
                 where it is submitted with apart = true",
                known.join(", ")
            );
            return Err(Problem::new(Code::NoCode, detail));
        }
        self.take_ups += 1;
        let member = format!("{}-{name}-{process}-{}", self.options.topics.prefix(), self.take_ups);
        let mut running = Running::new(submitted.clone(), Arc::new(deployment), Arc::clone(&self.clock));
        for stage in stages {
            let threads = (self.options.threads)(name, &stage);
            running
                .start(&stage, threads, &member, (self.make_crew)())
                .map_err(|error| Problem::new(Code::NotReady, format!("stage `{stage}` cannot be started: {error}")))?;
        }
        Ok(running)
    }

    /// Lets those that are killed end.
    fn look(&mut self) -> bool {
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        if self.look.is_none_or(|at| at > now) {
            return false;
        }
        self.look = None;
        let mut ended = Vec::new();
        for (name, running) in &mut self.running {
            if running.is_killed() {
                match running.go_on_ending(&*self.bus, &self.options.topics, wall, self.options.lanes_end) {
                    Ok(true) => ended.push(name.clone()),
                    Ok(false) => self.look = Some(now.plus_ms(LOOK_MS)),
                    Err(error) => {
                        tracing::warn!(topology = name, %error, "cannot see whether it has ended everywhere; trying again");
                        self.look = Some(now.plus_ms(LOOK_MS));
                    }
                }
            }
        }
        for name in &ended {
            self.running.remove(name);
            self.status.gone(name);
        }
        !ended.is_empty()
    }
}

impl Part for Node {
    fn name(&self) -> &'static str {
        "control"
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        let mut turn = Turn { worked: false, next: None };
        for running in self.running.values_mut() {
            let of_it = running.turn()?;
            turn.worked |= of_it.worked;
            turn.next = turn.next.into_iter().chain(of_it.next).min();
        }
        let now = self.clock.mono();
        let until = self.look.into_iter().chain(self.again).chain(turn.next).min();
        let wait = if turn.worked { Duration::ZERO } else { until.map_or(wait, |until| wait.min(until.since(now))) };
        if !self.pause.holds(now) {
            match self.control.poll(wait) {
                Ok(came) => {
                    self.pause.over();
                    turn.worked |= came;
                    if came || !self.begun || self.again.is_some_and(|again| again <= self.clock.mono()) {
                        self.begun = true;
                        self.judge();
                        // Stages that were taken up just now have their first turn at once.
                        turn.worked = true;
                    }
                }
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(why, "the control topic cannot be read; trying again");
                    self.pause.failed(now);
                }
                Err(error) => return Err(error),
            }
        }
        turn.worked |= self.look();
        self.status.settle();
        if self.running.values().any(Running::has_failed) {
            self.status.fail();
        }
        turn.next = turn.next.into_iter().chain(self.look).chain(self.again).chain(self.pause.until()).min();
        Ok(turn)
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        let most = self.options.lanes_end;
        let (mut faults, mut unfinished) = (Vec::new(), 0);
        for mut running in self.running.into_values() {
            faults.extend(running.stop(most));
            unfinished += running.unfinished();
        }
        self.status.stopped(unfinished);
        faults
    }
}
