//! The live operations of a lane.

use std::collections::BTreeMap;

use topology::{Saver, StateMap, Stored, Unreadable};
use wire::OperationId;

use super::saved::unreadable;
use crate::machine::Workflows;
use crate::operation::Running;

/// The readable part of an operation whose workflow this build cannot read.
#[derive(serde::Deserialize)]
struct Named {
    id: OperationId,
}

/// The live operations by slot. Each event looks an operation up several times, and a number
/// compares faster than a text.
///
/// Mutable access marks an operation as changed, so read-only code uses the shared accessors.
pub(super) struct LiveOperations<W: Workflows> {
    running: StateMap<u64, Running<W>>,
    slots: BTreeMap<OperationId, u64>,
}

impl<W: Workflows> Default for LiveOperations<W> {
    fn default() -> Self {
        Self { running: StateMap::default(), slots: BTreeMap::new() }
    }
}

impl<W: Workflows> LiveOperations<W> {
    /// Returns the slot of an operation.
    pub(super) fn slot_of(&self, operation: &OperationId) -> Option<u64> {
        self.slots.get(operation).copied()
    }

    /// Returns an operation by its id.
    pub(super) fn of(&self, operation: &OperationId) -> Option<&Running<W>> {
        self.get(self.slot_of(operation)?)
    }

    /// Returns an operation.
    pub(super) fn get(&self, slot: u64) -> Option<&Running<W>> {
        self.running.get(&slot)
    }

    /// Returns an operation for modification and marks it as changed.
    pub(super) fn get_mut(&mut self, slot: u64) -> Option<&mut Running<W>> {
        self.running.get_mut(&slot)
    }

    /// Returns an operation for modification if it satisfies the predicate.
    pub(super) fn get_mut_where(
        &mut self,
        slot: u64,
        predicate: impl FnOnce(&Running<W>) -> bool,
    ) -> Option<&mut Running<W>> {
        if predicate(self.get(slot)?) { self.get_mut(slot) } else { None }
    }

    pub(super) fn insert(&mut self, running: Running<W>) {
        self.slots.insert(running.id.clone(), running.slot);
        self.running.insert(running.slot, running);
    }

    pub(super) fn remove(&mut self, slot: u64) -> Option<Running<W>> {
        let running = self.running.remove(&slot)?;
        self.slots.remove(&running.id);
        Some(running)
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Iterates over all operations, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Running<W>> {
        self.running.iter().map(|(_, running)| running)
    }

    // ---- saved states -------------------------------------------------------------------------------------------------

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        self.running.save(saver, u64::to_string);
    }

    /// Loads the operation that was saved under this slot.
    pub(super) fn load(&mut self, stored: &Stored<'_>, slot: &str) -> Result<(), Unreadable> {
        let running: Running<W> = stored.read().map_err(|Unreadable(why)| match stored.read::<Named>() {
            Ok(Named { id }) => unreadable(&format!("{why}; it is operation {id}")),
            Err(_) => Unreadable(why),
        })?;
        let inconsistent = |why: &str| Err(unreadable(&format!("saved `{}` is inconsistent: {why}", stored.key())));
        if running.slot.to_string() != slot {
            return inconsistent(&format!("its slot is {}", running.slot));
        }
        if let Some(why) = running.inconsistency() {
            return inconsistent(&why);
        }
        if let Some(other) = self.slots.insert(running.id.clone(), running.slot) {
            return inconsistent(&format!("`running/{other}` is also {}", running.id));
        }
        self.running.load(running.slot, running);
        Ok(())
    }
}
