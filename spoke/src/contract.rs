//! The interface between the loop and a service.

use bus::{BusError, MonoTime, Outgoing, Record};
use wire::WallTime;

use crate::names;

/// A service that handles records, as a [`crate::SpokeTask`] serves it. The loop reads records, passes them on, and sends
/// the answers.
///
/// Implement [`crate::Spoke`] or [`crate::AsyncSpoke`] instead, unless the service has its own
/// memory of calls. A record can arrive again after a crash, so the service must then give the same
/// answer and do nothing twice.
pub trait RecordService: Send + 'static {
    /// True if effects of calls outlive the process. The bus then shows this service only calls that
    /// a crash of the bus cannot lose.
    fn is_durable(&self) -> bool;

    /// Number of records that the service can accept now.
    fn room(&self) -> usize;

    /// Accepts a record. [`RecordService::advance`] handles it.
    fn accept(&mut self, record: Record, poll: &mut ServicePoll<'_>);

    /// Handles accepted records and everything else that is due, and appends the answers. True if
    /// the next poll may find more to do at once.
    fn advance(&mut self, poll: &mut ServicePoll<'_>) -> bool;

    /// Saves all effects. The loop sends no answer before.
    ///
    /// # Errors
    /// If they cannot be saved: the task ends.
    fn save(&mut self) -> Result<(), BusError>;

    /// The offset of the oldest accepted record of `partition` that is not handled. The loop commits
    /// no offset beyond.
    fn oldest_unanswered(&self, partition: u32) -> Option<u64>;

    /// Drops the accepted records of a partition that another instance handles from now on.
    fn forget(&mut self, partition: u32);

    /// When [`RecordService::advance`] has something to do that no record brings.
    fn next_due(&self) -> Option<MonoTime> {
        None
    }

    /// Number of calls in their handlers. The loop looks at them every few milliseconds, and waits
    /// for them when it stops.
    fn in_flight(&self) -> usize {
        0
    }

    /// Appends the answers of the calls in flight that ended, and starts no others: the task stops.
    fn finish(&mut self, poll: &mut ServicePoll<'_>) {
        let _ = poll;
    }

    /// At a stop: the work that is left, for the log.
    fn unfinished(&self) -> Option<String> {
        None
    }

    /// Fault injection: true if the service answers and sends no heartbeats.
    fn heartbeats_stopped(&self) -> bool {
        false
    }

    /// Fault injection: the crash that the loop has to carry out.
    fn crash(&self) -> Option<InjectedCrash> {
        None
    }

    /// Fault injection: the loop dropped all answers that are not committed, like a process that
    /// crashed. It does nothing until [`RecordService::is_down`] is false.
    fn crashed(&mut self) {}

    /// Fault injection: true from [`RecordService::crashed`] until somebody restarts the service.
    fn is_down(&mut self) -> bool {
        false
    }
}

/// A crash by fault injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedCrash {
    /// Before the answers are sent.
    Now,
    /// After all answers are sent and committed.
    AfterAnswers,
}

/// One poll of the loop, as its service sees it.
pub struct ServicePoll<'a> {
    /// The time for timers.
    pub now: MonoTime,
    /// The time of day, for deadlines and answers.
    pub wall: WallTime,
    /// The `ce_source` of answers.
    pub source: &'a str,
    /// Answers that are not committed, in order. The service appends its own.
    pub answers: &'a mut Vec<Outgoing>,
    pub(crate) service: &'a str,
}

impl ServicePoll<'_> {
    /// Counts and logs a record that is not readable as a call.
    pub fn unreadable(&self, partition: u32, offset: u64, detail: &str) {
        tracing::warn!(service = self.service, partition, offset, detail, "a record is not readable as a call");
        metrics::counter!(names::UNREADABLE, "service" => self.service.to_owned()).increment(1);
    }

    /// Counts an answer that has no address.
    pub fn no_address(&self) {
        names::dropped(self.service, "no address", 1);
    }
}
