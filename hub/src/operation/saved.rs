//! Whether a saved operation is one that a hub can have saved.

use super::{CAUSES, HISTORY, Place, Running, Standing};
use crate::machine::Workflows;

impl<W: Workflows> Running<W> {
    /// Why it cannot be what a hub has saved; none where it can.
    pub(crate) fn misfit(&self) -> Option<String> {
        // No operation counts so far; with one that would, the next step would have no number.
        let end = u32::MAX / 2;
        if [self.generation, self.steps, self.entries].into_iter().any(|count| count > end) {
            return Some(format!("a count is beyond {end}"));
        }
        if self.history.len() > HISTORY || self.history.last().map_or(0, |entry| entry.seq) != self.entries {
            return Some("its history does not end with its last entry".into());
        }
        if self.causes.is_empty() || self.causes.len() > CAUSES {
            return Some(format!("{} requests asked for it", self.causes.len()));
        }
        let parked = if let Standing::Parked(parked) = &self.standing { Some(parked) } else { None };
        let timers = [self.timer.as_ref(), parked.and_then(|parked| parked.timer.as_ref())];
        if timers.into_iter().flatten().any(|timer| timer.generation != self.generation) {
            return Some("its deadline is not its last".into());
        }
        if self.open.as_ref().is_some_and(|open| open.number != self.steps) {
            return Some("its open step is not its last".into());
        }
        let undone = self.open.iter().flat_map(|open| &open.calls).flat_map(|call| &call.undoes);
        let mut calls = self.compensations.iter().map(|done| &done.call).chain(undone);
        if let Some(Place(step, n)) = calls.find(|Place(step, n)| *step > self.steps || *step == 0 || *n == 0) {
            return Some(format!("it has made no call {step}/{n}"));
        }
        if let Some(end) = parked.and_then(|parked| parked.ends.iter().find(|end| !self.waits_for_call(&end.id))) {
            return Some(format!("it does not wait for call {}", end.id));
        }
        let idle = self.timer.is_none() && self.signal.is_none() && !self.has_open_calls();
        let fresh = idle && self.open.is_none() && self.answer.is_none() && self.steps == 0;
        match self.standing {
            Standing::Queued if !fresh => Some("it waits for its turn, and has begun".into()),
            Standing::Running if idle => Some("it waits for nothing".into()),
            Standing::Parked(_) if self.answer.is_none() => Some("it is parked, and its client was not told".into()),
            Standing::Parked(_) if self.timer.is_some() => Some("it is parked, and has a deadline".into()),
            Standing::Ended | Standing::Cancelled | Standing::Refused | Standing::Aborted => Some("it is over".into()),
            Standing::Queued | Standing::Running | Standing::Parked(_) => None,
        }
    }
}
