//! The open calls by slot, saved in blocks of 16 neighbouring slots.
//!
//! A step starts its calls together, so they have neighbouring slots: ten calls take one or two
//! records instead of ten. A block is saved under `calls/<block>` as a map from slots to
//! conversations. Blocks are no larger, because each change of one call rewrites its block: 6 KB for
//! a full block of calls of 300 bytes.
//!
//! A call that starts and ends between two saves costs nothing, unless its block holds a saved
//! call. Slots are assigned in order, so that is at most one block per save.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Range};

use serde::{Serialize, Serializer};
use topology::{Changes, Saver};

use super::calls::Conversation;

/// Slots per block.
const SLOTS_PER_BLOCK: u64 = 16;

/// The open calls. Only [`Open::insert`], [`Open::get_mut`] and [`Open::remove`] change them, and
/// mark the changed blocks.
#[derive(Debug, Default)]
pub(super) struct Open {
    slots: BTreeMap<u64, Conversation>,
    /// Changed blocks.
    changes: Changes<u64>,
    /// Calls loaded from version 1, which saved each under its own key. The next save deletes these
    /// keys.
    singles: BTreeSet<u64>,
}

impl Open {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, slot: u64) -> Option<&Conversation> {
        self.slots.get(&slot)
    }

    /// Iterates in the order of the slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conversation> {
        self.slots.values()
    }

    /// Returns a call for modification and marks its block as changed.
    pub(super) fn get_mut(&mut self, slot: u64) -> Option<&mut Conversation> {
        let conversation = self.slots.get_mut(&slot)?;
        self.changes.changed(&block_of(slot));
        Some(conversation)
    }

    /// Adds a call.
    pub(super) fn insert(&mut self, conversation: Conversation) -> &mut Conversation {
        let slot = conversation.slot;
        self.changes.changed(&block_of(slot));
        self.slots.entry(slot).insert_entry(conversation).into_mut()
    }

    pub(super) fn remove(&mut self, slot: u64) -> Option<Conversation> {
        let conversation = self.slots.remove(&slot)?;
        let block = block_of(slot);
        if in_block(&self.slots, block).is_empty() {
            self.changes.gone(&block);
        } else {
            self.changes.changed(&block);
        }
        Some(conversation)
    }

    // ---- saved, and loaded --------------------------------------------------------------------------------------------

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        for slot in std::mem::take(&mut self.singles) {
            saver.gone(&single_key(slot));
        }
        let slots = &self.slots;
        let state = |block: &u64| Some(in_block(slots, *block)).filter(|block| !block.is_empty());
        self.changes.save(saver, |block| key(*block), state);
    }

    /// Adds a loaded call. Returns false if its slot is taken.
    pub(super) fn take(&mut self, conversation: Conversation) -> bool {
        self.slots.insert(conversation.slot, conversation).is_none()
    }

    /// Returns the key that a call was loaded from.
    pub(super) fn key_of(&self, slot: u64) -> String {
        if self.singles.contains(&slot) { single_key(slot) } else { key(block_of(slot)) }
    }

    /// Marks a block as saved.
    pub(super) fn loaded(&mut self, block: u64) {
        self.changes.loaded(block);
    }

    /// Marks a slot as saved under its own key, as version 1 did.
    pub(super) fn loaded_single(&mut self, slot: u64) {
        self.singles.insert(slot);
        self.changes.changed(&block_of(slot));
    }
}

fn key(block: u64) -> String {
    format!("calls/{block}")
}

/// Returns the key of a call in schema version 1.
fn single_key(slot: u64) -> String {
    format!("open/{slot}")
}

/// Returns the block of a slot.
pub(super) fn block_of(slot: u64) -> u64 {
    slot / SLOTS_PER_BLOCK
}

fn in_block(slots: &BTreeMap<u64, Conversation>, block: u64) -> Block<'_> {
    Block(slots.range(block * SLOTS_PER_BLOCK..(block + 1) * SLOTS_PER_BLOCK))
}

/// The conversations of a block, serialized in place.
struct Block<'a>(Range<'a, u64, Conversation>);

impl Block<'_> {
    fn is_empty(&self) -> bool {
        self.0.clone().next().is_none()
    }
}

impl Serialize for Block<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
}
