//! The saved state of the hub's table.
//!
//! | key | content | saved when |
//! |---|---|---|
//! | `table` | the next slot, the bounds of the ring, the admission queue | any of it has changed |
//! | `running/<slot>` | a live operation | it has changed |
//! | `finished/<place>` | the outcome of an operation or of a refused request | it has ended; it overwrites the oldest |
//! | `lane/...` | the state that operations share | [`LaneState`] decides |
//!
//! So an operation that starts and ends between two snapshots costs one record. Loading derives the
//! rest: the index by id, the queues of the keys, and the active operations.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::{Saver, Stored, Unreadable};

use super::finished::RingBounds;
use super::{HubTable, KeyQueue};
use crate::lane::LaneState;
use crate::machine::Workflows;
use crate::operation::OperationStatus;

/// The schema version of what a hub saves.
pub(crate) const VERSION: u32 = 1;

/// Upper bound of slots, which are the keys of deadlines.
pub(super) const SLOT_LIMIT: u64 = 1 << 48;

const TABLE: &str = "table";
const RUNNING: &str = "running";
const FINISHED: &str = "finished";
const LANE: &str = "lane";

/// The state of the table itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedTable {
    next_slot: u64,
    /// The number of live operations, to detect a missing one.
    live: u64,
    finished: RingBounds,
    admission: VecDeque<u64>,
}

/// Returns a reason, cut to the maximum length.
pub(super) fn unreadable(reason: &str) -> Unreadable {
    Unreadable(reason.chars().take(Unreadable::MAX_CHARS).collect())
}

impl<W: Workflows> HubTable<W> {
    /// Saves the keys that changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        let table = SavedTable {
            next_slot: self.next_slot,
            live: self.live.len() as u64,
            finished: self.finished.ring().clone(),
            admission: self.admission.clone(),
        };
        // A hub without any request saves nothing.
        if (self.next_slot > 0 || self.finished.has_begun()) && self.saved.as_ref() != Some(&table) {
            saver.put(TABLE, &table);
            self.saved = Some(table);
        }
        self.live.save(&mut saver.part(RUNNING));
        self.finished.save(&mut saver.part(FINISHED));
        self.lane.save(&mut saver.part(LANE));
    }

    /// Loads the state of one key. Keys arrive in any order, after the settings.
    ///
    /// # Errors
    /// If it is not the state of a hub. The message names the key.
    pub fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if stored.version() > VERSION {
            let (key, version) = (stored.key(), stored.version());
            return Err(unreadable(&format!("saved `{key}` has version {version}; this build reads up to {VERSION}")));
        }
        if stored.key() == TABLE {
            self.saved = Some(stored.read()?);
            return Ok(());
        }
        let (running, finished, lane) = (stored.part(RUNNING), stored.part(FINISHED), stored.part(LANE));
        if let Some(slot) = running {
            self.live.load(stored, slot.key())
        } else if let Some(place) = finished {
            self.finished.load(stored, place.key())
        } else if let Some(stored) = lane {
            self.lane.load(&stored)
        } else {
            Err(unreadable(&format!("unknown key `{}`", stored.key())))
        }
    }

    /// Called after all keys have been loaded. Returns the view keys of the live operations.
    ///
    /// # Errors
    /// If the keys contradict each other.
    pub fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        let Some(table) = self.saved.clone() else {
            if self.live.len() > 0 || !self.finished.is_empty() {
                return Err(unreadable(&format!("saved `{TABLE}` is missing")));
            }
            self.lane.loaded()?;
            return Ok(Vec::new());
        };
        if table.next_slot > SLOT_LIMIT {
            return Err(unreadable(&format!("saved `{TABLE}` is inconsistent: its next slot is {}", table.next_slot)));
        }
        self.next_slot = table.next_slot;
        self.finished.loaded(&table.finished)?;
        self.rebuild_key_queues(&table.admission)?;
        if table.live != self.live.len() as u64 {
            let (saved, found) = (table.live, self.live.len());
            return Err(unreadable(&format!(
                "saved `{TABLE}` is inconsistent: {saved} live operations expected, {found} found"
            )));
        }
        self.admission = table.admission;
        self.lane.loaded()?;
        Ok(self.live.iter().map(super::Running::view_key).collect())
    }

    /// Rebuilds the queues of the keys and the set of active operations. On each key the operation
    /// with the lowest slot comes first; the others follow in the order of their slots.
    fn rebuild_key_queues(&mut self, admission: &VecDeque<u64>) -> Result<(), Unreadable> {
        for running in self.live.iter() {
            let slot = running.slot;
            let inconsistent = |why: &str| Err(unreadable(&format!("saved `{RUNNING}/{slot}` is inconsistent: {why}")));
            if slot >= self.next_slot {
                return inconsistent(&format!("the next slot is {}", self.next_slot));
            }
            if self.finished.get(&running.id).is_some() {
                return inconsistent(&format!("{} has ended", running.id));
            }
            let queued = running.standing == OperationStatus::Queued;
            match self.key_queues.get_mut(&running.key) {
                Some(queue) if queued => queue.waiting.push_back(slot),
                Some(_) => return inconsistent("another operation is active on its key"),
                None if queued && !admission.contains(&slot) => {
                    return inconsistent("it is first on its key, but not in `admission`");
                }
                None => {
                    let queue = KeyQueue { active: Some(slot), waiting: VecDeque::new() };
                    self.key_queues.insert(Arc::clone(&running.key), queue);
                }
            }
            if running.is_active() {
                self.active.insert(slot);
            }
        }
        for (i, slot) in admission.iter().enumerate() {
            let inconsistent = |why: &str| {
                Err(unreadable(&format!("saved `{TABLE}` is inconsistent: `admission` lists {slot}, {why}")))
            };
            let Some(running) = self.live.get(*slot) else { return inconsistent("which does not exist") };
            let is_first = self.key_queues.get(&running.key).is_some_and(|queue| queue.active == Some(*slot));
            if !is_first || running.standing != OperationStatus::Queued {
                return inconsistent("which does not wait for a place");
            }
            if admission.iter().skip(i + 1).any(|other| other == slot) {
                return inconsistent("twice");
            }
        }
        Ok(())
    }
}
