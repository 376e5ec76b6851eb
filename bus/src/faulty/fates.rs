//! What can go wrong at each seam.

use crate::{Arrival, Batch, BusError, Outgoing};

/// Decides what becomes of what a process asks of its bus. Whatever is not said goes well.
///
/// A fate is asked for once for each call, before the bus is. What it lets a process be told is what a bus may tell: a
/// [`crate::Member`] that bears these bears Kafka.
pub trait Fates: Send + Sync {
    /// A member of `group` polls: an error is what it is told instead, and nothing arrives.
    ///
    /// # Errors
    /// What the process is to hear.
    fn poll(&self, group: &str) -> Result<(), BusError> {
        _ = group;
        Ok(())
    }

    /// True while a partition of `topic` answers nothing: what comes of it waits, and comes once it answers again. What is
    /// committed there or asked of it meanwhile has a fate of its own.
    fn stalls(&self, topic: &str, partition: u32) -> bool {
        _ = (topic, partition);
        false
    }

    /// A member of `group` takes a partition over.
    ///
    /// # Errors
    /// What the process is to hear.
    fn take_over(&self, group: &str, partition: u32) -> Result<(), BusError> {
        _ = (group, partition);
        Ok(())
    }

    /// A member of `group` commits.
    fn commit(&self, group: &str, batch: &Batch) -> CommitFate {
        _ = (group, batch);
        CommitFate::Passes
    }

    /// A writer appends.
    fn append(&self, records: &[Outgoing]) -> AppendFate {
        _ = records;
        AppendFate::Passes
    }

    /// A reader polls.
    ///
    /// # Errors
    /// What the process is to hear.
    fn read(&self) -> Result<(), BusError> {
        Ok(())
    }

    /// A record is about to be written: what becomes of it on its way. A durable log loses nothing that it took, so this is
    /// for what leaves the log: requests to spokes, and what these answer.
    fn carry(&self, record: &Outgoing) -> Passage {
        _ = record;
        Passage::Arrives
    }

    /// What somebody did to a topic: what those hear of it who ask for it, or for its bounds. Its records come and go as before.
    fn topic(&self, topic: &str) -> TopicFate {
        _ = topic;
        TopicFate::Stays
    }

    /// True: what nobody needs any more is kept all the same, as a bus on disk or a cluster keeps it for a time.
    fn keeps(&self) -> bool {
        false
    }

    /// Records that are to come [`Passage::Later`]: whoever keeps them writes them, or does not.
    fn later(&self, records: Vec<Outgoing>) {
        drop(records);
    }

    /// Something happened on the bus.
    fn seen(&self, seen: Seen<'_>) {
        _ = seen;
    }
}

/// What somebody did to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicFate {
    /// Nothing.
    Stays,
    /// It was deleted.
    IsGone,
    /// It was deleted and made anew: it has another id.
    IsAnother,
    /// It was deleted and made anew on a bus that gives it the same id: it has no records.
    IsEmpty,
    /// It was given so many partitions.
    HasPartitions(u32),
    /// It stamps another time on its records than that of the append.
    HasOtherTimes,
    /// Nothing, and who asks for it is told this.
    Fails(BusError),
}

/// What becomes of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFate {
    /// The bus decides.
    Passes,
    /// It does not happen, and the member is told so.
    Fails(BusError),
    /// It does not happen: the member is told that it lost its place.
    IsFenced,
    /// It happens, if the bus lets it, and the member is told that nobody knows.
    UnknownAndHappened,
    /// It does not happen, and the member is told that nobody knows.
    UnknownAndDidNot,
    /// The process dies before it happened.
    DiesBefore,
    /// The process dies after it happened.
    DiesAfter,
}

/// What becomes of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendFate {
    /// The bus decides.
    Passes,
    /// Nothing is written.
    Fails(BusError),
    /// The first of them, so many, are written, and the writer is told that it failed: with all of them it is an outcome that
    /// nobody knows.
    Partly(usize),
    /// The process dies after the first of them, so many, were written.
    Dies(usize),
}

/// What becomes of a record on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// It arrives.
    Arrives,
    /// It does not.
    Lost,
    /// It arrives twice.
    Twice,
    /// It is given to [`Fates::later`].
    Later,
    /// Another one arrives in its place.
    Changed(Box<Outgoing>),
}

/// What happened on the bus.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// A poll of a member of this group brought these.
    Arrived(&'a str, &'a [Arrival]),
    /// A member of this group committed.
    Committed(&'a str, &'a Batch),
    /// A commit of a member of this group was fenced by the bus.
    Fenced(&'a str, &'a Batch),
    /// Records were appended.
    Appended(&'a [Outgoing]),
}
