//! Answers at once, positions behind.
//!
//! A position is committed only where every answer up to it is durable, or was deliberately not told. So after a crash what
//! is read again was either not answered yet, or is answered once more from memory: at least once, and the same. What a
//! fault delays is beyond the position of its request in either mode, and dies with the process.
//!
//! Positions are committed between turns, when nothing is owed: at most every so often, and when a partition is given back
//! or the speaker stops. A commit that fails is tried again after a pause of its own; answers do not wait for it. On Kafka
//! nobody waits for a commit either ([`bus::Member::commit_behind`]) but at the end of a partition or of the speaker. One
//! whose failure nobody hears of is made up for by the next, which comes with the next request.

use bus::{Batch, BusError, CommitError, MonoTime, Pause, Position, Writer};

use super::SpeakerPart;
use crate::metrics;

/// How answers are told, and when positions follow.
pub(super) struct Behind {
    writer: Box<dyn Writer>,
    every_ms: u64,
    /// When the positions that moved are to be committed; none where none did.
    due: Option<MonoTime>,
    pause: Pause,
}

impl Behind {
    /// Answers go through `writer`.
    pub(super) fn new(writer: Box<dyn Writer>, every_ms: u64) -> Self {
        Self { writer, every_ms, due: None, pause: Pause::default() }
    }

    /// When there is something to commit.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.due.map(|due| self.pause.until().map_or(due, |until| until.max(due)))
    }
}

impl SpeakerPart {
    /// Tells what is owed, then commits positions where it is time to, those of `released` in any case. None where answers
    /// and positions are one commit.
    pub(super) fn tell_at_once(&mut self, released: &[u32]) -> Option<Result<bool, BusError>> {
        let mut behind = self.behind.take()?;
        let told = self.tell(&mut behind);
        let done = told.and_then(|told| Ok(self.follow(&mut behind, released)? || told));
        self.behind = Some(behind);
        Some(done)
    }

    fn tell(&mut self, behind: &mut Behind) -> Result<bool, BusError> {
        let now = self.clock.mono();
        if self.committing.holds(now) {
            return Ok(false);
        }
        let any = !self.owed.is_empty();
        if any && let Err(error) = behind.writer.append(&self.owed) {
            metrics::commit_fault("not appended");
            if self.drop_what_cannot_go(&error) {
                return Ok(true);
            }
            let BusError::Unavailable(why) = error else { return Err(error) };
            tracing::warn!(why, "cannot tell answers; trying again");
            self.committing.failed(now);
            return Ok(false);
        }
        self.owed.clear();
        self.committing.over();
        for lane in self.lanes.values_mut() {
            lane.told = lane.next;
        }
        Ok(any)
    }

    /// Commits the positions up to which all is told.
    fn follow(&mut self, behind: &mut Behind, released: &[u32]) -> Result<bool, BusError> {
        let now = self.clock.mono();
        let positions: Vec<Position> = self
            .lanes
            .iter()
            .filter(|(partition, lane)| lane.told != lane.committed || released.contains(partition))
            .map(|(&partition, lane)| self.position(partition, lane.told, released.contains(&partition)))
            .collect();
        if positions.is_empty() {
            behind.due = None;
            return Ok(false);
        }
        let due = *behind.due.get_or_insert(now.plus_ms(behind.every_ms));
        if released.is_empty() && (now < due || behind.pause.holds(now)) {
            return Ok(false);
        }
        let committed = if released.is_empty() {
            self.member.commit_behind(&positions)
        } else {
            // The next owner begins where this one says that it ended.
            self.member.commit(&Batch { records: Vec::new(), positions: positions.clone() })
        };
        match committed {
            Ok(()) => {
                behind.due = None;
                behind.pause.over();
                self.committed(&positions);
                return Ok(true);
            }
            Err(CommitError::Fenced(why)) => {
                metrics::commit_fault("fenced");
                tracing::warn!(why, "positions cannot be committed; asking the group what is still ours");
            }
            // If it happened, the next one names the same positions or later ones.
            Err(CommitError::Unknown(error) | CommitError::Failed(error @ BusError::Unavailable(_))) => {
                metrics::commit_fault("behind");
                tracing::warn!(%error, "positions cannot be committed; trying again");
            }
            Err(CommitError::Failed(BusError::NotOwned(partition))) => self.forget(&[partition]),
            Err(CommitError::Failed(error)) => return Err(error),
        }
        behind.pause.failed(self.clock.mono());
        Ok(false)
    }
}
