//! The first user of hub and workers: flows on a path of switches.
//!
//! Read in this order: [`create`] (the workflow; its transition table heads the file), [`registry`] and [`pools`] (what the
//! flows of a lane share), [`settings`], [`topology`] (how it is all joined).

pub mod create;
pub mod pools;
pub mod registry;
pub mod settings;
pub mod topology;

pub use create::{CreateFlow, CreateState};
pub use settings::FlowSettings;
pub use topology::{LANES, NAME, SPEAKER, STAGE, flow_topology};
