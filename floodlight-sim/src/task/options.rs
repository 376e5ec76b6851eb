//! The options of a speaker on the bus.

/// The options of a speaker: delivery of answers, and heartbeats.
///
/// ```
/// use floodlight_sim::{Heartbeats, SpeakerOptions};
/// let topics = wire::topics::Topics::default();
/// let options = SpeakerOptions {
///     transactional: false,
///     heartbeats: Some(Heartbeats::new(&topics.alive("speaker"), "speaker-4711")),
///     ..SpeakerOptions::default()
/// };
/// assert_eq!(options.heartbeats.map(|heartbeats| heartbeats.every_ms), Some(500));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakerOptions {
    /// True: answers and offsets are one transaction. False: answers are sent at once and offsets
    /// later. A request that is read again after a crash is answered from memory, so the outcome is
    /// the same. A transaction is free on the embedded bus and takes milliseconds on Kafka.
    pub transactional: bool,
    /// The maximum delay of offset commits after answers, in milliseconds; without transactions
    /// only.
    pub commit_every_ms: u64,
    /// Heartbeats, or `None`. In virtual time a system with heartbeats is never idle.
    pub heartbeats: Option<Heartbeats>,
}

impl SpeakerOptions {
    /// After a crash the speaker reads at most this many milliseconds of requests again: as long as
    /// an attempt waits.
    pub const COMMIT_EVERY_MS: u64 = 500;
}

impl Default for SpeakerOptions {
    /// Transactional, without heartbeats.
    fn default() -> Self {
        Self { transactional: true, commit_every_ms: Self::COMMIT_EVERY_MS, heartbeats: None }
    }
}

/// The heartbeats of a speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    /// The topic: see [`wire::topics::Topics::alive`]. It must exist; its readers create it.
    pub topic: String,
    /// The instance, unique among all running instances, like the name of the member.
    pub instance: String,
    /// The interval in milliseconds; 0 for none.
    pub every_ms: u64,
}

impl Heartbeats {
    /// 500 ms: three missed heartbeats reveal a crash well within the deadline of a call.
    pub const EVERY_MS: u64 = 500;

    /// Creates heartbeats of `instance` every [`Heartbeats::EVERY_MS`] milliseconds.
    pub fn new(topic: &str, instance: &str) -> Self {
        Self { topic: topic.into(), instance: instance.into(), every_ms: Self::EVERY_MS }
    }
}
