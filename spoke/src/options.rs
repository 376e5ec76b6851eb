//! Options of a spoke.

use wire::topics::Topics;

/// Options of a [`crate::SpokeTask`].
///
/// ```
/// use spoke::{Delivery, Heartbeats, SpokeOptions};
/// let topics = wire::topics::Topics::default();
/// let heartbeats = Some(Heartbeats::new(&topics, "hotel", "hotel-4711"));
/// let options = SpokeOptions { delivery: Delivery::immediate(), heartbeats };
/// assert_eq!(options.heartbeats.map(|heartbeats| heartbeats.every_ms), Some(500));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpokeOptions {
    /// How answers and offsets are committed.
    pub delivery: Delivery,
    /// Heartbeats; without them workers judge the service by its answers. A test that polls until
    /// everything is idle never ends with heartbeats.
    pub heartbeats: Option<Heartbeats>,
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

/// How an instance says that it is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    /// The topic of the heartbeats, see [`Topics::alive`]. The submission of a topology creates it.
    pub topic: String,
    /// The instance: unique among all that are alive, such as the name of the member.
    pub instance: String,
    /// Interval in milliseconds; 0 for no heartbeats.
    pub every_ms: u64,
}

impl Heartbeats {
    /// Three missing heartbeats mean down: at 500 ms that is well within the timeout of a call.
    pub const EVERY_MS: u64 = 500;

    /// Heartbeats of `instance` of `service`, one every [`Heartbeats::EVERY_MS`].
    pub fn new(names: &Topics, service: &str, instance: &str) -> Self {
        Self { topic: names.alive(service), instance: instance.into(), every_ms: Self::EVERY_MS }
    }
}
