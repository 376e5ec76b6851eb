//! The state of a lane in its shard, for checks from outside. Read-only.

use super::{Shard, read_back};
use crate::waits::{TimerKey, Waits};

/// The state of a lane between two polls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The offset after the last handled record.
    pub position: u64,
    /// Set by the takeover: the offset that the restored snapshot covers; 0 if the inbox was
    /// replayed from its beginning.
    pub restored_from: Option<u64>,
    /// The armed timers that can fire.
    pub armed: Vec<TimerKey>,
    /// The armed timers that have fired: their timeouts are not read back yet.
    pub fired: Vec<TimerKey>,
    /// The number of timers in the wheel, and of timers recorded as in the wheel.
    pub in_wheel: (usize, usize),
    /// Fired timers whose timeouts wait for a commit.
    pub passing: Vec<TimerKey>,
    /// The waits of the lane.
    pub waits: Waits,
}

impl Shard {
    /// Returns the lanes that it owns, in any phase.
    pub fn lanes(&self) -> impl Iterator<Item = u32> {
        self.owned.keys().copied()
    }

    /// Returns how each of its lanes was restored: see [`Inspection::restored_from`].
    pub fn restored_from(&self) -> impl Iterator<Item = (u32, Option<u64>)> {
        self.owned.iter().map(|(lane, owned)| (*lane, owned.restored_from))
    }

    /// Returns the offset after the last record that a lane handled; `None` if it does not own the
    /// lane.
    pub fn next_offset(&self, lane: u32) -> Option<u64> {
        Some(self.owned.get(&lane)?.position)
    }

    /// True if no decision of its lanes waits for a commit.
    pub fn is_settled(&self) -> bool {
        !self.queue.is_retrying() && self.queue.is_empty()
    }

    /// Returns the state of a lane; `None` if it does not own the lane.
    pub fn inspect(&self, lane: u32) -> Option<Inspection> {
        let owned = self.owned.get(&lane)?;
        let timeout = |record: &bus::Outgoing| {
            let ((component, timer), generation) = read_back(&owned.lane, &record.headers, &record.value)?;
            Some((component, timer, generation))
        };
        Some(Inspection {
            position: owned.position,
            restored_from: owned.restored_from,
            armed: owned.timers.can_fire().collect(),
            fired: owned.timers.fired().collect(),
            in_wheel: owned.timers.in_wheel(),
            passing: self.queue.of_lane(lane).filter_map(timeout).collect(),
            waits: owned.lane.waits(),
        })
    }
}
