//! Writes the records of tickets to inboxes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use bus::{Bus, BusError, Clock, Outgoing, PollOutcome, Task, Writer};
use tokio::sync::oneshot;
use wire::{Code, OperationId, Problem, WallTime};

use crate::gateway::too_late;
use crate::ticket::Place;
use crate::{CommandTicket, Gateway, Ticket, metrics};

/// Maximum number of queued requests: two batches, so that one fills while the other is written.
const MAX_QUEUED: usize = 1_024;

/// Maximum number of requests per write: enough to share the cost of a sync, and at most 32 MB at
/// 64 KiB each.
const MAX_BATCH: usize = 512;

/// Writes requests to inboxes and submissions to the control topic, in batches.
pub struct Inlet {
    writer: Box<dyn Writer>,
    clock: Arc<dyn Clock>,
    requests: Receiver<QueuedRecord>,
    /// Kept so that a wait for `requests` ends by timeout, not because all other handles are
    /// dropped.
    handle: InletHandle,
    batch: Vec<QueuedRecord>,
}

/// Sends records to an [`Inlet`].
#[derive(Debug, Clone)]
pub struct InletHandle(SyncSender<QueuedRecord>);

/// A record in the queue.
#[derive(Debug)]
struct QueuedRecord {
    record: Outgoing,
    /// Not written after this time.
    expires: Option<WallTime>,
    /// The request of the record, if it is one.
    request: Option<(Arc<Gateway>, OperationId, Arc<str>)>,
    written: oneshot::Sender<Result<(), Problem>>,
}

/// Reports whether a record was written. It can be dropped.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<Result<(), Problem>>);

impl Written {
    /// Waits until the record is durable.
    ///
    /// # Errors
    /// [`Code::NotReady`] if the record was not written before its deadline, or if the result is
    /// unknown.
    pub async fn durable(&mut self) -> Result<(), Problem> {
        let gone =
            || Err(Problem::new(Code::NotReady, "the process is stopping; the request may not have been accepted"));
        (&mut self.0).await.unwrap_or_else(|_| gone())
    }

    /// The same without waiting: none while the result is not known.
    pub fn try_result(&mut self) -> Option<Result<(), Problem>> {
        self.0.try_recv().ok()
    }
}

impl InletHandle {
    /// Queues the record of a ticket. Never waits.
    ///
    /// # Errors
    /// [`Code::Busy`] if the queue is full, [`Code::NotReady`] if the inlet has stopped. Nothing
    /// was written then.
    pub fn send(&self, ticket: &Ticket) -> Result<Written, Problem> {
        self.enqueue(ticket.record.clone(), ticket.expires, Some(&ticket.place))
    }

    /// Queues the record of a command. Never waits.
    ///
    /// # Errors
    /// As for [`InletHandle::send`].
    pub fn send_command(&self, ticket: &CommandTicket) -> Result<Written, Problem> {
        self.enqueue(ticket.record.clone(), None, Some(&ticket.place))
    }

    /// Queues a record that is not a request, such as a submission. Never waits.
    ///
    /// # Errors
    /// As for [`InletHandle::send`].
    pub fn write(&self, record: Outgoing) -> Result<Written, Problem> {
        self.enqueue(record, None, None)
    }

    fn enqueue(&self, record: Outgoing, expires: Option<WallTime>, place: Option<&Place>) -> Result<Written, Problem> {
        let request = place.map(|place| (Arc::clone(&place.gateway), place.operation.clone(), Arc::clone(&place.id)));
        let (written, is_written) = oneshot::channel();
        let sent = self.0.try_send(QueuedRecord { record, expires, request, written });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => {
                metrics::busy();
                Problem::new(
                    Code::Busy,
                    format!("the limit of {MAX_QUEUED} requests that wait to be written is reached; try again later"),
                )
            }
            TrySendError::Disconnected(_) => {
                Problem::new(Code::NotReady, "the process is stopping and accepts no requests")
            }
        })?;
        Ok(Written(is_written))
    }
}

