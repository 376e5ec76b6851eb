//! The whole system in one thread, in virtual time, from one seed, with faults at every seam: several processes of each stage,
//! two northbounds with clients that repeat what they ask, spokes, and a bus that goes wrong.
//!
//! A seed decides everything: how the topology is laid out, how many processes there are, what is asked, what goes wrong and
//! when. First the weather is bad; then it is calm, and all must come to rest. What must be so is checked after each turn and
//! in the end; see [`Simulation::run`].
//!
//! ```
//! use nave::program::Program;
//!
//! let program = Program::flows()?;
//! let simulation = program.simulation("flows").expect("it has a scenario");
//! let ran = simulation.run(7);
//! assert_eq!(ran.broken, None);
//! assert_eq!(simulation.tell(7).to_string(), simulation.tell(7).to_string());
//! # Ok::<(), nave::program::ProgramError>(())
//! ```
//!
//! Read in this order: [`scenario`] (what a user gives), [`dice`] (chance), [`mod@fault`] and `weather` (what goes wrong), `host`
//! (spokes), `process` (what runs), `clients` (who asks), `people` (who tells operations something), `run` (one seed), `watch` (what
//! is looked at after every turn), `inside` (the same inside of lanes), `replay` (what is compared in the end),
//! [`story`] (what is told of it), `many` (many seeds), `flows` (the flow topology's scenario).

mod clients;
pub mod dice;
pub mod fault;
pub(crate) mod flows;
pub(crate) mod host;
mod inside;
mod many;
mod people;
mod process;
mod replay;
mod run;
pub mod scenario;
pub mod story;
mod watch;
mod weather;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::topology::Topology;

pub use self::dice::Dice;
pub use self::fault::{Fault, Struck};
use self::host::MakeHost;
pub use self::many::Summary;
use self::run::Run;
pub use self::scenario::{Ask, Ended, Scenario};
pub use self::story::Story;

/// A topology that can be simulated.
#[derive(Clone)]
pub struct Simulation {
    topology: Topology,
    scenario: Scenario,
    spokes: BTreeMap<String, MakeHost>,
    forgetful: bool,
}

/// How a seed went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Which.
    pub seed: u64,
    /// What was not as it must be; none where all was.
    pub broken: Option<String>,
    /// What went wrong, and how often.
    pub struck: Struck,
    /// How many requests were answered how: `done`, `failed`, `refused`.
    pub answers: BTreeMap<&'static str, u64>,
    /// How many calls spokes carried out.
    pub calls: usize,
    /// How many turns it took.
    pub turns: u64,
    /// How long it took, in virtual milliseconds.
    pub virtual_ms: u64,
}

impl Ran {
    fn nothing(seed: u64) -> Self {
        let (struck, answers) = (Struck::default(), BTreeMap::new());
        Self { seed, broken: None, struck, answers, calls: 0, turns: 0, virtual_ms: 0 }
    }
}

impl Simulation {
    pub(crate) fn new(topology: Topology, scenario: Scenario, spokes: BTreeMap<String, MakeHost>) -> Self {
        Self { topology, scenario, spokes, forgetful: false }
    }

    /// The same with spokes in Rust that forget between two turns which calls they carried out: to see that it is found out.
    #[must_use]
    pub fn with_forgetful_spokes(mut self) -> Self {
        self.forgetful = true;
        self
    }

    /// Runs a seed.
    ///
    /// What must be so after each turn: an operation has one answer, and its client is told that one, however often it asks;
    /// operations on one key are answered in the order in which they were asked for; no spoke carries a call out twice, or after
    /// its undo, or after it refused it. Inside each lane of the process that had the turn nothing waits without a call, a timer or a person, each open
    /// call has a deadline, and the timers in state are those in the wheel; a lane that was just taken over was not restored from
    /// a snapshot that is damaged, and one that was not used was counted. Where all that was asked is answered and nothing goes on, what the scenario wants is so.
    ///
    /// And in the end, when the weather was calm for long enough: every client has its answer, nothing goes on, nothing is
    /// parked, nor was, unless the scenario says that operations may ([`Scenario::parks`]); a replay of every inbox comes to the same operations and the same timers, what it decides
    /// stands on the bus and nothing else, once where the stage is exactly-once, and what it drops it counts; and what the
    /// scenario wants.
    pub fn run(&self, seed: u64) -> Ran {
        self.go(seed, false).0
    }

    /// Runs a seed once more, and tells what happens in it.
    pub fn tell(&self, seed: u64) -> Story {
        self.go(seed, true).1
    }

    fn go(&self, seed: u64, told: bool) -> (Ran, Story) {
        let run = Run::new(self, seed, told);
        let weather = run.weather();
        // What a component does in its own code is caught by its lane; this is what nobody caught.
        let ran = catch_unwind(AssertUnwindSafe(|| run.run())).unwrap_or_else(|panic| {
            let text = ::topology::panic_text(panic.as_ref());
            Ran { broken: Some(format!("panicked: {text}")), struck: weather.struck(), ..Ran::nothing(seed) }
        });
        (ran, weather.story())
    }
}
