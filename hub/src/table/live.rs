//! The operations of a lane that live.

use std::collections::BTreeMap;

use topology::{Saver, Stored, Unreadable};
use wire::OperationId;

use super::saved::unreadable;
use crate::kept::Kept;
use crate::machine::Workflows;
use crate::operation::Running;

/// The readable part of an operation whose workflow this build cannot read.
#[derive(serde::Deserialize)]
struct Named {
    id: OperationId,
}

/// Those that live, by their number in the lane: it is looked for several times in each event, and a name is a text.
///
/// Whoever changes one gets it here, and by that it is saved anew. So what only looks takes it to read.
pub(super) struct Live<W: Workflows> {
    running: Kept<u64, Running<W>>,
    slots: BTreeMap<OperationId, u64>,
}

impl<W: Workflows> Default for Live<W> {
    fn default() -> Self {
        Self { running: Kept::default(), slots: BTreeMap::new() }
    }
}

impl<W: Workflows> Live<W> {
    /// The number of an operation.
    pub(super) fn slot_of(&self, operation: &OperationId) -> Option<u64> {
        self.slots.get(operation).copied()
    }

    /// An operation, by its name, to read it.
    pub(super) fn of(&self, operation: &OperationId) -> Option<&Running<W>> {
        self.get(self.slot_of(operation)?)
    }

    /// An operation, to read it.
    pub(super) fn get(&self, slot: u64) -> Option<&Running<W>> {
        self.running.get(&slot)
    }

    /// An operation, to change it.
    pub(super) fn get_mut(&mut self, slot: u64) -> Option<&mut Running<W>> {
        self.running.get_mut(&slot)
    }

    /// An operation, to change it where it is such a one.
    pub(super) fn get_mut_where(
        &mut self,
        slot: u64,
        such: impl FnOnce(&Running<W>) -> bool,
    ) -> Option<&mut Running<W>> {
        if such(self.get(slot)?) { self.get_mut(slot) } else { None }
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

    /// All of them, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Running<W>> {
        self.running.iter().map(|(_, running)| running)
    }

    // ---- saved states -------------------------------------------------------------------------------------------------

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        self.running.save(saver, u64::to_string);
    }

    /// The operation that was saved under this number.
    pub(super) fn load(&mut self, stored: &Stored<'_>, slot: &str) -> Result<(), Unreadable> {
        let running: Running<W> = stored.read().map_err(|Unreadable(why)| match stored.read::<Named>() {
            Ok(Named { id }) => unreadable(&format!("{why}; it is operation {id}")),
            Err(_) => Unreadable(why),
        })?;
        let misfit = |why: &str| Err(unreadable(&format!("saved `{}` does not fit: {why}", stored.key())));
        if running.slot.to_string() != slot {
            return misfit(&format!("it is operation {}", running.slot));
        }
        if let Some(why) = running.misfit() {
            return misfit(&why);
        }
        if let Some(other) = self.slots.insert(running.id.clone(), running.slot) {
            return misfit(&format!("`running/{other}` is {}, too", running.id));
        }
        self.running.load(running.slot, running);
        Ok(())
    }
}
