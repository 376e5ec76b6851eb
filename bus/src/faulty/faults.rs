//! The faults that can be injected, by operation.

use crate::{Arrival, Batch, BusError, Outgoing};

/// Decides the fault of each bus operation of a process. The default of every method is no fault.
///
/// Each method is called once per operation, before the bus. Only faults that a real bus can report
/// are possible: a client that handles these handles Kafka.
pub trait FaultInjector: Send + Sync {
    /// Called when a member of `group` polls. On an error the poll returns that error and nothing
    /// arrives.
    ///
    /// # Errors
    /// The error that the poll returns.
    fn poll(&self, group: &str) -> Result<(), BusError> {
        _ = group;
        Ok(())
    }

    /// True while a partition of `topic` is stalled: its records are held back until it recovers,
    /// which wakes no waiting thread. Commits and requests to it are decided separately.
    fn stalls(&self, topic: &str, partition: u32) -> bool {
        _ = (topic, partition);
        false
    }

    /// Called when a member of `group` takes over a partition.
    ///
    /// # Errors
    /// The error that the takeover returns.
    fn take_over(&self, group: &str, partition: u32) -> Result<(), BusError> {
        _ = (group, partition);
        Ok(())
    }

    /// Called when a member of `group` commits.
    fn commit(&self, group: &str, batch: &Batch) -> CommitFault {
        _ = (group, batch);
        CommitFault::None
    }

    /// Called when a writer appends.
    fn append(&self, records: &[Outgoing]) -> AppendFault {
        _ = records;
        AppendFault::None
    }

    /// Called when a reader polls.
    ///
    /// # Errors
    /// The error that the poll returns.
    fn read(&self) -> Result<(), BusError> {
        Ok(())
    }

    /// Called before a record is written. A durable log loses nothing that it accepted, so use this
    /// only for records that leave the log: requests to spokes and their replies.
    fn transmit(&self, record: &Outgoing) -> RecordFault {
        _ = record;
        RecordFault::None
    }

    /// Returns what an operator did to the topic. Affects the topic's description and bounds only;
    /// records are still written and read.
    fn topic(&self, topic: &str) -> TopicFault {
        _ = topic;
        TopicFault::None
    }

    /// True: trims are ignored, as on a bus on disk or a cluster, which keeps trimmed records for a
    /// time.
    fn ignores_trims(&self) -> bool {
        false
    }

    /// Receives records with [`RecordFault::Delayed`]; the implementation writes or drops them.
    fn delay(&self, records: Vec<Outgoing>) {
        drop(records);
    }

    /// Called when something happened on the bus.
    fn observe(&self, event: BusEvent<'_>) {
        _ = event;
    }
}

/// The action of an operator on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicFault {
    /// No fault.
    None,
    /// The topic was deleted.
    Deleted,
    /// The topic was deleted and recreated: it has another id.
    Recreated,
    /// The topic was deleted and recreated on a bus that assigns the same id: it has no records.
    RecreatedWithSameId,
    /// The partition count was changed to this.
    PartitionsChanged(u32),
    /// The topic no longer stamps the append time on records.
    TimestampTypeChanged,
    /// Describing the topic returns this error.
    Fails(BusError),
}

/// The fault of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFault {
    /// No fault.
    None,
    /// The commit does not happen and returns this error.
    Fails(BusError),
    /// The commit does not happen; the member is fenced.
    Fenced,
    /// The commit happens if the bus accepts it; the outcome is reported as unknown.
    UnknownButCommitted,
    /// The commit does not happen; the outcome is reported as unknown.
    UnknownNotCommitted,
    /// The process crashes before the commit.
    CrashBefore,
    /// The process crashes after the commit.
    CrashAfter,
}

/// The fault of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendFault {
    /// No fault.
    None,
    /// No record is written, and the append returns this error.
    Fails(BusError),
    /// Only this many records are written, and the append returns an error. With all records the
    /// outcome is unknown to the writer.
    Partial(usize),
    /// The process crashes after this many records were written.
    Crash(usize),
}

/// The fault of a single record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFault {
    /// No fault.
    None,
    /// The record is lost.
    Lost,
    /// The record is duplicated.
    Duplicated,
    /// The record is passed to [`FaultInjector::delay`].
    Delayed,
    /// This record is written instead.
    Replaced(Box<Outgoing>),
}

/// Something that happened on the bus.
#[derive(Debug, Clone, Copy)]
pub enum BusEvent<'a> {
    /// A poll of a member of this group delivered these.
    Arrived(&'a str, &'a [Arrival]),
    /// A member of this group committed.
    Committed(&'a str, &'a Batch),
    /// The bus fenced a commit of a member of this group.
    Fenced(&'a str, &'a Batch),
    /// Records were appended.
    Appended(&'a [Outgoing]),
}
