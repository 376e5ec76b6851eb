//! Tests of single `nave` processes. They are one binary, so that those that wait in real time wait
//! together.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod draining;
#[path = "../process/mod.rs"]
mod process;
mod remote;
mod rest;
mod restart;
mod starting;
