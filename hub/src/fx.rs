//! The decision of a workflow on one event: its effects, as data.

use serde_json::Value;
use wire::answer::{Answer, Resource};

use crate::call::CallSpec;
use crate::step::StepSpec;
use crate::workflow::Workflow;

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
    /// were sent one by one are undone one by one, the latest first. Ends with
    /// [`Event::Undone`](crate::Event::Undone) or [`Event::UndoStuck`](crate::Event::UndoStuck).
    pub fn undo(&mut self, name: &'static str, within_ms: u64) {
        self.decided.next = Some(Next::Undo { name, within_ms });
    }

    /// Waits `after_ms` milliseconds, then [`Event::TimedOut`](crate::Event::TimedOut).
    pub fn wait(&mut self, what: &'static str, after_ms: u64) {
        self.decided.next = Some(Next::Wait { what, after_ms });
    }

    /// Waits for the signal `signal`, then [`Event::Signal`](crate::Event::Signal). After
    /// `within_ms` milliseconds, if given, [`Event::TimedOut`](crate::Event::TimedOut).
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

    /// From now on a newer operation on the same key triggers
    /// [`Event::Superseded`](crate::Event::Superseded) for this one.
    pub fn yields(&mut self) {
        self.decided.yields = true;
    }

    /// Ends the operation.
    pub fn end(&mut self) {
        self.decided.end = true;
    }
}
