//! Commits answers with offsets, and settles a commit with unknown outcome.

use bus::{Batch, BusError, CommitError, Committed, MonoTime, Position, Route, Takeover};
use wire::owner::OffsetMetadata;

use crate::contract::RecordService;
use crate::names;
use crate::task::SpokeTask;

/// A commit that failed or whose outcome is unknown. It is settled after the next poll.
pub(crate) struct Doubt {
    /// Number of answers in it; 0 if nothing was committed.
    answers: usize,
    /// The number of the commit in the metadata of its positions.
    commit: u64,
    /// The partitions of these positions.
    partitions: Vec<u32>,
}

impl<S: RecordService> SpokeTask<S> {
    /// Commits the answers and the positions that moved, and those of `released` in any case. True if something was
    /// committed.
    pub(crate) fn commit(&mut self, released: &[u32]) -> Result<bool, BusError> {
        match self.immediate.take() {
            Some(mut mode) => {
                let committed = self.commit_immediate(&mut mode, released);
                self.immediate = Some(mode);
                committed
            }
            None => self.commit_transaction(released),
        }
    }

    fn commit_transaction(&mut self, released: &[u32]) -> Result<bool, BusError> {
        let now = self.clock.mono();
        if self.committing.holds(now) || !self.settle()? {
            return Ok(false);
        }
        let mut moved = Vec::new();
        for (&partition, offsets) in &self.partitions {
            let oldest = self.service.oldest_unanswered(partition);
            let answered = oldest.map_or(offsets.next, |oldest| oldest.min(offsets.next));
            let is_released = released.contains(&partition);
            if answered != offsets.committed || is_released {
                moved.push((partition, answered, is_released));
            }
        }
        if moved.is_empty() && self.owed.is_empty() {
            self.committing.over();
            return Ok(false);
        }
        if moved.is_empty()
            && let Some((&partition, offsets)) = self.partitions.first_key_value()
        {
            // Its metadata tells whether the answers were committed.
            moved.push((partition, offsets.committed, false));
        }
        self.commits += 1;
        let position = |(partition, next, released)| self.position(partition, next, released);
        let positions: Vec<Position> = moved.into_iter().map(position).collect();
        let batch = Batch { records: std::mem::take(&mut self.owed), positions };
        let result = self.member.commit(&batch);
        let Batch { records, positions } = batch;
        match result {
            Ok(()) => {
                self.committing.over();
                self.committed(&positions);
                Ok(true)
            }
            Err(error) => {
                self.owed = records;
                self.not_committed(error, &positions, now)
            }
        }
    }

    pub(crate) fn committed(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some(offsets) = self.partitions.get_mut(&position.partition) {
                offsets.committed = position.next;
            }
        }
    }

    /// The position to commit. Its metadata asks for no replay: the next owner starts at this offset.
    pub(crate) fn position(&self, partition: u32, next: u64, released: bool) -> Position {
        let transactional_id = self.name.clone();
        let metadata = OffsetMetadata { transactional_id, snapshot: next, commit: self.commits, released };
        Position { partition, next, metadata: metadata.to_string().into() }
    }

    /// Keeps the answers for a retry. True if it can be retried at once.
    fn not_committed(&mut self, error: CommitError, positions: &[Position], now: MonoTime) -> Result<bool, BusError> {
        let kind = match &error {
            CommitError::Fenced(_) => "fenced",
            CommitError::Unknown(_) => "unknown",
            CommitError::Failed(_) => "failed",
        };
        names::commit_fault(&self.service_name, kind);
        match error {
            CommitError::Fenced(reason) => {
                tracing::warn!(spoke = self.name, reason, "fenced; asking the group which partitions remain");
                self.doubt = Some(Doubt { answers: 0, commit: self.commits, partitions: Vec::new() });
            }
            CommitError::Unknown(error) => {
                tracing::warn!(spoke = self.name, %error, "the outcome of a commit is unknown; settling it");
                let partitions = positions.iter().map(|position| position.partition).collect();
                self.doubt = Some(Doubt { answers: self.owed.len(), commit: self.commits, partitions });
            }
            CommitError::Failed(error) => {
                if self.drop_undeliverable(&error) {
                    return Ok(true);
                }
                match error {
                    BusError::Unavailable(reason) => {
                        tracing::warn!(spoke = self.name, reason, "cannot commit answers; retrying");
                    }
                    BusError::NotOwned(partition) => self.forget(partition),
                    other => return Err(other),
                }
            }
        }
        self.committing.failed(now);
        Ok(false)
    }

    /// Drops the answers that the bus refuses for good, such as those for a topic that does not exist: the mistake of one
    /// caller must not hold up the others. False if there are none.
    pub(crate) fn drop_undeliverable(&mut self, error: &BusError) -> bool {
        let before = self.owed.len();
        let reason = match error {
            BusError::NoTopic(topic) => {
                self.owed.retain(|answer| *answer.topic != **topic);
                "no topic"
            }
            BusError::NoPartition { topic, partition } => {
                self.owed.retain(|answer| *answer.topic != **topic || answer.route != Route::To(*partition));
                "no partition"
            }
            BusError::TooLarge { limit, .. } => {
                self.owed.retain(|answer| answer.size() <= *limit);
                "too large"
            }
            BusError::WrongTopic { .. }
            | BusError::NotOwned(_)
            | BusError::Gone { .. }
            | BusError::Unavailable(_)
            | BusError::Refused(_) => return false,
        };
        let dropped = before - self.owed.len();
        names::dropped(&self.service_name, reason, dropped);
        if dropped > 0 {
            tracing::warn!(spoke = self.name, dropped, %error, "answers cannot be sent");
        }
        dropped > 0
    }

    /// Finds out whether a commit with unknown outcome happened. False if that cannot be known yet.
    fn settle(&mut self) -> Result<bool, BusError> {
        let Some(doubt) = self.doubt.take() else { return Ok(true) };
        let mut happened = false;
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            match self.resume(partition) {
                Ok(last) => happened |= last == Some(doubt.commit) && doubt.partitions.contains(&partition),
                Err(BusError::NotOwned(_)) => self.forget(partition),
                Err(BusError::Unavailable(reason)) => {
                    tracing::warn!(spoke = self.name, partition, reason, "cannot settle a commit; retrying");
                    self.committing.failed(self.clock.mono());
                    self.doubt = Some(doubt);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if happened {
            self.owed.drain(..doubt.answers);
        }
        Ok(true)
    }

    /// Takes a partition over again, and continues where this task was. Returns the number of this task's last commit to
    /// it.
    fn resume(&mut self, partition: u32) -> Result<Option<u64>, BusError> {
        let takeover = self.member.take_over(partition)?;
        let last = self.own_commit(&takeover);
        let committed = takeover.first();
        let offsets = self.partitions.get_mut(&partition).ok_or(BusError::NotOwned(partition))?;
        offsets.committed = committed;
        // An offset beyond the end belongs to a topic that was recreated since.
        offsets.next = if offsets.next > takeover.end { committed } else { offsets.next.max(committed) };
        let next = offsets.next;
        self.member.start(partition, next)?;
        Ok(last)
    }

    /// Returns the number of the last commit to a partition if a task with this name wrote it.
    pub(crate) fn own_commit(&self, takeover: &Takeover) -> Option<u64> {
        let metadata = takeover.committed.as_ref().and_then(Committed::parsed)?;
        (metadata.transactional_id == self.name).then_some(metadata.commit)
    }
}
