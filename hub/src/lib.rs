//! Workflows: keyed state machines that a hub bolt runs.
//!
//! A [`Workflow`] is an enum of states and one `match` over state and event. It returns effects: a
//! step of calls, an undo, a wait, an answer. The hub queues operations per key, numbers the calls,
//! sets the deadline of each step, and undoes calls in reverse order. It knows neither the network
//! nor the content of calls.
//!
//! Read in this order:
//! - [`workflow`] and [`lane`]: what workflow authors implement
//! - [`event`], [`fx`], [`step`]: what it handles and what it decides
//! - [`call`]: how it calls a service and reads its reply
//! - [`interned`]: how names are saved
//! - [`machine`]: several workflow types in one hub
//! - `operation`: one operation
//! - `cause`: the request that an answer is for
//! - [`table`]: all operations of a lane, pure
//! - [`components`]: the spout and the bolt
//! - [`check`]: compares a transition table with the code

mod budget;
pub mod call;
mod cause;
pub mod check;
pub mod components;
pub mod event;
pub mod fx;
pub mod interned;
pub mod lane;
pub mod machine;
pub mod names;
mod operation;
pub mod step;
pub mod table;
pub mod workflow;

pub use call::{CalledService, CheckedReply, ServiceCall, ServiceExt};
pub use cause::Cause;
pub use components::{CALLS, HubBolt, HubIn, HubSpout};
pub use event::{CallFailure, Event};
pub use fx::Fx;
pub use lane::LaneState;
pub use machine::Workflows;
/// Re-exported for `#[derive(JsonSchema)]` on request types.
pub use schemars;
pub use step::{Barrier, CallOrder, StepSpec};
pub use table::{HubCommand, HubEffect, HubRejected, HubRequest, HubSettings, HubTable};
pub use workflow::{Illegal, SavedWorkflow, StepBudget, Workflow, WorkflowState};
