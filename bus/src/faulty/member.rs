//! A member whose commits, polls and takeovers fare as its fates say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fates::{CommitFate, Seen};
use super::{Carried, Process};
use crate::{Arrival, Batch, BusError, CommitError, Member, Record, Takeover};

pub(super) struct FaultyMember {
    pub(super) process: Arc<Process>,
    pub(super) group: Arc<str>,
    pub(super) member: Box<dyn Member>,
    /// Records of partitions that answer nothing, in their order. As many as come meanwhile.
    pub(super) waiting: BTreeMap<u32, Vec<Record>>,
}

impl FaultyMember {
    /// What waited, of partitions that answer again.
    fn let_go(&mut self, out: &mut Vec<Arrival>) {
        let fates = &self.process.fates;
        self.waiting.retain(|partition, records| {
            let stalls = records.first().is_some_and(|record| fates.stalls(&record.topic, *partition));
            if !stalls {
                out.extend(records.drain(..).map(Arrival::Record));
            }
            stalls
        });
    }

    /// What came just now passes, or waits behind its partition.
    fn hold_back(&mut self, came: Vec<Arrival>, out: &mut Vec<Arrival>) {
        for arrival in came {
            match &arrival {
                Arrival::Assigned(partitions) | Arrival::Revoking(partitions) | Arrival::Lost(partitions) => {
                    self.waiting.retain(|partition, _| !partitions.contains(partition));
                }
                Arrival::Record(record) => {
                    let partition = record.partition;
                    if self.waiting.contains_key(&partition) || self.process.fates.stalls(&record.topic, partition) {
                        self.waiting.entry(partition).or_default().push(record.clone());
                        continue;
                    }
                }
            }
            out.push(arrival);
        }
    }

    /// The commit reaches the bus.
    fn pass(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let Carried { now, later } = self.process.carry(&batch.records);
        let carried = Batch { records: now, positions: batch.positions.clone() };
        let outcome = self.member.commit(&carried);
        match &outcome {
            Ok(()) => {
                self.process.fates.seen(Seen::Committed(&self.group, batch));
                if !later.is_empty() {
                    self.process.fates.later(later);
                }
            }
            Err(CommitError::Fenced(_)) => self.process.fates.seen(Seen::Fenced(&self.group, batch)),
            Err(CommitError::Failed(_) | CommitError::Unknown(_)) => {}
        }
        outcome
    }
}

impl Member for FaultyMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        self.process.alive()?;
        self.process.fates.poll(&self.group)?;
        let before = out.len();
        self.let_go(out);
        let passed = out.len();
        let polled = self.member.poll(max, wait, out);
        let came = out.split_off(passed);
        self.hold_back(came, out);
        if out.len() > before {
            self.process.fates.seen(Seen::Arrived(&self.group, &out[before..]));
        }
        polled
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        self.process.alive()?;
        self.process.fates.take_over(&self.group, partition)?;
        self.member.take_over(partition)
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        self.process.alive()?;
        self.waiting.remove(&partition);
        self.member.start(partition, from)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.process.alive().map_err(CommitError::Failed)?;
        let unknown = || CommitError::Unknown(BusError::Unavailable("no answer to a commit".into()));
        match self.process.fates.commit(&self.group, batch) {
            CommitFate::Passes => self.pass(batch),
            CommitFate::Fails(error) => Err(CommitError::Failed(error)),
            CommitFate::IsFenced => Err(CommitError::Fenced("somebody else is in its place".into())),
            // What the bus refuses has not happened, and the member does not learn that either.
            CommitFate::UnknownAndHappened => self.pass(batch).map_or_else(|_| Err(unknown()), |()| Err(unknown())),
            CommitFate::UnknownAndDidNot => Err(unknown()),
            CommitFate::DiesBefore => Err(CommitError::Unknown(self.process.die())),
            CommitFate::DiesAfter => {
                drop(self.pass(batch));
                Err(CommitError::Unknown(self.process.die()))
            }
        }
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.process.alive()?;
        self.member.release(partitions)
    }

    fn has_joined(&self) -> bool {
        self.member.has_joined()
    }

    fn leave(self: Box<Self>) -> Result<(), BusError> {
        self.process.alive()?;
        self.member.leave()
    }
}
