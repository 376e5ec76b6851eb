//! Scripted faults, and a log of committed positions, for tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::faults::{AppendFault, BusEvent, CommitFault, FaultInjector, TopicFault};
use crate::{Batch, BusError, Outgoing, Position};

/// Applies queued faults to the next commits, appends, polls and reads. No faults once a queue is
/// empty.
#[derive(Debug, Default)]
pub struct FaultScript(Mutex<Written>);

/// Bounded by the length of a test.
#[derive(Debug, Default)]
struct Written {
    commits: VecDeque<CommitFault>,
    appends: VecDeque<AppendFault>,
    polls: VecDeque<BusError>,
    reads: VecDeque<BusError>,
    ignores_trims: bool,
    topics: BTreeMap<String, TopicFault>,
    committed: Vec<Position>,
}

impl FaultScript {
    /// Queues a fault for a commit.
    pub fn commit(&self, fate: CommitFault) {
        self.lock().commits.push_back(fate);
    }

    /// Queues a fault for an append.
    pub fn append(&self, fate: AppendFault) {
        self.lock().appends.push_back(fate);
    }

    /// Queues an error for a poll of a member.
    pub fn poll(&self, error: BusError) {
        self.lock().polls.push_back(error);
    }

    /// Queues an error for a poll of a reader.
    pub fn read(&self, error: BusError) {
        self.lock().reads.push_back(error);
    }

    /// Ignores trims from now on.
    pub fn ignore_trims(&self) {
        self.lock().ignores_trims = true;
    }

    /// Sets what an operator did to the topic, from now on.
    pub fn topic(&self, topic: &str, fate: TopicFault) {
        self.lock().topics.insert(topic.to_owned(), fate);
    }

    /// Returns the committed positions, in order.
    pub fn committed(&self) -> Vec<Position> {
        self.lock().committed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultInjector for FaultScript {
    fn poll(&self, _: &str) -> Result<(), BusError> {
        self.lock().polls.pop_front().map_or(Ok(()), Err)
    }

    fn commit(&self, _: &str, _: &Batch) -> CommitFault {
        self.lock().commits.pop_front().unwrap_or(CommitFault::None)
    }

    fn append(&self, _: &[Outgoing]) -> AppendFault {
        self.lock().appends.pop_front().unwrap_or(AppendFault::None)
    }

    fn read(&self) -> Result<(), BusError> {
        self.lock().reads.pop_front().map_or(Ok(()), Err)
    }

    fn topic(&self, topic: &str) -> TopicFault {
        self.lock().topics.get(topic).cloned().unwrap_or(TopicFault::None)
    }

    fn ignores_trims(&self) -> bool {
        self.lock().ignores_trims
    }

    fn observe(&self, event: BusEvent<'_>) {
        if let BusEvent::Committed(_, batch) = event {
            self.lock().committed.extend(batch.positions.iter().cloned());
        }
    }
}
