//! The bus traits and their contract.

use std::sync::Arc;
use std::time::Duration;

use wire::WallTime;
use wire::owner::OffsetMetadata;

use crate::{Bounds, BusError, Clock, CommitError, Outgoing, Record, TopicInfo, TopicSpec};

/// A durable log with topics, groups and atomic commits.
///
/// Every implementation passes the conformance suite in `bus/tests`.
pub trait Bus: Send + Sync {
    /// Creates the topic, or checks that an existing one matches `spec`.
    ///
    /// # Errors
    /// [`BusError::WrongTopic`] if the topic exists with another partition count, another timestamp
    /// type, or a clean-up policy that does not satisfy the one in `spec`
    /// ([`Cleanup::is_met_by`](crate::Cleanup::is_met_by)).
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError>;

    /// Returns the topic, or `None` if it does not exist. Never creates a topic.
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError>;

    /// True if the topic keeps the last record of each key, and so takes no record without a key.
    ///
    /// # Errors
    /// If the topic does not exist, or the bus does not answer or denies access.
    fn is_compacted(&self, topic: &str) -> Result<bool, BusError>;

    /// Returns the names of those topics that do not stamp records with the append time. Skips
    /// topics that do not exist. The default is for a bus that always uses the append time.
    ///
    /// # Errors
    /// If the bus does not answer or denies access.
    fn topics_without_append_time(&self, _topics: &[&str]) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }

    /// Returns the watermarks of a partition.
    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError>;

    /// Returns the offset of the first record of a partition that was appended at `time` or later,
    /// or an offset between it and the record before; the end if there is no such record.
    fn offset_at(&self, topic: &str, partition: u32, time: WallTime) -> Result<u64, BusError>;

    /// Joins a group.
    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError>;

    /// Returns the current number of members in a group, including crashed members whose session
    /// has not expired. Returns 0 for an unknown group. May need a round trip, so do not call it in
    /// every poll.
    fn members(&self, group: &str) -> Result<usize, BusError>;

    /// Returns how far a group is behind the end of each partition of its topic, in offsets. A
    /// partition without a committed offset counts everything that it still holds. The result can
    /// exceed the number of records, because compaction and transaction markers leave gaps and
    /// commits become visible with a short delay.
    ///
    /// # Errors
    /// If the topic does not exist or the bus does not answer.
    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError>;

    /// Opens a reader outside all groups. It sees committed records only.
    fn reader(&self) -> Result<Box<dyn Reader>, BusError>;

    /// Opens a writer outside all transactions; `name` appears in logs.
    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError>;

    /// Returns one line of text for each topic setting that can lose acknowledged or needed
    /// records, or can block writers. The default is for a bus without such settings.
    fn topic_warnings(&self, _topic: &str) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }

    /// Returns the state of the writers, for `/readyz` and `/metrics`. Empty on a bus whose writers
    /// never wait.
    fn health(&self) -> BusHealth {
        BusHealth::default()
    }

    /// Returns how long a poll may stay empty although records exist: zero in one process, the
    /// duration of a fetch on a cluster.
    fn read_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Saves positions of a named follower of a topic: partitions, each with the offset of the next
    /// record to read. From the first call on, no trim passes them; partitions without a position
    /// are not held. Retention still applies: by time, by the broker on Kafka, and in memory by the
    /// limits of slow readers ([`EmbeddedOptions::keep_bytes`] times [`SLACK`]). If the embedded
    /// bus passes a position, it logs a warning, and the follower gets a gap.
    ///
    /// On Kafka the positions are the committed offsets of the group `TOPIC.follower.NAME`. Each
    /// expires by itself after `offsets.retention.minutes` without a save (7 days by default), also
    /// if others are saved. A trim heeds a new name after a second.
    ///
    /// # Errors
    /// [`BusError::Refused`] if the name is invalid, or the topic has [`MAX_NAMES`] other ones.
    ///
    /// [`EmbeddedOptions::keep_bytes`]: crate::EmbeddedOptions::keep_bytes
    /// [`SLACK`]: crate::embedded::SLACK
    /// [`MAX_NAMES`]: crate::follower::MAX_NAMES
    fn save_positions(&self, name: &str, topic: &str, positions: &[(u32, u64)]) -> Result<(), BusError>;

    /// Returns the saved position of a named follower; `None` if there is none.
    fn saved_position(&self, name: &str, topic: &str, partition: u32) -> Result<Option<u64>, BusError>;

    /// Forgets a named follower of a topic: its positions hold back no deletion any more. Ignores
    /// an unknown name.
    fn forget_name(&self, name: &str, topic: &str) -> Result<(), BusError>;

    /// Allows the bus to delete the records of a partition below offset `before`, now or later, but
    /// not those that a named follower has not read ([`Bus::save_positions`]). Reading below that
    /// offset then returns [`BusError::Gone`]. The caller must not pass an offset beyond what every
    /// group of the topic has committed; the embedded bus enforces this.
    ///
    /// # Errors
    /// If a bus that deletes records has no such topic or partition.
    fn trim(&self, _topic: &str, _partition: u32, _before: u64) -> Result<(), BusError> {
        Ok(())
    }

    /// Returns the clocks that the bus was opened with.
    fn clock(&self) -> Arc<dyn Clock>;
}

