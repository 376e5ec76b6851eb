//! What a user writes: a state machine with a key, driven by events, that returns effects.

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::answer::{Answer, Resource};
use wire::call::CallOutcome;
use wire::{OperationId, Problem};

use crate::lane::LaneState;
use crate::word::Word;

/// A state machine with a key.
///
/// `on` is one `match` over state and event; a pair that cannot happen is [`Illegal`], which parks the operation. It is
/// pure: no clock, no chance, nothing from outside. The table of its transitions heads its file, and
/// [`crate::check`] compares the two.
///
/// It is saved while it runs, as JSON, and has to come back from it as it was: all that later events depend on is in its
/// fields, and none is skipped. A change of fields, of states or of what is decided is a new [`Workflow::VERSION`]; operations
/// that run in an older one come by way of [`Workflow::migrate`]. A lane with an operation that this build cannot read is held
/// (NAVE-0061) and waits for a build that can: what was decided is never decided again.
///
/// ```
/// # use hub::{Event, Fx, Illegal, Saved, Workflow};
/// # use serde_json::json;
/// # use wire::{OperationId, Problem};
/// # hub::states! { pub enum S { New = "-", Paying = "paying" } }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Order { item: String, currency: String }
///
/// impl Workflow for Order {
///     const NAME: &'static str = "order";
///     const VERSION: u32 = 2;
///     fn migrate(from: u32, mut saved: Saved) -> Result<Saved, String> {
///         // Version 1 knew one currency, and called its state "charging".
///         saved.body["currency"] = json!("EUR");
///         if saved.state == "charging" {
///             saved.state = "paying".to_owned();
///         }
///         Ok(saved)
///     }
/// #   type State = S;
/// #   type Request = String;
/// #   type Lane = ();
/// #   fn begin(_: &OperationId, _: &str, item: String) -> Result<Self, Problem> {
/// #       Ok(Self { item, currency: "EUR".into() })
/// #   }
/// #   fn on(&mut self, _: S, _: &Event, _: &mut Fx<'_, Self>) -> Result<S, Illegal> { Err(Illegal) }
/// }
///
/// // A golden state: what version 1 saved is read for ever.
/// let saved = r#"{"workflow": "order", "version": 1, "state": "charging", "body": {"item": "tea"}}"#;
/// let order = hub::check::load::<Order>(saved).unwrap();
/// assert_eq!(order, r#"{"workflow":"order","version":2,"state":"paying","body":{"item":"tea","currency":"EUR"}}"#);
/// ```
pub trait Workflow: Serialize + DeserializeOwned + Sized + 'static {
    /// Its name, as requests say it.
    const NAME: &'static str;
    /// The version of its fields, its states and of what it decides; at least 1.
    const VERSION: u32 = 1;
    /// Its states.
    type State: State;
    /// What it is asked, as JSON. Clients see its schema, and a body that is none is refused with the place of the fault.
    type Request: DeserializeOwned + JsonSchema;
    /// What all its operations in one lane share: pools, a registry. Lane state, with one owner.
    type Lane: LaneState;

    /// Brings what an operation of an older version saved into the form of this one.
    ///
    /// # Errors
    /// Why that cannot be done: then the lane is held.
    fn migrate(from: u32, _saved: Saved) -> Result<Saved, String> {
        Err(format!("version {} of `{}` reads nothing that version {from} saved", Self::VERSION, Self::NAME))
    }

    /// Takes the settings for what the lane shares. Called before the first operation, and when an owner record brings others.
    fn configure(_lane: &mut Self::Lane, _settings: &Settings, _info: &LaneInfo) {}

    /// Which of its steps call whom, and how long they wait: what a topology's build compares with how long the workers may
    /// take.
    fn budgets(_settings: &Settings) -> Vec<StepBudget> {
        Vec::new()
    }

    /// How long a request waits for its answer, in milliseconds, where that is to cover every step in [`Workflow::budgets`],
    /// one after the other.
    fn request_ms(_settings: &Settings) -> Option<u64> {
        None
    }

    /// What an operation for `key` begins with. Nothing may be taken from the lane yet: it may have to wait for its turn.
    ///
    /// # Errors
    /// The problem that the client is told; then nothing was done.
    fn begin(operation: &OperationId, key: &str, request: Self::Request) -> Result<Self, Problem>;

    /// Reads a request for `key`: its type, then [`Workflow::begin`].
    ///
    /// # Errors
    /// The problem that the client is told; then nothing was done.
    fn read(operation: &OperationId, key: &str, request: &Value) -> Result<Self, Problem> {
        let request = serde_path_to_error::deserialize(request).map_err(|error| misread(request, &error))?;
        Self::begin(operation, key, request)
    }

    /// Handles an event in a state: the next state, and through `fx` what is to be done.
    ///
    /// # Errors
    /// Where the pair cannot happen.
    fn on(&mut self, state: Self::State, event: &Event, fx: &mut Fx<'_, Self>) -> Result<Self::State, Illegal>;

    /// Whether a reply is what its call expects: the call with this tag, or with `is_undo` the one that undoes it. One that is not is
    /// a failure of its call, [`CallOutcome::Misread`]; the spoke may have done it all the same, so it is undone like one without
    /// an answer. [`expect_reply`] checks a type. Without this method a reply is any JSON.
    ///
    /// # Errors
    /// The fault.
    fn check_reply(&self, _state: Self::State, _tag: u32, _is_undo: bool, body: &str) -> Result<(), String> {
        expect_reply::<serde::de::IgnoredAny>(body).map(drop)
    }

    /// It was parked, and a person ended it: gives back what it holds of the lane, where that is safe. What it did outside
    /// stays done.
    fn aborted(&mut self, _lane: &mut Self::Lane) {}
}

