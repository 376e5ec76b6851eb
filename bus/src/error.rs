//! Errors of a bus.

/// An error of a bus operation.
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
        /// The requested partition.
        partition: u32,
    },
    /// The topic exists with another setting than required.
    #[error("topic `{topic}` has {field} {found}; required: {needed}")]
    WrongTopic {
        /// The topic.
        topic: String,
        /// The setting that differs.
        field: &'static str,
        /// The actual value.
        found: String,
        /// The required value.
        needed: String,
    },
    /// The record exceeds the size limit.
    #[error("record for `{topic}` has {size} bytes; the limit is {limit} bytes")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Size with key and headers, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// This member does not own the partition.
    #[error("partition {0} is not owned by this member")]
    NotOwned(u32),
    /// The requested records were deleted.
    #[error("offset {requested} of `{topic}` {partition} was deleted; the first available offset is {low}")]
    Gone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The requested offset.
        requested: u64,
        /// The first available offset.
        low: u64,
    },
    /// The bus does not answer, or reports an error that may be temporary.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// The bus rejected the request permanently: permissions, settings or versions.
    #[error("the bus rejected the request: {0}")]
    Refused(String),
}

/// Why a commit was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The member lost a partition of the batch, or its membership. Nothing was committed. Do not
    /// retry before the next poll returns the remaining partitions.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The commit did not happen.
    #[error("nothing was committed: {0}")]
    Failed(BusError),
    /// The commit may or may not have happened. Settle it with [`crate::Member::take_over`], which
    /// ends the open transaction and reads the committed offset.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(BusError),
}
