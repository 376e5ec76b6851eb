//! The open calls of a worker and the outcomes of recently ended ones.
//!
//! Every change goes through [`Calls`], which marks what has to be saved. No other code has a
//! `&mut` to a conversation.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::Deadline;
use serde::{Deserialize, Serialize};
use topology::{Saver, Unreadable};
use wire::answer::Rejected;
use wire::call::Call;
use wire::{CallId, OperationId};

use super::WorkerEffect;
use super::ends::{End, Ends};
use super::open::Open;
use super::saved::inconsistent;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Queued,
    Sent,
    BackingOff,
}

/// An open conversation. Its block is saved with these fields; see [`super::open`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conversation {
    /// Its number in the lane; the key of its deadline.
    #[serde(skip)]
    pub(super) slot: u64,
    pub(super) doing: Phase,
    pub(super) attempt: u32,
    pub(super) generation: u32,
    /// The part of its time limit that past deadlines have used, in milliseconds.
    pub(super) spent_ms: u64,
    /// The duration of the running deadline, in milliseconds.
    pub(super) armed_ms: u64,
    /// The answers to it that were rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rejected: Option<Rejected>,
    pub(super) call: Arc<Call>,
}

impl Conversation {
    pub(super) fn left_ms(&self) -> u64 {
        self.call.within_ms.saturating_sub(self.spent_ms)
    }

    pub(super) fn arm(&mut self, after_ms: u64, effects: &mut Vec<WorkerEffect>) {
        self.generation += 1;
        self.armed_ms = after_ms;
        let (key, generation) = (self.slot, self.generation);
        effects.push(WorkerEffect::Deadline(Deadline::Register { key, generation, after_ms }));
    }
}

/// The position of a call in its operation: step and number.
type Position = (u32, u32);

fn position(id: &CallId) -> Position {
    (id.step, id.n)
}

/// The calls of one operation.
#[derive(Debug, Default)]
struct OperationCalls {
    /// Slots of the open calls.
    open: BTreeMap<Position, u64>,
    /// Remembered outcomes: true if the spoke had answered. They classify answers that come later.
    ended: BTreeMap<Position, bool>,
}

impl OperationCalls {
    fn contains(&self, position: Position) -> bool {
        self.open.contains_key(&position) || self.ended.contains_key(&position)
    }
}

/// The status of a call.
#[derive(Debug)]
pub(super) enum CallStatus<'a> {
    Open(&'a Conversation),
    /// True if the spoke had answered.
    Ended(bool),
    Unknown,
}

/// The calls of one worker in one lane.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The operations that have an open call or a remembered outcome.
    operations: BTreeMap<OperationId, OperationCalls>,
    open: Open,
    next_slot: u64,
    ends: Ends,
}