/// Reads a reply as what its call expects.
///
/// # Errors
/// The fault, and how the value begins.
pub fn expect_reply<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| {
        let shown: String = body.chars().take(80).collect();
        format!("the reply `{shown}` is not what the call expects: {error}")
    })
}

/// The saved body of an operation of an older version.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The name of its state.
    pub state: String,
    /// The workflow's fields.
    pub body: Value,
}

/// How long a step waits for its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepBudget {
    /// The step's name.
    pub step: &'static str,
    /// The service that its calls go to.
    pub service: &'static str,
    /// A call ends after so many milliseconds: [`CallSpec::within_ms`].
    pub call_ms: u64,
    /// The step ends after so many: [`StepSpec::within_ms`].
    pub step_ms: u64,
}

/// What is wrong with a request, by the place in it.
fn misread(request: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let found = error.path().iter().try_fold(request, |value, segment| match segment {
        serde_path_to_error::Segment::Map { key } => value.get(key),
        serde_path_to_error::Segment::Seq { index } => value.get(index),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    });
    let shown: String = found.map(Value::to_string).unwrap_or_default().chars().take(80).collect();
    let shown = if shown.is_empty() { "missing or unknown".to_owned() } else { shown };
    Problem::field(if path == "." { "body" } else { &path }, &shown, &format!("what its type says: {}", error.inner()))
}

/// The states of a workflow: an enum without fields.
pub trait State: Copy + Eq + fmt::Debug + 'static {
    /// All of them; the first is the one before `requested`, called `-`.
    const ALL: &'static [Self];

    /// Its name, as tables, views and diagrams say it, and as it is saved: no two have the same.
    fn name(self) -> &'static str;
}

/// Declares the states of a workflow with their names; the first is the one before `requested`.
///
/// ```
/// hub::states! {
///     /// Where a job stands.
///     pub enum JobState { New = "-", Working = "working", Ended = "ended" }
/// }
/// assert_eq!(hub::State::name(JobState::Working), "working");
/// ```
#[macro_export]
macro_rules! states {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($state:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $(#[doc = concat!("`", $text, "`")] $state,)+
        }

        impl $crate::State for $name {
            const ALL: &'static [Self] = &[$($name::$state),+];

            fn name(self) -> &'static str {
                match self {
                    $($name::$state => $text,)+
                }
            }
        }
    };
}

/// What can happen to a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    Undone {
        /// The tags of calls that, as it turned out, were never sent: there was nothing to undo.
        never_sent: Vec<u32>,
    },
    /// Something could not be undone, or not in time.
    UndoStuck {
        /// The tags of what is left.
        left: Vec<u32>,
    },
    /// A newer operation wants the key of one that said [`Fx::yields`]. It comes once.
    Superseded,
    /// Enough calls of a step with such a [`Barrier`] were answered. The step is over: its other calls are abandoned, and may
    /// have been carried out all the same.
    Enough,
    /// What it waits for by [`Fx::wait_for`] was said. [`Illegal`] refuses it, and the operation goes on waiting.
    Signal {
        /// What it waited for.
        name: String,
        /// What was said.
        body: Value,
    },
    /// Somebody wants it undone and ended. [`Illegal`] refuses it, and the operation goes on.
    Cancelled,
}

