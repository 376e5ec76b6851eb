//! The REST interface over the embedded bus. The tests play the hub.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod events;
mod harness;
mod hostile;
mod operations;
mod paths;
mod several;
mod starting;
