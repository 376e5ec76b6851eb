//! Cuts that the store still has to make. They are written with the next batch: not urgent, and
//! without a write of their own.
//!
//! Memory has made the cuts already. If the process ends first, the records are back after a
//! restart and are cut again.

use std::collections::BTreeMap;

use raft_engine::LogBatch;

use super::super::state::PartitionRef;
use super::code::{self, LogKind, Watermark, keys};
use super::store::Store;
use crate::BusError;

/// The partitions cut since the last batch, each with its first page in the store.
#[derive(Debug, Default)]
pub(in crate::embedded) struct PendingCuts(BTreeMap<PartitionRef, u64>);

impl PendingCuts {
    /// Schedules a cut; `first_page` was the partition's first page before.
    pub(in crate::embedded) fn cut(&mut self, place: PartitionRef, first_page: u64) {
        self.0.entry(place).or_insert(first_page);
    }

    /// True if no cut is pending.
    pub(in crate::embedded) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the cuts to a batch; `mark` returns the current watermark of a partition.
    pub(in crate::embedded) fn write(
        &self,
        store: &Store,
        batch: &mut LogBatch,
        mark: impl Fn(PartitionRef) -> Watermark,
    ) -> Result<(), BusError> {
        self.0.iter().try_for_each(|(place, first_page)| cut(store, batch, *place, &mark(*place), *first_page))
    }

    /// Forgets the cuts after the batch was written.
    pub(in crate::embedded) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Writes the watermark of a partition, and cuts everything before it.
pub(in crate::embedded) fn cut(
    store: &Store,
    batch: &mut LogBatch,
    place: PartitionRef,
    mark: &Watermark,
    first_page: u64,
) -> Result<(), BusError> {
    let (near, far) = (code::number(place, LogKind::Near), code::number(place, LogKind::Far));
    store.put(batch, near, keys::WATERMARK.to_vec(), code::write(mark, Vec::new()))?;
    code::cut(batch, near, mark.pieces.0);
    if first_page < mark.pages.0 {
        for page in first_page..mark.pages.0 {
            batch.delete(far, keys::page(page));
        }
        code::cut(batch, far, mark.pages.0);
    }
    Ok(())
}
