//! The calls of one task and their service: from a record to an answer.

use bus::{BusError, Headers, Outgoing, Record, Route};

use crate::contract::{RecordService, ServicePoll};
use crate::memory::Answer;
use crate::running::{Accepted, Running};
use crate::service::{Handler, SpokeService};

/// Runs the calls of a [`SpokeService`] for a [`crate::SpokeTask`].
pub struct CallRunner<S> {
    service: SpokeService<S>,
    running: Running,
}

impl<S: Handler> CallRunner<S> {
    /// Made on the thread that polls the task.
    ///
    /// # Errors
    /// If the system gives no thread for the handlers.
    pub(crate) fn new(service: SpokeService<S>) -> Result<Self, BusError> {
        let running = Running::new(service.max_in_flight());
        let running = running.map_err(|error| BusError::Unavailable(format!("no thread for the spoke: {error}")))?;
        Ok(Self { service, running })
    }

    /// Drops a record that is not a call or has no reply address: there is nobody to answer.
    fn drop_unreadable(&self, record: &Record, detail: &str, poll: &ServicePoll<'_>) {
        poll.unreadable(record.partition, record.offset, detail);
        self.service.dropped_unreadable();
    }
}

impl<S: Handler> RecordService for CallRunner<S> {
    fn is_durable(&self) -> bool {
        self.service.is_durable()
    }

    fn room(&self) -> usize {
        self.running.room()
    }

    fn accept(&mut self, record: Record, poll: &mut ServicePoll<'_>) {
        let envelope = match record.headers.envelope() {
            Ok(envelope) if envelope.reply_to.is_some() => envelope,
            Ok(_) => return self.drop_unreadable(&record, "`ce_replyto` is missing", poll),
            Err(error) => return self.drop_unreadable(&record, &error.to_string(), poll),
        };
        self.running.push(Accepted {
            partition: record.partition,
            offset: record.offset,
            key: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
            record_key: record.key,
            envelope,
            body: record.value,
        });
    }

    fn advance(&mut self, poll: &mut ServicePoll<'_>) -> bool {
        let mut ended = Vec::new();
        self.running.advance(&self.service, poll.wall, &mut ended);
        let worked = !ended.is_empty();
        owe(ended, poll);
        worked
    }

    fn save(&mut self) -> Result<(), BusError> {
        self.service.save().map_err(|error| BusError::Refused(error.to_string()))
    }

    fn oldest_unanswered(&self, partition: u32) -> Option<u64> {
        self.running.oldest(partition)
    }

    fn forget(&mut self, partition: u32) {
        self.running.drop_partition(partition);
    }

    fn in_flight(&self) -> usize {
        self.running.in_flight()
    }

    fn finish(&mut self, poll: &mut ServicePoll<'_>) {
        let mut ended = Vec::new();
        self.running.finish(&self.service, &mut ended);
        owe(ended, poll);
    }

    fn unfinished(&self) -> Option<String> {
        let running = self.running.in_flight();
        (running > 0).then(|| format!("{running} calls were still running; the next instance handles them"))
    }
}

/// Appends the answers of the calls that ended.
fn owe(ended: Vec<(Accepted, Option<Answer>)>, poll: &mut ServicePoll<'_>) {
    for (accepted, answer) in ended {
        let Some(Answer { kind, body }) = answer else { continue };
        let Accepted { record_key, mut envelope, .. } = accepted;
        let Some(topic) = envelope.reply_to.take() else { continue };
        let route = envelope.reply_partition.map_or(Route::ByKey, Route::To);
        let mut envelope = envelope.into_answer(kind, poll.source);
        envelope.time = Some(poll.wall);
        let headers = Headers::of(&envelope);
        poll.answers.push(Outgoing { topic: topic.into(), route, key: record_key, headers, value: body });
    }
}
