//! Committing what steps decided.
//!
//! | mode | effects | positions |
//! |---|---|---|
//! | exactly-once | in the commit of the positions: all of it, once | as soon as the commit before is done |
//! | at-least-once | leave at once, outside of it | in a commit of their own, at the cadence, and when a lane is handed over |

use std::sync::Arc;

use bus::{Batch, BusError, CommitError, Committed, Outgoing, Position, Route};
use wire::control::Mode;
use wire::owner::Note;
use wire::{Envelope, Kind};

use super::owned::{End, Owned, Phase};
use super::{Shard, ShardOptions};
use crate::names;
use crate::outbox::{Level, Line};

impl Shard {
    pub(super) fn note(&self, snapshot: u64, released: bool) -> Arc<str> {
        Note { transactional_id: self.options.member.clone(), snapshot, released }.to_string().into()
    }

    pub(super) fn position(&self, partition: u32, owned: &Owned, released: bool) -> Position {
        Position { partition, next: owned.position, note: self.note(owned.saves.next(), released) }
    }

    /// Lets effects leave and commits what is due, as the mode says; true where something was done. What failed stays and is
    /// tried again.
    pub(super) fn commit(&mut self) -> bool {
        if !self.settle() {
            return false;
        }
        match self.mode {
            Mode::ExactlyOnce => self.commit_as_one(),
            Mode::AtLeastOnce => {
                let left = self.leave();
                let due = self.save_at.is_some_and(|at| at <= self.clock.mono());
                // What has not left yet is not behind a position: whoever comes after a crash would not send it.
                left | (due && self.pending.records.is_empty() && self.save())
            }
        }
    }

    /// The same, and in either mode every position is committed, and everything is saved: a lane is handed over.
    pub(super) fn commit_all(&mut self) {
        if self.pending.retry.is_none() && self.mode == Mode::ExactlyOnce {
            self.take_snapshots(true);
        }
        self.commit();
        if self.mode == Mode::AtLeastOnce && self.pending.records.is_empty() {
            self.save();
        }
    }

    fn commit_as_one(&mut self) -> bool {
        // What is tried again is what was tried.
        if self.pending.retry.is_none() {
            self.take_snapshots(false);
        }
        let touched = |(lane, owned): &(&u32, &Owned)| {
            owned.moved || owned.saves.taken.is_some() || self.pending.lanes.contains(lane)
        };
        let positions: Vec<Position> = self
            .owned
            .iter()
            .filter(touched)
            .map(|(partition, owned)| self.position(*partition, owned, false))
            .collect();
        if positions.is_empty() && self.pending.records.is_empty() {
            // What was to be tried again was of lanes that are lost; what comes for others is not held up by it.
            self.pending.retry = None;
            return false;
        }
        let mut batch = Batch { records: std::mem::take(&mut self.pending.records), positions };
        let decided = batch.records.len();
        batch.records.extend(self.snapshot_records().cloned());
        let outcome = self.member.commit(&batch);
        batch.records.truncate(decided);
        self.pending.records = batch.records;
        match outcome {
            Ok(()) => self.committed(),
            Err(error) => return self.not_committed(error),
        }
        true
    }

    /// Sends what steps decided, outside of any transaction. Where some of it was written before it failed, that comes twice,
    /// with the same ids.
    fn leave(&mut self) -> bool {
        let armed = self.owned.values().any(|owned| owned.timers.has_uncommitted());
        let told = self.owned.values().any(|owned| !owned.counts.is_empty() || !owned.lines.is_empty());
        if self.pending.records.is_empty() && !armed && !told {
            self.pending.retry = None;
            return false;
        }
        if !self.pending.records.is_empty()
            && let Some(writer) = &mut self.writer
            && let Err(error) = writer.append(&self.pending.records)
        {
            return self.not_committed(CommitError::Failed(error));
        }
        self.effective();
        self.owned.keys().for_each(|lane| self.status.retrying(*lane, None));
        true
    }

    /// Commits the positions of lanes that moved, each with a snapshot.
    fn save(&mut self) -> bool {
        if self.pending.retry.is_none() {
            self.take_snapshots(true);
        }
        let moved = self.owned.iter().filter(|(_, owned)| owned.moved || owned.saves.taken.is_some());
        let positions: Vec<Position> =
            moved.map(|(partition, owned)| self.position(*partition, owned, false)).collect();
        if positions.is_empty() {
            self.save_at = None;
            self.pending.retry = None;
            return false;
        }
        let records = self.snapshot_records().cloned().collect();
        match self.member.commit(&Batch { records, positions }) {
            Ok(()) => self.saved(),
            Err(error) => return self.not_committed(error),
        }
        true
    }

    /// What could not be committed is tried again: after a pause, or with dead letters in the place of what is too large.
    fn not_committed(&mut self, error: CommitError) -> bool {
        let now = self.clock.mono();
        if let CommitError::Failed(BusError::TooLarge { topic, size, limit }) = error {
            self.bury_too_large(&topic, size, limit);
            self.pending.retry = Some(now);
            return false;
        }
        tracing::warn!(stage = %self.options.stage, %error, "commit did not succeed, and is tried again");
        *self.tallies.entry(names::COMMITS_RETRIED).or_default() += 1;
        metrics::counter!(names::COMMITS_RETRIED).increment(1);
        let moved = self.owned.iter().filter(|(_, owned)| owned.moved || owned.saves.taken.is_some());
        let end =
            |(lane, owned): (&u32, &Owned)| End { lane: *lane, position: owned.position, covers: owned.saves.next() };
        let ends = moved.map(end).collect();
        self.pending.doubt = matches!(error, CommitError::Unknown(_)).then_some(ends);
        self.pending.retry = Some(now.plus_ms(ShardOptions::RETRY_MS));
        self.owned.keys().for_each(|lane| self.status.retrying(*lane, Some(now)));
        false
    }

