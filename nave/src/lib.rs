//! Workflows that talk to the outside world, on a topology of spouts and bolts.
//!
//! Read in this order: [`commands`] (the command line), [`system`] (how the parts are joined), [`mod@hub_and_spokes`] and
//! [`spoke`] (what a user's workflow needs around it), [`testing`] (a user's topology in virtual time), [`world`] (all of it in virtual time, for tests).

pub mod anything;
pub mod clock;
pub mod commands;
pub mod hub_and_spokes;
pub mod spoke;
pub mod system;
pub mod testing;
pub mod world;

pub use hub_and_spokes::hub_and_spokes;
pub use serde_json;

/// What a file with a workflow names.
pub mod prelude {
    pub use hub::schemars::{self, JsonSchema};
    pub use hub::{
        Barrier, CallFailure, CallSpec, Event, Fx, Illegal, Mode, State, StepBudget, StepSpec, UndoSpec, Workflow,
        states,
    };
    pub use topology::{BuildErrors, Topology};
    pub use wire::answer::Answer;
    pub use wire::{OperationId, Problem};
}

/// The examples of the first page run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct FirstPage;
