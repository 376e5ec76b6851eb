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
use crate::workflow::{Decided, Event, Fx, Illegal, Saved, State, StepBudget, Workflow};

/// One operation's machine.
pub trait Machine<L> {
    /// The workflow's name.
    fn workflow(&self) -> &'static str;
    /// The workflow's version.
    fn version(&self) -> u32;
    /// The state that it is in.
    fn state(&self) -> &'static str;
    /// Handles an event: what it decides.
    #[doc(hidden)]
    fn handle(&mut self, event: &Event, lane: &mut L) -> Result<Decided, Illegal>;
    /// Whether a reply is what its call expects.
    ///
    /// # Errors
    /// The fault.
    fn check_reply(&self, tag: u32, is_undo: bool, body: &str) -> Result<(), String>;
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

    fn version(&self) -> u32 {
        W::VERSION
    }

    fn state(&self) -> &'static str {
        self.state.name()
    }

    fn check_reply(&self, tag: u32, is_undo: bool, body: &str) -> Result<(), String> {
        self.workflow.check_reply(self.state, tag, is_undo, body)
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

    /// The name of each, its version, and the JSON Schema of its request.
    fn types() -> Vec<(&'static str, u32, Value)>;

    /// For each its name, the budgets of its steps, and how long a request waits for it.
    fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)>;

    /// Takes the settings for what the lane shares.
    fn configure(lane: &mut Self::Lane, settings: &Settings, info: &LaneInfo);

    /// Reads a request for the workflow `name`; none where it is not one of these.
    fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<Read<Self::Lane>>;

    /// A machine of the workflow `name` that was saved by `version` in `state`; none where it is not one of these.
    #[doc(hidden)]
    fn load(name: &str, version: u32, state: &str, body: &RawValue) -> Option<Loaded<Self::Lane>>;
}

impl<W: Workflow> Workflows for W {
    type Lane = W::Lane;

    fn types() -> Vec<(&'static str, u32, Value)> {
        vec![(W::NAME, W::VERSION, schema_for!(W::Request).to_value())]
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

    fn load(name: &str, version: u32, state: &str, body: &RawValue) -> Option<Loaded<W::Lane>> {
        let boxed = |driven: Driven<W>| Box::new(driven) as Box<dyn Machine<W::Lane>>;
        let named = |why: String| format!("workflow `{name}`, saved by version {version}: {why}");
        (name == W::NAME).then(|| Driven::load(version, state, body).map(boxed).map_err(named))
    }
}

impl<W: Workflow> Driven<W> {
    /// Reads a body that `version` saved.
    fn load(version: u32, state: &str, body: &RawValue) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| error.to_string();
        if version == W::VERSION {
            return Self::of(state, serde_json::from_str(body.get()).map_err(unreadable)?);
        }
        if version > W::VERSION {
            return Err(format!("this build has version {}", W::VERSION));
        }
        let body = serde_json::from_str(body.get()).map_err(unreadable)?;
        let Saved { state, body } = W::migrate(version, Saved { state: state.to_owned(), body })?;
        Self::of(&state, serde_json::from_value(body).map_err(unreadable)?)
    }

    fn of(state: &str, workflow: W) -> Result<Self, String> {
        let known = W::State::ALL.iter().copied().find(|known| known.name() == state);
        let state = known.ok_or_else(|| format!("this build has no state `{state}`"))?;
        Ok(Self { workflow, state })
    }
}

macro_rules! several {
    ($first:ident $(, $more:ident)+) => {
        impl<$first: Workflows $(, $more: Workflows<Lane = $first::Lane>)+> Workflows for ($first, $($more),+) {
            type Lane = $first::Lane;

            fn types() -> Vec<(&'static str, u32, Value)> {
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

            fn load(name: &str, version: u32, state: &str, body: &RawValue) -> Option<Loaded<Self::Lane>> {
                $first::load(name, version, state, body)$(.or_else(|| $more::load(name, version, state, body)))+
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
    version: u32,
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
        let (workflow, version, state) = (machine.workflow().into(), machine.version(), machine.state().into());
        SavedMachine { workflow, version, state, body }.serialize(serializer)
    }
}

impl<'de, W: Workflows> Deserialize<'de> for AnyOf<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SavedMachine { workflow, version, state, body } = SavedMachine::deserialize(deserializer)?;
        let machine = W::load(&workflow, version, &state, body).unwrap_or_else(|| {
            let known: Vec<&str> = W::types().into_iter().map(|(name, ..)| name).collect();
            Err(format!("there is no workflow `{workflow}`; there are {}", known.join(", ")))
        });
        machine.map(Self).map_err(D::Error::custom)
    }
}
