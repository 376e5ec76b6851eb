//! The outcomes of a lane's operations, for repeats of their requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use topology::{Saver, Stored, Unreadable};
use wire::OperationId;
use wire::answer::{Answer, Operation};

use super::saved::{LARGEST, unreadable};
use crate::kept::Kept;
use crate::machine::Workflows;
use crate::operation::{Running, Standing};

/// An operation that is over, with its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Past {
    /// The number of operations that ended before it.
    sequence: u64,
    pub(super) fingerprint: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) route: String,
    /// It took a cancel. Another one changes nothing, and is taken as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) cancelled: bool,
    /// It took an abort. Another one changes nothing, and is taken as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) aborted: bool,
    pub(super) view: Operation,
}

impl Past {
    /// One that has ended just now.
    pub(super) fn of<W: Workflows>(running: &Running<W>) -> Self {
        Self {
            cancelled: running.cancelled,
            aborted: running.standing == Standing::Aborted,
            ..Self::refused(running.fingerprint, running.route.clone(), running.view(None))
        }
    }

    /// A request that was refused before it became an operation.
    pub(super) fn refused(fingerprint: u64, route: String, view: Operation) -> Self {
        Self { sequence: 0, fingerprint, route, cancelled: false, aborted: false, view }
    }
}

/// Which of all that ended are remembered, by their sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    /// The oldest.
    from: u64,
    /// The one after the newest.
    to: u64,
    /// So many are remembered.
    places: u64,
}

/// Those that are remembered.
///
/// They lie in a ring: one that ends takes the place of the oldest, so what is saved of it overwrites what was saved of that,
/// and forgetting costs no record.
#[derive(Debug)]
pub(super) struct Finished {
    past: Kept<u64, Past>,
    places: BTreeMap<OperationId, u64>,
    ring: Ring,
}

impl Finished {
    /// None yet; the last `remembered` of those that come.
    pub(super) fn of(remembered: usize) -> Self {
        let places = remembered as u64;
        Self { past: Kept::default(), places: BTreeMap::new(), ring: Ring { from: 0, to: 0, places } }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn is_empty(&self) -> bool {
        self.past.is_empty()
    }

    pub(super) fn get(&self, operation: &OperationId) -> Option<&Past> {
        self.past.get(self.places.get(operation)?)
    }

    /// Returns the place of one that is remembered.
    pub(super) fn place_of(&self, operation: &OperationId) -> Option<u64> {
        self.places.get(operation).copied()
    }

    /// True where one was ever remembered.
    pub(super) fn has_begun(&self) -> bool {
        self.ring.to > 0
    }

    /// One more is over.
    pub(super) fn push(&mut self, past: Past) {
        if self.ring.places == 0 {
            return;
        }
        let sequence = self.ring.to;
        self.ring.to += 1;
        self.put(Past { sequence, ..past });
        self.ring.from = self.ring.from.max(self.ring.to.saturating_sub(self.ring.places));
    }

    /// Puts one into its place, where the one is forgotten that was there.
    fn put(&mut self, past: Past) {
        let place = past.sequence % self.ring.places;
        self.places.insert(past.view.operation.clone(), place);
        if let Some(forgotten) = self.past.insert(place, past) {
            self.places.remove(&forgotten.view.operation);
        }
    }

    /// So many are remembered from now on: the newest. Each goes to its place in the new ring.
    pub(super) fn resize(&mut self, remembered: usize) {
        let places = remembered as u64;
        if places == self.ring.places {
            return;
        }
        let Ring { from, to, places: before } = self.ring;
        self.ring = Ring { from: from.max(to.saturating_sub(places)), to, places };
        self.places.clear();
        let all: Vec<Past> = (from..to).filter_map(|sequence| self.past.remove(&(sequence % before))).collect();
        let newest = self.ring.from;
        all.into_iter().filter(|past| past.sequence >= newest).for_each(|past| self.put(past));
    }

    // ---- saved states -------------------------------------------------------------------------------------------------

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        self.past.save(saver, u64::to_string);
    }

    /// What was saved of this place.
    pub(super) fn load(&mut self, stored: &Stored<'_>, place: &str) -> Result<(), Unreadable> {
        let past: Past = stored.read()?;
        let misfit = |why: &str| Err(unreadable(&format!("saved `{}` does not fit: {why}", stored.key())));
        let Some(place) = place.parse().ok().filter(|number: &u64| number.to_string() == place) else {
            return misfit("its place is no number");
        };
        if past.view.live || !past.view.answer.as_ref().is_some_and(Answer::is_outcome) {
            return misfit("it is not over");
        }
        if let Some(other) = self.places.insert(past.view.operation.clone(), place) {
            return misfit(&format!("`finished/{other}` is {}, too", past.view.operation));
        }
        self.past.load(place, past);
        Ok(())
    }

    /// All were loaded, and they are to be these.
    pub(super) fn loaded(&mut self, ring: &Ring) -> Result<(), Unreadable> {
        let Ring { from, to, places } = *ring;
        let misfit = |why: &str| Err(unreadable(why));
        if to < from || to > LARGEST || to - from > places {
            return misfit(&format!(
                "saved `table` does not fit: finished are {from} to {to}, and {places} remembered"
            ));
        }
        for (place, past) in self.past.iter() {
            let sequence = past.sequence;
            if !(from..to).contains(&sequence) || sequence % places != *place {
                let remembered = format!("those from {from} up to {to} are remembered, at {places} places");
                return misfit(&format!(
                    "saved `finished/{place}` does not fit: it is number {sequence}; {remembered}"
                ));
            }
        }
        if self.past.len() as u64 != to - from {
            let missing = (from..to).map(|sequence| sequence % places).find(|place| self.past.get(place).is_none());
            return misfit(&format!("saved `finished/{}` is missing", missing.unwrap_or_default()));
        }
        let remembered = self.ring.places;
        self.ring = ring.clone();
        self.resize(usize::try_from(remembered).unwrap_or(usize::MAX));
        Ok(())
    }
}
