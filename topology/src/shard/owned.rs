//! The state of one lane in its shard.

use std::collections::VecDeque;

use bus::MonoTime;

use super::gauges::{ComponentCounters, LaneGauges};
use super::save::SnapshotState;
use crate::counts::Counts;
use crate::lane::Lane;
use crate::outbox::Line;
use crate::timers::Timers;
use crate::views::Views;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Claiming { at: MonoTime },
    Replaying { until: u64, owner: String },
    CatchingUp { owner: String },
    Live,
}

/// One lane, with the state that the shard keeps for it.
pub(super) struct OwnedLane {
    pub(super) lane: Lane,
    pub(super) phase: Phase,
    /// Failed attempts of a takeover: the backoff doubles with each, up to 6.4 s.
    pub(super) claims_failed: u32,
    /// The offset after the last handled record.
    pub(super) position: u64,
    /// True once its spouts were opened: before their first call.
    pub(super) spouts_open: bool,
    /// Earliest time of the next call of its spouts: later than now after a panic.
    pub(super) spouts_at: MonoTime,
    /// Earliest time at which its spouts learn of outcomes of their roots.
    pub(super) settle_at: MonoTime,
    /// The time at which one of its spouts asked to be called again.
    pub(super) spouts_due: Option<MonoTime>,
    /// Set by the takeover: the offset up to which the restored snapshot covers the inbox; 0 if the
    /// inbox was replayed from its beginning.
    pub(super) restored_from: Option<u64>,
    /// True if `position` is not committed yet.
    pub(super) moved: bool,
    pub(super) snapshots: SnapshotState,
    pub(super) timers: Timers,
    pub(super) views: Views,
    pub(super) counts: Counts,
    pub(super) lines: VecDeque<Line>,
    pub(super) gauges: LaneGauges,
    pub(super) components: ComponentCounters,
}

impl OwnedLane {
    /// A lane that waits for its takeover.
    pub(super) fn new(lane: Lane, now: MonoTime) -> Self {
        let info = lane.info();
        Self {
            gauges: LaneGauges::of(&info.topology, &info.stage, info.lane),
            components: ComponentCounters::of(&info.topology, &info.stage, &lane),
            lane,
            phase: Phase::Claiming { at: now },
            claims_failed: 0,
            position: 0,
            spouts_open: false,
            spouts_at: MonoTime::default(),
            settle_at: MonoTime::default(),
            spouts_due: None,
            restored_from: None,
            moved: false,
            snapshots: SnapshotState::default(),
            timers: Timers::new(now),
            views: Views::new(now),
            counts: Counts::default(),
            lines: VecDeque::new(),
        }
    }
}
