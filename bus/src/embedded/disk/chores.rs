//! What is cut from the store, with the next batch: it is in no hurry, and costs no write of its own.
//!
//! In memory it is gone already. Where the process ends before, it is back after a restart, and goes again.

use std::collections::BTreeMap;

use raft_engine::LogBatch;

use super::super::state::Place;
use super::code::{self, Side, Watermark, keys};
use super::store::Store;
use crate::BusError;

/// The partitions that were cut since the last batch, each with its first page as the store knows it.
#[derive(Debug, Default)]
pub(in crate::embedded) struct Chores(BTreeMap<Place, u64>);

impl Chores {
    /// A partition begins later than it did; `first_page` was its first page before.
    pub(in crate::embedded) fn cut(&mut self, place: Place, first_page: u64) {
        self.0.entry(place).or_insert(first_page);
    }

    /// True where there is nothing to do.
    pub(in crate::embedded) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Cuts what is to be cut; `mark` says where a partition begins by now.
    pub(in crate::embedded) fn write(
        &self,
        store: &Store,
        batch: &mut LogBatch,
        mark: impl Fn(Place) -> Watermark,
    ) -> Result<(), BusError> {
        self.0.iter().try_for_each(|(place, first_page)| cut(store, batch, *place, &mark(*place), *first_page))
    }

    /// They were done.
    pub(in crate::embedded) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Writes where a partition begins, and cuts what is before it.
pub(in crate::embedded) fn cut(
    store: &Store,
    batch: &mut LogBatch,
    place: Place,
    mark: &Watermark,
    first_page: u64,
) -> Result<(), BusError> {
    let (near, far) = (code::number(place, Side::Near), code::number(place, Side::Far));
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
