//! A member with fault injection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::faults::{BusEvent, CommitFault};
use super::{Carried, Process};
use crate::{Arrival, Batch, BusError, CommitError, Member, Record, Takeover};

pub(super) struct FaultyMember {
    pub(super) process: Arc<Process>,
    pub(super) group: Arc<str>,
    pub(super) member: Box<dyn Member>,
    /// Records of stalled partitions, in order. Grows by what arrives during the stall.
    pub(super) held_back: BTreeMap<u32, Vec<Record>>,
}

impl FaultyMember {
    /// Delivers the held-back records of recovered partitions.
    fn deliver_held_back(&mut self, out: &mut Vec<Arrival>) {
        let faults = &self.process.faults;
        self.held_back.retain(|partition, records| {
            let stalls = records.first().is_some_and(|record| faults.stalls(&record.topic, *partition));
            if !stalls {
                out.extend(records.drain(..).map(Arrival::Record));
            }
            stalls
        });
    }

    /// Delivers new arrivals, or holds back those of stalled partitions.
    fn hold_back(&mut self, arrived: Vec<Arrival>, out: &mut Vec<Arrival>) {
        for arrival in arrived {
            match &arrival {
                Arrival::Assigned(partitions) | Arrival::Revoking(partitions) | Arrival::Lost(partitions) => {
                    self.held_back.retain(|partition, _| !partitions.contains(partition));
                }
                Arrival::Record(record) => {
                    let partition = record.partition;
                    if self.held_back.contains_key(&partition) || self.process.faults.stalls(&record.topic, partition) {
                        self.held_back.entry(partition).or_default().push(record.clone());
                        continue;
                    }
                }
            }
            out.push(arrival);
        }
    }

    /// Commits the batch on the bus.
    fn pass(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let Carried { now, delayed } = self.process.transmit(&batch.records);
        let carried = Batch { records: now, positions: batch.positions.clone() };
        let outcome = self.member.commit(&carried);
        match &outcome {
            Ok(()) => {
                self.process.faults.observe(BusEvent::Committed(&self.group, batch));
                if !delayed.is_empty() {
                    self.process.faults.delay(delayed);
                }
            }
            Err(CommitError::Fenced(_)) => self.process.faults.observe(BusEvent::Fenced(&self.group, batch)),
            Err(CommitError::Failed(_) | CommitError::Unknown(_)) => {}
        }
        outcome
    }
}

impl Member for FaultyMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        self.process.alive()?;
        self.process.faults.poll(&self.group)?;
        let before = out.len();
        self.deliver_held_back(out);
        let mut wait = if out.len() > before { Duration::ZERO } else { wait };
        let polled = loop {
            let passed = out.len();
            let polled = self.member.poll(max, wait, out);
            let arrived = out.split_off(passed);
            let any = !arrived.is_empty();
            self.hold_back(arrived, out);
            // A poll that delivers nothing must leave a wake-up behind, and only an empty poll of
            // the bus does that. Ends: each round holds back at least one record.
            if polled.is_err() || out.len() > before || !any {
                break polled;
            }
            wait = Duration::ZERO;
        };
        if out.len() > before {
            self.process.faults.observe(BusEvent::Arrived(&self.group, &out[before..]));
        }
        polled
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        self.process.alive()?;
        self.process.faults.take_over(&self.group, partition)?;
        self.member.take_over(partition)
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        self.process.alive()?;
        self.held_back.remove(&partition);
        self.member.start(partition, from)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.process.alive().map_err(CommitError::Failed)?;
        let unknown = || CommitError::Unknown(BusError::Unavailable("no response to a commit".into()));
        match self.process.faults.commit(&self.group, batch) {
            CommitFault::None => self.pass(batch),
            CommitFault::Fails(error) => Err(CommitError::Failed(error)),
            CommitFault::Fenced => Err(CommitError::Fenced("another member has taken over".into())),
            // A commit that the bus rejected did not happen; the member does not learn that either.
            CommitFault::UnknownButCommitted => self.pass(batch).map_or_else(|_| Err(unknown()), |()| Err(unknown())),
            CommitFault::UnknownNotCommitted => Err(unknown()),
            CommitFault::CrashBefore => Err(CommitError::Unknown(self.process.crash())),
            CommitFault::CrashAfter => {
                drop(self.pass(batch));
                Err(CommitError::Unknown(self.process.crash()))
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
