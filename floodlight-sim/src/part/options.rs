//! How a speaker takes part.

/// How a speaker tells its answers, and whether it says that it lives.
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
    /// True: answers and positions are one commit. Else answers are told at once, and positions follow: a request that is
    /// read again after a crash is answered from memory, so the outcome is the same, and nobody waits for a transaction.
    /// On the embedded bus a commit costs nothing; on Kafka it is milliseconds.
    pub transactional: bool,
    /// Where positions follow: at most so many milliseconds behind the answers, while the bus takes them.
    pub commit_every_ms: u64,
    /// None: it does not say that it lives. A system that is turned in virtual time until it is idle is never idle with
    /// heartbeats.
    pub heartbeats: Option<Heartbeats>,
}

impl SpeakerOptions {
    /// Half a second of requests is read again after a crash, from memory: as long as an attempt waits anyway.
    pub const COMMIT_EVERY_MS: u64 = 500;
}

impl Default for SpeakerOptions {
    /// Transactional, without heartbeats.
    fn default() -> Self {
        Self { transactional: true, commit_every_ms: Self::COMMIT_EVERY_MS, heartbeats: None }
    }
}

/// How it says that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    /// Where: see [`wire::topics::Topics::alive`]. The topic must be there: it is made by whoever watches.
    pub topic: String,
    /// Who: unique among all instances that live, like the member's name.
    pub instance: String,
    /// One in so many milliseconds; 0: none.
    pub every_ms: u64,
}

impl Heartbeats {
    /// Two in a second: who misses three of them knows of a death well within the time that a call may take.
    pub const EVERY_MS: u64 = 500;

    /// Heartbeats of `instance`, one every [`Heartbeats::EVERY_MS`].
    pub fn new(topic: &str, instance: &str) -> Self {
        Self { topic: topic.into(), instance: instance.into(), every_ms: Self::EVERY_MS }
    }
}
