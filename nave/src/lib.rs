//! Workflows that talk to the outside world, on a topology of spouts and bolts.
//!
//! Read in this order: [`commands`] (the command line), [`system`] (how the parts are joined), [`world`] (all of it in virtual time, for tests).

pub mod clock;
pub mod commands;
pub mod system;
pub mod world;

/// The examples of the first page run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct FirstPage;
