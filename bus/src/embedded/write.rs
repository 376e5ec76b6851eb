//! Writing: all of a batch to the disk first, where there is one, and then to memory.

use wire::WallTime;

use super::EmbeddedOptions;
use super::state::{Place, State};
use crate::{Committed, Outgoing, Position};

/// What is written as one.
pub(super) struct Writing<'a> {
    /// Records that were checked.
    pub(super) records: &'a [Outgoing],
    /// Where each of them goes.
    pub(super) places: &'a [Place],
    /// The group whose positions move, and the positions.
    pub(super) positions: (usize, &'a [Position]),
    /// True: each partition that is written uses up one offset more.
    pub(super) gaps: bool,
    /// The time to be stamped on the records.
    pub(super) now: WallTime,
}

impl Writing<'_> {
    /// The partitions that are written, each once.
    pub(super) fn touched(&self) -> Vec<Place> {
        let mut touched: Vec<Place> = Vec::new();
        for place in self.places {
            // Neighbours mostly go to one place.
            if touched.last() != Some(place) && !touched.contains(place) {
                touched.push(*place);
            }
        }
        touched
    }
}

impl State {
    /// Writes all of it, or nothing, and wakes who waits for it.
    ///
    /// # Errors
    /// Where the disk did not take it.
    pub(super) fn write(&mut self, writing: &Writing<'_>, options: &EmbeddedOptions) -> Result<(), crate::BusError> {
        let touched = writing.touched();
        let pieces = self.write_to_disk(writing, &touched)?;
        for (record, place) in writing.records.iter().zip(writing.places) {
            self.log(*place).append(record, writing.now);
        }
        if writing.gaps {
            for place in &touched {
                self.log(*place).skip();
            }
        }
        for (place, piece) in touched.iter().zip(pieces) {
            if let Some(tail) = &mut self.log(*place).tail {
                tail.push(piece);
            }
        }
        for place in &touched {
            self.wake(*place);
            self.tidy(*place, writing.now, options);
        }
        let (group, positions) = writing.positions;
        for position in positions {
            let committed = Committed { next: position.next, note: String::from(&*position.note) };
            let index = usize::try_from(position.partition).expect("a partition is an index");
            self.groups[group].shares[index].committed = Some(committed);
            let place = (self.groups[group].topic, position.partition);
            self.tidy(place, writing.now, options);
        }
        Ok(())
    }
}
