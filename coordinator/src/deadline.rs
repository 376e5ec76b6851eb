//! The messages between a component and its coordinator.

use serde::{Deserialize, Serialize};
use topology::Side;

/// A command from a component to its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// Sends [`TimedOut`] with this key and generation after `after_ms`, counted from the commit of
    /// this step. It replaces an earlier deadline with the same key.
    Register {
        /// The component's own number for the deadline, below 2^48.
        key: u64,
        /// Distinguishes this deadline from earlier ones with the same key. It must derive from saved
        /// state, so that a replay gives the same one.
        generation: u32,
        /// Duration in milliseconds.
        after_ms: u64,
    },
    /// Cancels the deadline with this key, if there is one.
    Cancel {
        /// The key.
        key: u64,
    },
}

/// A passed deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedOut {
    /// The key.
    pub key: u64,
    /// The generation that it was registered with.
    pub generation: u32,
}

/// The side stream on which a component registers and cancels.
pub const DEADLINES: Side<Deadline> = Side::named("deadlines");
