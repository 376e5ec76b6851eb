//! One operation, as its hub keeps it: its machine, its open step, what can be undone, its history.
//!
//! Read in this order: this file (what there is of it), `steps` (calls and their ends), `undo` (in reverse), `view` (how it is shown),
//! `saved` (what is asked of one that was loaded).

mod saved;
mod steps;
mod undo;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::Wait;
use wire::answer::{Answer, Entry};
use wire::call::CallEnd;
use wire::{CallId, OperationId, WallTime};

use crate::cause::Cause;
use crate::machine::{AnyOf, Workflows};
use crate::word::Word;
use crate::workflow::{Barrier, CallSpec, Event, Mode, UndoSpec};

/// A history has at most this many entries: the first [`HISTORY_HEAD`] and the newest. An operation that goes on trying for
/// days shows how it began and where it is.
const HISTORY: usize = 256;
const HISTORY_HEAD: usize = 32;

/// Maximum number of requests that wait for the answer of one operation; the next is refused. A client that repeats its request
/// each time a connection breaks has a few; with 36 bytes each, 16 are well below the rest of an operation's state.
pub(crate) const CAUSES: usize = 16;

/// Where an operation stands with its hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It waits for its turn on its key.
    Queued,
    /// It works.
    Running,
    /// It broke a rule, and stands still.
    Parked(Parked),
    /// It is over.
    Ended,
    /// It is over: cancelled before its turn.
    Cancelled,
    /// It is over: its turn came too late.
    Refused,
    /// It is over: a person ended it while it was parked.
    Aborted,
}

/// The state of a request that did not become an operation, or of one whose turn came too late.
pub(crate) const REFUSED: &str = "refused";

impl Standing {
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Standing::Queued | Standing::Running | Standing::Parked(_) => false,
            Standing::Ended | Standing::Cancelled | Standing::Refused | Standing::Aborted => true,
        }
    }
}

/// What a parked operation has yet to handle, if it is to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// From the event that it broke the rule on. As many as one record brings.
    pub(crate) events: VecDeque<Event>,
    /// How calls ended meanwhile: one for each call of the open step, at most.
    pub(crate) ends: Vec<CallEnd>,
    /// The deadline that it had.
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

/// A call by its place in its operation, step and number. Its id has the operation's in it, a thousand times over where a step
/// has as many calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place(u32, u32);

impl Place {
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
    undoes: Vec<Place>,
    state: CallState,
}

/// A step that is open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenStep {
    number: u32,
    #[serde(with = "crate::word")]
    name: Word,
    mode: Mode,
    barrier: Barrier,
    /// True where it undoes; then its calls fail without ending it.
    undoing: bool,
    calls: Vec<OpenCall>,
}

impl OpenStep {
    /// How many answers it needs.
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
    call: Place,
    mode: Mode,
    tag: u32,
    #[serde(with = "crate::word")]
    service: Word,
    key: String,
    undo: UndoSpec,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    undone: bool,
    /// It is undone for the reason that it was never done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_sent: bool,
}

/// What an operation waits for by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArmedTimer {
    pub(crate) generation: u32,
    #[serde(with = "crate::word")]
    pub(crate) what: Word,
    pub(crate) after_ms: u64,
}

/// What an operation waits for somebody to say, and in words for what that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Awaited {
    #[serde(with = "crate::word")]
    pub(crate) signal: Word,
    #[serde(with = "crate::word")]
    pub(crate) what: Word,
}

/// A live operation. It is saved whole: what a field knows, later events depend on.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own: any two of them go together")]
pub(crate) struct Running<W: Workflows> {
    pub(crate) id: OperationId,
    pub(crate) key: Arc<str>,
    /// A hash of the request, to tell a repeat from another request with its name.
    pub(crate) fingerprint: u64,
    /// Where the client sent it, for the same purpose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) route: String,
    /// The requests that wait for its answer, the first one first.
    pub(crate) causes: Vec<Cause>,
    pub(crate) machine: AnyOf<W>,
    pub(crate) standing: Standing,
    /// Its number in the lane: the key of its deadline.
    pub(crate) slot: u64,
    /// The client has no use for it after this.
    pub(crate) expires: Option<WallTime>,
    pub(crate) generation: u32,
    pub(crate) timer: Option<ArmedTimer>,
    pub(crate) signal: Option<Awaited>,
    pub(crate) answer: Option<Answer>,
    pub(crate) yields: bool,
    /// It was told that a newer operation wants its key.
    pub(crate) superseded: bool,
    /// One that made way for it left it something to do: it is begun, whatever its client wants.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherits: bool,
    /// It took a cancel: another one changes nothing, and is taken as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cancelled: bool,
    steps: u32,
    open: Option<OpenStep>,
    compensations: Vec<Compensation>,
    /// Steps still to be undone, the next one last.
    undo_steps: Vec<u32>,
    #[serde(with = "crate::word")]
    undo_name: Word,
    history: Vec<Entry>,
    entries: u32,
}

impl<W: Workflows> Running<W> {
    pub(crate) fn new(
        id: OperationId,
        key: &str,
        fingerprint: u64,
        cause: Cause,
        machine: AnyOf<W>,
        slot: u64,
    ) -> Self {
        Self {
            id,
            key: key.into(),
            fingerprint,
            route: String::new(),
            causes: vec![cause],
            machine,
            standing: Standing::Queued,
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

    /// The key of its view.
    pub(crate) fn view_key(&self) -> Arc<str> {
        Arc::clone(self.id.shared())
    }

    /// A repeat came, and waits for the answer. Before its turn the operation takes the later deadline of the two. False where
    /// the limit of requests that wait is reached.
    pub(crate) fn asked_again(&mut self, cause: &Cause, expires: Option<WallTime>) -> bool {
        if self.causes.iter().all(|known| known.id != cause.id) {
            if self.causes.len() >= CAUSES {
                return false;
            }
            self.causes.push(cause.clone());
        }
        if self.standing == Standing::Queued {
            self.expires = self.expires.zip(expires).map(|(first, again)| first.max(again));
        }
        true
    }

    pub(crate) fn note(&mut self, at: WallTime, what: impl Into<String>) {
        if self.history.len() >= HISTORY {
            self.history.remove(HISTORY_HEAD);
        }
        self.entries += 1;
        self.history.push(Entry { seq: self.entries, at, what: what.into() });
    }

    /// True where a call is open.
    pub(crate) fn has_open_calls(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.calls.iter().any(|call| call.state == CallState::Open))
    }

    /// What it waits for, for those who look from outside. One that is parked waits for a person; its turn is its table's to say.
    pub(crate) fn waits(&self) -> Wait {
        let mut wait = Wait { who: self.id.to_string(), deadline: None, calls: Vec::new(), others: Vec::new() };
        match self.standing {
            Standing::Queued | Standing::Ended | Standing::Cancelled | Standing::Refused | Standing::Aborted => {}
            Standing::Parked(_) => wait.others.push("a person".to_owned()),
            Standing::Running => {
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

    /// True where this call is open.
    pub(crate) fn waits_for_call(&self, call: &CallId) -> bool {
        let i = call.n.checked_sub(1).and_then(|i| usize::try_from(i).ok());
        let open = self.open.as_ref().filter(|open| open.number == call.step);
        open.zip(i).and_then(|(open, i)| open.calls.get(i)).is_some_and(|call| call.state == CallState::Open)
    }

    /// True where this step is open.
    pub(crate) fn is_at(&self, step: u32) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == step)
    }

    /// True where it is answered and lets a newer operation take its key, and was not told of one yet.
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
