//! Readers and writers of the embedded bus.

use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Duration;

use super::Shared;
use super::state::{BusState, ReaderState};
use super::write::BusWrite;
use crate::{BusError, Outgoing, Reader, Record, Writer};

/// Reads assigned partitions.
pub(super) struct EmbeddedReader {
    shared: Arc<Shared>,
    id: u64,
    first: usize,
}

impl EmbeddedReader {
    /// Creates a reader without partitions.
    pub(super) fn open(shared: Arc<Shared>) -> Self {
        let mut state = shared.lock();
        let id = state.fresh_id();
        state.readers.insert(id, ReaderState::default());
        drop(state);
        Self { shared, id, first: 0 }
    }

    /// Collects what is available. If nothing is visible, syncs records that only wait for a sync.
    fn collect_or_sync<'a>(
        &mut self,
        shared: &'a Shared,
        max: usize,
        out: &mut Vec<Record>,
    ) -> Result<MutexGuard<'a, BusState>, BusError> {
        shared.sync_due()?;
        let before = out.len();
        let mut state = shared.lock();
        self.collect(&mut state, max, out)?;
        if out.len() > before || !state.hides(state.readers[&self.id].places.iter().map(|(at, next)| (*at, *next))) {
            return Ok(state);
        }
        drop(state);
        shared.sync_now()?;
        state = shared.lock();
        self.collect(&mut state, max, out)?;
        Ok(state)
    }

    /// Lets the next record wake the calling thread.
    fn register(&self, state: &mut BusState) {
        state.readers.get_mut(&self.id).expect("exists until the reader is dropped").waker.register();
    }

    fn collect(&mut self, state: &mut BusState, max: usize, out: &mut Vec<Record>) -> Result<(), BusError> {
        state.intact()?;
        let full = out.len() + max;
        let places: Vec<_> = state.readers[&self.id].places.iter().map(|(place, next)| (*place, *next)).collect();
        self.first = self.first.wrapping_add(1);
        for index in 0..places.len() {
            let (place, from) = places[(index + self.first) % places.len()];
            if out.len() >= full {
                break;
            }
            let left = full - out.len();
            let until = state.visible_outside(place);
            let read = state.read(place, from, left, until, |record| out.push(record));
            let own = &mut state.readers.get_mut(&self.id).expect("exists until the reader is dropped").places;
            match &read {
                Ok(next) => own.insert(place, *next),
                // Returned once, as for members.
                Err(_) => own.remove(&place),
            };
            read?;
        }
        Ok(())
    }
}

impl Reader for EmbeddedReader {
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError> {
        let mut state = self.shared.lock();
        let place = state.place(topic, partition)?;
        state.check_start(place, from)?;
        let own = state.readers.get_mut(&self.id).expect("exists until the reader is dropped");
        own.places.insert(place, from);
        // Records may be there already: their arrival wakes no thread.
        own.waker.wake();
        Ok(())
    }

    fn unassign(&mut self, topic: &str, partition: u32) -> Result<(), BusError> {
        let mut state = self.shared.lock();
        if let Ok(place) = state.place(topic, partition) {
            state.readers.get_mut(&self.id).expect("exists until the reader is dropped").places.remove(&place);
        }
        Ok(())
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        let shared = Arc::clone(&self.shared);
        let before = out.len();
        let mut state = self.collect_or_sync(&shared, max, out)?;
        if out.len() == before && !wait.is_zero() {
            self.register(&mut state);
            drop(state);
            thread::park_timeout(wait);
            state = self.collect_or_sync(&shared, max, out)?;
        }
        if out.len() == before {
            self.register(&mut state);
        }
        Ok(())
    }

    fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        let state = self.shared.lock();
        let place = state.place(topic, partition).ok()?;
        state.readers[&self.id].places.get(&place).copied()
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        self.shared.lock().readers.remove(&self.id);
    }
}

/// Appends records.
pub(super) struct EmbeddedWriter(pub(super) Arc<Shared>);

impl Writer for EmbeddedWriter {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let places = self.0.route(&state, records)?;
        let now = self.0.clock.wall();
        let writing = BusWrite { records, places: &places, positions: (0, &[]), gaps: false, now };
        state.write(&writing, &self.0.options)?;
        drop(state);
        self.0.wrote()?;
        self.0.sync_now()
    }
}
