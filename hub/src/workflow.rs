//! The API for workflow authors: a keyed state machine, driven by events, that returns effects.

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::answer::{Answer, Resource};
use wire::call::CallOutcome;
use wire::{OperationId, Problem};

use crate::call::{CallSpec, CalledService, CheckedReply, ServiceCall};
use crate::lane::LaneState;

/// A keyed state machine.
///
/// `on` is one `match` over state and event. For a pair that cannot happen it returns [`Illegal`],
/// which parks the operation. It is pure: no clock, no randomness, no I/O. The transition table
/// heads the workflow's file; [`crate::check`] compares it with the code.
///
/// The hub saves a running workflow as JSON. The fields must hold everything that later events
/// depend on, and none may be skipped. A change to the fields, the states or the decisions needs a
/// new [`Workflow::VERSION`]; [`Workflow::migrate`] converts operations of older versions. If a
/// build cannot read an operation, the lane is held (NAVE-0061) until a build that can takes over.
/// A decision is never made twice.
///
/// ```
/// # use hub::{Event, Fx, Illegal, SavedWorkflow, Workflow};
/// # use serde_json::json;
/// # use wire::{OperationId, Problem};
/// # hub::states! { pub enum S { New = "-", Paying = "paying" } }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Order { item: String, currency: String }
///
/// impl Workflow for Order {
///     const NAME: &'static str = "order";
///     const VERSION: u32 = 2;
///     fn migrate(from: u32, mut saved: SavedWorkflow) -> Result<SavedWorkflow, String> {
///         // Version 1 had no currency field, and its state was called "charging".
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
/// // A golden state: every later version must read what version 1 saved.
/// let saved = r#"{"workflow": "order", "version": 1, "state": "charging", "body": {"item": "tea"}}"#;
/// let order = hub::check::load::<Order>(saved).unwrap();
/// assert_eq!(order, r#"{"workflow":"order","version":2,"state":"paying","body":{"item":"tea","currency":"EUR"}}"#);
/// ```
pub trait Workflow: Serialize + DeserializeOwned + Sized + 'static {
    /// The workflow's name in requests.
    const NAME: &'static str;
    /// The schema version of its fields, states and decisions; at least 1.
    const VERSION: u32 = 1;
    /// The services that it calls; a topology needs a worker for each. The hub fails a call with [`CallOutcome::Misread`] if the reply
    /// is not of the type of its service. The spoke may have carried the call out anyway, so the
    /// hub undoes it as it undoes a call without an answer.
    const SERVICES: &'static [CalledService] = &[];
    /// The workflow's states.
    type State: WorkflowState;
    /// The request body. Clients see its JSON Schema. The hub refuses a body of another type and
    /// names the invalid field.
    type Request: DeserializeOwned + JsonSchema;
    /// State that all operations in one lane share, such as pools or a registry.
    type Lane: LaneState;

    /// Converts an operation that an older version saved into this version.
    ///
    /// # Errors
    /// The reason why it cannot be converted; the lane is then held.
    fn migrate(from: u32, _saved: SavedWorkflow) -> Result<SavedWorkflow, String> {
        Err(format!("version {} of `{}` cannot read state saved by version {from}", Self::VERSION, Self::NAME))
    }

    /// Applies the settings to the lane state. The hub calls it before the first operation and
    /// whenever an owner record brings new settings.
    fn configure(_lane: &mut Self::Lane, _settings: &Settings, _info: &LaneInfo) {}

    /// Returns the time limits of its steps. The topology's build compares them with the longest
    /// time that the workers can take.
    fn budgets(_settings: &Settings) -> Vec<StepBudget> {
        Vec::new()
    }

    /// Returns how long a client waits for the answer, in milliseconds; `None` if that need not
    /// cover all steps in [`Workflow::budgets`].
    fn request_ms(_settings: &Settings) -> Option<u64> {
        None
    }

    /// Creates the workflow of a new operation for `key`. It must not take anything from the lane
    /// state: the operation may have to wait in the queue of its key.
    ///
    /// # Errors
    /// The problem that the client gets as its answer. Nothing has been done then.
    fn begin(operation: &OperationId, key: &str, request: Self::Request) -> Result<Self, Problem>;

    /// Deserializes a request for `key` and calls [`Workflow::begin`].
    ///
    /// # Errors
    /// The problem that the client gets as its answer. Nothing has been done then.
    fn read(operation: &OperationId, key: &str, request: &Value) -> Result<Self, Problem> {
        let request = serde_path_to_error::deserialize(request).map_err(|error| misread(request, &error))?;
        Self::begin(operation, key, request)
    }

    /// Handles an event. Returns the next state; effects go through `fx`.
    ///
    /// # Errors
    /// [`Illegal`] if the event cannot happen in this state.
    fn on(&mut self, state: Self::State, event: &Event, fx: &mut Fx<'_, Self>) -> Result<Self::State, Illegal>;

    /// Checks what the type of a reply does not show. Called with the reply to the call with this
    /// tag, or to the undo of that call if `is_undo`. The hub treats a reply that fails this check
    /// as one of another type.
    ///
    /// # Errors
    /// A description of the fault.
    fn check_reply(&self, _state: Self::State, _tag: u32, _is_undo: bool, _reply: &CheckedReply) -> Result<(), String> {
        Ok(())
    }

    /// Releases what the operation holds of the lane state, where that is safe. The hub calls it
    /// when an operator aborts a parked operation. Effects of past calls remain.
    fn aborted(&mut self, _lane: &mut Self::Lane) {}
}

