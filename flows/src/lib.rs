//! The first user of hub and workers: flows on a path of switches.
//!
//! Read in this order: [`create`] and [`remove`] (the workflows; a transition table heads each file), [`request`] (what they
//! are asked), `steps` (what they share), [`registry`] and [`pools`] (what the
//! flows of a lane share), [`settings`], [`topology`] (how it is all joined).

pub mod create;
pub mod pools;
pub mod registry;
pub mod remove;
pub mod request;
pub mod settings;
mod steps;
pub mod topology;

pub use create::{CreateFlow, CreateState};
pub use remove::{RemoveFlow, RemoveState};
pub use request::{CreateRequest, RemoveRequest};
pub use settings::FlowSettings;
pub use topology::{LANES, NAME, SPEAKER, STAGE, flow_topology};
