//! Workflows: state machines with a key, run by a hub bolt.
//!
//! A [`Workflow`] is an enum of states and one `match` over state and event; it returns effects: a step of calls, an undo, a
//! wait, an answer. The hub gives each operation its turn on its key, its calls their ids, its steps their deadlines, and
//! undoes in reverse what was declared beside the doing. It knows nothing of networks, nor of what the calls say.
//!
//! Read in this order: [`workflow`] and [`lane`] (what users write), [`kept`] and [`word`] (how it is saved), [`machine`] (one of several types), `operation` (one operation), `cause` (whom its answer is for), [`table`] (all of a lane, pure),
//! [`components`] (spout and bolt around it), [`check`] (the transition table compared with the code).

mod budget;
mod cause;
pub mod check;
pub mod components;
pub mod kept;
pub mod lane;
pub mod machine;
pub mod names;
mod operation;
pub mod table;
pub mod word;
pub mod workflow;

pub use cause::Cause;
pub use components::{CALLS, HubBolt, HubIn, HubSpout};
pub use kept::Kept;
pub use lane::LaneState;
pub use machine::Workflows;
/// What derives the schema of a request.
pub use schemars;
pub use table::{HubCommand, HubEffect, HubRejected, HubRequest, HubSettings, HubTable};
pub use workflow::{
    Barrier, CallFailure, CallSpec, Event, Fx, Illegal, Mode, Saved, State, StepBudget, StepSpec, UndoSpec, Workflow,
    expect_reply,
};
