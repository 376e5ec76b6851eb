//! What a user writes: a state machine with a key, driven by events, that returns effects.

use std::fmt;

use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::answer::Answer;
use wire::call::CallOutcome;
use wire::{OperationId, Problem};

/// A state machine with a key.
///
/// `on` is one `match` over state and event; a pair that cannot happen is [`Illegal`], which parks the operation. It is
/// pure: no clock, no chance, nothing from outside. The table of its transitions heads its file, and
/// [`crate::check`] compares the two.
pub trait Workflow: Sized + 'static {
    /// Its name, as requests say it.
    const NAME: &'static str;
    /// Its states.
    type State: State;
    /// What all its operations in one lane share: pools, a registry. Lane state, with one owner.
    type Lane: Default + 'static;

    /// Takes the settings for what the lane shares. Called before the first operation, and when an owner record brings others.
    fn configure(_lane: &mut Self::Lane, _settings: &Settings, _info: &LaneInfo) {}

    /// Reads a request for `key`. Nothing may be taken from the lane yet: the operation may have to wait for its turn.
    ///
    /// # Errors
    /// The problem that the client is told; then nothing was done.
    fn read(operation: &OperationId, key: &str, request: &Value) -> Result<Self, Problem>;

    /// Handles an event in a state: the next state, and through `fx` what is to be done.
    ///
    /// # Errors
    /// Where the pair cannot happen.
    fn on(&mut self, state: Self::State, event: &Event, fx: &mut Fx<'_, Self>) -> Result<Self::State, Illegal>;
}

/// The states of a workflow: an enum without fields.
pub trait State: Copy + Eq + fmt::Debug + 'static {
    /// All of them; the first is the one before `requested`, called `-`.
    const ALL: &'static [Self];

    /// Its name, as tables, views and diagrams say it.
    fn name(self) -> &'static str;
}

/// What can happen to a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come.
    Requested,
    /// A call of the open step was answered.
    Replied {
        /// The call's tag.
        tag: u32,
        /// The body, as JSON text.
        body: String,
    },
    /// Every call of the open step was answered.
    AllReplied,
    /// A call of the open step ended without an answer. The step is over: its other calls are abandoned.
    Failed(CallFailure),
    /// The deadline of the step, or of a wait, has passed. The step is over.
    TimedOut,
    /// Everything that was to be undone is undone.
    Undone,
    /// Something could not be undone, or not in time.
    UndoStuck {
        /// The tags of what is left.
        left: Vec<u32>,
    },
    /// A newer operation wants the key of one that said [`Fx::yields`]. It comes once.
    Superseded,
}

impl Event {
    /// The names of all events, as tables and diagrams say them.
    pub const NAMES: [&str; 8] =
        ["requested", "replied", "all replied", "failed", "timed out", "undone", "undo stuck", "superseded"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Requested => "requested",
            Event::Replied { .. } => "replied",
            Event::AllReplied => "all replied",
            Event::Failed(_) => "failed",
            Event::TimedOut => "timed out",
            Event::Undone => "undone",
            Event::UndoStuck { .. } => "undo stuck",
            Event::Superseded => "superseded",
        }
    }
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// The call's tag.
    pub tag: u32,
    /// The call in words.
    pub what: String,
    /// How it ended; never a reply.
    pub outcome: CallOutcome,
    /// How often it was sent.
    pub attempts: u32,
}

/// A pair of state and event that cannot happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal;

/// A call to a spoke, as a workflow asks for it. It gets its id from its place in the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSpec {
    /// The workflow's own number for it: events name it. Calls that can be undone have different tags in all steps.
    pub tag: u32,
    /// The service.
    pub service: &'static str,
    /// The spoke's key: one key sees its requests in order.
    pub key: String,
    /// In words: "install rule 8 on of:08".
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// It ends after so many milliseconds, however often it was sent.
    pub within_ms: u64,
    /// How it is undone. Declared beside the doing, so that it cannot be forgotten.
    pub undo: Option<UndoSpec>,
    /// A drill: the worker swallows it.
    pub swallow: bool,
}

/// How a call is undone: a call to the same service and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoSpec {
    /// In words.
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// It ends after so many milliseconds.
    pub within_ms: u64,
    /// Undone even where the call was certainly not done: what it would have done may stand there from an operation before.
    pub always: bool,
}

/// How the calls of a step follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All at once, and a barrier on their answers.
    AtOnce,
    /// Each after the answer of the one before.
    OneByOne,
}

/// A step: calls, and a barrier on their answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSpec {
    /// Its name, as views and answers say it.
    pub name: &'static str,
    /// How its calls follow each other.
    pub mode: Mode,
    /// Its deadline, in milliseconds.
    pub within_ms: u64,
    /// Its calls. Without any, every call of it was answered.
    pub calls: Vec<CallSpec>,
}

/// Collects what a workflow decides.
pub struct Fx<'a, W: Workflow> {
    /// What the operations of the lane share.
    pub lane: &'a mut W::Lane,
    pub(crate) decided: Decided,
}

/// What a workflow decided on one event.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) next: Option<Next>,
    pub(crate) answer: Option<Answer>,
    pub(crate) keep: Vec<u32>,
    pub(crate) again: Vec<u32>,
    pub(crate) notes: Vec<String>,
    pub(crate) yields: bool,
    pub(crate) end: bool,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Step(StepSpec),
    Undo { name: &'static str, within_ms: u64 },
    Wait { what: &'static str, after_ms: u64 },
}

impl<'a, W: Workflow> Fx<'a, W> {
    pub(crate) fn new(lane: &'a mut W::Lane) -> Self {
        Self { lane, decided: Decided::default() }
    }

    /// Begins a step. What was open before is over.
    pub fn step(&mut self, step: StepSpec) {
        self.decided.next = Some(Next::Step(step));
    }

    /// Undoes every call that was sent, can be undone, and was not kept: the last step first; what was done at once is
    /// undone at once, what was done one by one is undone one by one, from the last. Ends in [`Event::Undone`] or
    /// [`Event::UndoStuck`].
    pub fn undo(&mut self, name: &'static str, within_ms: u64) {
        self.decided.next = Some(Next::Undo { name, within_ms });
    }

    /// Waits for so many milliseconds, then [`Event::TimedOut`].
    pub fn wait(&mut self, what: &'static str, after_ms: u64) {
        self.decided.next = Some(Next::Wait { what, after_ms });
    }

    /// The call with this tag is not to be undone: it changed nothing.
    pub fn keep(&mut self, tag: u32) {
        self.decided.keep.push(tag);
    }

    /// The call with this tag was undone, and has to be undone once more.
    pub fn undo_again(&mut self, tag: u32) {
        self.decided.again.push(tag);
    }

    /// Answers the client. Once; the operation may go on after it.
    pub fn answer(&mut self, answer: Answer) {
        self.decided.answer = Some(answer);
    }

    /// Adds a line to the history.
    pub fn note(&mut self, text: impl Into<String>) {
        self.decided.notes.push(text.into());
    }

    /// From now on a newer operation on the key does not wait: this one gets [`Event::Superseded`].
    pub fn yields(&mut self) {
        self.decided.yields = true;
    }

    /// Ends the operation.
    pub fn end(&mut self) {
        self.decided.end = true;
    }
}
