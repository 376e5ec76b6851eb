//! Transactions of answers and offsets, and how the speaker settles a commit of unknown outcome.

use bus::{Batch, BusError, CommitError, MonoTime, Position, Route};
use wire::owner::OffsetMetadata;

use super::SpeakerTask;
use crate::metrics;

/// A commit of unknown outcome, to be settled after the next poll.
pub(super) struct UnsettledCommit {
    /// The number of pending answers in it; 0 if it certainly failed.
    records: usize,
    positions: Vec<Position>,
}

impl SpeakerTask {
    /// Commits the pending answers and the moved offsets. The offsets of `released` are always
    /// committed, with metadata that marks a clean release.
    pub(super) fn commit(&mut self, released: &[u32]) -> Result<bool, BusError> {
        if let Some(done) = self.commit_at_least_once(released) {
            return done;
        }
        let now = self.clock.mono();
        if self.committing.holds(now) || !self.settle()? {
            return Ok(false);
        }
        let positions: Vec<Position> = self
            .partitions
            .iter()
            .filter(|(partition, progress)| progress.next != progress.committed || released.contains(partition))
            .map(|(&partition, progress)| self.position(partition, progress.next, released.contains(&partition)))
            .collect();
        if positions.is_empty() && self.pending.is_empty() {
            self.committing.over();
            return Ok(false);
        }
        let batch = Batch { records: std::mem::take(&mut self.pending), positions };
        let result = self.member.commit(&batch);
        let Batch { records, positions } = batch;
        match result {
            Ok(()) => {
                self.committing.over();
                self.committed(&positions);
                Ok(true)
            }
            Err(error) => {
                self.pending = records;
                self.not_committed(error, positions, now)
            }
        }
    }

    /// The position to commit. Its metadata asks for no replay: the next owner starts at this
    /// offset.
    pub(super) fn position(&self, partition: u32, next: u64, released: bool) -> Position {
        let note = OffsetMetadata { transactional_id: self.member_name.clone(), snapshot: next, released };
        Position { partition, next, metadata: note.to_string().into() }
    }

    /// Returns true if every answer is committed.
    pub(super) fn all_committed(&self) -> bool {
        self.pending.is_empty() && self.unsettled.is_none()
    }

    pub(super) fn committed(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some(progress) = self.partitions.get_mut(&position.partition) {
                progress.committed = position.next;
            }
        }
    }

    /// Handles a failed commit: keeps the answers and starts the backoff. Returns true for an
    /// immediate retry.
    fn not_committed(&mut self, error: CommitError, positions: Vec<Position>, now: MonoTime) -> Result<bool, BusError> {
        match error {
            CommitError::Fenced(why) => {
                tracing::warn!(why, "fenced; checking the owned partitions");
                metrics::commit_fault("fenced");
                self.unsettled = Some(UnsettledCommit { records: 0, positions: Vec::new() });
            }
            CommitError::Unknown(error) => {
                tracing::warn!(%error, "the outcome of a commit is unknown; settling it");
                metrics::commit_fault("unknown");
                // An offset that did not move would look committed in any case.
                let moved = positions.into_iter().filter(|position| {
                    self.partitions.get(&position.partition).is_some_and(|progress| progress.committed != position.next)
                });
                self.unsettled = Some(UnsettledCommit { records: self.pending.len(), positions: moved.collect() });
            }
            CommitError::Failed(error) => {
                metrics::commit_fault("failed");
                if self.drop_undeliverable(&error) {
                    return Ok(true);
                }
                match error {
                    BusError::Unavailable(why) => tracing::warn!(why, "cannot commit answers; retrying"),
                    BusError::NotOwned(partition) => self.forget(&[partition]),
                    other => return Err(other),
                }
            }
        }
        self.committing.failed(now);
        Ok(false)
    }

    /// Drops answers that the bus can never accept, such as those to a missing topic, so that they
    /// do not block all others. Returns true if it dropped any.
    pub(super) fn drop_undeliverable(&mut self, error: &BusError) -> bool {
        let before = self.pending.len();
        let why = match error {
            BusError::NoTopic(topic) => {
                self.pending.retain(|record| *record.topic != **topic);
                "no topic"
            }
            BusError::NoPartition { topic, partition } => {
                self.pending.retain(|record| *record.topic != **topic || record.route != Route::To(*partition));
                "no partition"
            }
            BusError::TooLarge { limit, .. } => {
                self.pending.retain(|record| record.size() <= *limit);
                "too large"
            }
            BusError::WrongTopic { .. }
            | BusError::NotOwned(_)
            | BusError::Gone { .. }
            | BusError::Unavailable(_)
            | BusError::Refused(_) => return false,
        };
        let dropped = before - self.pending.len();
        metrics::dropped(why, dropped);
        if dropped > 0 {
            tracing::warn!(dropped, %error, "dropped undeliverable answers");
        }
        dropped > 0
    }

    /// Determines the outcome of the unsettled commit. Returns false if that is not possible yet.
    fn settle(&mut self) -> Result<bool, BusError> {
        let Some(unsettled) = self.unsettled.take() else { return Ok(true) };
        let mut succeeded = false;
        let partitions: Vec<u32> = self.partitions.keys().copied().collect();
        for partition in partitions {
            match self.resume(partition) {
                Ok(next) => {
                    let committed = unsettled.positions.iter().find(|position| position.partition == partition);
                    succeeded |= committed.is_some_and(|position| next >= position.next);
                }
                Err(BusError::NotOwned(_)) => self.forget(&[partition]),
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(partition, why, "cannot settle a commit; retrying");
                    self.committing.failed(self.clock.mono());
                    self.unsettled = Some(unsettled);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if succeeded {
            self.pending.drain(..unsettled.records);
        }
        Ok(true)
    }

    /// Takes over a partition again and resumes at the current progress. Returns the committed
    /// offset.
    fn resume(&mut self, partition: u32) -> Result<u64, BusError> {
        let left = self.member.take_over(partition)?;
        let committed = left.first();
        let progress = self.partitions.get_mut(&partition).ok_or(BusError::NotOwned(partition))?;
        progress.committed = committed;
        // The topic was recreated since, if the offset is past its end.
        progress.next = if progress.next > left.end { committed } else { progress.next.max(committed) };
        self.member.start(partition, progress.next)?;
        Ok(committed)
    }
}