/// Maximum wait for a request: a waiting receiver cannot be woken by a stop.
const MAX_POLL: Duration = Duration::from_millis(250);

impl Inlet {
    /// An inlet for all gateways.
    ///
    /// # Errors
    /// If the bus provides no writer.
    pub fn open(bus: &dyn Bus) -> Result<Self, BusError> {
        let writer = bus.writer("northbound")?;
        let (sender, requests) = sync_channel(MAX_QUEUED);
        Ok(Self { writer, clock: bus.clock(), requests, handle: InletHandle(sender), batch: Vec::new() })
    }

    /// A handle to send records.
    pub fn handle(&self) -> InletHandle {
        self.handle.clone()
    }

    /// Fills the batch, waiting at most `wait` for the first record. True if there was one.
    fn fill(&mut self, wait: Duration) -> bool {
        let first = if wait.is_zero() {
            self.requests.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            self.requests.recv_timeout(wait.min(MAX_POLL))
        };
        let Ok(first) = first else { return false };
        self.batch.push(first);
        self.batch.extend(self.requests.try_iter().take(MAX_BATCH - 1));
        self.refuse_late();
        true
    }

    /// Fails the records whose deadline has passed.
    fn refuse_late(&mut self) {
        let now = self.clock.wall();
        let is_late = |entry: &mut QueuedRecord| entry.expires.is_some_and(|expires| expires <= now);
        for entry in self.batch.extract_if(.., is_late) {
            entry.fail(&too_late());
        }
    }

    /// Writes the batch. If that fails, the outcome of each request is unknown, and its client
    /// gets an error that says so.
    fn write(&mut self) -> Result<(), BusError> {
        let mut entries = std::mem::take(&mut self.batch);
        let records: Vec<_> = entries.iter_mut().map(|entry| entry.record.clone()).collect();
        let result = self.writer.append(&records);
        match &result {
            Ok(()) => {
                for entry in entries {
                    drop(entry.written.send(Ok(())));
                }
            }
            Err(error) => {
                metrics::not_written(entries.len());
                tracing::warn!(requests = entries.len(), %error, "requests may not have been written");
                for entry in entries {
                    let problem = unknown_outcome(entry.request.as_ref().map(|(_, operation, _)| operation), error);
                    entry.fail(&problem);
                }
            }
        }
        result
    }
}

impl QueuedRecord {
    fn fail(self, problem: &Problem) {
        if let Some((gateway, operation, id)) = self.request {
            gateway.fail(&operation, &id, problem);
        }
        drop(self.written.send(Err(problem.clone())));
    }
}

/// The answer to a request whose record may or may not have been written.
fn unknown_outcome(operation: Option<&OperationId>, error: &BusError) -> Problem {
    let then = operation.map_or_else(String::new, |operation| {
        format!(
            "; GET /v1/operations/{operation} shows it once it runs; the same request can be repeated with the same \
             Idempotency-Key"
        )
    });
    Problem::new(Code::NotReady, format!("it is unknown whether the request was accepted ({error}){then}"))
}

impl Task for Inlet {
    fn name(&self) -> &'static str {
        "northbound inlet"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let worked = self.fill(wait);
        if self.batch.is_empty() {
            return Ok(PollOutcome { worked, next: None });
        }
        match self.write() {
            // Temporary errors: the bus may recover, and the next batch may hold no record that is
            // too large.
            Ok(()) | Err(BusError::Unavailable(_) | BusError::TooLarge { .. }) => {
                Ok(PollOutcome { worked: true, next: None })
            }
            Err(error) => Err(error),
        }
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        let mut left = Vec::new();
        while self.fill(Duration::ZERO) {
            let requests = self.batch.len();
            if requests > 0
                && let Err(error) = self.write()
            {
                left.push(format!("northbound: {requests} requests may not have been written: {error}"));
            }
        }
        left
    }
}
