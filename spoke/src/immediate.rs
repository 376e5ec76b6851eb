//! Delivery without transactions: answers at once, and offsets later.
//!
//! An offset is committed only after every answer before it is durable, or the bus refuses it for
//! good. So each call that is read again after a crash is unanswered, or gets the same answer from
//! memory.
//!
//! Offsets are committed at an interval, when a partition is released, and when the task stops. A
//! failed commit is retried after its own backoff, and answers do not wait for it. On Kafka the
//! regular commits are asynchronous ([`bus::Member::commit_async`]). The next commit makes up for
//! one whose failure is not reported.

use bus::{Backoff, Batch, BusError, CommitError, MonoTime, Position, Writer};

use crate::contract::RecordService;
use crate::names;
use crate::task::SpokeTask;

/// The writer of answers and the timer of offset commits.
pub(crate) struct Immediate {
    writer: Box<dyn Writer>,
    every_ms: u64,
    /// When offsets are committed next; `None` if no offset moved.
    due: Option<MonoTime>,
    backoff: Backoff,
}

impl Immediate {
    /// Sends answers through `writer` and commits offsets every `every_ms` milliseconds.
    pub(crate) fn new(writer: Box<dyn Writer>, every_ms: u64) -> Self {
        Self { writer, every_ms, due: None, backoff: Backoff::default() }
    }

    /// When the next commit is due, if any.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.due.map(|due| self.backoff.until().map_or(due, |until| until.max(due)))
    }
}

impl<S: RecordService> SpokeTask<S> {
    /// Sends the answers, then commits offsets if they are due, those of `released` in any case.
    pub(crate) fn commit_immediate(&mut self, mode: &mut Immediate, released: &[u32]) -> Result<bool, BusError> {
        let sent = self.send_answers(mode)?;
        Ok(self.commit_offsets(mode, released)? || sent)
    }

    fn send_answers(&mut self, mode: &mut Immediate) -> Result<bool, BusError> {
        let now = self.clock.mono();
        if self.committing.holds(now) {
            return Ok(false);
        }
        let any = !self.owed.is_empty();
        if any && let Err(error) = mode.writer.append(&self.owed) {
            names::commit_fault(&self.service_name, "not appended");
            if self.drop_undeliverable(&error) {
                return Ok(true);
            }
            let BusError::Unavailable(reason) = error else { return Err(error) };
            tracing::warn!(spoke = self.name, reason, "cannot send answers; retrying");
            self.committing.failed(now);
            return Ok(false);
        }
        self.owed.clear();
        self.committing.over();
        for (&partition, offsets) in &mut self.partitions {
            offsets.answered = self.service.oldest_unanswered(partition).unwrap_or(offsets.next).min(offsets.next);
        }
        Ok(any)
    }

    /// Commits the offsets of the answered calls.
    fn commit_offsets(&mut self, mode: &mut Immediate, released: &[u32]) -> Result<bool, BusError> {
        let now = self.clock.mono();
        let positions: Vec<Position> = self
            .partitions
            .iter()
            .filter(|(partition, offsets)| offsets.answered != offsets.committed || released.contains(partition))
            .map(|(&partition, offsets)| self.position(partition, offsets.answered, released.contains(&partition)))
            .collect();
        if positions.is_empty() {
            mode.due = None;
            return Ok(false);
        }
        let due = *mode.due.get_or_insert(now.plus_ms(mode.every_ms));
        if released.is_empty() && (now < due || mode.backoff.holds(now)) {
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
                mode.backoff.over();
                self.committed(&positions);
                return Ok(true);
            }
            Err(CommitError::Fenced(reason)) => {
                names::commit_fault(&self.service_name, "fenced");
                tracing::warn!(spoke = self.name, reason, "fenced; asking the group which partitions remain");
            }
            // An unknown outcome is harmless: the next commit has the same offsets or later ones.
            Err(CommitError::Unknown(error) | CommitError::Failed(error @ BusError::Unavailable(_))) => {
                names::commit_fault(&self.service_name, "behind");
                tracing::warn!(spoke = self.name, %error, "cannot commit offsets; retrying");
            }
            Err(CommitError::Failed(BusError::NotOwned(partition))) => self.forget(partition),
            Err(CommitError::Failed(error)) => return Err(error),
        }
        mode.backoff.failed(self.clock.mono());
        Ok(false)
    }
}
