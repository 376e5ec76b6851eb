//! Writes of a batch: to the disk first, if there is one, then to memory.

use wire::WallTime;

use super::EmbeddedOptions;
use super::state::{BusState, PartitionRef};
use crate::{Committed, Outgoing, Position};

/// An atomic write.
pub(super) struct BusWrite<'a> {
    /// Checked records.
    pub(super) records: &'a [Outgoing],
    /// The partition of each record.
    pub(super) places: &'a [PartitionRef],
    /// The group whose positions move, and the positions.
    pub(super) positions: (usize, &'a [Position]),
    /// True: each written partition uses one more offset.
    pub(super) gaps: bool,
    /// The timestamp of the records.
    pub(super) now: WallTime,
}

impl BusWrite<'_> {
    /// Returns the written partitions, each once.
    pub(super) fn touched(&self) -> Vec<PartitionRef> {
        let mut touched: Vec<PartitionRef> = Vec::new();
        for place in self.places {
            // Adjacent records mostly go to the same partition.
            if touched.last() != Some(place) && !touched.contains(place) {
                touched.push(*place);
            }
        }
        touched
    }
}

impl BusState {
    /// Writes everything or nothing, and wakes waiting readers.
    ///
    /// # Errors
    /// If the disk rejects the batch.
    pub(super) fn write(&mut self, writing: &BusWrite<'_>, options: &EmbeddedOptions) -> Result<(), crate::BusError> {
        let touched = writing.touched();
        let pieces = match self.write_to_disk(writing, &touched) {
            Ok(pieces) => pieces,
            Err(fault) => {
                self.wake_all();
                return Err(fault);
            }
        };
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
            self.enforce_retention(*place, writing.now, options);
        }
        let (group, positions) = writing.positions;
        for position in positions {
            let committed = Committed { next: position.next, metadata: String::from(&*position.metadata) };
            let index = usize::try_from(position.partition).expect("a partition is an index");
            self.groups[group].shares[index].committed = Some(committed);
            let place = (self.groups[group].topic, position.partition);
            self.enforce_retention(place, writing.now, options);
        }
        Ok(())
    }
}
