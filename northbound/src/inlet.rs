//! The way in: from tickets to the inbox.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use bus::{Bus, BusError, Outgoing, Part, Turn, Writer};
use wire::{Code, OperationId, Problem};

use crate::{Gateway, Ticket, metrics};

/// So many requests may wait to be written: two batches, so that one fills while the other is written.
const WAITING: usize = 1_024;

/// So many requests are written as one: enough to share the cost of a sync, and at 64 KiB each no more than 32 MB.
const BATCH: usize = 512;

/// Writes requests to the inbox, as many at once as there are.
pub struct Inlet {
    gateway: Arc<Gateway>,
    writer: Box<dyn Writer>,
    requests: Receiver<Entry>,
    /// Kept so that waiting on `requests` ends with the time, and never because all other handles are gone.
    handle: InletHandle,
    batch: Vec<Entry>,
}

/// Where requests are handed in.
#[derive(Debug, Clone)]
pub struct InletHandle(SyncSender<Entry>);

/// A request on its way to the inbox.
#[derive(Debug)]
struct Entry {
    operation: OperationId,
    id: String,
    record: Outgoing,
}

impl InletHandle {
    /// Hands the record of `ticket` in. It never waits.
    ///
    /// # Errors
    /// [`Code::Busy`] where too many wait already, [`Code::NotReady`] where the inlet has stopped. Nothing was written then.
    pub fn send(&self, ticket: &Ticket) -> Result<(), Problem> {
        let entry =
            Entry { operation: ticket.operation.clone(), id: ticket.id().into(), record: ticket.record.clone() };
        self.0.try_send(entry).map_err(|error| match error {
            TrySendError::Full(_) => {
                metrics::busy();
                Problem::new(Code::Busy, format!("{WAITING} requests wait to be written; try again later"))
            }
            TrySendError::Disconnected(_) => Problem::new(Code::NotReady, "requests are no longer taken: a shutdown"),
        })
    }
}

impl Inlet {
    /// An inlet of `gateway`.
    ///
    /// # Errors
    /// Where the bus gives no writer.
    pub fn open(bus: &dyn Bus, gateway: Arc<Gateway>) -> Result<Self, BusError> {
        let writer = bus.writer("northbound")?;
        let (sender, requests) = sync_channel(WAITING);
        Ok(Self { gateway, writer, requests, handle: InletHandle(sender), batch: Vec::new() })
    }

    /// Where requests are handed in.
    pub fn handle(&self) -> InletHandle {
        self.handle.clone()
    }

    /// Takes what has been handed in, waiting at most `wait` for the first.
    fn fill(&mut self, wait: Duration) {
        let first = if wait.is_zero() {
            self.requests.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            self.requests.recv_timeout(wait)
        };
        self.batch.extend(first.ok());
        if !self.batch.is_empty() {
            self.batch.extend(self.requests.try_iter().take(BATCH - 1));
        }
    }

    /// Writes the batch. Where that fails, each of its requests is told that nobody knows whether it was written.
    fn write(&mut self) -> Result<(), BusError> {
        let entries = std::mem::take(&mut self.batch);
        let (named, records): (Vec<_>, Vec<_>) =
            entries.into_iter().map(|entry| ((entry.operation, entry.id), entry.record)).unzip();
        let result = self.writer.append(&records);
        let Err(error) = &result else { return result };
        metrics::not_written(named.len());
        tracing::warn!(requests = named.len(), %error, "requests may not have been written");
        for (operation, id) in named {
            self.gateway.fail(&operation, &id, &not_certain(&operation, error));
        }
        result
    }
}

/// What a request is told whose record may have been written, or not.
fn not_certain(operation: &OperationId, error: &BusError) -> Problem {
    let detail = format!(
        "the request may or may not have been taken ({error}); GET /v1/operations/{operation} shows it once it runs, and \
         the same request with the same Idempotency-Key can be sent again"
    );
    Problem::new(Code::NotReady, detail)
}

impl Part for Inlet {
    fn name(&self) -> &'static str {
        "northbound inlet"
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        self.fill(wait);
        if self.batch.is_empty() {
            return Ok(Turn { worked: false, next: None });
        }
        match self.write() {
            // These pass: the bus may come back, and the next batch may hold no record that is too large.
            Ok(()) | Err(BusError::Unavailable(_) | BusError::TooLarge { .. }) => Ok(Turn { worked: true, next: None }),
            Err(error) => Err(error),
        }
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        let mut left = Vec::new();
        loop {
            self.fill(Duration::ZERO);
            if self.batch.is_empty() {
                return left;
            }
            let requests = self.batch.len();
            if let Err(error) = self.write() {
                left.push(format!("northbound: {requests} requests may not have been written: {error}"));
            }
        }
    }
}
