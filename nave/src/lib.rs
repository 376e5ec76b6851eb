//! Nave: topologies of spouts and bolts, and workflows that call external services.
//!
//! [`main`] gives the topologies of a program the whole command line:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use topology::{Bolt, BuildErrors, Emitter, Spout, Topology};
//! # struct Lines;
//! # impl Spout for Lines {
//! #     type Out = String;
//! #     fn next(&mut self, _: &mut Emitter<String>) -> bool { false }
//! # }
//! # struct Print;
//! # impl Bolt for Print {
//! #     type In = String;
//! #     type Out = ();
//! #     fn execute(&mut self, line: String, _: &mut Emitter<()>) { println!("{line}"); }
//! # }
//!
//! fn lines() -> Result<Topology, BuildErrors> {
//!     let t = Topology::named("lines");
//!     let lines = t.spout("lines", || Lines);
//!     t.bolt("print", || Print).reads(lines.local());
//!     t.build()
//! }
//!
//! fn main() -> ExitCode {
//!     nave::main(nave::about!(), [lines])
//! }
//! ```
//!
//! Read in this order:
//! - [`program`]: the topologies and spokes of a binary.
//! - [`config`] and [`commands`]: the configuration and the command line.
//! - [`submission`] and [`control`]: submitting a topology, and the control topic.
//! - [`node`], [`deployment`] and [`recorded`]: running submitted topologies in a process.
//! - [`process`] and [`shutdown`]: how a process starts and stops.
//! - [`client`] and [`explain`]: the client of the REST interface, and the pages of the codes.
//! - [`mod@hub_and_spokes`] and [`mod@spoke`]: the usual topology of a workflow, and spokes in Rust.
//! - [`testing`] and [`sim`]: a topology in virtual time, without and with random faults.
//! - [`system`] and [`world`]: the flow topology for tests; [`arbitrary`]: records for fuzzing.

pub mod arbitrary;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod control;
pub mod deployment;
pub mod explain;
pub mod hub_and_spokes;
mod names;
pub mod node;
pub mod process;
pub mod program;
pub mod recorded;
pub mod shutdown;
pub mod sim;
pub mod submission;
mod suggest;
pub mod system;
pub mod testing;
pub mod world;

use std::process::ExitCode;

pub use ::spoke;
pub use hub_and_spokes::hub_and_spokes;
pub use serde_json;

use topology::{BuildErrors, Topology};

use program::{About, Program, ProgramError};

/// The names that a workflow file needs.
pub mod prelude {
    pub use hub::schemars::{self, JsonSchema};
    pub use hub::{
        Barrier, CallFailure, CallOrder, CallSpec, Event, Fx, Illegal, StepBudget, StepSpec, UndoSpec, Workflow,
        WorkflowState, expect_reply, states,
    };
    pub use topology::{BuildErrors, Topology};
    pub use wire::answer::Answer;
    pub use wire::call::CallOutcome;
    pub use wire::{Code, OperationId, Problem};
}

/// Runs the command line over these topologies, each built by a function or a closure. `about` is
/// the name and the version of the binary: `nave::main(nave::about!(), [orders])`.
pub fn main<F>(about: About, topologies: impl IntoIterator<Item = F>) -> ExitCode
where
    F: FnOnce() -> Result<Topology, BuildErrors>,
{
    commands::run(Program::of(about, topologies))
}

/// Runs the command line over a program with spokes or scenarios; see [`program::Program::spoke`].
pub fn run(program: Result<Program, ProgramError>) -> ExitCode {
    commands::run(program)
}

/// Runs the examples of README.md as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct FirstPage;
