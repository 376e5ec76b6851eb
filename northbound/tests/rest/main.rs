//! The REST interface over the embedded bus, without a hub: each test answers as it needs.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod events;
mod hostile;
mod operations;
mod paths;
mod several;
mod starting;
mod world;
