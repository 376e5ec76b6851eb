//! What a bus can answer.

/// A fault of the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The topic does not exist.
    #[error("topic `{0}` does not exist")]
    NoTopic(String),
    /// The topic has no such partition.
    #[error("topic `{topic}` has no partition {partition}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition that was named.
        partition: u32,
    },
    /// The topic exists, but not as it is needed.
    #[error("topic `{topic}` has {field} {found}, but {needed} is needed")]
    WrongTopic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        field: &'static str,
        /// What it has.
        found: String,
        /// What it should have.
        needed: String,
    },
    /// The record is larger than the bus takes.
    #[error("a record for `{topic}` has {size} bytes; at most {limit} are taken")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Its size with key and headers.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// This member does not own the partition.
    #[error("partition {0} is not owned by this member")]
    NotOwned(u32),
    /// Records that were asked for are gone.
    #[error("partition {partition} of `{topic}` starts at {low}; {asked} is gone")]
    Gone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset that was asked for.
        asked: u64,
        /// The first that there is.
        low: u64,
    },
    /// The bus does not answer, or answers with a fault that may pass.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// The bus refused for good: rights, settings, versions.
    #[error("the bus refused: {0}")]
    Refused(String),
}

/// Why a commit did not say that it happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The member lost a partition of the batch, or its place in the group: nothing happened, and nothing may be tried again
    /// before the next poll has said what is still owned.
    #[error("fenced: {0}")]
    Fenced(String),
    /// Nothing happened.
    #[error("nothing was committed: {0}")]
    Failed(BusError),
    /// It happened, or it did not: settle it by [`crate::Member::take_over`], which ends what is open and reads the
    /// committed offset.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(BusError),
}
