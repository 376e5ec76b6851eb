//! How answers and positions are committed, and what happens when a commit does not say that it happened.

use bus::{Batch, BusError, CommitError, MonoTime, Position, Route};
use wire::owner::Note;

use super::SpeakerPart;
use crate::metrics;

/// A commit that did not say that it happened, to be settled after the next poll.
pub(super) struct Doubt {
    /// So many of the answers that are owed were in it; none where it is known that nothing happened.
    records: usize,
    positions: Vec<Position>,
}

impl SpeakerPart {
    /// Commits the answers that are owed and the positions that moved; those of `released` in any case, with a note that
    /// says they were given up cleanly.
    pub(super) fn commit(&mut self, released: &[u32]) -> Result<bool, BusError> {
        if let Some(done) = self.tell_at_once(released) {
            return done;
        }
        let now = self.clock.mono();
        if self.committing.holds(now) || !self.settle()? {
            return Ok(false);
        }
        let positions: Vec<Position> = self
            .lanes
            .iter()
            .filter(|(partition, lane)| lane.next != lane.committed || released.contains(partition))
            .map(|(&partition, lane)| self.position(partition, lane.next, released.contains(&partition)))
            .collect();
        if positions.is_empty() && self.owed.is_empty() {
            self.committing.over();
            return Ok(false);
        }
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
                self.not_committed(error, positions, now)
            }
        }
    }

    /// It never replays: whoever comes next needs nothing from before the committed offset.
    pub(super) fn position(&self, partition: u32, next: u64, released: bool) -> Position {
        let note = Note { transactional_id: self.member_name.clone(), snapshot: next, released };
        Position { partition, next, note: note.to_string().into() }
    }

    /// True where all that was answered is committed.
    pub(super) fn owes_nothing(&self) -> bool {
        self.owed.is_empty() && self.doubt.is_none()
    }

    pub(super) fn committed(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some(lane) = self.lanes.get_mut(&position.partition) {
                lane.committed = position.next;
            }
        }
    }

    /// A commit did not say that it happened: the answers are kept, and it is tried again after a pause. True where it can
    /// be tried again at once.
    fn not_committed(&mut self, error: CommitError, positions: Vec<Position>, now: MonoTime) -> Result<bool, BusError> {
        match error {
            CommitError::Fenced(why) => {
                tracing::warn!(why, "fenced; asking the group what is still ours");
                metrics::commit_fault("fenced");
                self.doubt = Some(Doubt { records: 0, positions: Vec::new() });
            }
            CommitError::Unknown(error) => {
                tracing::warn!(%error, "the outcome of a commit is unknown; settling it");
                metrics::commit_fault("unknown");
                // One that did not move would look committed in any case.
                let moved = positions.into_iter().filter(|position| {
                    self.lanes.get(&position.partition).is_some_and(|lane| lane.committed != position.next)
                });
                self.doubt = Some(Doubt { records: self.owed.len(), positions: moved.collect() });
            }
            CommitError::Failed(error) => {
                metrics::commit_fault("failed");
                if self.drop_what_cannot_go(&error) {
                    return Ok(true);
                }
                match error {
                    BusError::Unavailable(why) => tracing::warn!(why, "cannot commit answers; trying again"),
                    BusError::NotOwned(partition) => self.forget(&[partition]),
                    other => return Err(other),
                }
            }
        }
        self.committing.failed(now);
        Ok(false)
    }

    /// Drops answers that the bus will never take, such as those for a topic that is not there: one sender's mistake must
    /// not keep all others waiting. False where there are none.
    pub(super) fn drop_what_cannot_go(&mut self, error: &BusError) -> bool {
        let before = self.owed.len();
        let why = match error {
            BusError::NoTopic(topic) => {
                self.owed.retain(|record| *record.topic != **topic);
                "no topic"
            }
            BusError::NoPartition { topic, partition } => {
                self.owed.retain(|record| *record.topic != **topic || record.route != Route::To(*partition));
                "no partition"
            }
            BusError::TooLarge { limit, .. } => {
                self.owed.retain(|record| record.size() <= *limit);
                "too large"
            }
            BusError::WrongTopic { .. }
            | BusError::NotOwned(_)
            | BusError::Gone { .. }
            | BusError::Unavailable(_)
            | BusError::Refused(_) => return false,
        };
        let dropped = before - self.owed.len();
        metrics::dropped(why, dropped);
        if dropped > 0 {
            tracing::warn!(dropped, %error, "answers cannot be told");
        }
        dropped > 0
    }

    /// Finds out what became of a commit in doubt. False where that cannot be known yet.
    fn settle(&mut self) -> Result<bool, BusError> {
        let Some(doubt) = self.doubt.take() else { return Ok(true) };
        let mut happened = false;
        let partitions: Vec<u32> = self.lanes.keys().copied().collect();
        for partition in partitions {
            match self.resume(partition) {
                Ok(next) => {
                    let was_in = doubt.positions.iter().find(|position| position.partition == partition);
                    happened |= was_in.is_some_and(|position| next >= position.next);
                }
                Err(BusError::NotOwned(_)) => self.forget(&[partition]),
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(partition, why, "cannot settle a commit; trying again");
                    self.committing.failed(self.clock.mono());
                    self.doubt = Some(doubt);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if happened {
            self.owed.drain(..doubt.records);
        }
        Ok(true)
    }

    /// Takes a partition over once more and goes on where the speaker stands in it. Gives the committed offset.
    fn resume(&mut self, partition: u32) -> Result<u64, BusError> {
        let left = self.member.take_over(partition)?;
        let committed = left.first();
        let lane = self.lanes.get_mut(&partition).ok_or(BusError::NotOwned(partition))?;
        lane.committed = committed;
        // A position past the end is one in a topic that was made anew since.
        lane.next = if lane.next > left.end { committed } else { lane.next.max(committed) };
        self.member.start(partition, lane.next)?;
        Ok(committed)
    }
}