/// The state of the writers of a bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BusHealth {
    /// Number of append retries since the bus was opened.
    pub appends_retried: u64,
    /// One line of text for each append that takes longer than a second or is being retried.
    pub waiting: Vec<String>,
}

/// Group, topic and name with which a member joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSpec {
    /// The group.
    pub group: String,
    /// The topic whose partitions the group shares.
    pub topic: String,
    /// The member's name, unique among live members. It is also its transactional id.
    pub name: String,
    /// The group reassigns the member's partitions after this time without a sign of life.
    pub session_timeout: Duration,
    /// True for a member that acts for something outside the process, such as a spoke with its own
    /// disk. It sees only durable records, as readers do. Other members see records as soon as they
    /// are written. No difference on Kafka.
    pub outside: bool,
}

impl MemberSpec {
    /// The shortest session that a Kafka broker accepts by default
    /// (`group.min.session.timeout.ms`).
    pub const SESSION: Duration = Duration::from_secs(6);

    /// Creates a spec with the shortest session.
    pub fn new(group: &str, topic: &str, name: &str) -> Self {
        Self {
            group: group.into(),
            topic: topic.into(),
            name: name.into(),
            session_timeout: Self::SESSION,
            outside: false,
        }
    }
}

/// One member of a group. It reads the partitions that the group assigns to it, and commits its
/// results.
///
/// Life cycle of a partition: [`Arrival::Assigned`], then [`Member::take_over`] and
/// [`Member::start`], then records and commits, then [`Arrival::Revoking`] and [`Member::release`].
/// [`Arrival::Lost`] can come at any time. No records arrive between `Assigned` and `start`, nor
/// after `Revoking`. Commits and offsets are never automatic.
///
/// # Waiting
/// A poll of a member or a [`Reader`] waits by parking its thread ([`std::thread::park_timeout`]).
///
/// - It returns early, possibly with nothing, when any thread unparks the waiting one. On Kafka it
///   also does so at events of the client, and after a second.
/// - A poll that finds nothing, with any `wait`, leaves a wake-up behind. The next arrival (a
///   record, a group decision, or an error) unparks the thread that polled last. A wake-up without
///   an arrival is possible.
///
/// So a thread can poll several members and readers with a `wait` of zero, and then wait in the
/// poll of one of them: an arrival for any of them ends the wait. Between these polls it must not
/// park elsewhere, because that may use up the wake-up. No method of a bus does.
pub trait Member: Send {
    /// Appends group decisions and at most `max` records to `out`. Waits at most `wait` for the
    /// first one; may return earlier with none (see [Waiting](#waiting)). Every call counts as a
    /// sign of life, so a member without room for records polls with `max` = 0. Records that arrive
    /// after such a poll need not wake its thread.
    ///
    /// Records of one partition arrive in offset order. Only records of finished commits are
    /// visible.
    ///
    /// # Errors
    /// [`BusError::Gone`] if the next record of a partition was deleted before it was read, or the
    /// topic was recreated (as far as the bus can tell). Records are never skipped silently. The
    /// error is returned once; the partition delivers nothing until it is started again. Entries
    /// already appended to `out` are valid.
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError>;

    /// Reads the state that the last owner of `partition` left. If its offset metadata names a
    /// transactional id and is not `released`, this first ends that owner's open transaction, so
    /// that nothing it began can take effect later.
    ///
    /// Also settles a commit with an unknown outcome: afterwards the committed offset is final.
    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError>;

    /// Delivers records of `partition` from offset `from` on. Moves a partition that is already
    /// started.
    ///
    /// # Errors
    /// [`BusError::Gone`] if `from` was deleted, [`BusError::Refused`] if it is past the end.
    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError>;

    /// Commits all records and positions, or nothing. Checks every position against the ownership
    /// of its partition. A batch that moves nothing can therefore include an unmoved position to
    /// detect fencing.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Commits positions without waiting for the result, if the bus supports it. For members that
    /// can safely read records again. The result is not reported. The commit may be lost, and after
    /// a rebalance it may arrive after the next owner's first commit; the next commit contains the
    /// same positions or later ones. Use [`Member::commit`] if the result matters.
    fn commit_async(&mut self, positions: &[Position]) -> Result<(), CommitError> {
        self.commit(&Batch { records: Vec::new(), positions: positions.to_vec() })
    }

