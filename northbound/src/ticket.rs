//! A request that waits for its answer, and a command that waits for its outcome.

use std::sync::Arc;

use bus::Outgoing;
use tokio::sync::oneshot;
use wire::answer::Operation;
use wire::command::Outcome;
use wire::{OperationId, Problem, WallTime};

use crate::Gateway;

/// What a request is told in the end: how its operation ended, or why nobody can say.
pub type Told = Result<Operation, Problem>;

/// What who gave a command is told: what the hub made of it, or why nobody can say.
pub type ToldCommand = Result<Outcome, Problem>;

/// A request that was accepted here and is not answered. Dropping it gives its place back; the operation goes on.
#[derive(Debug)]
pub struct Ticket {
    /// The operation.
    pub operation: OperationId,
    /// The record for the inbox; see [`crate::InletHandle::send`].
    pub record: Outgoing,
    /// Not to be written after this.
    pub expires: Option<WallTime>,
    /// The answer. It can be awaited, and in a simulation asked with `try_recv`.
    pub answer: oneshot::Receiver<Told>,
    pub(crate) place: Place,
}

impl Ticket {
    /// The `ce_id` of the record, which tells this request from a repeat with the same key.
    pub fn id(&self) -> &str {
        &self.place.id
    }

    /// The client does not wait, and its operation is written. Its place stays taken until the hub has said a first word of
    /// the operation.
    pub fn detach(mut self) {
        self.place.detached = true;
        self.place.gateway.detach(&self.place);
    }
}

/// A command that waits for its outcome. Dropping it gives its place back.
#[derive(Debug)]
pub struct CommandTicket {
    /// The record for the inbox; see [`crate::InletHandle::order`].
    pub record: Outgoing,
    /// What becomes of it.
    pub outcome: oneshot::Receiver<ToldCommand>,
    pub(crate) place: Place,
}

/// A place among the unanswered requests of a lane, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) stage: usize,
    pub(crate) lane: usize,
    pub(crate) operation: OperationId,
    pub(crate) id: Arc<str>,
    /// Nobody waits here any more: the gateway gives the place back by itself.
    pub(crate) detached: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.detached {
            self.gateway.give_back(self);
        }
    }
}
