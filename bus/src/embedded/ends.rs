//! Readers and writers of the embedded bus.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::state::{Audience, State};
use super::write::Writing;
use super::{Shared, waker};
use crate::{BusError, Outgoing, Reader, Record, Writer};

/// Reads what it is told to.
pub(super) struct EmbeddedReader {
    shared: Arc<Shared>,
    id: u64,
    turn: usize,
}

impl EmbeddedReader {
    /// A reader of nothing yet.
    pub(super) fn open(shared: Arc<Shared>) -> Self {
        let mut state = shared.lock();
        let id = state.fresh_id();
        state.readers.insert(id, Audience::default());
        drop(state);
        Self { shared, id, turn: 0 }
    }

    /// What there is now; where there is nothing, it is made sure that nothing waits for a sync.
    fn look<'a>(
        &mut self,
        shared: &'a Shared,
        max: usize,
        out: &mut Vec<Record>,
    ) -> Result<MutexGuard<'a, State>, BusError> {
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

    fn collect(&mut self, state: &mut State, max: usize, out: &mut Vec<Record>) -> Result<(), BusError> {
        state.intact()?;
        let full = out.len() + max;
        let places: Vec<_> = state.readers[&self.id].places.iter().map(|(place, next)| (*place, *next)).collect();
        self.turn = self.turn.wrapping_add(1);
        for index in 0..places.len() {
            let (place, from) = places[(index + self.turn) % places.len()];
            if out.len() >= full {
                break;
            }
            let left = full - out.len();
            let until = state.visible_outside(place);
            let read = state.read(place, from, left, until, |record| out.push(record));
            let own = &mut state.readers.get_mut(&self.id).expect("it is there until it is dropped").places;
            match &read {
                Ok(next) => own.insert(place, *next),
                // Said once, as for members.
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
        state.readers.get_mut(&self.id).expect("it is there until it is dropped").places.insert(place, from);
        Ok(())
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        let shared = Arc::clone(&self.shared);
        let before = out.len();
        let state = self.look(&shared, max, out)?;
        if out.len() > before || wait.is_zero() {
            return Ok(());
        }
        let id = self.id;
        waker::nap(&shared.state, state, wait, |state| state.readers.get_mut(&id).map(|audience| &mut audience.waker));
        self.look(&shared, max, out).map(drop)
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

/// Appends.
pub(super) struct EmbeddedWriter(pub(super) Arc<Shared>);

impl Writer for EmbeddedWriter {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let places = self.0.route(&state, records)?;
        let now = self.0.clock.wall();
        let writing = Writing { records, places: &places, positions: (0, &[]), gaps: false, now };
        state.write(&writing, &self.0.options)?;
        drop(state);
        self.0.wrote()?;
        self.0.sync_now()
    }
}