/// The saved state of an operation of an older version.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedWorkflow {
    /// The name of the state.
    pub state: String,
    /// The workflow's fields.
    pub body: Value,
}

/// The time limits of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepBudget {
    /// The step's name.
    pub step: &'static str,
    /// The service that handles its calls.
    pub service: &'static str,
    /// Time limit of a call in milliseconds; equals that of [`ServiceExt::call`](crate::ServiceExt::call).
    pub call_ms: u64,
    /// Time limit of the step in milliseconds; equals that of [`StepSpec::new`].
    pub step_ms: u64,
}

/// Describes an invalid request by the path of the field at fault.
fn misread(request: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let found = error.path().iter().try_fold(request, |value, segment| match segment {
        serde_path_to_error::Segment::Map { key } => value.get(key),
        serde_path_to_error::Segment::Seq { index } => value.get(index),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    });
    let shown: String = found.map(Value::to_string).unwrap_or_default().chars().take(80).collect();
    let shown = if shown.is_empty() { "missing or unknown".to_owned() } else { shown };
    Problem::field(if path == "." { "body" } else { &path }, &shown, &format!("a value of its type: {}", error.inner()))
}

/// The states of a workflow: an enum without fields.
pub trait WorkflowState: Copy + Eq + fmt::Debug + 'static {
    /// All states. The first is the one before `requested`; its name is `-`.
    const ALL: &'static [Self];

    /// Returns the unique name in tables, views, diagrams and saved states.
    fn name(self) -> &'static str;
}

/// Declares the states of a workflow with their names. The first is the one before `requested`.
///
/// ```
/// hub::states! {
///     /// The state of a job.
///     pub enum JobState { New = "-", Working = "working", Ended = "ended" }
/// }
/// assert_eq!(hub::WorkflowState::name(JobState::Working), "working");
/// ```
#[macro_export]
macro_rules! states {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($state:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $(#[doc = concat!("`", $text, "`")] $state,)+
        }

        impl $crate::WorkflowState for $name {
            const ALL: &'static [Self] = &[$($name::$state),+];

            fn name(self) -> &'static str {
                match self {
                    $($name::$state => $text,)+
                }
            }
        }
    };
}

/// An event that a workflow handles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The operation starts: it is first in the queue of its key.
    Requested,
    /// A spoke replied to a call of the open step.
    Replied {
        /// The call's tag.
        tag: u32,
        /// The reply. Saved states name it `body`.
        #[serde(rename = "body")]
        reply: CheckedReply,
    },
    /// All calls of the open step have their replies.
    AllReplied,
    /// A call of the open step failed. The step has ended; the hub abandons its other calls.
    Failed(CallFailure),
    /// The deadline of the step or of the wait passed. The step has ended.
    TimedOut,
    /// All compensations have succeeded.
    Undone {
        /// The tags of calls that were never sent, so there was nothing to undo.
        never_sent: Vec<u32>,
    },
    /// A compensation failed or did not end in time.
    UndoStuck {
        /// The tags of the calls that are not undone.
        left: Vec<u32>,
    },
    /// A newer operation waits for the key, and this one has called [`Fx::yields`]. Sent at most
    /// once.
    Superseded,
    /// Enough calls of a step with such a [`Barrier`] have their replies. The step has ended. The
    /// hub abandons its other calls; a spoke may still carry them out.
    Enough,
    /// The signal that [`Fx::wait_for`] waits for has arrived. If the workflow returns [`Illegal`],
    /// the hub refuses the signal and the operation keeps waiting.
    Signal {
        /// The name of the signal.
        name: String,
        /// The body of the signal.
        body: Value,
    },
    /// Somebody asks to undo and end the operation. If the workflow returns [`Illegal`], the hub
    /// refuses the command and the operation continues.
    Cancelled,
}

impl Event {
    /// The names of all events in tables and diagrams.
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

    /// Returns the event's name.
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

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFailure {
    /// The call's tag.
    pub tag: u32,
    /// Description of the call.
    pub what: String,
    /// The outcome; never a reply.
    pub outcome: CallOutcome,
    /// How many times the call was sent.
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

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal;

/// The order in which the hub sends the calls of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOrder {
    /// All calls at once.
    AtOnce,
    /// Each call after the reply to the one before.
    OneByOne,
}

/// How many replies a step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Barrier {
    /// All: then [`Event::AllReplied`]. The first failed call ends the step with [`Event::Failed`].
    #[default]
    All,
    /// One: then [`Event::Enough`]; [`Event::Failed`] once no reply is possible any more.
    First,
    /// This many: then [`Event::Enough`]; [`Event::Failed`] once this many are impossible.
    Quorum(u32),
}

