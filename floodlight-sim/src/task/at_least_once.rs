//! Delivery without transactions: answers at once, and offsets later.
//!
//! An offset is committed only after every answer before it is durable, or a fault dropped it. So
//! each request that is read again after a crash is unanswered, or gets the same answer from
//! memory. The offset of a request does not wait for its delayed answer, in either mode: a crash
//! loses that answer.
//!
//! Offsets are committed at an interval, when a partition is released, and when the speaker stops,
//! and only when no answer is pending. A failed commit is retried after its own backoff, and
//! answers do not wait for it. On Kafka the regular commits are asynchronous
//! ([`bus::Member::commit_async`]). The next commit makes up for one whose failure is not
//! reported.

use bus::{Backoff, Batch, BusError, CommitError, MonoTime, Position, Writer};

use super::SpeakerTask;
use crate::metrics;

/// The answer writer and the timer of offset commits.
pub(super) struct AtLeastOnce {
    writer: Box<dyn Writer>,
    every_ms: u64,
    /// The time of the next offset commit; `None` if no offset moved.
    due: Option<MonoTime>,
    pause: Backoff,
}

impl AtLeastOnce {
    /// Sends answers through `writer` and commits offsets every `every_ms` milliseconds.
    pub(super) fn new(writer: Box<dyn Writer>, every_ms: u64) -> Self {
        Self { writer, every_ms, due: None, pause: Backoff::default() }
    }

    /// The time of the next commit, if any.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.due.map(|due| self.pause.until().map_or(due, |until| until.max(due)))
    }
}

impl SpeakerTask {
    /// Sends pending answers, then commits offsets if they are due, those of `released` in any
    /// case. Returns `None` in transactional mode.
    pub(super) fn commit_at_least_once(&mut self, released: &[u32]) -> Option<Result<bool, BusError>> {
        let mut mode = self.at_least_once.take()?;
        let sent = self.send_answers(&mut mode);
        let done = sent.and_then(|sent| Ok(self.commit_offsets(&mut mode, released)? || sent));
        self.at_least_once = Some(mode);
        Some(done)
    }

    fn send_answers(&mut self, mode: &mut AtLeastOnce) -> Result<bool, BusError> {
        let now = self.clock.mono();
        if self.committing.holds(now) {
            return Ok(false);
        }
        let any = !self.pending.is_empty();
        if any && let Err(error) = mode.writer.append(&self.pending) {
            metrics::commit_fault("not appended");
            if self.drop_undeliverable(&error) {
                return Ok(true);
            }
            let BusError::Unavailable(why) = error else { return Err(error) };
            tracing::warn!(why, "cannot send answers; retrying");
            self.committing.failed(now);
            return Ok(false);
        }
        self.pending.clear();
        self.committing.over();
        for progress in self.partitions.values_mut() {
            progress.answered = progress.next;
        }
        Ok(any)
    }

    /// Commits the offsets of the answered requests.
    fn commit_offsets(&mut self, mode: &mut AtLeastOnce, released: &[u32]) -> Result<bool, BusError> {
        let now = self.clock.mono();
        let positions: Vec<Position> = self
            .partitions
            .iter()
            .filter(|(partition, progress)| progress.answered != progress.committed || released.contains(partition))
            .map(|(&partition, progress)| self.position(partition, progress.answered, released.contains(&partition)))
            .collect();
        if positions.is_empty() {
            mode.due = None;
            return Ok(false);
        }
        let due = *mode.due.get_or_insert(now.plus_ms(mode.every_ms));
        if released.is_empty() && (now < due || mode.pause.holds(now)) {
            return Ok(false);
        }
        let committed = if released.is_empty() {
            self.member.commit_async(&positions)
        } else {
            // Synchronous: the next owner starts at this offset.
            self.member.commit(&Batch { records: Vec::new(), positions: positions.clone() })
        };
        match committed {
            Ok(()) => {
                mode.due = None;
                mode.pause.over();
                self.committed(&positions);
                return Ok(true);
            }
            Err(CommitError::Fenced(why)) => {
                metrics::commit_fault("fenced");
                tracing::warn!(why, "cannot commit offsets: fenced; checking the owned partitions");
            }
            // An unknown outcome is harmless: the next commit has the same offsets or later ones.
            Err(CommitError::Unknown(error) | CommitError::Failed(error @ BusError::Unavailable(_))) => {
                metrics::commit_fault("behind");
                tracing::warn!(%error, "cannot commit offsets; retrying");
            }
            Err(CommitError::Failed(BusError::NotOwned(partition))) => self.forget(&[partition]),
            Err(CommitError::Failed(error)) => return Err(error),
        }
        mode.pause.failed(self.clock.mono());
        Ok(false)
    }
}
