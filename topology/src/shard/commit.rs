//! Commits the decisions of steps.
//!
//! | mode | effects | positions |
//! |---|---|---|
//! | exactly-once | in one commit with the positions | as soon as the previous commit is done |
//! | at-least-once | at once, outside of commits | in their own commit, at the snapshot interval, and when a lane is released |

use std::sync::Arc;

use bus::{Batch, BusError, CommitError, MonoTime, Outgoing, Position};
use wire::control::DeliveryMode;
use wire::owner::OffsetMetadata;

use super::owned::{OwnedLane, Phase};
use super::queue::TooLarge;
use super::{Shard, ShardOptions};
use crate::names;
use crate::outbox::{Level, Line};

impl Shard {
    pub(super) fn offset_metadata(&self, snapshot: u64, released: bool) -> Arc<str> {
        let transactional_id = self.context.options.member.clone();
        OffsetMetadata { transactional_id, snapshot, commit: self.queue.attempt(), released }.to_string().into()
    }

    pub(super) fn position(&self, partition: u32, owned: &OwnedLane, released: bool) -> Position {
        Position { partition, next: owned.position, metadata: self.offset_metadata(owned.snapshots.next(), released) }
    }

    /// Sends effects and commits what is due in this mode. Returns true if it did anything. A
    /// failed commit stays pending and is retried.
    pub(super) fn commit(&mut self) -> bool {
        if !self.settle() || !self.has_topics() {
            return false;
        }
        match self.context.mode {
            DeliveryMode::ExactlyOnce => self.commit_as_one(),
            DeliveryMode::AtLeastOnce => {
                let left = self.send_effects();
                let due = self.queue.positions_due().is_some_and(|at| at <= self.context.clock.mono());
                // Positions must not pass effects that are not sent yet: a new owner would not send
                // them.
                left | (due && self.queue.is_empty() && self.commit_positions())
            }
        }
    }

    /// Commits all positions and a snapshot of each changed lane, and tells spouts what became of their
    /// roots: lanes are released.
    pub(super) fn commit_all(&mut self) {
        self.commit_changes();
        if !self.queue.is_retrying() && self.settle_roots() {
            self.commit_changes();
        }
    }

    fn commit_changes(&mut self) {
        if !self.queue.is_retrying() && self.context.mode == DeliveryMode::ExactlyOnce {
            self.take_snapshots(true);
        }
        self.commit();
        if self.context.mode == DeliveryMode::AtLeastOnce && self.queue.is_empty() {
            self.commit_positions();
        }
    }

    fn commit_as_one(&mut self) -> bool {
        if !self.queue.is_retrying() {
            self.take_snapshots(false);
        }
        self.queue.begin_attempt();
        let touched = |(lane, owned): &(&u32, &OwnedLane)| {
            owned.moved || owned.snapshots.pending.is_some() || self.queue.concerns(**lane)
        };
        let positions: Vec<Position> = self
            .owned
            .iter()
            .filter(touched)
            .map(|(partition, owned)| self.position(*partition, owned, false))
            .collect();
        if positions.is_empty() && self.queue.is_empty() {
            // The failed commit concerned lost lanes only; other lanes must not wait for it.
            self.queue.drop_retry();
            return false;
        }
        let lanes = positions.iter().map(|position| position.partition).collect();
        let snapshots: Vec<Outgoing> = self.snapshot_records().cloned().collect();
        match self.queue.commit(positions, snapshots, |batch| self.connection.member.commit(batch)) {
            Ok(()) => self.all_committed(),
            Err(error) => return self.not_committed(error, lanes),
        }
        true
    }

    /// Sends effects outside of transactions. If an append fails after a partial write, the retry
    /// duplicates records with the same ids.
    fn send_effects(&mut self) -> bool {
        let armed = self.owned.values().any(|owned| owned.timers.has_uncommitted());
        let has_output = self.owned.values().any(|owned| !owned.counts.is_empty() || !owned.lines.is_empty());
        if self.queue.is_empty() && !armed && !has_output {
            self.queue.drop_retry();
            return false;
        }
        if !self.queue.is_empty()
            && let Some(writer) = &mut self.connection.writer
            && let Err(error) = writer.append(self.queue.records())
        {
            return self.not_committed(CommitError::Failed(error), Vec::new());
        }
        self.effects_sent();
        self.owned.keys().for_each(|lane| self.context.status.retrying(*lane, None));
        true
    }

    /// Commits the positions of lanes that moved, each with a snapshot.
    fn commit_positions(&mut self) -> bool {
        if !self.queue.is_retrying() {
            self.take_snapshots(true);
        }
        self.queue.begin_attempt();
        let moved = self.owned.iter().filter(|(_, owned)| owned.moved || owned.snapshots.pending.is_some());
        let positions: Vec<Position> =
            moved.map(|(partition, owned)| self.position(*partition, owned, false)).collect();
        if positions.is_empty() {
            self.queue.positions_committed();
            self.queue.drop_retry();
            return false;
        }
        let lanes = positions.iter().map(|position| position.partition).collect();
        let records = self.snapshot_records().cloned().collect();
        match self.connection.member.commit(&Batch { records, positions }) {
            Ok(()) => self.positions_committed(),
            Err(error) => return self.not_committed(error, lanes),
        }
        true
    }

