//! Consistency checks of a loaded operation.

use super::{CallPosition, MAX_CAUSES, MAX_HISTORY, OperationStatus, Running};
use crate::machine::Workflows;

impl<W: Workflows> Running<W> {
    /// Returns the first contradiction in the saved state, or `None` if a hub can have saved it.
    pub(crate) fn inconsistency(&self) -> Option<String> {
        // Real operations never count this far. Beyond it the next number could overflow.
        let limit = u32::MAX / 2;
        if [self.generation, self.steps, self.entries].into_iter().any(|count| count > limit) {
            return Some(format!("a count exceeds {limit}"));
        }
        if self.history.len() > MAX_HISTORY || self.history.last().map_or(0, |entry| entry.seq) != self.entries {
            return Some("its history does not end with its last entry".into());
        }
        if self.causes.is_empty() || self.causes.len() > MAX_CAUSES {
            return Some(format!("it has {} causes", self.causes.len()));
        }
        let parked = if let OperationStatus::Parked(parked) = &self.standing { Some(parked) } else { None };
        let timers = [self.timer.as_ref(), parked.and_then(|parked| parked.timer.as_ref())];
        if timers.into_iter().flatten().any(|timer| timer.generation != self.generation) {
            return Some("its deadline is not the latest".into());
        }
        if self.open.as_ref().is_some_and(|open| open.number != self.steps) {
            return Some("its open step is not the latest".into());
        }
        let undone = self.open.iter().flat_map(|open| &open.calls).flat_map(|call| &call.undoes);
        let mut calls = self.compensations.iter().map(|done| &done.call).chain(undone);
        if let Some(CallPosition(step, n)) =
            calls.find(|CallPosition(step, n)| *step > self.steps || *step == 0 || *n == 0)
        {
            return Some(format!("it never made call {step}/{n}"));
        }
        if let Some(end) = parked.and_then(|parked| parked.ends.iter().find(|end| !self.waits_for_call(&end.id))) {
            return Some(format!("it does not wait for call {}", end.id));
        }
        let idle = self.timer.is_none() && self.signal.is_none() && !self.has_open_calls();
        let fresh = idle && self.open.is_none() && self.answer.is_none() && self.steps == 0;
        match self.standing {
            OperationStatus::Queued if !fresh => Some("it is queued, but has started".into()),
            OperationStatus::Running if idle => Some("it waits for nothing".into()),
            OperationStatus::Parked(_) if self.answer.is_none() => Some("it is parked without an answer".into()),
            OperationStatus::Parked(_) if self.timer.is_some() => Some("it is parked, but has a deadline".into()),
            OperationStatus::Ended
            | OperationStatus::Cancelled
            | OperationStatus::Refused
            | OperationStatus::Aborted => Some("it has ended".into()),
            OperationStatus::Queued | OperationStatus::Running | OperationStatus::Parked(_) => None,
        }
    }
}
