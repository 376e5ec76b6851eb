//! The node of a process: it follows the control topic, and starts and ends the stages of submitted
//! topologies.
//!
//! | desired state in the control topic | runs here | action |
//! |---|---|---|
//! | run | no, and the code is here | starts the selected stages |
//! | run | no, and the code is missing or lacks a part of the graph | reports it: once in the log, and in `/readyz` |
//! | run, with other settings | yes | none: lanes use them from their next owner record |
//! | run, with another number of threads | yes | more threads join its stages, or surplus ones leave them |
//! | inactive | no or yes | as run, and its spouts pause |
//! | kill | yes | drains until the deadline at the latest, then ends its stages in order |
//! | kill | no | none |
//! | gone | yes | ends its stages immediately |
//!
//! A node is a task without its own thread; a test polls it in virtual time.
//!
//! Read in this order: [`submission`] and [`control`] (what is submitted, and the topic that holds
//! it), this file, `deployment` (a submitted topology with the code of this process), `running` (the
//! stages of one topology and their end), [`runner`] (what polls the lanes), `lanes` (the lanes of one
//! thread, and their end), [`status`] (what `/readyz` reports), `recorded` and [`topics`] (the
//! check of the topics).

pub mod control;
mod deployment;
mod lanes;
mod recorded;
pub mod runner;
mod running;
pub mod status;
pub mod submission;
pub mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Backoff, Bus, BusError, Clock, MonoTime, PollOutcome, Task};
use topology::RecoveryOptions;
use wire::control::Submitted;
use wire::topics::Topics;
use wire::{Code, Problem};

use self::control::ControlReader;
use self::deployment::Deployment;
use self::runner::MakeRunner;
use self::running::Running;
use self::status::NodeStatus;
use crate::program::Program;

/// Interval between two checks of a topology that is being killed, in milliseconds.
const END_CHECK_MS: u64 = 100;
/// Interval between two attempts to start a topology while the bus does not answer, in
/// milliseconds. Each attempt queries a dozen topics.
const RETRY_MS: u64 = 1_000;

/// The stages that a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageSelection {
    /// All stages of all topologies that it has code for.
    Everything,
    /// These stages, as pairs of topology and stage.
    Stages(Vec<(String, String)>),
}

impl StageSelection {
    /// Returns the selected stages of a topology, given all that it `has`; none if no stage of it
    /// is selected.
    fn of(&self, topology: &str, has: &[String]) -> Option<Vec<String>> {
        match self {
            StageSelection::Everything => Some(has.to_vec()),
            StageSelection::Stages(stages) => {
                let of_it: Vec<&(String, String)> = stages.iter().filter(|(name, _)| name == topology).collect();
                (!of_it.is_empty()).then(|| of_it.into_iter().map(|(_, stage)| stage.clone()).collect())
            }
        }
    }

