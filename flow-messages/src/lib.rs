//! The messages of the flow workflows: [`client`] has those with clients, [`speaker`] those with
//! the speaker, which controls the switches.
//!
//! This is a crate beside `flows`, so that a speaker links no hub and no workers.

pub mod client;
pub mod speaker;
