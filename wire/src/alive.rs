//! Which spokes live.
//!
//! Heartbeats are optional. They travel on a topic of their own ([`crate::topics::Topics::alive`]) and stay outside lanes:
//! only a change, up or down, enters an inbox.

use serde::{Deserialize, Serialize};

/// The body of `nave.heartbeat`. The record's key is `instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which instance of the spoke: unique among all that live.
    pub instance: String,
    /// The next heartbeat comes within so many milliseconds, at the latest.
    pub every_ms: u64,
    /// True: it stops now, in order, and there is no next one.
    #[serde(default)]
    pub bye: bool,
}

/// The body of `nave.liveness`: what a shell tells each of its lanes when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Which service.
    pub service: String,
    /// True where an instance lives. A service that never sent a heartbeat is not judged at all.
    pub up: bool,
}
