//! Workflows of several types in one hub: each operation is a machine without its type.

use schemars::schema_for;
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::{OperationId, Problem};

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
}

/// A machine, or why there is none.
pub type Read<L> = Result<Box<dyn Machine<L>>, Problem>;

/// The types of workflows that one hub runs: one, or a tuple of several that share what is the lane's.
pub trait Workflows: 'static {
    /// What all their operations in one lane share.
    type Lane: Default + 'static;

    /// The name of each, and the JSON Schema of its request.
    fn types() -> Vec<(&'static str, Value)>;

    /// For each its name, the budgets of its steps, and how long a request waits for it.
    fn budgets(settings: &Settings) -> Vec<(&'static str, Vec<StepBudget>, Option<u64>)>;

    /// Takes the settings for what the lane shares.
    fn configure(lane: &mut Self::Lane, settings: &Settings, info: &LaneInfo);

    /// Reads a request for the workflow `name`; none where it is not one of these.
    fn read(name: &str, operation: &OperationId, key: &str, request: &Value) -> Option<Read<Self::Lane>>;
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
        }
    };
}

several!(A, B);
several!(A, B, C);
several!(A, B, C, D);
several!(A, B, C, D, E);
several!(A, B, C, D, E, F);
