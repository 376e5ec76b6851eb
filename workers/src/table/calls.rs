//! The calls that a worker knows: those that are open, and how the newest of the others ended.
//!
//! Whatever changes a call goes through [`Calls`], which marks what is to be saved: nobody else has a `&mut` to a conversation.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::Deadline;
use serde::{Deserialize, Serialize};
use topology::{Changes, Saver, Unreadable};
use wire::call::Call;
use wire::{CallId, OperationId};

use super::WorkerEffect;
use super::ends::{End, Ends};
use super::saved::misfit;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doing {
    Queued,
    Sent,
    BackingOff,
}

/// One that is open. As it stands here it is saved, under `open/` and its slot.
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
    open: BTreeMap<Place, Conversation>,
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
    slots: BTreeMap<u64, CallId>,
    next_slot: u64,
    ends: Ends,
    /// The slots.
    changes: Changes<u64>,
}

impl Calls {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
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
        if let Some(conversation) = calls.open.get(&place(id)) {
            return Known::Open(conversation);
        }
        calls.ended.get(&place(id)).map_or(Known::Nothing, |answered| Known::Ended(*answered))
    }

    /// The open call that has this slot.
    pub(super) fn at(&self, slot: u64) -> Option<&Conversation> {
        conversation(&self.operations, self.slots.get(&slot)?)
    }

    /// The open calls in the order of their slots, which is that of their beginning.
    pub(super) fn open(&self) -> impl Iterator<Item = &Conversation> {
        self.slots.values().filter_map(|id| conversation(&self.operations, id))
    }

    /// The open calls of an operation.
    pub(super) fn open_of(&self, operation: &OperationId) -> impl Iterator<Item = &Conversation> {
        self.operations.get(operation).into_iter().flat_map(|calls| calls.open.values())
    }

    /// The operations that have an open call.
    pub(super) fn operations(&self) -> impl Iterator<Item = &OperationId> {
        self.operations.iter().filter(|(_, calls)| !calls.open.is_empty()).map(|(operation, _)| operation)
    }

    // ---- changing -----------------------------------------------------------------------------------------------------

    /// The open call that has this slot, to be changed.
    pub(super) fn change(&mut self, slot: u64) -> Option<&mut Conversation> {
        let id = self.slots.get(&slot)?;
        self.changes.changed(&slot);
        self.operations.get_mut(&id.operation)?.open.get_mut(&place(id))
    }

    /// A new call; none where it is known.
    pub(super) fn begin(&mut self, call: Call) -> Option<&mut Conversation> {
        let id = call.id.clone();
        let calls = self.operations.entry(id.operation.clone()).or_default();
        if calls.knows(place(&id)) {
            return None;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        self.changes.changed(&slot);
        let begun = Conversation {
            slot,
            doing: Doing::Queued,
            attempt: 0,
            generation: 0,
            spent_ms: 0,
            armed_ms: 0,
            call: Arc::new(call),
        };
        let begun = calls.open.entry(place(&id)).or_insert(begun);
        self.slots.insert(slot, id);
        Some(begun)
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
        let conversation = calls.open.remove(&place(id))?;
        calls.ended.insert(place(id), answered);
        self.slots.remove(&conversation.slot);
        self.changes.gone(&conversation.slot);
        self.remember((id.clone(), answered));
        Some(conversation)
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
        let Self { operations, slots, ends, changes, .. } = self;
        changes.save(saver, |slot| format!("open/{slot}"), |slot| conversation(operations, slots.get(slot)?));
        ends.save(saver);
    }

    /// Takes in an open call that was saved; false where one is open already that has its slot or its id.
    pub(super) fn load(&mut self, conversation: Conversation) -> bool {
        let (slot, id) = (conversation.slot, conversation.call.id.clone());
        let open = &mut self.operations.entry(id.operation.clone()).or_default().open;
        if open.contains_key(&place(&id)) || self.slots.contains_key(&slot) {
            return false;
        }
        open.insert(place(&id), conversation);
        self.slots.insert(slot, id);
        self.changes.loaded(slot);
        true
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

fn conversation<'a>(operations: &'a BTreeMap<OperationId, OfOperation>, id: &CallId) -> Option<&'a Conversation> {
    operations.get(&id.operation)?.open.get(&place(id))
}
