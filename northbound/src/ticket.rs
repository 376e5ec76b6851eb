//! A request that waits for its answer.

use std::sync::Arc;

use bus::Outgoing;
use tokio::sync::oneshot;
use wire::answer::Operation;
use wire::{OperationId, Problem};

use crate::Gateway;

/// What a request is told in the end: how its operation ended, or why nobody can say.
pub type Told = Result<Operation, Problem>;

/// A request that was accepted here and is not answered. Dropping it gives its place back; the operation goes on.
#[derive(Debug)]
pub struct Ticket {
    /// The operation.
    pub operation: OperationId,
    /// The record for the inbox; see [`crate::InletHandle::send`].
    pub record: Outgoing,
    /// The answer. It can be awaited, and in a simulation asked with `try_recv`.
    pub answer: oneshot::Receiver<Told>,
    pub(crate) place: Place,
}

impl Ticket {
    /// The `ce_id` of the record, which tells this request from a repeat with the same key.
    pub fn id(&self) -> &str {
        &self.place.id
    }
}

/// A place among the unanswered requests of a lane, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) lane: usize,
    pub(crate) operation: OperationId,
    pub(crate) id: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.give_back(self.lane, &self.operation, &self.id);
    }
}
