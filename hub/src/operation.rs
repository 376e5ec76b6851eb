//! One operation: its machine, its open step, its compensations, its history.
//!
//! Read in this order: this file (the state), `steps` (calls and their ends), `undo` (compensations
//! in reverse order), `view` (the published view), `saved` (consistency checks of a loaded
//! operation).

mod saved;
mod steps;
mod undo;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::Wait;
use wire::answer::{Answer, HistoryEntry};
use wire::call::CallEnd;
use wire::{CallId, OperationId, WallTime};

use crate::call::{CallSpec, UndoSpec};
use crate::cause::Cause;
use crate::event::Event;
use crate::interned::Interned;
use crate::machine::{AnyMachine, Workflows};
use crate::step::{Barrier, CallOrder};

/// Maximum number of history entries: the first [`HISTORY_HEAD`] and the newest. So an operation
/// that retries for days still shows its beginning.
const MAX_HISTORY: usize = 256;
const HISTORY_HEAD: usize = 32;

/// Maximum number of unanswered requests for one operation. A client that repeats its request
/// whenever a connection breaks has a few. With 36 bytes each, 16 are small beside the rest of the
/// operation's state.
pub(crate) const MAX_CAUSES: usize = 16;

/// The status of an operation in its hub. Saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationStatus {
    /// It waits in the queue of its key, or for one of the `active` places.
    Queued,
    /// It is running.
    Running,
    /// It broke a rule and waits for an operator.
    Parked(Parked),
    /// It has ended.
    Ended,
    /// It was cancelled before it started.
    Cancelled,
    /// It was refused: it could start only after its client's deadline.
    Refused,
    /// An operator ended it while it was parked.
    Aborted,
}

/// The state name of a request that did not become an operation, or of an operation that could
/// start only after its client's deadline.
pub(crate) const REFUSED: &str = "refused";

impl OperationStatus {
    pub(crate) fn is_over(&self) -> bool {
        match self {
            OperationStatus::Queued | OperationStatus::Running | OperationStatus::Parked(_) => false,
            OperationStatus::Ended
            | OperationStatus::Cancelled
            | OperationStatus::Refused
            | OperationStatus::Aborted => true,
        }
    }
}

/// Inputs that a parked operation handles when it resumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// The event that broke the rule and those after it. Bounded by what one record causes.
    pub(crate) events: VecDeque<Event>,
    /// The calls that ended meanwhile: at most one for each call of the open step.
    pub(crate) ends: Vec<CallEnd>,
    /// The deadline at the time of parking.
    pub(crate) timer: Option<ArmedTimer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallState {
    Waiting,
    Open,
    Done,
    Failed,
}

/// The position of a call in its operation: step and number. A full [`CallId`] repeats the
/// operation's id, a thousand times in a step of a thousand calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct CallPosition(u32, u32);

impl CallPosition {
    fn of(call: &CallId) -> Self {
        Self(call.step, call.n)
    }

    fn id(self, operation: &OperationId) -> CallId {
        CallId::new(operation.clone(), self.0, self.1)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenCall {
    spec: CallSpec,
    /// The calls that it undoes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    undoes: Vec<CallPosition>,
    state: CallState,
}

/// The open step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenStep {
    number: u32,
    #[serde(with = "crate::interned")]
    name: Interned,
    mode: CallOrder,
    barrier: Barrier,
    /// True for an undo step. A failed call does not end an undo step.
    undoing: bool,
    calls: Vec<OpenCall>,
}

impl OpenStep {
    /// Returns the number of replies that the barrier needs.
    fn needed(&self) -> usize {
        match self.barrier {
            Barrier::All => self.calls.len(),
            Barrier::First => 1.min(self.calls.len()),
            Barrier::Quorum(n) => self.calls.len().min(n as usize),
        }
    }