/// A step: calls and a barrier on their replies. Without calls it passes its barrier at once.
///
/// Unless the builder says otherwise, the hub sends all calls at once and waits for all replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSpec {
    pub(crate) name: &'static str,
    pub(crate) order: CallOrder,
    pub(crate) barrier: Barrier,
    pub(crate) within_ms: u64,
    pub(crate) calls: Vec<CallSpec>,
}

impl StepSpec {
    /// Creates a step without calls. Views and answers show the name; the time limit is in
    /// milliseconds.
    pub fn new(name: &'static str, within_ms: u64) -> Self {
        Self { name, order: CallOrder::AtOnce, barrier: Barrier::All, within_ms, calls: Vec::new() }
    }

    /// Sets the order of the calls.
    #[must_use]
    pub fn order(self, order: CallOrder) -> Self {
        Self { order, ..self }
    }

    /// Sets the number of replies that the step needs.
    #[must_use]
    pub fn barrier(self, barrier: Barrier) -> Self {
        Self { barrier, ..self }
    }

    /// Adds a call.
    #[must_use]
    pub fn call<Request, Reply>(self, call: ServiceCall<Request, Reply>) -> Self {
        self.calls([call])
    }

    /// Adds calls to services with the same types.
    #[must_use]
    pub fn calls<Request, Reply>(mut self, calls: impl IntoIterator<Item = ServiceCall<Request, Reply>>) -> Self {
        self.calls.extend(calls.into_iter().map(ServiceCall::into_spec));
        self
    }
}

/// Collects the effects of a workflow's decision on one event.
pub struct Fx<'a, W: Workflow> {
    /// State that the operations of the lane share.
    pub lane: &'a mut W::Lane,
    pub(crate) decided: Decided,
}

/// The decision of a workflow on one event.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct Decided {
    pub(crate) next: Option<Next>,
    pub(crate) answer: Option<Answer>,
    pub(crate) skip_undo: Vec<u32>,
    pub(crate) undo_again: Vec<u32>,
    pub(crate) history: Vec<String>,
    pub(crate) published: Vec<Resource>,
    pub(crate) yields: bool,
    pub(crate) end: bool,
}

/// The step, undo or wait that follows.
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

    /// Starts a step. It replaces the open step.
    ///
    /// # Panics
    /// If [`Workflow::SERVICES`] does not list the service of a call. The hub then parks the
    /// operation.
    pub fn step(&mut self, step: StepSpec) {
        for CallSpec { service, .. } in &step.calls {
            let listed = W::SERVICES.iter().any(|called| called.name() == *service);
            assert!(listed, "workflow `{}` calls service `{service}`, which its SERVICES do not list", W::NAME);
        }
        self.decided.next = Some(Next::Step(step));
    }

    /// Undoes every call that was sent and has an undo, except those given to [`Fx::skip_undo`].
    /// The latest step is undone first. Calls that were sent at once are undone at once; calls that
    /// were sent one by one are undone one by one, the latest first. Ends with [`Event::Undone`] or
    /// [`Event::UndoStuck`].
    pub fn undo(&mut self, name: &'static str, within_ms: u64) {
        self.decided.next = Some(Next::Undo { name, within_ms });
    }

    /// Waits `after_ms` milliseconds, then [`Event::TimedOut`].
    pub fn wait(&mut self, what: &'static str, after_ms: u64) {
        self.decided.next = Some(Next::Wait { what, after_ms });
    }

    /// Waits for the signal `signal`, then [`Event::Signal`]. After `within_ms` milliseconds, if
    /// given, [`Event::TimedOut`].
    pub fn wait_for(&mut self, signal: &'static str, what: &'static str, within_ms: Option<u64>) {
        self.decided.next = Some(Next::WaitFor { signal, what, within_ms });
    }

    /// Publishes `value` as the latest value for `key` of this kind; `None` deletes it. Clients
    /// list all values of a kind without asking the lane.
    pub fn publish(&mut self, kind: &'static str, key: &str, value: Option<Value>) {
        self.decided.published.push(Resource { kind: kind.to_owned(), key: key.to_owned(), value });
    }

    /// Excludes the call with this tag from undo, because it changed nothing.
    pub fn skip_undo(&mut self, tag: u32) {
        self.decided.skip_undo.push(tag);
    }

    /// Marks the call with this tag, which was undone, to be undone again.
    pub fn undo_again(&mut self, tag: u32) {
        self.decided.undo_again.push(tag);
    }

    /// Answers the client. Only the first answer counts. The operation may continue after it.
    pub fn answer(&mut self, answer: Answer) {
        self.decided.answer = Some(answer);
    }

    /// Adds a line to the history.
    pub fn note(&mut self, text: impl Into<String>) {
        self.decided.history.push(text.into());
    }

    /// From now on a newer operation on the same key triggers [`Event::Superseded`] for this one.
    pub fn yields(&mut self) {
        self.decided.yields = true;
    }

    /// Ends the operation.
    pub fn end(&mut self) {
        self.decided.end = true;
    }
}