    /// Puts dead letters in the place of records that the bus will never take, so that they do not jam their lane: what they
    /// carried is lost to whom it was meant for, who waits for it no longer than for any other that does not come.
    fn bury_too_large(&mut self, topic: &str, size: usize, limit: usize) {
        let dead: Arc<str> = self.options.topics.dead(self.topology.name()).into();
        for (lane, record) in self.pending.lanes.iter().zip(&mut self.pending.records) {
            if *record.topic != *topic || record.size() < size {
                continue;
            }
            let reason = format!("a record for `{topic}` has {} bytes; at most {limit} are taken", record.size());
            tracing::error!(stage = %self.options.stage, lane, reason, "a record was not written");
            *self.tallies.entry(names::TOO_LARGE).or_default() += 1;
            metrics::counter!(names::TOO_LARGE).increment(1);
            let mut letter = Envelope::new(Kind::Dead, format!("{topic}/{lane}/too-large"), &*self.options.member);
            letter.operation = record.headers.envelope().ok().and_then(|envelope| envelope.operation);
            *record = Outgoing {
                topic: Arc::clone(&dead),
                route: Route::To(0),
                key: None,
                headers: bus::Headers::of(&letter),
                value: serde_json::json!({ "topic": topic, "reason": reason }).to_string().into(),
            };
        }
    }

    /// Finds out whether a commit happened whose outcome was not told: it did where the committed offset stands at its
    /// end. One that moved no offset held timeouts and views alone, which do no harm twice. False where it cannot be told
    /// yet.
    pub(super) fn settle(&mut self) -> bool {
        let Some(ends) = self.pending.doubt.take() else { return true };
        let witness = ends.iter().find(|end| self.owned.contains_key(&end.lane));
        let Some(End { lane, position, covers }) = witness.copied() else { return true };
        match self.member.take_over(lane) {
            Ok(takeover) => {
                let happened = |committed: Committed| {
                    committed.next >= position && committed.parsed().is_some_and(|note| note.snapshot >= covers)
                };
                if takeover.committed.is_some_and(happened) {
                    match self.mode {
                        Mode::ExactlyOnce => self.committed(),
                        Mode::AtLeastOnce => self.saved(),
                    }
                }
                true
            }
            Err(error) => {
                tracing::warn!(stage = %self.options.stage, %error, "the outcome of a commit is still unknown");
                self.pending.doubt = Some(ends);
                self.pending.retry = Some(self.clock.mono().plus_ms(ShardOptions::RETRY_MS));
                false
            }
        }
    }

    /// Effects and positions were committed as one.
    fn committed(&mut self) {
        self.saved();
        self.effective();
    }

    /// Positions were committed.
    fn saved(&mut self) {
        self.save_at = None;
        *self.tallies.entry(names::COMMITS).or_default() += 1;
        metrics::counter!(names::COMMITS).increment(1);
        for (lane, owned) in &mut self.owned {
            owned.moved = false;
            self.status.retrying(*lane, None);
        }
        self.snapshots_committed();
    }

    /// Effects have left: what waited for it is done.
    fn effective(&mut self) {
        let now = self.clock.mono();
        self.pending.records.clear();
        self.pending.lanes.clear();
        self.pending.retry = None;
        let mut forwarded = 0;
        for (lane, owned) in &mut self.owned {
            owned.timers.committed(now);
            owned.gauges.timers(owned.timers.len());
            for (name, labels, by) in owned.counts.drain() {
                *self.tallies.entry(name).or_default() += by;
                metrics::counter!(name, &labels).increment(by);
                forwarded += if name == names::FORWARDED { by } else { 0 };
            }
            for line in owned.lines.drain(..) {
                log(*lane, &line);
            }
        }
        if forwarded > 0 && self.forwards_told <= now {
            self.forwards_told = now.plus_ms(Self::FORWARDS_TOLD_MS);
            tracing::warn!(
                inbox = &*self.inbox,
                forwarded = self.tallies.get(names::FORWARDED),
                "requests come to other partitions than those of their keys, and are sent on, which costs each a second record; \
                 clients of librdkafka set partitioner=murmur2_random"
            );
        }
    }

    /// Between two lines about requests that come to the wrong lane, in milliseconds: a client that does so does it all day.
    const FORWARDS_TOLD_MS: u64 = 3_600_000;

    pub(super) fn release_notes(&mut self, partitions: &[u32]) {
        let positions: Vec<Position> = partitions
            .iter()
            .filter_map(|partition| self.owned.get(partition).map(|owned| (*partition, owned)))
            .filter(|(_, owned)| owned.phase == Phase::Live && !owned.moved && owned.saves.taken.is_none())
            .map(|(partition, owned)| self.position(partition, owned, true))
            .collect();
        if !positions.is_empty() {
            let batch = Batch { records: Vec::new(), positions };
            if let Err(error) = self.member.commit(&batch) {
                // The next owner then ends what it takes for open: slower, and as safe.
                tracing::warn!(stage = %self.options.stage, %error, "lanes were handed over without their release");
            }
        }
    }
}

fn log(lane: u32, line: &Line) {
    let operation = line.operation.as_ref().map_or("-", wire::OperationId::as_str);
    match line.level {
        Level::Debug => tracing::debug!(lane, operation, "{}", line.text),
        Level::Info => tracing::info!(lane, operation, "{}", line.text),
        Level::Warn => tracing::warn!(lane, operation, "{}", line.text),
        Level::Error => tracing::error!(lane, operation, "{}", line.text),
    }
}
