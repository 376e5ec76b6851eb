//! The messages of the flow workflows: [`client`] has those with clients, [`codes`] their error
//! codes, [`speaker`] the messages with the speaker, which controls the switches.
//!
//! This is a crate beside `flows`, so that a speaker links no hub and no workers.

pub mod client;
pub mod codes;
pub mod speaker;