    fn count(&self, state: CallState) -> usize {
        self.calls.iter().filter(|call| call.state == state).count()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Compensation {
    call: CallPosition,
    mode: CallOrder,
    tag: u32,
    #[serde(with = "crate::interned")]
    service: Interned,
    key: String,
    undo: UndoSpec,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    undone: bool,
    /// True if it counts as undone because the call was never sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_sent: bool,
}

/// The running deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArmedTimer {
    pub(crate) generation: u32,
    #[serde(with = "crate::interned")]
    pub(crate) what: Interned,
    pub(crate) after_ms: u64,
}

/// The signal that an operation waits for, and its description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Awaited {
    #[serde(with = "crate::interned")]
    pub(crate) signal: Interned,
    #[serde(with = "crate::interned")]
    pub(crate) what: Interned,
}

/// A live operation. It is saved as a whole, since later events depend on every field.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact; every combination occurs")]
pub(crate) struct Running<W: Workflows> {
    pub(crate) id: OperationId,
    pub(crate) key: Arc<str>,
    /// A hash of the request. It distinguishes a repeat from another request with the same
    /// operation id.
    pub(crate) fingerprint: u64,
    /// The path and method of the request, for the same purpose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) route: String,
    /// The requests that wait for the answer, oldest first.
    pub(crate) causes: Vec<Cause>,
    pub(crate) machine: AnyMachine<W>,
    pub(crate) standing: OperationStatus,
    /// Its number in the lane; the key of its deadline.
    pub(crate) slot: u64,
    /// The client's deadline.
    pub(crate) expires: Option<WallTime>,
    pub(crate) generation: u32,
    pub(crate) timer: Option<ArmedTimer>,
    pub(crate) signal: Option<Awaited>,
    pub(crate) answer: Option<Answer>,
    pub(crate) yields: bool,
    /// True once it has received [`Event::Superseded`].
    pub(crate) superseded: bool,
    /// True if the operation that ended early for this one left it work. It then starts even after
    /// its client's deadline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherits: bool,
    /// True once it has accepted a cancel. A repeated cancel is accepted too and changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cancelled: bool,
    steps: u32,
    open: Option<OpenStep>,
    compensations: Vec<Compensation>,
    /// Numbers of the steps still to be undone; the next one is last.
    undo_steps: Vec<u32>,
    #[serde(with = "crate::interned")]
    undo_name: Interned,
    history: Vec<HistoryEntry>,
    entries: u32,
}

impl<W: Workflows> Running<W> {
    pub(crate) fn new(
        id: OperationId,
        key: &str,
        fingerprint: u64,
        cause: Cause,
        machine: AnyMachine<W>,
        slot: u64,
    ) -> Self {
        Self {
            id,
            key: key.into(),
            fingerprint,
            route: String::new(),
            causes: vec![cause],
            machine,
            standing: OperationStatus::Queued,
            slot,
            expires: None,
            generation: 0,
            timer: None,
            signal: None,
            answer: None,
            yields: false,
            superseded: false,
            inherits: false,
            cancelled: false,
            steps: 0,
            open: None,
            compensations: Vec::new(),
            undo_steps: Vec::new(),
            undo_name: "",
            history: Vec::new(),
            entries: 0,
        }
    }

    /// Returns the key of its view.
    pub(crate) fn view_key(&self) -> Arc<str> {
        Arc::clone(self.id.shared())
    }

    /// Adds a repeated request to those that wait for the answer. A queued operation takes the
    /// later of the two deadlines. Returns false if the limit of waiting requests is reached.
    pub(crate) fn add_waiting_request(&mut self, cause: &Cause, expires: Option<WallTime>) -> bool {
        if self.causes.iter().all(|other| other.id != cause.id) {
            if self.causes.len() >= MAX_CAUSES {
                return false;
            }
            self.causes.push(cause.clone());
        }
        if self.standing == OperationStatus::Queued {
            self.expires = self.expires.zip(expires).map(|(first, repeat)| first.max(repeat));
        }
        true
    }

    pub(crate) fn note(&mut self, at: WallTime, what: impl Into<String>) {
        if self.history.len() >= MAX_HISTORY {
            self.history.remove(HISTORY_HEAD);
        }
        self.entries += 1;
        self.history.push(HistoryEntry { seq: self.entries, at, what: what.into() });
    }

    /// True if any call is open.
    pub(crate) fn has_open_calls(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.calls.iter().any(|call| call.state == CallState::Open))
    }

    /// Lists what it waits for, for checks from outside. A parked operation waits for a person. The
    /// table adds the wait for the key.
    pub(crate) fn waits(&self) -> Wait {
        let mut wait = Wait { name: self.id.to_string(), deadline: None, calls: Vec::new(), others: Vec::new() };
        match self.standing {
            OperationStatus::Queued
            | OperationStatus::Ended
            | OperationStatus::Cancelled
            | OperationStatus::Refused
            | OperationStatus::Aborted => {}
            OperationStatus::Parked(_) => wait.others.push("a person".to_owned()),
            OperationStatus::Running => {
                wait.deadline = self.timer.as_ref().map(|timer| (self.slot, timer.generation));
                wait.others.extend(self.signal.map(|awaited| awaited.what.to_owned()));
                let open =
                    self.open.iter().flat_map(|open| (0..).zip(&open.calls).map(move |call| (open.number, call)));
                let open = open.filter(|(_, (_, call))| call.state == CallState::Open);
                wait.calls = open.map(|(number, (i, _))| call_id(&self.id, number, i).to_string()).collect();
            }
        }
        wait
    }

    /// True if this call is open.
    pub(crate) fn waits_for_call(&self, call: &CallId) -> bool {
        let i = call.n.checked_sub(1).and_then(|i| usize::try_from(i).ok());
        let open = self.open.as_ref().filter(|open| open.number == call.step);
        open.zip(i).and_then(|(open, i)| open.calls.get(i)).is_some_and(|call| call.state == CallState::Open)
    }

    /// True if this step is open.
    pub(crate) fn is_at(&self, step: u32) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == step)
    }

    /// True if it is answered, yields its key, and has not received [`Event::Superseded`] yet.
    pub(crate) fn can_be_superseded(&self) -> bool {
        self.yields && self.answer.is_some() && !self.superseded
    }
}

fn call_id(operation: &OperationId, step: u32, i: usize) -> CallId {
    CallId::new(operation.clone(), step, count(i) + 1)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a step has fewer than 2^32 calls")
}
