//! Workflows that talk to the outside world, on a topology of spouts and bolts.
//!
//! Read in this order: [`system`] (how the parts are joined), [`world`] (all of it in virtual time, for tests).

pub mod system;
pub mod world;
