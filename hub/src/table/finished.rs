//! The remembered outcomes of a lane, for repeated requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use topology::{Saver, StateMap, Stored, Unreadable};
use wire::OperationId;
use wire::answer::{Answer, Operation};

use super::saved::{SLOT_LIMIT, unreadable};
use crate::machine::Workflows;
use crate::operation::{OperationStatus, Running};

/// An ended operation with its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FinishedOperation {
    /// The number of operations that ended before it.
    sequence: u64,
    pub(super) fingerprint: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) route: String,
    /// True if it accepted a cancel. A repeated cancel is accepted too and changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) cancelled: bool,
    /// True if it accepted an abort. A repeated abort is accepted too and changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) aborted: bool,
    pub(super) view: Operation,
}

impl FinishedOperation {
    /// Creates the outcome of an operation that has just ended.
    pub(super) fn of<W: Workflows>(running: &Running<W>) -> Self {
        Self {
            cancelled: running.cancelled,
            aborted: running.standing == OperationStatus::Aborted,
            ..Self::refused(running.fingerprint, running.route.clone(), running.view(None))
        }
    }

    /// Creates the outcome of a request that was refused before it became an operation.
    pub(super) fn refused(fingerprint: u64, route: String, view: Operation) -> Self {
        Self { sequence: 0, fingerprint, route, cancelled: false, aborted: false, view }
    }
}

/// The sequence numbers of the remembered outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RingBounds {
    /// The oldest.
    from: u64,
    /// One past the newest.
    to: u64,
    /// Maximum number of remembered outcomes.
    places: u64,
}

/// The ring of remembered outcomes.
///
/// A new outcome overwrites the oldest one, also in the saved state. So forgetting costs no record.
#[derive(Debug)]
pub(super) struct FinishedRing {
    past: StateMap<u64, FinishedOperation>,
    places: BTreeMap<OperationId, u64>,
    ring: RingBounds,
}

impl FinishedRing {
    /// Creates an empty ring of `remembered` places.
    pub(super) fn of(remembered: usize) -> Self {
        let places = remembered as u64;
        Self { past: StateMap::default(), places: BTreeMap::new(), ring: RingBounds { from: 0, to: 0, places } }
    }

    pub(super) fn ring(&self) -> &RingBounds {
        &self.ring
    }

    pub(super) fn is_empty(&self) -> bool {
        self.past.is_empty()
    }

    pub(super) fn get(&self, operation: &OperationId) -> Option<&FinishedOperation> {
        self.past.get(self.places.get(operation)?)
    }

    /// Returns the place of an operation in the ring.
    pub(super) fn place_of(&self, operation: &OperationId) -> Option<u64> {
        self.places.get(operation).copied()
    }

    /// True if the ring has ever held an outcome.
    pub(super) fn has_begun(&self) -> bool {
        self.ring.to > 0
    }

    /// Adds an outcome.
    pub(super) fn push(&mut self, past: FinishedOperation) {
        if self.ring.places == 0 {
            return;
        }
        let sequence = self.ring.to;
        self.ring.to += 1;
        self.put(FinishedOperation { sequence, ..past });
        self.ring.from = self.ring.from.max(self.ring.to.saturating_sub(self.ring.places));
    }

    /// Puts an outcome into its place and forgets the one that was there.
    fn put(&mut self, past: FinishedOperation) {
        let place = past.sequence % self.ring.places;
        self.places.insert(past.view.operation.clone(), place);
        if let Some(forgotten) = self.past.insert(place, past) {
            self.places.remove(&forgotten.view.operation);
        }
    }

    /// Changes the number of places. The newest outcomes stay, and each moves to its place in the
    /// new ring.
    pub(super) fn resize(&mut self, remembered: usize) {
        let places = remembered as u64;
        if places == self.ring.places {
            return;
        }
        let RingBounds { from, to, places: before } = self.ring;
        self.ring = RingBounds { from: from.max(to.saturating_sub(places)), to, places };
        self.places.clear();
        let all: Vec<FinishedOperation> =
            (from..to).filter_map(|sequence| self.past.remove(&(sequence % before))).collect();
        let newest = self.ring.from;
        all.into_iter().filter(|past| past.sequence >= newest).for_each(|past| self.put(past));
    }

    // ---- saved states -------------------------------------------------------------------------------------------------

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        self.past.save(saver, u64::to_string);
    }

    /// Loads the outcome at a place.
    pub(super) fn load(&mut self, stored: &Stored<'_>, place: &str) -> Result<(), Unreadable> {
        let past: FinishedOperation = stored.read()?;
        let inconsistent = |why: &str| Err(unreadable(&format!("saved `{}` is inconsistent: {why}", stored.key())));
        let Some(place) = place.parse().ok().filter(|number: &u64| number.to_string() == place) else {
            return inconsistent("its place is not a number");
        };
        if past.view.live || !past.view.answer.as_ref().is_some_and(Answer::is_outcome) {
            return inconsistent("it has no outcome");
        }
        if let Some(other) = self.places.insert(past.view.operation.clone(), place) {
            return inconsistent(&format!("`finished/{other}` is also {}", past.view.operation));
        }
        self.past.load(place, past);
        Ok(())
    }

    /// Checks the loaded outcomes against the saved bounds of the ring.
    pub(super) fn loaded(&mut self, ring: &RingBounds) -> Result<(), Unreadable> {
        let RingBounds { from, to, places } = *ring;
        let inconsistent = |why: &str| Err(unreadable(why));
        if to < from || to > SLOT_LIMIT || to - from > places {
            return inconsistent(&format!(
                "saved `table` is inconsistent: outcomes {from} to {to} do not fit {places} places"
            ));
        }
        for (place, past) in self.past.iter() {
            let sequence = past.sequence;
            if !(from..to).contains(&sequence) || sequence % places != *place {
                let expected = format!("expected are {from} to {to} in {places} places");
                return inconsistent(&format!(
                    "saved `finished/{place}` is inconsistent: its sequence number is {sequence}; {expected}"
                ));
            }
        }
        if self.past.len() as u64 != to - from {
            let missing = (from..to).map(|sequence| sequence % places).find(|place| self.past.get(place).is_none());
            return inconsistent(&format!("saved `finished/{}` is missing", missing.unwrap_or_default()));
        }
        let remembered = self.ring.places;
        self.ring = ring.clone();
        self.resize(usize::try_from(remembered).unwrap_or(usize::MAX));
        Ok(())
    }
}
