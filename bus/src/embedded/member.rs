//! A member of a group of the embedded bus.

use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Duration;

use super::Shared;
use super::state::{BusState, PartitionRef};
use super::write::BusWrite;
use crate::{Arrival, Batch, Bounds, BusError, CommitError, Committed, Member, MemberSpec, Takeover};

/// A group member, identified by its number.
pub(super) struct EmbeddedMember {
    shared: Arc<Shared>,
    spec: MemberSpec,
    group: usize,
    id: u64,
    /// Index of the partition that the next poll reads first, so that none is starved.
    first: usize,
    left: bool,
}

impl EmbeddedMember {
    /// Joins the group.
    pub(super) fn join(shared: Arc<Shared>, spec: &MemberSpec) -> Result<Self, BusError> {
        let mut state = shared.lock();
        let group = state.group(&spec.group, &spec.topic)?;
        let id = state.fresh_id();
        state.groups[group].join(id, spec.session_timeout, shared.clock.mono());
        drop(state);
        Ok(Self { shared, spec: spec.clone(), group, id, first: 0, left: false })
    }

    fn place(&self, state: &BusState, partition: u32) -> PartitionRef {
        (state.groups[self.group].topic, partition)
    }

    fn check_owned(&self, state: &BusState, partition: u32) -> Result<(), BusError> {
        if state.groups[self.group].owns(self.id, partition) { Ok(()) } else { Err(BusError::NotOwned(partition)) }
    }

    /// Records a sign of life. Rejoins if the group has expelled this member.
    fn alive(&mut self, state: &mut BusState, out: &mut Vec<Arrival>) {
        let now = self.shared.clock.mono();
        if let Err(lost) = state.groups[self.group].alive(self.id, now) {
            if !lost.is_empty() {
                out.push(Arrival::Lost(lost));
            }
            self.id = state.fresh_id();
            state.groups[self.group].join(self.id, self.spec.session_timeout, now);
        }
    }

    /// Collects what is available. For a member outside the process: if nothing is visible, syncs
    /// records that only wait for a sync.
    fn collect_or_sync<'a>(
        &mut self,
        shared: &'a Shared,
        max: usize,
        out: &mut Vec<Arrival>,
    ) -> Result<MutexGuard<'a, BusState>, BusError> {
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

    /// True if a sync would make records visible.
    fn hidden(&self, state: &BusState) -> bool {
        let group = &state.groups[self.group];
        let member = group.members.get(&self.id);
        let started = member.into_iter().flat_map(|member| &member.places);
        state.hides(started.filter_map(|(partition, next)| Some(((group.topic, *partition), (*next)?))))
    }

    /// Collects what is available.
    fn collect(&mut self, state: &mut BusState, max: usize, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        state.intact()?;
        self.alive(state, out);
        let topic = state.groups[self.group].topic;
        let Some(member) = state.member(self.group, self.id) else { return Ok(()) };
        while let Some(news) = member.news.pop_front() {
            match &news {
                // A new partition is not started yet; a revoked one delivers no more records.
                Arrival::Assigned(partitions) | Arrival::Revoking(partitions) => {
                    member.places.extend(partitions.iter().map(|partition| (*partition, None)));
                }
                Arrival::Lost(_) | Arrival::Record(_) => {}
            }
            out.push(news);
        }
        let full = out.len().saturating_add(max);
        let started: Vec<(u32, u64)> = member.places.iter().filter_map(|(p, next)| Some((*p, (*next)?))).collect();
        self.first = self.first.wrapping_add(1);
        for index in 0..started.len() {
            let (partition, from) = started[(index + self.first) % started.len()];
            if out.len() >= full {
                break;
            }
            let left = full - out.len();
            let place = (topic, partition);
            let until = if self.spec.outside { state.visible_outside(place) } else { u64::MAX };
            let read = state.read(place, from, left, until, |record| out.push(Arrival::Record(record)));
            if let Some(member) = state.member(self.group, self.id) {
                // A deleted record is reported once; the other partitions continue.
                member.places.insert(partition, read.as_ref().ok().copied());
            }
            read?;
        }
        Ok(())
    }

    /// Lets the next arrival wake the calling thread, which waits for it now if `waits`.
    fn register(&self, state: &mut BusState, waits: bool) {
        if let Some(member) = state.member(self.group, self.id) {
            member.waker.register();
            member.waits = waits;
        }
    }

    fn check(&self, state: &BusState, batch: &Batch) -> Result<Vec<PartitionRef>, CommitError> {
        for position in &batch.positions {
            if !state.groups[self.group].owns(self.id, position.partition) {
                let Self { spec: MemberSpec { name, topic, .. }, .. } = self;
                return Err(CommitError::Fenced(format!("`{name}` does not own `{topic}` {}", position.partition)));
            }
            position.check().map_err(CommitError::Failed)?;
        }
        self.shared.route(state, &batch.records).map_err(CommitError::Failed)
    }

    fn lock(&self) -> MutexGuard<'_, BusState> {
        self.shared.lock()
    }
}

impl Member for EmbeddedMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        let shared = Arc::clone(&self.shared);
        let before = out.len();
        let mut state = self.collect_or_sync(&shared, max, out)?;
        if out.len() == before && !wait.is_zero() {
            self.register(&mut state, true);
            // A silent member's session may expire first; no waker signals that.
            let wait = wait.min(state.groups[self.group].next_expiry(shared.clock.mono()));
            drop(state);
            thread::park_timeout(wait);
            state = self.collect_or_sync(&shared, max, out)?;
        }
        if out.len() == before {
            self.register(&mut state, false);
        }
        Ok(())
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
        let member = state.member(self.group, self.id).ok_or(BusError::NotOwned(partition))?;
        *member.places.get_mut(&partition).ok_or(BusError::NotOwned(partition))? = Some(from);
        // Records may be there already: their arrival wakes no thread.
        member.waker.wake();
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let mut state = self.lock();
        let places = self.check(&state, batch)?;
        let now = self.shared.clock.wall();
        let positions = (self.group, &*batch.positions);
        let gaps = self.shared.options.offset_gaps;
        let writing = BusWrite { records: &batch.records, places: &places, positions, gaps, now };
        state.write(&writing, &self.shared.options).map_err(CommitError::Failed)?;
        drop(state);
        // The commit has happened. If the sync fails, the next poll reports it.
        drop(self.shared.wrote());
        Ok(())
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.lock().groups[self.group].release(self.id, partitions);
        Ok(())
    }

    fn has_joined(&self) -> bool {
        self.lock().groups[self.group].members.get(&self.id).is_some_and(|member| member.news.is_empty())
    }

    fn leave(mut self: Box<Self>) -> Result<(), BusError> {
        self.left = true;
        self.lock().groups[self.group].leave(self.id);
        Ok(())
    }
}

impl Drop for EmbeddedMember {
    /// A member that is dropped without leaving counts as crashed: its partitions are freed when
    /// its session expires.
    fn drop(&mut self) {
        if !self.left {
            self.lock().groups[self.group].crash(self.id);
        }
    }
}