impl Calls {
    /// Returns the number of open calls.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_slot(&self) -> u64 {
        self.next_slot
    }

    /// Returns the number of calls that have ever ended.
    pub(super) fn ended(&self) -> u64 {
        self.ends.count()
    }

    // ---- reading ------------------------------------------------------------------------------------------------------

    pub(super) fn status(&self, id: &CallId) -> CallStatus<'_> {
        let Some(calls) = self.operations.get(&id.operation) else { return CallStatus::Unknown };
        if let Some(conversation) = calls.open.get(&position(id)).and_then(|slot| self.open.get(*slot)) {
            return CallStatus::Open(conversation);
        }
        calls.ended.get(&position(id)).map_or(CallStatus::Unknown, |answered| CallStatus::Ended(*answered))
    }

    /// Returns the open call with this slot.
    pub(super) fn at(&self, slot: u64) -> Option<&Conversation> {
        self.open.get(slot)
    }

    /// Iterates over the open calls in the order of their slots, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = &Conversation> {
        self.open.iter()
    }

    /// Iterates over the open calls of an operation.
    pub(super) fn open_of(&self, operation: &OperationId) -> impl Iterator<Item = &Conversation> {
        let slots = self.operations.get(operation).into_iter().flat_map(|calls| calls.open.values());
        slots.filter_map(|slot| self.open.get(*slot))
    }

    /// True if an operation has an open call.
    pub(super) fn has_open(&self, operation: &OperationId) -> bool {
        self.operations.get(operation).is_some_and(|calls| !calls.open.is_empty())
    }

    /// Iterates over the operations that have an open call.
    pub(super) fn operations(&self) -> impl Iterator<Item = &OperationId> {
        self.operations.iter().filter(|(_, calls)| !calls.open.is_empty()).map(|(operation, _)| operation)
    }

    // ---- changing -----------------------------------------------------------------------------------------------------

    /// Returns an open call for modification and marks it as changed.
    pub(super) fn change(&mut self, slot: u64) -> Option<&mut Conversation> {
        self.open.get_mut(slot)
    }

    /// Adds a call. Returns `None` if the call is open or remembered.
    pub(super) fn begin(&mut self, call: Call) -> Option<&mut Conversation> {
        let calls = self.operations.entry(call.id.operation.clone()).or_default();
        let position = position(&call.id);
        if calls.contains(position) {
            return None;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        calls.open.insert(position, slot);
        Some(self.open.insert(Conversation {
            slot,
            doing: Phase::Queued,
            attempt: 0,
            generation: 0,
            spent_ms: 0,
            armed_ms: 0,
            rejected: None,
            call: Arc::new(call),
        }))
    }

    /// Records a call that the worker refuses before it starts. Returns false if the call is open or
    /// remembered.
    pub(super) fn refuse(&mut self, id: &CallId) -> bool {
        let calls = self.operations.entry(id.operation.clone()).or_default();
        if calls.contains(position(id)) {
            return false;
        }
        calls.ended.insert(position(id), false);
        self.remember((id.clone(), false));
        true
    }

    /// Removes an open call and remembers its outcome, so that it does not start a second time.
    pub(super) fn end(&mut self, id: &CallId, answered: bool) -> Option<Conversation> {
        let calls = self.operations.get_mut(&id.operation)?;
        let slot = calls.open.remove(&position(id))?;
        calls.ended.insert(position(id), answered);
        self.remember((id.clone(), answered));
        self.open.remove(slot)
    }

    /// Remembers an outcome and forgets the oldest one beyond the limit.
    fn remember(&mut self, end: End) {
        if let Some((oldest, _)) = self.ends.push(end)
            && let Some(calls) = self.operations.get_mut(&oldest.operation)
        {
            calls.ended.remove(&position(&oldest));
            if calls.ended.is_empty() && calls.open.is_empty() {
                self.operations.remove(&oldest.operation);
            }
        }
    }

    // ---- saved, and loaded --------------------------------------------------------------------------------------------

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        self.open.save(saver);
        self.ends.save(saver);
    }

    /// Loads a block of open calls. Returns false if another open call has the slot or the id of
    /// one of them.
    pub(super) fn load(&mut self, block: u64, conversations: BTreeMap<u64, Conversation>) -> bool {
        self.open.loaded(block);
        conversations.into_iter().all(|(slot, conversation)| self.take(Conversation { slot, ..conversation }))
    }

    /// Loads a call that version 1 saved under its slot. The next save writes it in the current
    /// schema.
    pub(super) fn load_single(&mut self, slot: u64, conversation: Conversation) -> bool {
        self.open.loaded_single(slot);
        self.take(Conversation { slot, ..conversation })
    }

    /// Returns the key that an open call was loaded from.
    pub(super) fn key_of(&self, slot: u64) -> String {
        self.open.key_of(slot)
    }

    fn take(&mut self, conversation: Conversation) -> bool {
        let (slot, id) = (conversation.slot, &conversation.call.id);
        let calls = self.operations.entry(id.operation.clone()).or_default();
        calls.open.insert(position(id), slot).is_none() && self.open.take(conversation)
    }

    /// Loads the next slot and the remembered outcomes.
    pub(super) fn loaded(&mut self, next_slot: u64, ends: Ends) -> Result<(), Unreadable> {
        for (key, (id, answered)) in ends.newest() {
            let calls = self.operations.entry(id.operation.clone()).or_default();
            if calls.contains(position(id)) {
                return Err(inconsistent(&key(), format!("call {id} is open, or has ended twice")));
            }
            calls.ended.insert(position(id), *answered);
        }
        (self.next_slot, self.ends) = (next_slot, ends);
        Ok(())
    }
}
