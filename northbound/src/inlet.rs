//! The way in: from tickets to the inbox.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use bus::{Bus, BusError, Clock, Outgoing, Part, Turn, Writer};
use tokio::sync::oneshot;
use wire::{Code, OperationId, Problem, WallTime};

use crate::gateway::too_late;
use crate::ticket::Place;
use crate::{CommandTicket, Gateway, Ticket, metrics};

/// So many requests may wait to be written: two batches, so that one fills while the other is written.
const WAITING: usize = 1_024;

/// So many requests are written as one: enough to share the cost of a sync, and at 64 KiB each no more than 32 MB.
const BATCH: usize = 512;

/// Writes requests to their inboxes, and wishes to the control topic, as many at once as there are.
pub struct Inlet {
    writer: Box<dyn Writer>,
    clock: Arc<dyn Clock>,
    requests: Receiver<Entry>,
    /// Kept so that waiting on `requests` ends with the time, and never because all other handles are gone.
    handle: InletHandle,
    batch: Vec<Entry>,
}

/// Where requests are handed in.
#[derive(Debug, Clone)]
pub struct InletHandle(SyncSender<Entry>);

/// A record on its way to the bus.
#[derive(Debug)]
struct Entry {
    record: Outgoing,
    /// Not to be written after this.
    expires: Option<WallTime>,
    /// The request that it is; none for what is no request.
    request: Option<(Arc<Gateway>, OperationId, Arc<str>)>,
    written: oneshot::Sender<Result<(), Problem>>,
}

/// Says whether a record was written. Who does not want to know drops it.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<Result<(), Problem>>);

impl Written {
    /// Waits until the record is durable.
    ///
    /// # Errors
    /// [`Code::NotReady`] where nobody knows whether it was written, or where it was not, since its time was over.
    pub async fn durable(&mut self) -> Result<(), Problem> {
        let gone = || Err(Problem::new(Code::NotReady, "the process stops; the request may not have been taken"));
        (&mut self.0).await.unwrap_or_else(|_| gone())
    }

    /// The same, for those who cannot wait: none where it is not known yet.
    pub fn known(&mut self) -> Option<Result<(), Problem>> {
        self.0.try_recv().ok()
    }
}

impl InletHandle {
    /// Hands the record of `ticket` in. It never waits.
    ///
    /// # Errors
    /// [`Code::Busy`] where too many wait already, [`Code::NotReady`] where the inlet has stopped. Nothing was written then.
    pub fn send(&self, ticket: &Ticket) -> Result<Written, Problem> {
        self.hand_in(ticket.record.clone(), ticket.expires, Some(&ticket.place))
    }

    /// Hands the record of a command in. It never waits.
    ///
    /// # Errors
    /// As for [`InletHandle::send`].
    pub fn order(&self, ticket: &CommandTicket) -> Result<Written, Problem> {
        self.hand_in(ticket.record.clone(), None, Some(&ticket.place))
    }

    /// Hands a record in that is no request: what is wished of a topology. It never waits.
    ///
    /// # Errors
    /// As for [`InletHandle::send`].
    pub fn write(&self, record: Outgoing) -> Result<Written, Problem> {
        self.hand_in(record, None, None)
    }

    fn hand_in(&self, record: Outgoing, expires: Option<WallTime>, place: Option<&Place>) -> Result<Written, Problem> {
        let request = place.map(|place| (Arc::clone(&place.gateway), place.operation.clone(), Arc::clone(&place.id)));
        let (written, is_written) = oneshot::channel();
        let sent = self.0.try_send(Entry { record, expires, request, written });
        sent.map_err(|error| match error {
            TrySendError::Full(_) => {
                metrics::busy();
                Problem::new(Code::Busy, format!("{WAITING} requests wait to be written; try again later"))
            }
            TrySendError::Disconnected(_) => Problem::new(Code::NotReady, "requests are no longer taken: a shutdown"),
        })?;
        Ok(Written(is_written))
    }
}

/// Longest wait for a request: a waiting receiver cannot be woken for a stop.
const WAIT: Duration = Duration::from_millis(250);

impl Inlet {
    /// An inlet for every gateway.
    ///
    /// # Errors
    /// Where the bus gives no writer.
    pub fn open(bus: &dyn Bus) -> Result<Self, BusError> {
        let writer = bus.writer("northbound")?;
        let (sender, requests) = sync_channel(WAITING);
        Ok(Self { writer, clock: bus.clock(), requests, handle: InletHandle(sender), batch: Vec::new() })
    }

    /// Where requests are handed in.
    pub fn handle(&self) -> InletHandle {
        self.handle.clone()
    }

    /// Takes what has been handed in, waiting at most `wait` for the first. True where there was something.
    fn fill(&mut self, wait: Duration) -> bool {
        let first = if wait.is_zero() {
            self.requests.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            self.requests.recv_timeout(wait.min(WAIT))
        };
        let Ok(first) = first else { return false };
        self.batch.push(first);
        self.batch.extend(self.requests.try_iter().take(BATCH - 1));
        self.refuse_late();
        true
    }

    /// What nobody has a use for any more is not written.
    fn refuse_late(&mut self) {
        let now = self.clock.wall();
        let is_late = |entry: &mut Entry| entry.expires.is_some_and(|expires| expires <= now);
        for entry in self.batch.extract_if(.., is_late) {
            entry.fails(&too_late());
        }
    }

    /// Writes the batch. Where that fails, each of its requests is told that nobody knows whether it was written.
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
                    let problem = not_certain(entry.request.as_ref().map(|(_, operation, _)| operation), error);
                    entry.fails(&problem);
                }
            }
        }
        result
    }
}

impl Entry {
    fn fails(self, problem: &Problem) {
        if let Some((gateway, operation, id)) = self.request {
            gateway.fail(&operation, &id, problem);
        }
        drop(self.written.send(Err(problem.clone())));
    }
}

/// What a request is told whose record may have been written, or not.
fn not_certain(operation: Option<&OperationId>, error: &BusError) -> Problem {
    let then = operation.map_or_else(String::new, |operation| {
        format!(
            "; GET /v1/operations/{operation} shows it once it runs, and the same request with the same Idempotency-Key \
             can be sent again"
        )
    });
    Problem::new(Code::NotReady, format!("the request may or may not have been taken ({error}){then}"))
}

impl Part for Inlet {
    fn name(&self) -> &'static str {
        "northbound inlet"
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        let worked = self.fill(wait);
        if self.batch.is_empty() {
            return Ok(Turn { worked, next: None });
        }
        match self.write() {
            // These pass: the bus may come back, and the next batch may hold no record that is too large.
            Ok(()) | Err(BusError::Unavailable(_) | BusError::TooLarge { .. }) => Ok(Turn { worked: true, next: None }),
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
