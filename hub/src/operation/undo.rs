//! Compensations: what an operation can undo, step by step in reverse order.

use wire::WallTime;
use wire::call::CallCommand;

use super::{CallState, OpenCall, Running};
use crate::call::CallSpec;
use crate::event::Event;
use crate::machine::Workflows;
use crate::step::{Barrier, CallOrder};

impl<W: Workflows> Running<W> {
    /// Drops the compensation of the call with this tag.
    pub(crate) fn skip_undo(&mut self, tag: u32) {
        self.compensations.retain(|compensation| compensation.tag != tag);
    }

    /// Marks the call with this tag as not undone.
    pub(crate) fn undo_again(&mut self, tag: u32) {
        self.compensations.iter_mut().filter(|compensation| compensation.tag == tag).for_each(|c| c.undone = false);
    }

    /// Starts the undo. Returns the final event if there is nothing to undo.
    pub(crate) fn begin_undo(
        &mut self,
        at: WallTime,
        name: &'static str,
        send: &mut impl FnMut(CallCommand),
    ) -> Option<Event> {
        let open = self.compensations.iter().filter(|compensation| !compensation.undone);
        self.undo_steps = open.map(|compensation| compensation.call.0).collect();
        self.undo_steps.dedup();
        self.undo_name = name;
        self.undo_next_step(at, send)
    }

    fn undo_next_step(&mut self, at: WallTime, send: &mut impl FnMut(CallCommand)) -> Option<Event> {
        let Some(step) = self.undo_steps.pop() else { return Some(self.undo_outcome()) };
        let open = self.compensations.iter().rev().filter(|c| c.call.0 == step && !c.undone);
        let calls: Vec<OpenCall> = open
            .map(|compensation| OpenCall {
                spec: CallSpec {
                    tag: compensation.tag,
                    service: compensation.service,
                    key: compensation.key.clone(),
                    what: compensation.undo.what.clone(),
                    body: compensation.undo.body.clone(),
                    within_ms: compensation.undo.within_ms,
                    undo: None,
                },
                undoes: vec![compensation.call],
                state: CallState::Waiting,
            })
            .collect();
        let mode = self.compensations.iter().find(|c| c.call.0 == step).map_or(CallOrder::AtOnce, |c| c.mode);
        self.open(at, self.undo_name, mode, Barrier::All, calls, send);
        if let Some(open) = &mut self.open {
            open.undoing = true;
        }
        None
    }

    pub(super) fn undo_barrier(&mut self, at: WallTime, send: &mut impl FnMut(CallCommand)) -> Option<Event> {
        let open = self.open.as_ref()?;
        if open.calls.iter().any(|call| matches!(call.state, CallState::Open | CallState::Waiting)) {
            return None;
        }
        self.open = None;
        self.undo_next_step(at, send)
    }

    fn undo_outcome(&self) -> Event {
        let left: Vec<u32> = self.compensations.iter().filter(|c| !c.undone).map(|c| c.tag).collect();
        if !left.is_empty() {
            return Event::UndoStuck { left };
        }
        Event::Undone { never_sent: self.compensations.iter().filter(|c| c.never_sent).map(|c| c.tag).collect() }
    }

    /// Handles the deadline and returns the event for the workflow.
    pub(crate) fn timed_out(&mut self, send: &mut impl FnMut(CallCommand)) -> Event {
        let undoing = self.open.as_ref().is_some_and(|open| open.undoing);
        self.close_step(send);
        self.undo_steps.clear();
        if undoing { self.undo_outcome() } else { Event::TimedOut }
    }
}
