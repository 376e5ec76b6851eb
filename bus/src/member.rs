//! The trait, and its contract.

use std::sync::Arc;
use std::time::Duration;

use wire::owner::Note;

use crate::{Bounds, BusError, Clock, CommitError, Outgoing, Record, TopicInfo, TopicSpec};

/// A durable log with topics, groups and atomic commits.
///
/// Every implementation passes the conformance suite in `bus/tests`.
pub trait Bus: Send + Sync {
    /// Creates the topic, or checks that it is as `spec` says.
    ///
    /// # Errors
    /// [`BusError::WrongTopic`] where it exists with other partitions, another time stamp, or a clean-up that does not do
    /// ([`Cleanup::is_met_by`](crate::Cleanup::is_met_by)).
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError>;

    /// The topic, or none. Never creates one.
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError>;

    /// Which of these topics stamp another time on their records than that of the append, by their names; what is not there is passed over.
    /// None where the bus has no other times.
    ///
    /// # Errors
    /// Where the bus does not answer, or may not say.
    fn other_times(&self, _topics: &[&str]) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }

    /// The watermarks of a partition.
    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError>;

    /// Joins a group.
    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError>;

    /// How many members a group has now, those among them that died and whose session still runs; 0 where it has none, or
    /// never had any. It is a question for a person's patience, not for a turn: it may take a round trip.
    fn members(&self, group: &str) -> Result<usize, BusError>;

    /// How far a group is behind the end of each partition of its topic, in offsets: all that a partition still has where the group
    /// never committed there. It may be a few more than there are records, since compaction and the ends of transactions leave gaps,
    /// and a commit may be counted a moment after it happened.
    ///
    /// # Errors
    /// Where there is no such topic, or the bus does not answer.
    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError>;

    /// A reader outside all groups. It sees committed records only.
    fn reader(&self) -> Result<Box<dyn Reader>, BusError>;

    /// A writer outside all transactions; `name` is for logs.
    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError>;

    /// What about a topic could lose a record that was acknowledged or is needed, or stop those who write it: a line for each, for people.
    /// None where the bus has nothing of the kind to set.
    fn weaknesses(&self, _topic: &str) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }

    /// The state of its writers, for `/readyz` and `/metrics`. Empty on a bus that never makes them wait.
    fn health(&self) -> BusHealth {
        BusHealth::default()
    }

    /// How long a reader may be silent about what is there already: nothing inside one process, and on a cluster the time of a fetch.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// Nobody needs the records of a partition below `before` any more: the bus deletes them, now or later. Reading below then gives
    /// [`BusError::Gone`] as after any deletion. The caller names nothing that a group of the topic has not committed; a bus in one process makes sure of it.
    ///
    /// # Errors
    /// Where a bus that lets records go has no such topic or partition.
    fn trim(&self, _topic: &str, _partition: u32, _before: u64) -> Result<(), BusError> {
        Ok(())
    }

    /// The clocks it was opened with.
    fn clock(&self) -> Arc<dyn Clock>;
}

/// The state of the writers of a bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BusHealth {
    /// How many appends were tried again since the bus was opened.
    pub appends_retried: u64,
    /// Appends that take longer than a second, or are tried again: a line for each, for people.
    pub waiting: Vec<String>,
}

/// Who joins which group, to read which topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSpec {
    /// The group.
    pub group: String,
    /// The topic whose partitions the group shares.
    pub topic: String,
    /// The member's name, unique among all that live; it is its transactional id too.
    pub name: String,
    /// After so long without a sign of life its partitions go to others.
    pub session_timeout: Duration,
    /// True for a member that stands for something outside of the process, like a spoke that keeps its own disk: it sees only
    /// what is durable, as readers do. One inside sees records as soon as they are written. On Kafka there is no difference.
    pub outside: bool,
}

impl MemberSpec {
    /// The shortest session that a Kafka broker accepts unless it is told otherwise (`group.min.session.timeout.ms`).
    pub const SESSION: Duration = Duration::from_secs(6);

    /// A member with the shortest session.
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

/// One member of a group: it reads the partitions that the group gives it, and commits what it made of them.
///
/// The life of a partition: [`Arrival::Assigned`], then [`Member::take_over`] and [`Member::start`], then records and
/// commits, then [`Arrival::Revoking`] and [`Member::release`]; or [`Arrival::Lost`] at any time. Between `Assigned` and
/// `start`, and after `Revoking`, no record of it arrives. There is no automatic commit and no automatic offset.
pub trait Member: Send {
    /// Appends what the group decided and at most `max` records to `out`, waiting at most `wait` for the first; it may return earlier
    /// with none. Every call counts as a sign of life: a member that has no room for records polls for none of them.
    ///
    /// Records of one partition come in the order of their offsets; only those of finished commits are seen.
    ///
    /// # Errors
    /// [`BusError::Gone`] where the next record of a partition was deleted before it was read, or the whole topic was and was
    /// made anew, as far as the bus can tell: never skipped in silence. It is said once; the partition brings no more records until it is started again. What was appended to `out` counts.
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError>;

    /// Reads what the last owner of `partition` left. Where its note names a transactional id and is not `released`, its
    /// open transaction is ended first, so that nothing it began can still take effect.
    ///
    /// It settles a commit with unknown outcome too: afterwards the committed offset is final.
    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError>;

