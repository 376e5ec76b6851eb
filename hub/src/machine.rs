//! Workflows of several types in one hub: each operation holds a type-erased machine.

use std::borrow::Cow;

use schemars::schema_for;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use topology::{LaneInfo, Settings};
use wire::{OperationId, Problem};

use crate::call::{CalledService, CheckedReply};
use crate::event::Event;
use crate::fx::{Decided, Fx};
use crate::lane::LaneState;
use crate::workflow::{Illegal, SavedWorkflow, StepBudget, Workflow, WorkflowState};

/// The type-erased workflow of one operation.
pub trait Machine<L> {
    /// Returns the workflow's name.
    fn workflow(&self) -> &'static str;
    /// Returns the workflow's version.
    fn version(&self) -> u32;
    /// Returns the name of the current state.
    fn state(&self) -> &'static str;
    /// Handles an event and returns the decision.
    #[doc(hidden)]
    fn handle(&mut self, event: &Event, lane: &mut L) -> Result<Decided, Illegal>;
    /// Checks a reply of `service`; see [`Workflow::SERVICES`] and [`Workflow::check_reply`].
    ///
    /// # Errors
    /// A description of the fault.
    fn check_reply(&self, service: &str, tag: u32, is_undo: bool, body: String) -> Result<CheckedReply, String>;
    /// Called when an operator aborts the operation.
    fn aborted(&mut self, lane: &mut L);
    /// Returns the workflow's own fields as JSON.
    #[doc(hidden)]
    fn body(&self) -> serde_json::Result<Box<RawValue>>;
}

struct TypedMachine<W: Workflow> {
    workflow: W,
    state: W::State,
}

impl<W: Workflow> Machine<W::Lane> for TypedMachine<W> {
    fn workflow(&self) -> &'static str {
        W::NAME
    }

    fn version(&self) -> u32 {
        W::VERSION
    }

    fn state(&self) -> &'static str {
        self.state.name()
    }

    fn check_reply(&self, service: &str, tag: u32, is_undo: bool, body: String) -> Result<CheckedReply, String> {
        let reply = CheckedReply::check(W::SERVICES, service, body)?;
        self.workflow.check_reply(self.state, tag, is_undo, &reply).map(|()| reply)
    }

    fn handle(&mut self, event: &Event, lane: &mut W::Lane) -> Result<Decided, Illegal> {
        let mut fx = Fx::new(lane);
        self.state = self.workflow.on(self.state, event, &mut fx)?;
        Ok(fx.decided)
    }

    fn aborted(&mut self, lane: &mut W::Lane) {
        self.workflow.aborted(lane);
    }

    fn body(&self) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(&self.workflow)
    }
}

/// A new machine, or the problem with the request.
pub type ReadResult<L> = Result<Box<dyn Machine<L>>, Problem>;

/// A loaded machine, or the reason why it cannot be loaded.
pub type LoadResult<L> = Result<Box<dyn Machine<L>>, String>;

/// The workflow types that one hub runs: one, or a tuple of several that share the lane state.
pub trait Workflows: 'static {
    /// State that all operations in one lane share.
    type Lane: LaneState;

    /// Returns the name, version and request JSON Schema of each type.
    fn types() -> Vec<(&'static str, u32, Value)>;

    /// Returns the names of the services that they call, each once.
    fn services() -> Vec<&'static str>;

    /// For each type: name, step budgets, and the time limit of a request in milliseconds.
    fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)>;

    /// Applies the settings to the lane state.
    fn configure(lane: &mut Self::Lane, settings: &Settings, info: &LaneInfo);

    /// Reads a request for the workflow `name`. Returns `None` if no type has this name.
    fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<ReadResult<Self::Lane>>;

    /// Loads a machine of the workflow `name` that `version` saved in `state`. Returns `None` if no
    /// type has this name.
    #[doc(hidden)]
    fn load(name: &str, version: u32, state: &str, body: &RawValue) -> Option<LoadResult<Self::Lane>>;
}

impl<W: Workflow> Workflows for W {
    type Lane = W::Lane;

    fn types() -> Vec<(&'static str, u32, Value)> {
        vec![(W::NAME, W::VERSION, schema_for!(W::Request).to_value())]
    }

