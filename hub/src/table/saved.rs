//! What a hub's table saves of itself.
//!
//! | key | what | when |
//! |---|---|---|
//! | `table` | the next numbers, how much there is, and who waits for a place | anything of it is another |
//! | `running/<slot>` | an operation that lives, whole | it has changed |
//! | `finished/<place>` | the outcome of an operation, or of a request that became none | it has ended: it takes the place of the oldest |
//! | `lane/...` | what the operations share | [`LaneState`] says so |
//!
//! So an operation that begins and ends between two snapshots costs one record. Everything else is derived: names, whose turn
//! it is, who works.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::{Saver, Stored, Unreadable};

use super::finished::Ring;
use super::{HubTable, Turns};
use crate::lane::LaneState;
use crate::machine::Workflows;
use crate::operation::Standing;

/// The schema version of what a hub saves.
pub(crate) const VERSION: u32 = 1;

/// Numbers of operations are below this: they are the keys of their deadlines.
pub(super) const LARGEST: u64 = 1 << 48;

const TABLE: &str = "table";
const RUNNING: &str = "running";
const FINISHED: &str = "finished";
const LANE: &str = "lane";

/// What belongs to no operation alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedTable {
    next_slot: u64,
    /// So many live: none of them can be missing unseen.
    live: u64,
    finished: Ring,
    admission: VecDeque<u64>,
}

/// A reason, cut to what is shown.
pub(super) fn unreadable(reason: &str) -> Unreadable {
    Unreadable(reason.chars().take(Unreadable::SHOWN).collect())
}

impl<W: Workflows> HubTable<W> {
    /// Saves what has changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        let table = SavedTable {
            next_slot: self.next_slot,
            live: self.live.len() as u64,
            finished: self.finished.ring().clone(),
            admission: self.admission.clone(),
        };
        // Before the first request there is nothing.
        if (self.next_slot > 0 || self.finished.has_begun()) && self.saved.as_ref() != Some(&table) {
            saver.put(TABLE, &table);
            self.saved = Some(table);
        }
        self.live.save(&mut saver.part(RUNNING));
        self.finished.save(&mut saver.part(FINISHED));
        self.lane.save(&mut saver.part(LANE));
    }

    /// Takes in the state of one key, in any order. Settings were taken before.
    ///
    /// # Errors
    /// Where it is not what a hub saves; the key is named.
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
            Err(unreadable(&format!("a hub saves no `{}`", stored.key())))
        }
    }

    /// Every key was loaded. Gives the keys of the views of those that live.
    ///
    /// # Errors
    /// Where what was loaded does not fit together.
    pub fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        let Some(table) = self.saved.clone() else {
            if self.live.len() > 0 || !self.finished.is_empty() {
                return Err(unreadable(&format!("saved `{TABLE}` is missing")));
            }
            self.lane.loaded()?;
            return Ok(Vec::new());
        };
        if table.next_slot > LARGEST {
            return Err(unreadable(&format!("saved `{TABLE}` does not fit: its next slot is {}", table.next_slot)));
        }
        self.next_slot = table.next_slot;
        self.finished.loaded(&table.finished)?;
        self.rebuild_turns(&table.admission)?;
        if table.live != self.live.len() as u64 {
            let (saved, found) = (table.live, self.live.len());
            return Err(unreadable(&format!("saved `{TABLE}` does not fit: {saved} operations live, not {found}")));
        }
        self.admission = table.admission;
        self.lane.loaded()?;
        Ok(self.live.iter().map(super::Running::view_key).collect())
    }

    /// Who has the turn on its key, who waits for it, and who works. The first that came for a key has the turn: others join
    /// behind it, and take it in the order of their numbers.
    fn rebuild_turns(&mut self, admission: &VecDeque<u64>) -> Result<(), Unreadable> {
        for running in self.live.iter() {
            let slot = running.slot;
            let misfit = |why: &str| Err(unreadable(&format!("saved `{RUNNING}/{slot}` does not fit: {why}")));
            if slot >= self.next_slot {
                return misfit(&format!("the next slot is {}", self.next_slot));
            }
            if self.finished.get(&running.id).is_some() {
                return misfit(&format!("{} is over", running.id));
            }
            let queued = running.standing == Standing::Queued;
            match self.turns.get_mut(&running.key) {
                Some(turns) if queued => turns.waiting.push_back(slot),
                Some(_) => return misfit("another has the turn on its key"),
                None if queued && !admission.contains(&slot) => return misfit("it has the turn, and nobody admits it"),
                None => {
                    let turns = Turns { active: Some(slot), waiting: VecDeque::new() };
                    self.turns.insert(Arc::clone(&running.key), turns);
                }
            }
            if running.is_active() {
                self.active.insert(slot);
            }
        }
        for (i, slot) in admission.iter().enumerate() {
            let misfit = |why: &str| Err(unreadable(&format!("saved `{TABLE}` does not fit: it admits {slot}, {why}")));
            let Some(running) = self.live.get(*slot) else { return misfit("which is not there") };
            let has_turn = self.turns.get(&running.key).is_some_and(|turns| turns.active == Some(*slot));
            if !has_turn || running.standing != Standing::Queued {
                return misfit("which does not wait for a place");
            }
            if admission.iter().skip(i + 1).any(|other| other == slot) {
                return misfit("twice");
            }
        }
        Ok(())
    }
}