    /// Prepares the retry of a failed commit with positions of `lanes`: after a delay, or at once
    /// with dead letters in place of records that are too large.
    fn not_committed(&mut self, error: CommitError, lanes: Vec<u32>) -> bool {
        let now = self.context.clock.mono();
        if let CommitError::Failed(BusError::TooLarge { topic, size, limit }) = error {
            self.replace_too_large(TooLarge { topic: &topic, size, limit }, now);
            return false;
        }
        self.counters.add(names::COMMITS_RETRIED, 1);
        self.queue.failed(&error, lanes, now);
        self.owned.keys().for_each(|lane| self.context.status.retrying(*lane, Some(now)));
        if let CommitError::Failed(BusError::NoTopic(topic)) = error {
            self.hold_commits(topic, now);
        } else if self.queue.reports(&error, now) {
            tracing::warn!(stage = %self.context.options.stage, %error, "commit failed; retrying");
        }
        false
    }

    fn replace_too_large(&mut self, found: TooLarge<'_>, now: MonoTime) {
        let dead: Arc<str> = self.context.options.topics.dead(self.context.topology.name()).into();
        for (lane, reason) in self.queue.replace(found, &dead, &self.context.options.member, now) {
            tracing::error!(stage = %self.context.options.stage, lane, reason, "a record is too large; writing a dead letter instead");
            self.counters.add(names::TOO_LARGE, 1);
        }
    }

    /// Finds out whether a commit with unknown outcome succeeded. Returns false if the outcome is
    /// still unknown.
    pub(super) fn settle(&mut self) -> bool {
        let Some((attempt, lane)) = self.queue.witness() else {
            self.queue.settled();
            return true;
        };
        match self.connection.member.take_over(lane) {
            Ok(takeover) => {
                self.queue.settled();
                let last = takeover.committed.and_then(|committed| committed.parsed());
                if last.is_some_and(|last| self.wrote(&last, attempt)) {
                    match self.context.mode {
                        DeliveryMode::ExactlyOnce => self.all_committed(),
                        DeliveryMode::AtLeastOnce => self.positions_committed(),
                    }
                }
                true
            }
            Err(error) => {
                tracing::warn!(stage = %self.context.options.stage, %error, "the outcome of a commit is still unknown; retrying");
                self.queue.retry_at(self.context.clock.mono().plus_ms(ShardOptions::RETRY_MS));
                false
            }
        }
    }

    /// True if this attempt of this shard committed the metadata.
    fn wrote(&self, metadata: &OffsetMetadata, attempt: u64) -> bool {
        metadata.transactional_id == self.context.options.member && metadata.commit == attempt
    }

    /// Effects and positions were committed together.
    fn all_committed(&mut self) {
        self.positions_committed();
        self.effects_sent();
    }

    /// Positions were committed.
    fn positions_committed(&mut self) {
        self.queue.positions_committed();
        self.counters.add(names::COMMITS, 1);
        for (lane, owned) in &mut self.owned {
            owned.moved = false;
            self.context.status.retrying(*lane, None);
        }
        self.snapshots_committed();
    }

    /// Effects were sent: starts timers, and publishes counters and log lines.
    fn effects_sent(&mut self) {
        let now = self.context.clock.mono();
        self.queue.sent();
        for (lane, owned) in &mut self.owned {
            owned.timers.committed(now);
            owned.gauges.timers(owned.timers.len());
            owned.gauges.roots(owned.lane.pending_roots());
            owned.components.committed(&owned.lane);
            for line in owned.lines.drain(..) {
                log(*lane, &line);
            }
        }
        let counts = self.owned.values_mut().flat_map(|owned| owned.counts.drain());
        if let Some(forwarded) = self.counters.committed(counts, now) {
            tracing::warn!(
                inbox = &*self.context.inbox,
                forwarded,
                "requests arrive in other partitions than those of their keys; forwarding costs each a second record; \
                 clients of librdkafka set partitioner=murmur2_random"
            );
        }
    }

    pub(super) fn commit_release(&mut self, partitions: &[u32]) {
        self.queue.begin_attempt();
        let positions: Vec<Position> = partitions
            .iter()
            .filter_map(|partition| self.owned.get(partition).map(|owned| (*partition, owned)))
            .filter(|(_, owned)| owned.phase == Phase::Live && !owned.moved && owned.snapshots.pending.is_none())
            .map(|(partition, owned)| self.position(partition, owned, true))
            .collect();
        if !positions.is_empty() {
            let batch = Batch { records: Vec::new(), positions };
            if let Err(error) = self.connection.member.commit(&batch) {
                // The next owner then aborts a transaction that it takes for open: slower, but
                // safe.
                tracing::warn!(stage = %self.context.options.stage, %error, "releasing lanes failed; the next owner aborts their transaction");
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
