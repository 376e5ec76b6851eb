//! Steps: calls that belong together, their order, and a barrier on their replies.

use serde::{Deserialize, Serialize};

use crate::call::{CallSpec, ServiceCall};

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
    /// All: then [`Event::AllReplied`](crate::Event::AllReplied). The first failed call ends the
    /// step with [`Event::Failed`](crate::Event::Failed).
    #[default]
    All,
    /// One: then [`Event::Enough`](crate::Event::Enough); [`Event::Failed`](crate::Event::Failed)
    /// once no reply is possible any more.
    First,
    /// This many: then [`Event::Enough`](crate::Event::Enough);
    /// [`Event::Failed`](crate::Event::Failed) once this many are impossible.
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
