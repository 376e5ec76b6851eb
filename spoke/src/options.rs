//! Options of a spoke.

use std::path::PathBuf;

/// Options of a [`crate::SpokeTask`].
///
/// ```
/// use spoke::{Delivery, SpokeOptions};
/// let options = SpokeOptions {
///     delivery: Delivery::immediate(),
///     heartbeat_ms: SpokeOptions::HEARTBEAT_MS,
///     memory: Some("hotel.memory".into()),
/// };
/// assert_eq!(options.heartbeat_ms, 500);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpokeOptions {
    /// How answers and offsets are committed.
    pub delivery: Delivery,
    /// Interval of heartbeats in milliseconds; 0 for none. Without them workers judge the service
    /// by its answers. A test that polls until everything is idle never ends with heartbeats.
    pub heartbeat_ms: u64,
    /// The directory that keeps the answered calls, so that they outlive the process; created if it
    /// does not exist. Each instance needs its own. `None`: they end with the process.
    pub memory: Option<PathBuf>,
}

impl SpokeOptions {
    /// Three missing heartbeats mean down: at 500 ms that is well within the timeout of a call.
    pub const HEARTBEAT_MS: u64 = 500;
}

/// How a spoke commits answers and offsets.
///
/// Either way a call that was not committed is read again after a crash, and answered from memory.
/// With [`Delivery::Immediate`] this includes calls whose answers were sent, so the memory must
/// outlive the process, or the calls must have no effect when they run twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Answers and offsets are one transaction, which is free on the embedded bus and takes
    /// milliseconds on Kafka.
    #[default]
    Transactional,
    /// Answers are sent at once, and offsets are committed later.
    Immediate {
        /// Maximum time between an answer and the commit of its offset, in milliseconds.
        commit_every_ms: u64,
    },
}

impl Delivery {
    /// After a crash a spoke reads at most this many milliseconds of calls again: as long as an
    /// attempt waits.
    pub const COMMIT_EVERY_MS: u64 = 500;

    /// Immediate answers, with offsets every [`Delivery::COMMIT_EVERY_MS`].
    pub fn immediate() -> Self {
        Self::Immediate { commit_every_ms: Self::COMMIT_EVERY_MS }
    }
}