    /// Gives partitions back after [`Arrival::Revoking`]. Ignores partitions that the group did not
    /// ask for.
    ///
    /// Other members wait for this call. Until all revoked partitions are released, the member's
    /// other partitions may deliver no records either (librdkafka holds them up).
    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError>;

    /// True once the polls have delivered the group's first assignment. From then on, a partition
    /// that was not assigned belongs to another member or is about to be assigned.
    fn has_joined(&self) -> bool;

    /// Leaves the group; its partitions are reassigned at once.
    fn leave(self: Box<Self>) -> Result<(), BusError>;
}

/// One result of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// The group assigned these partitions to the member.
    Assigned(Vec<u32>),
    /// The group asks for these partitions. The member owns them until it calls
    /// [`Member::release`].
    Revoking(Vec<u32>),
    /// The member no longer owns these partitions; another member may own them already.
    Lost(Vec<u32>),
    /// A record of a started partition.
    Record(Record),
}

/// The state that the last owner of a partition left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The committed offset and its metadata; `None` if the group never committed.
    pub committed: Option<Committed>,
    /// The low watermark.
    pub low: u64,
    /// The offset of the next record to be appended.
    pub end: u64,
}

impl Takeover {
    /// Returns the start offset for an owner without saved state: the committed offset. Returns the
    /// low watermark if the records before it were deleted, or if the committed offset is past the
    /// end because the topic was recreated.
    pub fn first(&self) -> u64 {
        let committed = self.committed.as_ref().map(|committed| committed.next).filter(|next| *next <= self.end);
        committed.map_or(self.low, |next| next.max(self.low))
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to handle: C.
    pub next: u64,
    /// The metadata as committed; see [`OffsetMetadata`].
    pub metadata: String,
}

impl Committed {
    /// Parses the metadata; `None` if another program wrote it.
    pub fn parsed(&self) -> Option<OffsetMetadata> {
        self.metadata.parse().ok()
    }
}

/// Records and positions of one atomic commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records to append, in order.
    pub records: Vec<Outgoing>,
    /// The member's positions in its partitions.
    pub positions: Vec<Position>,
}

/// A member's position in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition of the member's topic.
    pub partition: u32,
    /// The offset of the next record to handle.
    pub next: u64,
    /// Metadata for the next owner, usually an [`OffsetMetadata`]; at most
    /// [`Position::MAX_OFFSET_METADATA_BYTES`].
    pub metadata: Arc<str>,
}

impl Position {
    /// The default limit of a Kafka broker (`offset.metadata.max.bytes`).
    pub const MAX_OFFSET_METADATA_BYTES: usize = 4096;

    /// Rejects metadata that is too long.
    pub(crate) fn check(&self) -> Result<(), BusError> {
        let (size, limit) = (self.metadata.len(), Self::MAX_OFFSET_METADATA_BYTES);
        if size <= limit {
            return Ok(());
        }
        Err(BusError::Refused(format!(
            "offset metadata of partition {} has {size} bytes; the limit is {limit} bytes",
            self.partition
        )))
    }
}

/// Reads assigned partitions from given offsets, outside all groups.
pub trait Reader: Send {
    /// Adds a partition, read from offset `from` on. Errors as in [`Member::start`].
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError>;

    /// Stops reading a partition: none of its records arrives afterwards. Ignores a partition that
    /// is not assigned.
    ///
    /// # Errors
    /// If the client rejects the request. The partition may then still be read.
    fn unassign(&mut self, topic: &str, partition: u32) -> Result<(), BusError>;

    /// Appends at most `max` records to `out`, waiting at most `wait` for the first; `max` is at
    /// least 1. Waits and fails as [`Member::poll`] does.
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError>;

    /// Returns the position in a partition: every record below it was delivered. `None` if the
    /// partition is not assigned. The last offsets of a partition may have no record (compacted
    /// deletions, transaction markers). Compare this position, never a record's offset, with the
    /// end of the partition; [`crate::Follower`] does.
    ///
    /// The Kafka client reports an end without the topic's name. A reader of several topics
    /// therefore only knows the offset after the last record.
    fn position(&self, topic: &str, partition: u32) -> Option<u64>;
}

/// Appends records outside transactions.
pub trait Writer: Send {
    /// Appends the records, in order within each partition, and returns when they are durable. On
    /// an error some of them may have been written.
    ///
    /// Retries within its own time limit if the bus does not answer. Retried records can be
    /// duplicated.
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_without_saved_state_starts_at_the_committed_offset() {
        let left = |next: Option<u64>| {
            let committed = next.map(|next| Committed { next, metadata: String::new() });
            Takeover { committed, low: 10, end: 20 }.first()
        };
        assert_eq!([left(Some(15)), left(Some(20))], [15, 20]);
        assert_eq!([left(None), left(Some(3))], [10, 10], "nothing committed, or records deleted");
        assert_eq!(left(Some(72)), 10, "the topic was recreated");
    }
}
