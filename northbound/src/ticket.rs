//! Requests that wait for their answer, and commands that wait for their outcome.

use std::sync::Arc;

use bus::Outgoing;
use tokio::sync::oneshot;
use wire::answer::Operation;
use wire::command::Outcome;
use wire::{OperationId, Problem, WallTime};

use crate::Gateway;

/// The answered operation of a request, or the reason why its outcome is unknown.
pub type RequestResult = Result<Operation, Problem>;

/// The hub's answer to a command, or the reason why its outcome is unknown.
pub type CommandResult = Result<Outcome, Problem>;

/// An accepted request without an answer. Dropping it gives its place back; the operation
/// continues.
#[derive(Debug)]
pub struct Ticket {
    /// The operation.
    pub operation: OperationId,
    /// The record for the inbox; see [`crate::InletHandle::send`].
    pub record: Outgoing,
    /// Not written after this time.
    pub expires: Option<WallTime>,
    /// The answer. It can be awaited, or polled with `try_recv` in a simulation.
    pub answer: oneshot::Receiver<RequestResult>,
    pub(crate) place: Place,
}

impl Ticket {
    /// The `ce_id` of the record, which distinguishes this request from a repeat with the same key.
    pub fn id(&self) -> &str {
        &self.place.id
    }

    /// Call this when the record is written and the client does not wait. The place is held until
    /// the hub publishes the operation.
    pub fn detach(mut self) {
        self.place.detached = true;
        self.place.gateway.detach(&self.place);
    }
}

/// A command without an outcome. Dropping it gives its place back.
#[derive(Debug)]
pub struct CommandTicket {
    /// The record for the inbox; see [`crate::InletHandle::send_command`].
    pub record: Outgoing,
    /// The outcome.
    pub outcome: oneshot::Receiver<CommandResult>,
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
    /// No client waits here: the gateway gives the place back.
    pub(crate) detached: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.detached {
            self.gateway.give_back(self);
        }
    }
}