    /// Delivers records of `partition` from offset `from` on. Where it was started before, it is moved there.
    ///
    /// # Errors
    /// [`BusError::Gone`] where `from` was deleted, [`BusError::Refused`] where it is past the end.
    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError>;

    /// Commits records and positions: all of it or nothing. Every position is checked against the ownership of its
    /// partition, so a batch that moves nothing may name its unmoved position to be fenced all the same.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Commits positions alone without waiting for them, where the bus can do that: for members that may read again what
    /// they have done, and would rather not wait. What comes of it is not said. It may be lost, and after a rebalance it may
    /// come after the next owner's first commit; the next one names the same positions or later ones. Whoever must know
    /// uses [`Member::commit`].
    fn commit_behind(&mut self, positions: &[Position]) -> Result<(), CommitError> {
        self.commit(&Batch { records: Vec::new(), positions: positions.to_vec() })
    }

    /// Gives partitions back after [`Arrival::Revoking`]. Partitions that nobody asked for stay.
    ///
    /// Others wait for it, and until all that was asked for is given back the member's other partitions may bring no
    /// records either (librdkafka holds them up).
    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError>;

    /// True once the group has decided for the first time which partitions are the member's, and the polls have brought them. From then on
    /// a partition that was not assigned to it is another member's, or the group is about to give it away.
    fn has_joined(&self) -> bool;

    /// Leaves the group; its partitions go to others at once.
    fn leave(self: Box<Self>) -> Result<(), BusError>;
}

/// What a poll brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// These partitions are the member's from now on.
    Assigned(Vec<u32>),
    /// The group wants these back: still the member's until it calls [`Member::release`].
    Revoking(Vec<u32>),
    /// These are the member's no longer; somebody else may have them already.
    Lost(Vec<u32>),
    /// A record of a partition that was started.
    Record(Record),
}

/// What the last owner of a partition left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The committed offset and its note; none where the group never committed.
    pub committed: Option<Committed>,
    /// The low watermark.
    pub low: u64,
    /// The offset of the next record that is appended.
    pub end: u64,
}

impl Takeover {
    /// Returns the offset at which an owner without a state of its own begins: the committed one, or the low watermark where the records
    /// before it were deleted, or where it lies past the end, since the topic was made anew under its name.
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
    /// The metadata beside it, as it was given; see [`Note`].
    pub note: String,
}

impl Committed {
    /// The note, where it is one of ours.
    pub fn parsed(&self) -> Option<Note> {
        self.note.parse().ok()
    }
}

/// What is committed as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records to append, in order.
    pub records: Vec<Outgoing>,
    /// Where the member stands in its partitions.
    pub positions: Vec<Position>,
}

/// Where a member stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition of the member's topic.
    pub partition: u32,
    /// The offset of the next record to handle.
    pub next: u64,
    /// What to leave for the next owner, usually a [`Note`]; at most [`Position::MAX_NOTE_BYTES`].
    pub note: Arc<str>,
}

impl Position {
    /// What a Kafka broker takes as a note (`offset.metadata.max.bytes`).
    pub const MAX_NOTE_BYTES: usize = 4096;

    /// Refuses a note that is too long.
    pub(crate) fn check(&self) -> Result<(), BusError> {
        let (size, limit) = (self.note.len(), Self::MAX_NOTE_BYTES);
        if size <= limit {
            return Ok(());
        }
        Err(BusError::Refused(format!(
            "a note of {size} bytes for partition {}; at most {limit} are taken",
            self.partition
        )))
    }
}

/// Reads partitions from offsets that it is told, in no group.
pub trait Reader: Send {
    /// Reads this partition too, from offset `from` on. Errors as in [`Member::start`].
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError>;

    /// Appends at most `max` records to `out`, waiting at most `wait` for the first. Errors as in [`Member::poll`].
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError>;

    /// The offset up to which this partition was read: every record below it was delivered. `None` for a partition that is not
    /// assigned. The last offsets of a partition need not have a record (a deletion that was compacted away, the marker of a
    /// transaction), so compare this, and never the offset of a record, with the end of the partition; [`crate::catch_up()`] does.
    ///
    /// On Kafka the client says that it has reached the end without saying of which topic. So a reader of several topics knows
    /// the position only as the offset after the last record.
    fn position(&self, topic: &str, partition: u32) -> Option<u64>;
}

/// Appends records, in no transaction.
pub trait Writer: Send {
    /// Appends these, those of one partition in order, and returns when they are durable. On an error some of them may have been written.
    ///
    /// A bus without an answer tries again within a deadline of its own. Records that were tried again may be there twice.
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_without_a_state_begins_at_the_committed_offset_where_that_exists() {
        let left = |next: Option<u64>| {
            let committed = next.map(|next| Committed { next, note: String::new() });
            Takeover { committed, low: 10, end: 20 }.first()
        };
        assert_eq!([left(Some(15)), left(Some(20))], [15, 20]);
        assert_eq!([left(None), left(Some(3))], [10, 10], "nothing was committed, or records were deleted");
        assert_eq!(left(Some(72)), 10, "the topic was made anew");
    }
}
