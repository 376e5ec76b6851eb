//! Topics: what is asked for, and what is there.

use std::fmt;

/// The group of an inbox that is this many records behind in one partition is taken to be too slow, and those who write new work into it
/// stop: two commits of 5,000.
pub const INBOX_LIMIT: u64 = 10_000;

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Kept until the records are trimmed ([`crate::Bus::trim`]): inboxes. Those of stages without snapshots never are.
    Keep,
    /// Of no use after so many milliseconds, read or not: deleted then, at the bus's leisure.
    DeleteAfterMs(u64),
    /// The last record of each key is kept; segments are small so that it happens soon.
    Compact,
}

impl fmt::Display for Cleanup {
    /// In the words of Kafka's `cleanup.policy` and `retention.ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("delete, retention.ms=-1"),
            Self::DeleteAfterMs(ms) => write!(f, "delete, retention.ms={ms}"),
            Self::Compact => f.write_str("compact"),
        }
    }
}

impl Cleanup {
    /// Whether a topic that is cleaned up like `found` does where this is needed. How long what may go is kept is its operator's
    /// business; what must stay has to.
    pub fn is_met_by(self, found: Self) -> bool {
        match (self, found) {
            (Self::DeleteAfterMs(_), Self::DeleteAfterMs(_) | Self::Keep) => true,
            (needed, found) => needed == found,
        }
    }
}

/// A topic as it is needed. Times are always those of the append (`LogAppendTime`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions it must have.
    pub partitions: u32,
    /// What happens to old records.
    pub cleanup: Cleanup,
}

impl TopicSpec {
    /// A topic that keeps everything.
    pub fn log(name: &str, partitions: u32) -> Self {
        Self { name: name.into(), partitions, cleanup: Cleanup::Keep }
    }

    /// The same with another way of cleaning up.
    #[must_use]
    pub fn cleaned(mut self, cleanup: Cleanup) -> Self {
        self.cleanup = cleanup;
        self
    }
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// The id that the bus gave it when it was created: another after it was deleted and made anew.
    pub id: String,
}

/// The first offset that a partition still has, and the one that its next record will have at the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The low watermark.
    pub low: u64,
    /// The high watermark.
    pub end: u64,
}
