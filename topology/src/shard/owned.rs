//! What a shard knows of one lane, and what it has to commit.

use std::collections::{BTreeMap, VecDeque};

use bus::{MonoTime, Outgoing};

use super::ShardOptions;
use super::gauges::LaneGauges;
use super::save::Saves;
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

/// One lane and what its shell knows of it.
pub(super) struct Owned {
    pub(super) lane: Lane,
    pub(super) phase: Phase,
    /// How often it could not be taken over: the pause before the next try doubles, up to 6.4 s.
    pub(super) claims_failed: u32,
    /// The offset after the last record that was stepped.
    pub(super) position: u64,
    /// Once it is taken over, how far the snapshot went that it was restored from; 0 where it was read from its inbox alone.
    pub(super) begun: Option<u64>,
    /// True where `position` was not committed yet.
    pub(super) moved: bool,
    pub(super) saves: Saves,
    /// The position that was published last, and when: a lane that moves says where it stands, at most every second.
    pub(super) said: Option<(u64, MonoTime)>,
    /// What it was told of services that live or do not.
    pub(super) lives: BTreeMap<String, Option<bool>>,
    pub(super) timers: Timers,
    pub(super) views: Views,
    pub(super) counts: Counts,
    pub(super) lines: VecDeque<Line>,
    pub(super) gauges: LaneGauges,
}

impl Owned {
    /// When its position is to be published; none where it stands where it last said.
    pub(super) fn position_due(&self) -> Option<MonoTime> {
        match self.said {
            None => Some(MonoTime::default()),
            Some((position, _)) if position == self.position => None,
            Some((_, at)) => Some(at.plus_ms(ShardOptions::POSITION_MS)),
        }
    }
}

/// What the next commit writes. Each record with the lane that it comes from, so that a lost lane's can be taken out.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) records: Vec<Outgoing>,
    pub(super) lanes: Vec<u32>,
    /// Set when a try failed: not before this.
    pub(super) retry: Option<MonoTime>,
    /// Set when the last try did not say whether it happened: where its lanes stand if it did.
    pub(super) doubt: Option<Vec<End>>,
}

/// Where a lane stands after a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) lane: u32,
    /// The committed offset.
    pub(super) position: u64,
    /// S.
    pub(super) covers: u64,
}
