//! The open calls by their slots, and how they are saved: in blocks of 16 neighbouring slots.
//!
//! A step begins its calls together, so their slots are neighbours, and its ten calls are one record or two instead of ten. The key is
//! `calls/` and the number of the block, and the state a map from slots to conversations. Those of a long-lived operation change one by one,
//! so a block is not larger: 6 KB where it is full of calls of 300 bytes, written anew for one that is tried again.
//!
//! What begins and ends between two saves costs nothing, but where its block has one that was saved: since slots are given in order, that is
//! one block for each save, at most.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Range};

use serde::{Serialize, Serializer};
use topology::{Changes, Saver};

use super::calls::Conversation;

/// So many slots are saved as one.
const BLOCK: u64 = 16;

/// The open calls. They change through [`Open::insert`], [`Open::get_mut`] and [`Open::remove`] alone, which mark what is to be saved.
#[derive(Debug, Default)]
pub(super) struct Open {
    slots: BTreeMap<u64, Conversation>,
    /// The blocks.
    changes: Changes<u64>,
    /// What version 1 has saved, each under a key of its own: gone with the next save.
    singles: BTreeSet<u64>,
}

impl Open {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, slot: u64) -> Option<&Conversation> {
        self.slots.get(&slot)
    }

    /// In the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conversation> {
        self.slots.values()
    }

    /// One, to be changed.
    pub(super) fn get_mut(&mut self, slot: u64) -> Option<&mut Conversation> {
        let conversation = self.slots.get_mut(&slot)?;
        self.changes.changed(&block_of(slot));
        Some(conversation)
    }

    /// A new one.
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

    /// Takes in a conversation that was saved; false where one is there that has its slot.
    pub(super) fn take(&mut self, conversation: Conversation) -> bool {
        self.slots.insert(conversation.slot, conversation).is_none()
    }

    /// The key that a conversation was loaded from.
    pub(super) fn key_of(&self, slot: u64) -> String {
        if self.singles.contains(&slot) { single_key(slot) } else { key(block_of(slot)) }
    }

    /// This block is saved as it is.
    pub(super) fn loaded(&mut self, block: u64) {
        self.changes.loaded(block);
    }

    /// This slot is saved under a key of its own, as version 1 has it.
    pub(super) fn loaded_single(&mut self, slot: u64) {
        self.singles.insert(slot);
        self.changes.changed(&block_of(slot));
    }
}

fn key(block: u64) -> String {
    format!("calls/{block}")
}

/// In version 1 of the form.
fn single_key(slot: u64) -> String {
    format!("open/{slot}")
}

/// The block that a slot lies in.
pub(super) fn block_of(slot: u64) -> u64 {
    slot / BLOCK
}

fn in_block(slots: &BTreeMap<u64, Conversation>, block: u64) -> Block<'_> {
    Block(slots.range(block * BLOCK..(block + 1) * BLOCK))
}

/// The conversations of a block, to be written from where they are.
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
