//! Fates that are written down beforehand, and a log of what was committed: for tests that know what they want.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fates::{AppendFate, CommitFate, Fates, Seen, TopicFate};
use crate::{Batch, BusError, Outgoing, Position};

/// The next commits, appends, polls and reads fare as was written; after the end of the script everything goes well.
#[derive(Debug, Default)]
pub struct Script(Mutex<Written>);

/// Bounded by what a test writes.
#[derive(Debug, Default)]
struct Written {
    commits: VecDeque<CommitFate>,
    appends: VecDeque<AppendFate>,
    polls: VecDeque<BusError>,
    reads: VecDeque<BusError>,
    keeps: bool,
    topics: BTreeMap<String, TopicFate>,
    committed: Vec<Position>,
}

impl Script {
    /// The next commit that is not spoken for fares like this.
    pub fn commit(&self, fate: CommitFate) {
        self.lock().commits.push_back(fate);
    }

    /// The next append that is not spoken for fares like this.
    pub fn append(&self, fate: AppendFate) {
        self.lock().appends.push_back(fate);
    }

    /// The next poll of a member that is not spoken for is told this.
    pub fn poll(&self, error: BusError) {
        self.lock().polls.push_back(error);
    }

    /// The next poll of a reader that is not spoken for is told this.
    pub fn read(&self, error: BusError) {
        self.lock().reads.push_back(error);
    }

    /// What nobody needs any more is kept from now on.
    pub fn keep(&self) {
        self.lock().keeps = true;
    }

    /// From now on this is what became of a topic.
    pub fn topic(&self, topic: &str, fate: TopicFate) {
        self.lock().topics.insert(topic.to_owned(), fate);
    }

    /// The positions that were committed, in order.
    pub fn committed(&self) -> Vec<Position> {
        self.lock().committed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fates for Script {
    fn poll(&self, _: &str) -> Result<(), BusError> {
        self.lock().polls.pop_front().map_or(Ok(()), Err)
    }

    fn commit(&self, _: &str, _: &Batch) -> CommitFate {
        self.lock().commits.pop_front().unwrap_or(CommitFate::Passes)
    }

    fn append(&self, _: &[Outgoing]) -> AppendFate {
        self.lock().appends.pop_front().unwrap_or(AppendFate::Passes)
    }

    fn read(&self) -> Result<(), BusError> {
        self.lock().reads.pop_front().map_or(Ok(()), Err)
    }

    fn topic(&self, topic: &str) -> TopicFate {
        self.lock().topics.get(topic).cloned().unwrap_or(TopicFate::Stays)
    }

    fn keeps(&self) -> bool {
        self.lock().keeps
    }

    fn seen(&self, seen: Seen<'_>) {
        if let Seen::Committed(_, batch) = seen {
            self.lock().committed.extend(batch.positions.iter().cloned());
        }
    }
}
