//! Workflows of several types in one hub: each operation is a machine without its type.

use std::borrow::Cow;

use schemars::schema_for;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use topology::{LaneInfo, Settings};
use wire::{OperationId, Problem};

use crate::lane::LaneState;
use crate::workflow::{Decided, Event, Fx, Illegal, State, StepBudget, Workflow};

/// One operation's machine.
pub trait Machine<L> {
    /// The workflow's name.
    fn workflow(&self) -> &'static str;
    /// The state that it is in.
    fn state(&self) -> &'static str;
    /// Handles an event: what it decides.
    #[doc(hidden)]
    fn handle(&mut self, event: &Event, lane: &mut L) -> Result<Decided, Illegal>;
    /// A person ended it.
    fn aborted(&mut self, lane: &mut L);
    /// What the workflow itself knows, to be saved.
    #[doc(hidden)]
    fn body(&self) -> serde_json::Result<Box<RawValue>>;
}

struct Driven<W: Workflow> {
    workflow: W,
    state: W::State,
}

impl<W: Workflow> Machine<W::Lane> for Driven<W> {
    fn workflow(&self) -> &'static str {
        W::NAME
    }

    fn state(&self) -> &'static str {
        self.state.name()
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

/// A machine, or why there is none.
pub type Read<L> = Result<Box<dyn Machine<L>>, Problem>;

/// A machine as it was saved, or why it is none.
pub type Loaded<L> = Result<Box<dyn Machine<L>>, String>;

/// The types of workflows that one hub runs: one, or a tuple of several that share what is the lane's.
pub trait Workflows: 'static {
    /// What all their operations in one lane share.
    type Lane: LaneState;

    /// The name of each, and the JSON Schema of its request.
    fn types() -> Vec<(&'static str, Value)>;

    /// For each its name, the budgets of its steps, and how long a request waits for it.
    fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)>;

    /// Takes the settings for what the lane shares.
    fn configure(lane: &mut Self::Lane, settings: &Settings, info: &LaneInfo);

    /// Reads a request for the workflow `name`; none where it is not one of these.
    fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<Read<Self::Lane>>;

    /// A machine of the workflow `name` that was saved in `state`; none where it is not one of these.
    #[doc(hidden)]
    fn load(name: &str, state: &str, body: &RawValue) -> Option<Loaded<Self::Lane>>;
}

impl<W: Workflow> Workflows for W {
    type Lane = W::Lane;

    fn types() -> Vec<(&'static str, Value)> {
        vec![(W::NAME, schema_for!(W::Request).to_value())]
    }

    fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)> {
        vec![(W::NAME, W::budgets(settings), W::request_ms(settings))]
    }

    fn configure(lane: &mut W::Lane, settings: &Settings, info: &LaneInfo) {
        W::configure(lane, settings, info);
    }

    fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<Read<W::Lane>> {
        let driven =
            |workflow| Box::new(Driven::<W> { workflow, state: W::State::ALL[0] }) as Box<dyn Machine<W::Lane>>;
        (name == W::NAME).then(|| W::read(operation, key, request).map(driven))
    }

    fn load(name: &str, state: &str, body: &RawValue) -> Option<Loaded<W::Lane>> {
        if name != W::NAME {
            return None;
        }
        let known = W::State::ALL.iter().copied().find(|known| known.name() == state);
        let Some(state) = known else { return Some(Err(format!("workflow `{name}` has no state `{state}`"))) };
        let workflow = serde_json::from_str(body.get()).map_err(|error| format!("workflow `{name}`: {error}"));
        Some(workflow.map(|workflow| Box::new(Driven::<W> { workflow, state }) as Box<dyn Machine<W::Lane>>))
    }
}

macro_rules! several {
    ($first:ident $(, $more:ident)+) => {
        impl<$first: Workflows $(, $more: Workflows<Lane = $first::Lane>)+> Workflows for ($first, $($more),+) {
            type Lane = $first::Lane;

            fn types() -> Vec<(&'static str, Value)> {
                let mut types = $first::types();
                $(types.extend($more::types());)+
                types
            }

            fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)> {
                let mut budgets = $first::budgets(settings);
                $(budgets.extend($more::budgets(settings));)+
                budgets
            }

            /// Once: the lane is one, and the first speaks for all.
            fn configure(lane: &mut Self::Lane, settings: &Settings, info: &LaneInfo) {
                $first::configure(lane, settings, info);
            }

            fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<Read<Self::Lane>> {
                $first::read(name, operation, key, request)$(.or_else(|| $more::read(name, operation, key, request)))+
            }

            fn load(name: &str, state: &str, body: &RawValue) -> Option<Loaded<Self::Lane>> {
                $first::load(name, state, body)$(.or_else(|| $more::load(name, state, body)))+
            }
        }
    };
}

several!(A, B);
several!(A, B, C);
several!(A, B, C, D);
several!(A, B, C, D, E);
several!(A, B, C, D, E, F);

/// A machine of one of these types, as an operation holds it and as it is saved: by the names of its workflow and its state.
pub(crate) struct AnyOf<W: Workflows>(pub(crate) Box<dyn Machine<W::Lane>>);

#[derive(Serialize, Deserialize)]
struct SavedMachine<'a> {
    #[serde(borrow)]
    workflow: Cow<'a, str>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    /// As the workflow writes it: nothing in between would keep every number as it is.
    #[serde(borrow)]
    body: &'a RawValue,
}

impl<W: Workflows> Serialize for AnyOf<W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(machine) = self;
        let body = &*machine.body().map_err(S::Error::custom)?;
        SavedMachine { workflow: machine.workflow().into(), state: machine.state().into(), body }.serialize(serializer)
    }
}

impl<'de, W: Workflows> Deserialize<'de> for AnyOf<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SavedMachine { workflow, state, body } = SavedMachine::deserialize(deserializer)?;
        let machine = W::load(&workflow, &state, body).unwrap_or_else(|| {
            let known: Vec<&str> = W::types().into_iter().map(|(name, _)| name).collect();
            Err(format!("there is no workflow `{workflow}`; there are {}", known.join(", ")))
        });
        machine.map(Self).map_err(D::Error::custom)
    }
}