    fn names(&self, program: &Program) -> Vec<String> {
        let mut names: Vec<String> = match self {
            StageSelection::Everything => program.topologies().map(|(name, _)| name.to_owned()).collect(),
            StageSelection::Stages(stages) => stages.iter().map(|(name, _)| name.clone()).collect(),
        };
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Returns the configured number of threads for a topology and a stage.
pub type ThreadsOf = Box<dyn Fn(&str, &str) -> u32 + Send>;

/// The options of a node.
pub struct NodeOptions {
    /// Names of the topics.
    pub topics: Topics,
    /// The stages that it runs.
    pub wanted: StageSelection,
    /// Name of the process, never used before: transactional ids begin with it.
    pub process: String,
    /// Returns the number of threads for a topology and a stage, unless a rebalance has set it.
    pub threads: ThreadsOf,
    /// How a lane is recovered by its next owner.
    pub recovery: RecoveryOptions,
    /// Time limit for the stop of its lanes.
    pub lane_stop_timeout: Duration,
}

/// The share of one process in all topologies.
pub struct Node {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    program: Program,
    options: NodeOptions,
    make_runner: MakeRunner,
    control: ControlReader,
    status: Arc<NodeStatus>,
    running: BTreeMap<String, Running>,
    /// The submissions that were handled, so that each is handled and logged once.
    handled: BTreeMap<String, Submitted>,
    has_read_control: bool,
    /// When to check again how killed topologies end.
    end_check_at: Option<MonoTime>,
    /// When to reconcile again, because the bus did not answer.
    retry_at: Option<MonoTime>,
    starts: u32,
    backoff: Backoff,
}

impl Node {
    /// Opens a node that runs nothing yet.
    ///
    /// # Errors
    /// If the bus does not answer.
    pub fn open(
        bus: Arc<dyn Bus>,
        program: Program,
        options: NodeOptions,
        make_runner: MakeRunner,
        status: Arc<NodeStatus>,
    ) -> Result<Self, BusError> {
        let control = ControlReader::open(&*bus, &options.topics)?;
        Ok(Self {
            clock: bus.clock(),
            bus,
            program,
            options,
            make_runner,
            control,
            status,
            running: BTreeMap::new(),
            handled: BTreeMap::new(),
            has_read_control: false,
            end_check_at: None,
            retry_at: None,
            starts: 0,
            backoff: Backoff::default(),
        })
    }

    /// Compares the desired state of each topology with what this process runs, and acts on each
    /// difference.
    fn reconcile(&mut self) {
        self.retry_at = None;
        let known = self.control.topologies().clone();
        let wanted = self.options.wanted.names(&self.program);
        let gone: Vec<String> = self.handled.keys().filter(|name| !known.contains_key(*name)).cloned().collect();
        for name in gone {
            self.handled.remove(&name);
            if let Some(mut running) = self.running.remove(&name) {
                running.end(self.options.lane_stop_timeout, "it is gone from the control topic");
            }
            self.status.gone(&name);
        }
        for (name, submitted) in known.clone() {
            if self.handled.get(&name) == Some(&submitted) {
                continue;
            }
            match (submitted.desired.ends(), self.running.get_mut(&name)) {
                (None, None) => {
                    if !self.try_to_start(&submitted) {
                        self.retry_at = Some(self.clock.mono().plus_ms(RETRY_MS));
                        continue;
                    }
                }
                (None, Some(running)) => {
                    let configured = &self.options.threads;
                    let threads = |stage: &str| submitted.threads.unwrap_or_else(|| configured(&name, stage));
                    running.submitted_again(&submitted, threads);
                }
                (Some(by), Some(running)) => {
                    running.drain(by);
                    self.end_check_at = Some(self.clock.mono());
                }
                (Some(_), None) => self.status.gone(&name),
            }
            self.handled.insert(name, submitted);
        }
        // Last, so that a reader who sees that a topology is known also sees how this process
        // handles it.
        let missing = wanted.into_iter().filter(|name| !known.contains_key(name)).collect();
        self.status.follows(known, missing);
    }

    /// Starts a topology, or reports why not. Returns false if it should be tried again.
    fn try_to_start(&mut self, submitted: &Submitted) -> bool {
        let name = &submitted.name;
        let stages: Vec<String> = submitted.stages.iter().map(|stage| stage.name.clone()).collect();
        let Some(stages) = self.options.wanted.of(name, &stages) else { return true };
        match self.start(submitted, stages) {
            Ok(running) => {
                tracing::info!(topology = name, stages = running.stages().join(", "), "stages started");
                self.status.running(name, running.deployment(), running.threads());
                self.running.insert(name.clone(), running);
                true
            }
            Err(problem) if problem.code == Code::NotReady => {
                tracing::warn!(topology = name, problem.detail, "not started yet; retrying");
                self.status.refuse(name, problem);
                false
            }
            Err(problem) => {
                // A missing topology is an error only if this process was configured to run it.
                let code = problem.code.as_str();
                if problem.code == Code::NoCode && self.options.wanted == StageSelection::Everything {
                    tracing::warn!(topology = name, code, problem.detail, "not started");
                } else {
                    tracing::error!(topology = name, code, problem.detail, "not started");
                }
                self.status.refuse(name, problem);
                true
            }
        }
    }

    fn start(&mut self, submitted: &Submitted, stages: Vec<String>) -> Result<Running, Problem> {
        let NodeOptions { topics, process, recovery, .. } = &self.options;
        let name = &submitted.name;
        let Some(code) = self.program.topology(name) else {
            let here = self.program.names();
            let detail = format!(
                "topology `{name}` was submitted, and this program has no code for it; it has code for: {here}"
            );
            return Err(Problem::new(Code::NoCode, detail));
        };
        let deployment = Deployment::of(&self.bus, topics, code, submitted, *recovery)?;
        if let Some(stage) = stages.iter().find(|stage| submitted.stage(stage).is_none()) {
            let known: Vec<&str> = submitted.stages.iter().map(|stage| stage.name.as_str()).collect();
            let detail = format!(
                "topology `{name}` was submitted without a stage `{stage}`; available: {}. Hub and workers are separate stages \
                 if it is submitted with apart = true",
                known.join(", ")
            );
            return Err(Problem::new(Code::NoCode, detail));
        }
        self.starts += 1;
        let member = format!("{}-{name}-{process}-{}", self.options.topics.prefix(), self.starts);
        let mut running = Running::new(submitted.clone(), Arc::new(deployment), Arc::clone(&self.clock), member);
        for stage in stages {
            let threads = submitted.threads.unwrap_or_else(|| (self.options.threads)(name, &stage));
            running
                .start(&stage, threads, (self.make_runner)())
                .map_err(|error| Problem::new(Code::NotReady, format!("stage `{stage}` cannot be started: {error}")))?;
        }
        Ok(running)
    }

    /// Ends stages of killed topologies; returns true if a topology ended.
    fn check_ending(&mut self) -> bool {
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        if self.end_check_at.is_none_or(|at| at > now) {
            return false;
        }
        self.end_check_at = None;
        let mut ended = Vec::new();
        for (name, running) in &mut self.running {
            if running.is_killed() {
                match running.continue_ending(&*self.bus, &self.options.topics, wall, self.options.lane_stop_timeout) {
                    Ok(true) => ended.push(name.clone()),
                    Ok(false) => self.end_check_at = Some(now.plus_ms(END_CHECK_MS)),
                    Err(error) => {
                        tracing::warn!(topology = name, %error, "cannot check whether it has ended everywhere; retrying");
                        self.end_check_at = Some(now.plus_ms(END_CHECK_MS));
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

impl Task for Node {
    fn name(&self) -> &'static str {
        "control"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let mut result = PollOutcome { worked: false, next: None };
        for running in self.running.values_mut() {
            let of_running = running.poll()?;
            result.worked |= of_running.worked;
            result.next = result.next.into_iter().chain(of_running.next).min();
        }
        let now = self.clock.mono();
        let until = self.end_check_at.into_iter().chain(self.retry_at).chain(result.next).min();
        let wait = if result.worked { Duration::ZERO } else { until.map_or(wait, |until| wait.min(until.since(now))) };
        if !self.backoff.holds(now) {
            match self.control.poll(wait) {
                Ok(has_records) => {
                    self.backoff.over();
                    result.worked |= has_records;
                    if has_records
                        || !self.has_read_control
                        || self.retry_at.is_some_and(|retry_at| retry_at <= self.clock.mono())
                    {
                        self.has_read_control = true;
                        self.reconcile();
                        // Polls stages that have just started without a wait.
                        result.worked = true;
                    }
                }
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(why, "the control topic cannot be read; retrying");
                    self.backoff.failed(now);
                }
                Err(error) => return Err(error),
            }
        }
        result.worked |= self.check_ending();
        self.status.settle();
        if self.running.values().any(Running::has_failed) {
            self.status.fail();
        }
        result.next =
            result.next.into_iter().chain(self.end_check_at).chain(self.retry_at).chain(self.backoff.until()).min();
        Ok(result)
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        let timeout = self.options.lane_stop_timeout;
        let (mut faults, mut unfinished) = (Vec::new(), 0);
        for mut running in self.running.into_values() {
            faults.extend(running.stop(timeout));
            unfinished += running.unfinished();
        }
        self.status.stopped(unfinished);
        faults
    }
}
