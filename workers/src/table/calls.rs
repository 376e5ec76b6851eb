//! The calls that a worker knows: those that are open, and how the newest of the others ended.
//!
//! Whatever changes a call goes through [`Calls`], which marks what is to be saved: nobody else has a `&mut` to a conversation.

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
use super::saved::misfit;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doing {
    Queued,
    Sent,
    BackingOff,
}

/// One that is open. As it stands here it is saved, by its slot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conversation {
    /// Its number in the lane: the key of its deadline.
    #[serde(skip)]
    pub(super) slot: u64,
    pub(super) doing: Doing,
    pub(super) attempt: u32,
    pub(super) generation: u32,
    /// What has passed of its time, by the deadlines that passed.
    pub(super) spent_ms: u64,
    /// What the deadline that runs was armed with.
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

/// A call in its operation: the step, and the number in it.
type Place = (u32, u32);

fn place(id: &CallId) -> Place {
    (id.step, id.n)
}

/// The calls of one operation.
#[derive(Debug, Default)]
struct OfOperation {
    /// Their slots.
    open: BTreeMap<Place, u64>,
    /// How those among the newest of all ended, to name what comes after: true where the spoke had answered.
    ended: BTreeMap<Place, bool>,
}

impl OfOperation {
    fn knows(&self, place: Place) -> bool {
        self.open.contains_key(&place) || self.ended.contains_key(&place)
    }
}

/// What is known of a call.
#[derive(Debug)]
pub(super) enum Known<'a> {
    Open(&'a Conversation),
    /// True where the spoke had answered.
    Ended(bool),
    Nothing,
}

/// The calls of one worker in one lane.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Those that have a call which is open, or whose end is remembered.
    operations: BTreeMap<OperationId, OfOperation>,
    open: Open,
    next_slot: u64,
    ends: Ends,
}

impl Calls {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_slot(&self) -> u64 {
        self.next_slot
    }

    /// How many have ever ended.
    pub(super) fn ended(&self) -> u64 {
        self.ends.count()
    }

    // ---- reading ------------------------------------------------------------------------------------------------------

    pub(super) fn known(&self, id: &CallId) -> Known<'_> {
        let Some(calls) = self.operations.get(&id.operation) else { return Known::Nothing };
        if let Some(conversation) = calls.open.get(&place(id)).and_then(|slot| self.open.get(*slot)) {
            return Known::Open(conversation);
        }
        calls.ended.get(&place(id)).map_or(Known::Nothing, |answered| Known::Ended(*answered))
    }

    /// The open call that has this slot.
    pub(super) fn at(&self, slot: u64) -> Option<&Conversation> {
        self.open.get(slot)
    }

    /// The open calls in the order of their slots, which is that of their beginning.
    pub(super) fn open(&self) -> impl Iterator<Item = &Conversation> {
        self.open.iter()
    }

    /// The open calls of an operation.
    pub(super) fn open_of(&self, operation: &OperationId) -> impl Iterator<Item = &Conversation> {
        let slots = self.operations.get(operation).into_iter().flat_map(|calls| calls.open.values());
        slots.filter_map(|slot| self.open.get(*slot))
    }

    /// True where an operation has an open call.
    pub(super) fn has_open(&self, operation: &OperationId) -> bool {
        self.operations.get(operation).is_some_and(|calls| !calls.open.is_empty())
    }

    /// The operations that have an open call.
    pub(super) fn operations(&self) -> impl Iterator<Item = &OperationId> {
        self.operations.iter().filter(|(_, calls)| !calls.open.is_empty()).map(|(operation, _)| operation)
    }

    // ---- changing -----------------------------------------------------------------------------------------------------

    /// The open call that has this slot, to be changed.
    pub(super) fn change(&mut self, slot: u64) -> Option<&mut Conversation> {
        self.open.get_mut(slot)
    }

    /// A new call; none where it is known.
    pub(super) fn begin(&mut self, call: Call) -> Option<&mut Conversation> {
        let calls = self.operations.entry(call.id.operation.clone()).or_default();
        let place = place(&call.id);
        if calls.knows(place) {
            return None;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        calls.open.insert(place, slot);
        Some(self.open.insert(Conversation {
            slot,
            doing: Doing::Queued,
            attempt: 0,
            generation: 0,
            spent_ms: 0,
            armed_ms: 0,
            rejected: None,
            call: Arc::new(call),
        }))
    }

    /// A call that ends before it began, unanswered; false where it is known.
    pub(super) fn refuse(&mut self, id: &CallId) -> bool {
        let calls = self.operations.entry(id.operation.clone()).or_default();
        if calls.knows(place(id)) {
            return false;
        }
        calls.ended.insert(place(id), false);
        self.remember((id.clone(), false));
        true
    }

    /// Takes an open call out, and keeps how it ended, so that it does not begin a second time.
    pub(super) fn end(&mut self, id: &CallId, answered: bool) -> Option<Conversation> {
        let calls = self.operations.get_mut(&id.operation)?;
        let slot = calls.open.remove(&place(id))?;
        calls.ended.insert(place(id), answered);
        self.remember((id.clone(), answered));
        self.open.remove(slot)
    }

    /// A call has ended: of the oldest one too many is forgotten how it did.
    fn remember(&mut self, end: End) {
        if let Some((oldest, _)) = self.ends.push(end)
            && let Some(calls) = self.operations.get_mut(&oldest.operation)
        {
            calls.ended.remove(&place(&oldest));
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

    /// Takes in a block of open calls; false where one is open already that has the slot or the id of one of them.
    pub(super) fn load(&mut self, block: u64, conversations: BTreeMap<u64, Conversation>) -> bool {
        self.open.loaded(block);
        conversations.into_iter().all(|(slot, conversation)| self.take(Conversation { slot, ..conversation }))
    }

    /// The same for one as version 1 saved it, under its slot. It is to be saved anew.
    pub(super) fn load_single(&mut self, slot: u64, conversation: Conversation) -> bool {
        self.open.loaded_single(slot);
        self.take(Conversation { slot, ..conversation })
    }

    /// The key that an open call was loaded from.
    pub(super) fn key_of(&self, slot: u64) -> String {
        self.open.key_of(slot)
    }

    fn take(&mut self, conversation: Conversation) -> bool {
        let (slot, id) = (conversation.slot, &conversation.call.id);
        let calls = self.operations.entry(id.operation.clone()).or_default();
        calls.open.insert(place(id), slot).is_none() && self.open.take(conversation)
    }

    /// Takes in what else was saved.
    pub(super) fn loaded(&mut self, next_slot: u64, ends: Ends) -> Result<(), Unreadable> {
        for (key, (id, answered)) in ends.newest() {
            let calls = self.operations.entry(id.operation.clone()).or_default();
            if calls.knows(place(id)) {
                return Err(misfit(&key(), format!("call {id} is open, or has ended twice")));
            }
            calls.ended.insert(place(id), *answered);
        }
        (self.next_slot, self.ends) = (next_slot, ends);
        Ok(())
    }
}
