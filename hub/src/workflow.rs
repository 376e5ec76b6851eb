//! The API for workflow authors: a keyed state machine, driven by events, that returns effects.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::{OperationId, Problem};

use crate::call::{CalledService, CheckedReply};
use crate::event::Event;
use crate::fx::Fx;
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
    /// The services that it calls; a topology needs a worker for each. The hub fails a call with
    /// [`CallOutcome::Misread`](wire::call::CallOutcome::Misread) if the reply is not of the type of
    /// its service. The spoke may have carried the call out anyway, so the hub undoes it as it
    /// undoes a call without an answer.
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
    /// Time limit of a call in milliseconds; equals that of its calls.
    pub call_ms: u64,
    /// Time limit of the step in milliseconds; equals that of its [`StepSpec`](crate::StepSpec).
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

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal;
