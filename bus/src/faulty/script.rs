//! Fates that are written down beforehand, and a log of what was committed: for tests that know what they want.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fates::{AppendFate, CommitFate, Fates, Seen};
use crate::{Batch, BusError, Outgoing, Position};

/// The next commits, appends and reads fare as was written; after the end of the script everything goes well.
#[derive(Debug, Default)]
pub struct Script(Mutex<Written>);

/// Bounded by what a test writes.
#[derive(Debug, Default)]
struct Written {
    commits: VecDeque<CommitFate>,
    appends: VecDeque<AppendFate>,
    reads: VecDeque<BusError>,
    keeps: bool,
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

    /// The next poll of a reader that is not spoken for is told this.
    pub fn read(&self, error: BusError) {
        self.lock().reads.push_back(error);
    }

    /// What nobody needs any more is kept from now on.
    pub fn keep(&self) {
        self.lock().keeps = true;
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
    fn commit(&self, _: &str, _: &Batch) -> CommitFate {
        self.lock().commits.pop_front().unwrap_or(CommitFate::Passes)
    }

    fn append(&self, _: &[Outgoing]) -> AppendFate {
        self.lock().appends.pop_front().unwrap_or(AppendFate::Passes)
    }

    fn read(&self) -> Result<(), BusError> {
        self.lock().reads.pop_front().map_or(Ok(()), Err)
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
