//! A member of a group of the embedded bus.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::state::{Place, State};
use super::write::Writing;
use super::{Shared, waker};
use crate::{Arrival, Batch, Bounds, BusError, CommitError, Committed, Member, MemberSpec, Takeover};

/// A seat in a group, by its number.
pub(super) struct EmbeddedMember {
    shared: Arc<Shared>,
    spec: MemberSpec,
    group: usize,
    id: u64,
    /// Which of its partitions is read first at the next poll, so that none is starved.
    turn: usize,
    left: bool,
}

impl EmbeddedMember {
    /// Joins.
    pub(super) fn join(shared: Arc<Shared>, spec: &MemberSpec) -> Result<Self, BusError> {
        let mut state = shared.lock();
        let group = state.group(&spec.group, &spec.topic)?;
        let id = state.fresh_id();
        state.groups[group].join(id, spec.session_timeout, shared.clock.mono());
        drop(state);
        Ok(Self { shared, spec: spec.clone(), group, id, turn: 0, left: false })
    }

    fn place(&self, state: &State, partition: u32) -> Place {
        (state.groups[self.group].topic, partition)
    }

    fn check_owned(&self, state: &State, partition: u32) -> Result<(), BusError> {
        if state.groups[self.group].owns(self.id, partition) { Ok(()) } else { Err(BusError::NotOwned(partition)) }
    }

    /// Gives a sign of life; where the group had given this member up, it joins again.
    fn alive(&mut self, state: &mut State, out: &mut Vec<Arrival>) {
        let now = self.shared.clock.mono();
        if let Err(lost) = state.groups[self.group].alive(self.id, now) {
            if !lost.is_empty() {
                out.push(Arrival::Lost(lost));
            }
            self.id = state.fresh_id();
            state.groups[self.group].join(self.id, self.spec.session_timeout, now);
        }
    }

    /// What there is now; for one outside, where there is nothing, it is made sure that nothing waits for a sync.
    fn look<'a>(
        &mut self,
        shared: &'a Shared,
        max: usize,
        out: &mut Vec<Arrival>,
    ) -> Result<MutexGuard<'a, State>, BusError> {
        shared.sync_due()?;
        let before = out.len();
        let mut state = shared.lock();
        self.collect(&mut state, max, out)?;
        if out.len() > before || !self.spec.outside || !self.hidden(&state) {
            return Ok(state);
        }
        drop(state);
        shared.sync_now()?;
        state = shared.lock();
        self.collect(&mut state, max, out)?;
        Ok(state)
    }

    /// True where a sync would bring it records.
    fn hidden(&self, state: &State) -> bool {
        let group = &state.groups[self.group];
        let seat = group.seats.get(&self.id);
        let started = seat.into_iter().flat_map(|seat| &seat.places);
        state.hides(started.filter_map(|(partition, next)| Some(((group.topic, *partition), (*next)?))))
    }

    /// What there is now.
    fn collect(&mut self, state: &mut State, max: usize, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        state.intact()?;
        self.alive(state, out);
        let topic = state.groups[self.group].topic;
        let Some(seat) = state.seat(self.group, self.id) else { return Ok(()) };
        while let Some(news) = seat.news.pop_front() {
            match &news {
                // What was just assigned is not started yet; what is asked back brings no more records.
                Arrival::Assigned(partitions) | Arrival::Revoking(partitions) => {
                    seat.places.extend(partitions.iter().map(|partition| (*partition, None)));
                }
                Arrival::Lost(_) | Arrival::Record(_) => {}
            }
            out.push(news);
        }
        let full = out.len().saturating_add(max);
        let started: Vec<(u32, u64)> = seat.places.iter().filter_map(|(p, next)| Some((*p, (*next)?))).collect();
        self.turn = self.turn.wrapping_add(1);
        for index in 0..started.len() {
            let (partition, from) = started[(index + self.turn) % started.len()];
            if out.len() >= full {
                break;
            }
            let left = full - out.len();
            let place = (topic, partition);
            let until = if self.spec.outside { state.visible_outside(place) } else { u64::MAX };
            let read = state.read(place, from, left, until, |record| out.push(Arrival::Record(record)));
            if let Some(seat) = state.seat(self.group, self.id) {
                // Where the next record is gone it is said once, and the others go on.
                seat.places.insert(partition, read.as_ref().ok().copied());
            }
            read?;
        }
        Ok(())
    }

    fn check(&self, state: &State, batch: &Batch) -> Result<Vec<Place>, CommitError> {
        for position in &batch.positions {
            if !state.groups[self.group].owns(self.id, position.partition) {
                let Self { spec: MemberSpec { name, topic, .. }, .. } = self;
                return Err(CommitError::Fenced(format!("`{name}` does not own `{topic}` {}", position.partition)));
            }
            position.check().map_err(CommitError::Failed)?;
        }
        self.shared.route(state, &batch.records).map_err(CommitError::Failed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Member for EmbeddedMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        let shared = Arc::clone(&self.shared);
        let before = out.len();
        let state = self.look(&shared, max, out)?;
        if out.len() > before || wait.is_zero() {
            return Ok(());
        }
        // A silent peer's partitions may become free before anything else happens, and nobody would say so.
        let wait = wait.min(state.groups[self.group].next_expiry(shared.clock.mono()));
        let (group, id) = (self.group, self.id);
        waker::nap(&shared.state, state, wait, |state| state.seat(group, id).map(|seat| &mut seat.waker));
        self.look(&shared, max, out).map(drop)
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        let mut state = self.lock();
        self.check_owned(&state, partition)?;
        let committed: Option<Committed> =
            state.groups[self.group].share(partition).and_then(|share| share.committed.clone());
        let place = self.place(&state, partition);
        let Bounds { low, end } = state.log(place).bounds();
        Ok(Takeover { committed, low, end })
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        let mut state = self.lock();
        self.check_owned(&state, partition)?;
        let place = self.place(&state, partition);
        state.check_start(place, from)?;
        let seat = state.seat(self.group, self.id).ok_or(BusError::NotOwned(partition))?;
        *seat.places.get_mut(&partition).ok_or(BusError::NotOwned(partition))? = Some(from);
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let mut state = self.lock();
        let places = self.check(&state, batch)?;
        let now = self.shared.clock.wall();
        let positions = (self.group, &*batch.positions);
        let gaps = self.shared.options.offset_gaps;
        let writing = Writing { records: &batch.records, places: &places, positions, gaps, now };
        state.write(&writing, &self.shared.options).map_err(CommitError::Failed)?;
        drop(state);
        // It has happened. Where the disk does not sync, the next poll says so.
        drop(self.shared.wrote());
        Ok(())
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.lock().groups[self.group].release(self.id, partitions);
        Ok(())
    }

    fn has_joined(&self) -> bool {
        self.lock().groups[self.group].seats.get(&self.id).is_some_and(|seat| seat.news.is_empty())
    }

    fn leave(mut self: Box<Self>) -> Result<(), BusError> {
        self.left = true;
        self.lock().groups[self.group].leave(self.id);
        Ok(())
    }
}

impl Drop for EmbeddedMember {
    /// One that is dropped without leaving is taken for crashed: its partitions are free when its session is over.
    fn drop(&mut self) {
        if !self.left {
            self.lock().groups[self.group].crash(self.id);
        }
    }
}