impl Event {
    /// The names of all events, as tables and diagrams say them.
    pub const NAMES: [&str; 11] = [
        "requested",
        "replied",
        "all replied",
        "failed",
        "timed out",
        "undone",
        "undo stuck",
        "superseded",
        "enough replied",
        "signal",
        "cancelled",
    ];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Requested => "requested",
            Event::Replied { .. } => "replied",
            Event::AllReplied => "all replied",
            Event::Failed(_) => "failed",
            Event::TimedOut => "timed out",
            Event::Undone { .. } => "undone",
            Event::UndoStuck { .. } => "undo stuck",
            Event::Superseded => "superseded",
            Event::Enough => "enough replied",
            Event::Signal { .. } => "signal",
            Event::Cancelled => "cancelled",
        }
    }
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            CallOutcome::Misread(why) => write!(f, "{}: {why}, ", self.what)?,
            CallOutcome::Refused(reason) => write!(f, "{}: refused ({reason}), ", self.what)?,
            CallOutcome::TimedOut | CallOutcome::Replied(_) => write!(f, "{}: no answer in time, ", self.what)?,
        }
        match self.attempts {
            0 => f.write_str("never sent"),
            1 => f.write_str("sent once"),
            n => write!(f, "sent {n} times"),
        }
    }
}

/// A pair of state and event that cannot happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal;

/// A call to a spoke, as a workflow asks for it. It gets its id from its place in the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSpec {
    /// The workflow's own number for it: events name it. Calls that can be undone have different tags in all steps.
    pub tag: u32,
    /// The service.
    #[serde(with = "crate::word")]
    pub service: Word,
    /// The spoke's key: one key sees its requests in order.
    pub key: String,
    /// In words: "install rule 8 on of:08".
    pub what: String,
    /// The body, as JSON text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// It ends after so many milliseconds, however often it was sent.
    pub within_ms: u64,
    /// How it is undone. Declared beside the doing, so that it cannot be forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoSpec>,
    /// A drill: the worker swallows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub swallow: bool,
}

/// How a call is undone: a call to the same service and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoSpec {
    /// In words.
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// It ends after so many milliseconds.
    pub within_ms: u64,
    /// Undone even where the call was certainly not done: what it would have done may stand there from an operation before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
}

/// How the calls of a step follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All at once, and a barrier on their answers.
    AtOnce,
    /// Each after the answer of the one before.
    OneByOne,
}

/// How many answers a step waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Barrier {
    /// All of them, then [`Event::AllReplied`]; one that ends without an answer is [`Event::Failed`].
    #[default]
    All,
    /// The first, then [`Event::Enough`]; [`Event::Failed`] when none can come any more.
    First,
    /// So many, then [`Event::Enough`]; [`Event::Failed`] when so many cannot come any more.
    Quorum(u32),
}

/// A step: calls, and a barrier on their answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSpec {
    /// Its name, as views and answers say it.
    pub name: &'static str,
    /// How its calls follow each other.
    pub mode: Mode,
    /// How many answers it waits for.
    pub barrier: Barrier,
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
#[doc(hidden)]
pub struct Decided {
    pub(crate) next: Option<Next>,
    pub(crate) answer: Option<Answer>,
    pub(crate) keep: Vec<u32>,
    pub(crate) again: Vec<u32>,
    pub(crate) notes: Vec<String>,
    pub(crate) shown: Vec<Resource>,
    pub(crate) yields: bool,
    pub(crate) end: bool,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Step(StepSpec),
    Undo { name: &'static str, within_ms: u64 },
    Wait { what: &'static str, after_ms: u64 },
    WaitFor { signal: &'static str, what: &'static str, within_ms: Option<u64> },
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

    /// Waits until somebody says `signal`, which is [`Event::Signal`]; after so many milliseconds, where they are given,
    /// [`Event::TimedOut`].
    pub fn wait_for(&mut self, signal: &'static str, what: &'static str, within_ms: Option<u64>) {
        self.decided.next = Some(Next::WaitFor { signal, what, within_ms });
    }

    /// Shows `value` to those outside as the newest about `key` of this kind; nothing takes it away. A list of all of a kind
    /// can be read from outside; nobody has to ask the lane.
    pub fn show(&mut self, kind: &'static str, key: &str, value: Option<Value>) {
        self.decided.shown.push(Resource { kind: kind.to_owned(), key: key.to_owned(), value });
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
