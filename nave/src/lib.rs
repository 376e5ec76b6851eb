//! Workflows that talk to the outside world, on a topology of spouts and bolts.
//!
//! A topology of your own gets the whole command line from a `main` of a few lines:
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
//! Read in this order: [`program`] (what a binary has code for), [`config`] (what a process is told), [`commands`] (the command
//! line), [`submission`] and [`control`] (which topologies there are), [`node`], [`deployment`] and [`recorded`] (what a process does about
//! them), [`process`] and [`shutdown`] (how it is put together, and how it ends), [`client`] and [`explain`] (for people);
//! [`mod@hub_and_spokes`] and [`spoke`] (what a user's workflow needs around it), [`testing`] (a user's topology in virtual
//! time), [`sim`] (the same with everything going wrong), [`world`] (the flow topology in virtual time) over [`system`], [`anything`] (records of any bytes).

pub mod anything;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod control;
pub mod deployment;
pub mod explain;
pub mod hub_and_spokes;
mod names;
mod near;
pub mod node;
pub mod process;
pub mod program;
pub mod recorded;
pub mod shutdown;
pub mod sim;
pub mod spoke;
pub mod submission;
pub mod system;
pub mod testing;
pub mod world;

use std::process::ExitCode;

pub use hub_and_spokes::hub_and_spokes;
pub use serde_json;

use topology::{BuildErrors, Topology};

use program::{About, Program, ProgramError};

/// What a file with a workflow names.
pub mod prelude {
    pub use hub::schemars::{self, JsonSchema};
    pub use hub::{
        Barrier, CallFailure, CallSpec, Event, Fx, Illegal, Mode, State, StepBudget, StepSpec, UndoSpec, Workflow,
        expect_reply, states,
    };
    pub use topology::{BuildErrors, Topology};
    pub use wire::answer::Answer;
    pub use wire::call::CallOutcome;
    pub use wire::{Code, OperationId, Problem};
}

/// The whole command line for these topologies, each made by a function or a closure: what `main` of a binary returns. Name
/// and version are those of the binary: `nave::main(nave::about!(), [orders])`.
pub fn main<F>(about: About, topologies: impl IntoIterator<Item = F>) -> ExitCode
where
    F: FnOnce() -> Result<Topology, BuildErrors>,
{
    commands::run(Program::of(about, topologies))
}

/// The `main` of a program that was made by hand: with spokes of its own, see [`program::Program::spoke`].
pub fn run(program: Result<Program, ProgramError>) -> ExitCode {
    commands::run(program)
}

/// The examples of the first page run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct FirstPage;
