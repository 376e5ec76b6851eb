//! Topics: specification, state and clean-up policy.

use std::fmt;

/// Maximum backlog of an inbox partition, in records: two commits of 5,000. Beyond it, writers of
/// new work stop.
pub const INBOX_LIMIT: u64 = 10_000;

/// The treatment of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Kept until they are trimmed ([`crate::Bus::trim`]). Used for inboxes; inboxes of stages
    /// without snapshots are never trimmed.
    Keep,
    /// Deleted some time after this many milliseconds, read or not.
    DeleteAfterMs(u64),
    /// The last record of each key is kept. Segments are small, so that compaction happens soon.
    Compact,
}

impl fmt::Display for Cleanup {
    /// Uses the terms of Kafka's `cleanup.policy` and `retention.ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("delete, retention.ms=-1"),
            Self::DeleteAfterMs(ms) => write!(f, "delete, retention.ms={ms}"),
            Self::Compact => f.write_str("compact"),
        }
    }
}

impl Cleanup {
    /// True if a topic with the policy `found` satisfies this one. Operators may change the
    /// retention time of deletable records, but not delete records that must stay.
    pub fn is_met_by(self, found: Self) -> bool {
        match (self, found) {
            (Self::DeleteAfterMs(_), Self::DeleteAfterMs(_) | Self::Keep) => true,
            (needed, found) => needed == found,
        }
    }
}

/// The required state of a topic. Its timestamps are always append times (`LogAppendTime`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: String,
    /// The required number of partitions.
    pub partitions: u32,
    /// The treatment of old records.
    pub cleanup: Cleanup,
}

impl TopicSpec {
    /// Creates the spec of a topic that keeps everything.
    pub fn log(name: &str, partitions: u32) -> Self {
        Self { name: name.into(), partitions, cleanup: Cleanup::Keep }
    }

    /// Replaces the clean-up policy.
    #[must_use]
    pub fn with_cleanup(mut self, cleanup: Cleanup) -> Self {
        self.cleanup = cleanup;
        self
    }
}

/// The actual state of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// The name.
    pub name: String,
    /// The number of partitions.
    pub partitions: u32,
    /// The id that the bus assigned at creation. It changes if the topic is deleted and recreated.
    pub id: String,
}

/// The first available offset of a partition, and the lower limit of its next offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The low watermark.
    pub low: u64,
    /// The high watermark.
    pub end: u64,
}
