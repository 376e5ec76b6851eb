//! The words between a component and its coordinator.

use serde::{Deserialize, Serialize};
use topology::Side;

/// What a component wants of its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// Send [`TimedOut`] with this key and generation after so many milliseconds, counted from the commit of this step. What
    /// was registered under the key before is gone.
    Register {
        /// The component's own number for it, below 2^48.
        key: u64,
        /// Tells this deadline from the one that had the key before.
        generation: u32,
        /// In milliseconds.
        after_ms: u64,
    },
    /// Forget the deadline with this key, if there is one.
    Cancel {
        /// The key.
        key: u64,
    },
}

/// A deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedOut {
    /// The key.
    pub key: u64,
    /// The generation it was registered with.
    pub generation: u32,
}

/// The side stream on which a component registers and cancels.
pub const DEADLINES: Side<Deadline> = Side::named("deadlines");
