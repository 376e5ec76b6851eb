//! Deterministic simulation: the whole system on one thread, in virtual time, with injected faults.
//!
//! A simulation runs several processes of each stage, two northbounds, clients that repeat their
//! requests, spokes and a faulty bus. One seed decides everything: the layout of the topology, the
//! number of processes, the requests and the faults. After the faults stop, the system must become
//! idle. The simulation checks its invariants after each poll and at the end; see
//! [`Simulation::run`].
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use simulation::{MakeHost, Simulation, flow_scenario, speaker};
//!
//! let spokes = BTreeMap::from([(flows::SPEAKER.to_owned(), Arc::new(speaker) as MakeHost)]);
//! let simulation = Simulation::new(flows::flow_topology()?, flow_scenario(), spokes);
//! let result = simulation.run(7);
//! assert_eq!(result.failure, None);
//! assert_eq!(simulation.story(7).to_string(), simulation.story(7).to_string());
//! # Ok::<(), topology::BuildErrors>(())
//! ```
//!
//! Read in this order: `scenario` (what a user provides), `dice` (random numbers), `fault` and
//! `fault_schedule` (which faults occur), `host` (spokes), `process` (what runs), `clients`
//! (requests), `people` (commands), [`arbitrary`] (garbage), `run` (one seed), `watch` (checks after
//! each poll), `inside` (checks inside lanes), `replay` (comparison with a replay), `story` (the log
//! of a seed), `many` (many seeds), `flow_scenario` and `speaker` (the scenario of the flow topology,
//! and its spoke; a feature).
//!
//! [`testing`] has a world for tests: the same virtual time, without random faults.

pub mod arbitrary;
mod clients;
mod dice;
mod fault;
mod fault_schedule;
#[cfg(feature = "flows")]
mod flow_scenario;
mod host;
mod inside;
mod many;
mod people;
mod process;
mod replay;
mod run;
mod scenario;
#[cfg(feature = "flows")]
mod speaker;
mod story;
pub mod testing;
mod watch;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use topology::Topology;

pub use dice::Dice;
pub use fault::{Fault, FaultCounts};
#[cfg(feature = "flows")]
pub use flow_scenario::flow_scenario;
pub use host::{Host, MakeHost};
pub use many::Summary;
use run::Run;
pub use scenario::{Scenario, SimRequest, SimResults};
#[cfg(feature = "flows")]
pub use speaker::speaker;
pub use story::Story;

/// A topology that can be simulated.
#[derive(Clone)]
pub struct Simulation {
    topology: Topology,
    scenario: Scenario,
    spokes: BTreeMap<String, MakeHost>,
    forgetful: bool,
}

/// The result of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// The violated invariant, or `None` if the run succeeded.
    pub failure: Option<String>,
    /// Number of faults by kind.
    pub fault_counts: FaultCounts,
    /// Number of requests by outcome: `done`, `failed`, `refused`.
    pub answers: BTreeMap<&'static str, u64>,
    /// Number of calls that spokes executed.
    pub calls: usize,
    /// Number of polls of all tasks.
    pub polls: u64,
    /// Duration of the run in virtual milliseconds.
    pub virtual_ms: u64,
}

impl SeedResult {
    fn empty(seed: u64) -> Self {
        let (fault_counts, answers) = (FaultCounts::default(), BTreeMap::new());
        Self { seed, failure: None, fault_counts, answers, calls: 0, polls: 0, virtual_ms: 0 }
    }
}

impl Simulation {
    /// Creates the simulation of a topology with its spokes, by service.
    pub fn new(topology: Topology, scenario: Scenario, spokes: BTreeMap<String, MakeHost>) -> Self {
        Self { topology, scenario, spokes, forgetful: false }
    }

    /// Makes Rust spokes forget between two polls which calls they executed. Tests use it to prove
    /// that the simulation detects the error.
    #[must_use]
    pub fn with_forgetful_spokes(mut self) -> Self {
        self.forgetful = true;
        self
    }

    /// Runs a seed.
    ///
    /// Invariants after each poll:
    /// - An operation has one answer, and each repeat of its request gets the same answer.
    /// - Operations on one key are answered in the order of their requests.
    /// - No spoke executes a call twice, after its undo, or after refusing it.
    /// - In each lane of the polled process, everything that waits has a call, a timer or a person
    ///   to wait for. Each open call has a deadline. The timers in the state equal those in the
    ///   wheel.
    /// - A lane does not start from a damaged snapshot, and each unusable snapshot is counted.
    /// - The scenario's check passes whenever all requests are answered and nothing is in progress.
    ///
    /// Invariants at the end, after a period without faults:
    /// - Every client has its answer and nothing is in progress.
    /// - No operation is or was parked, unless the scenario allows it ([`Scenario::parks`]).
    /// - A replay of every inbox yields the same operations and timers. Its messages equal those on
    ///   the bus, exactly once if the stage is exactly-once. It counts each record that it drops.
    /// - The scenario's check passes.
    pub fn run(&self, seed: u64) -> SeedResult {
        self.execute(seed, false).0
    }

    /// Runs a seed again and returns the log of the run.
    pub fn story(&self, seed: u64) -> Story {
        self.execute(seed, true).1
    }

    fn execute(&self, seed: u64, log: bool) -> (SeedResult, Story) {
        let run = Run::new(self, seed, log);
        let faults = run.fault_schedule();
        // The lane catches panics of a component's own code. This catches all others.
        let result = catch_unwind(AssertUnwindSafe(|| run.run())).unwrap_or_else(|panic| {
            let text = topology::panic_text(panic.as_ref());
            SeedResult {
                failure: Some(format!("panicked: {text}")),
                fault_counts: faults.fault_counts(),
                ..SeedResult::empty(seed)
            }
        });
        (result, faults.story())
    }
}
