//! The first application of hub and workers: flows on a path of switches.
//!
//! Reading order: [`create`] and [`remove`] (the workflows; each file starts with a transition
//! table), `steps` (shared code), [`registry`] and [`pools`] (the state of a lane), [`settings`],
//! [`topology`] (the assembled topology), [`rest`] (its REST routes).

pub mod create;
pub mod pools;
pub mod registry;
pub mod remove;
pub mod rest;
pub mod settings;
mod steps;
pub mod topology;

pub use create::{CreateFlow, CreateState};
pub use remove::{RemoveFlow, RemoveState};
pub use rest::rest_routes;
pub use settings::FlowSettings;
pub use topology::{LANES, NAME, SPEAKER, STAGE, flow_topology};
