//! Takes snapshots of lanes and adds them to commits.

use std::sync::Arc;

use bus::{MonoTime, Outgoing};
use wire::Code;

use super::Shard;
use super::image::{Checksums, LaneHead, Writer, timers_key};
use super::owned::{OwnedLane, Phase};
use crate::names;
use crate::snapshot::Change;

/// The snapshot state of a lane.
#[derive(Debug, Default)]
pub(super) struct SnapshotState {
    /// The offset that the last committed snapshot covers (S), as in the offset metadata.
    pub(super) covers: u64,
    /// The checksums of the snapshot topic's content; `None` before the takeover, and if the lane
    /// can no longer be saved.
    pub(super) checksums: Option<Checksums>,
    /// Due time of the next snapshot: set by the first change after the last one.
    pub(super) due: Option<MonoTime>,
    /// A snapshot that waits for its commit.
    pub(super) pending: Option<PendingSnapshot>,
}

/// A snapshot that waits for its commit.
#[derive(Debug)]
pub(super) struct PendingSnapshot {
    /// The offset that it covers (S).
    pub(super) covers: u64,
    pub(super) records: Vec<Outgoing>,
}

impl SnapshotState {
    /// Returns the offset that is covered once the pending snapshot is committed.
    pub(super) fn next(&self) -> u64 {
        self.pending.as_ref().map_or(self.covers, |taken| taken.covers)
    }

    /// Schedules a snapshot after a change of the lane, at most `within_ms` milliseconds from now.
    pub(super) fn moved(&mut self, now: MonoTime, within_ms: u64) {
        if self.checksums.is_some() {
            let due = now.plus_ms(within_ms);
            self.due = Some(self.due.map_or(due, |set| set.min(due)));
        }
    }
}

impl Shard {
    /// Takes a snapshot of each lane that is due, or of all changed lanes. The next commit writes
    /// them.
    pub(super) fn take_snapshots(&mut self, all: bool) {
        let now = self.context.clock.mono();
        let due = |owned: &OwnedLane| {
            owned.phase == Phase::Live
                && owned.snapshots.pending.is_none()
                && owned.snapshots.due.is_some_and(|due| all || due <= now)
        };
        let lanes: Vec<u32> = self.owned.iter().filter(|(_, owned)| due(owned)).map(|(lane, _)| *lane).collect();
        for lane in lanes {
            self.take_snapshot(lane);
        }
    }

    fn take_snapshot(&mut self, number: u32) {
        let topic = Arc::clone(&self.context.snapshot_topic);
        let build = self.takeover.build();
        let (graph, decides_by) = (build.graph.clone(), build.decides_by.clone());
        let Some(owned) = self.owned.get_mut(&number) else { return };
        let OwnedLane { lane, timers, snapshots, position, .. } = owned;
        let Some(checksums) = &mut snapshots.checksums else { return };
        snapshots.due = None;
        let changes = match lane.save() {
            Ok(changes) => changes,
            Err(reason) => {
                let code = Code::SnapshotDamaged;
                tracing::error!(stage = %self.context.options.stage, lane = number, code = code.as_str(), %reason, "cannot save the lane; it takes no more snapshots");
                self.counters.add(names::SNAPSHOTS_FAILED, 1);
                // The next owner replays the inbox from the last snapshot on.
                snapshots.checksums = None;
                if lane.has_positions() {
                    // Tuples of spouts are not replayed: their commit needs the position.
                    self.hold(number, &reason.0);
                }
                return;
            }
        };
        let mut writer = Writer::new(&topic, number, checksums);
        for change in changes {
            writer.change(change);
        }
        for ((component, block), timers) in timers.take_changes() {
            let key = timers_key(lane.component(component), block);
            let state = Some(timers).filter(|timers| !timers.is_empty());
            let state = state.map(|timers| serde_json::to_vec(&timers).expect("timers are plain data"));
            writer.change(Change { key, state });
        }
        let (components, settings) = (lane.saved().clone(), lane.settings().as_value().clone());
        let sent = lane.sent();
        let records = writer.end(LaneHead { position: *position, graph, decides_by, components, settings, sent });
        snapshots.pending = Some(PendingSnapshot { covers: *position, records });
    }

    /// Returns the records of the pending snapshots.
    pub(super) fn snapshot_records(&self) -> impl Iterator<Item = &Outgoing> {
        self.owned.values().filter_map(|owned| owned.snapshots.pending.as_ref()).flat_map(|taken| &taken.records)
    }

    /// Handles the commit of the pending snapshots.
    pub(super) fn snapshots_committed(&mut self) {
        for (lane, owned) in &mut self.owned {
            let Some(taken) = owned.snapshots.pending.take() else { continue };
            owned.snapshots.covers = taken.covers;
            if let Err(error) = self.context.bus.trim(&self.context.inbox, *lane, taken.covers) {
                tracing::debug!(stage = %self.context.options.stage, lane, %error, "cannot delete the records that a snapshot covers");
            }
            self.counters.add(names::SNAPSHOTS, 1);
            self.counters.add(names::SNAPSHOT_RECORDS, taken.records.len() as u64);
        }
    }
}