    fn services() -> Vec<&'static str> {
        W::SERVICES.iter().map(CalledService::name).collect()
    }

    fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)> {
        vec![(W::NAME, W::budgets(settings), W::request_ms(settings))]
    }

    fn configure(lane: &mut W::Lane, settings: &Settings, info: &LaneInfo) {
        W::configure(lane, settings, info);
    }

    fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<ReadResult<W::Lane>> {
        let machine =
            |workflow| Box::new(TypedMachine::<W> { workflow, state: W::State::ALL[0] }) as Box<dyn Machine<W::Lane>>;
        (name == W::NAME).then(|| W::read(operation, key, request).map(machine))
    }

    fn load(name: &str, version: u32, state: &str, body: &RawValue) -> Option<LoadResult<W::Lane>> {
        let boxed = |machine: TypedMachine<W>| Box::new(machine) as Box<dyn Machine<W::Lane>>;
        let named = |why: String| format!("workflow `{name}`, saved by version {version}: {why}");
        (name == W::NAME).then(|| TypedMachine::load(version, state, body).map(boxed).map_err(named))
    }
}

impl<W: Workflow> TypedMachine<W> {
    /// Loads a body that `version` saved.
    fn load(version: u32, state: &str, body: &RawValue) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| error.to_string();
        if version == W::VERSION {
            return Self::of(state, serde_json::from_str(body.get()).map_err(unreadable)?);
        }
        if version > W::VERSION {
            return Err(format!("this build has version {}", W::VERSION));
        }
        let body = serde_json::from_str(body.get()).map_err(unreadable)?;
        let SavedWorkflow { state, body } = W::migrate(version, SavedWorkflow { state: state.to_owned(), body })?;
        Self::of(&state, serde_json::from_value(body).map_err(unreadable)?)
    }

    fn of(state: &str, workflow: W) -> Result<Self, String> {
        let found = W::State::ALL.iter().copied().find(|candidate| candidate.name() == state);
        let state = found.ok_or_else(|| format!("this build has no state `{state}`"))?;
        Ok(Self { workflow, state })
    }
}

macro_rules! tuple {
    ($first:ident $(, $more:ident)+) => {
        impl<$first: Workflows $(, $more: Workflows<Lane = $first::Lane>)+> Workflows for ($first, $($more),+) {
            type Lane = $first::Lane;

            fn types() -> Vec<(&'static str, u32, Value)> {
                let mut types = $first::types();
                $(types.extend($more::types());)+
                types
            }

            fn services() -> Vec<&'static str> {
                let mut services = $first::services();
                $(
                    let more = $more::services().into_iter().filter(|name| !services.contains(name));
                    services.extend(more.collect::<Vec<_>>());
                )+
                services
            }

            fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)> {
                let mut budgets = $first::budgets(settings);
                $(budgets.extend($more::budgets(settings));)+
                budgets
            }

            /// The types share one lane state, so the first type configures it for all.
            fn configure(lane: &mut Self::Lane, settings: &Settings, info: &LaneInfo) {
                $first::configure(lane, settings, info);
            }

            fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<ReadResult<Self::Lane>> {
                $first::read(name, operation, key, request)$(.or_else(|| $more::read(name, operation, key, request)))+
            }

            fn load(name: &str, version: u32, state: &str, body: &RawValue) -> Option<LoadResult<Self::Lane>> {
                $first::load(name, version, state, body)$(.or_else(|| $more::load(name, version, state, body)))+
            }
        }
    };
}

tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);
tuple!(A, B, C, D, E);
tuple!(A, B, C, D, E, F);

/// A machine of any of these types, as an operation holds it. It is saved with the names of its
/// workflow and state.
pub(crate) struct AnyMachine<W: Workflows>(pub(crate) Box<dyn Machine<W::Lane>>);

#[derive(Serialize, Deserialize)]
struct SavedMachine<'a> {
    #[serde(borrow)]
    workflow: Cow<'a, str>,
    version: u32,
    #[serde(borrow)]
    state: Cow<'a, str>,
    /// Raw JSON of the workflow: an intermediate `Value` would not keep every number exactly.
    #[serde(borrow)]
    body: &'a RawValue,
}

impl<W: Workflows> Serialize for AnyMachine<W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(machine) = self;
        let body = &*machine.body().map_err(S::Error::custom)?;
        let (workflow, version, state) = (machine.workflow().into(), machine.version(), machine.state().into());
        SavedMachine { workflow, version, state, body }.serialize(serializer)
    }
}

impl<'de, W: Workflows> Deserialize<'de> for AnyMachine<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SavedMachine { workflow, version, state, body } = SavedMachine::deserialize(deserializer)?;
        let machine = W::load(&workflow, version, &state, body).unwrap_or_else(|| {
            let known: Vec<&str> = W::types().into_iter().map(|(name, ..)| name).collect();
            Err(format!("unknown workflow `{workflow}`; allowed are {}", known.join(", ")))
        });
        machine.map(Self).map_err(D::Error::custom)
    }
}
