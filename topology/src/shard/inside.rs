//! What is in a lane and its shell, for those who look from outside: nothing here acts on it.

use super::{Shard, read_back};
use crate::waits::{TimerKey, Waits};

/// A lane that a shard has, between two turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// The offset after the last record that it handled.
    pub position: u64,
    /// Once it is taken over, how far the snapshot went that it was restored from; 0 where it was read from its inbox alone.
    pub begun: Option<u64>,
    /// The timers that are armed and can pass.
    pub armed: Vec<TimerKey>,
    /// How many stand in the wheel, and how many are armed as ones that do.
    pub in_wheel: (usize, usize),
    /// Timers that have passed, and whose timeouts wait for a commit.
    pub passing: Vec<TimerKey>,
    /// What waits in it.
    pub waits: Waits,
}

impl Shard {
    /// The lanes that it has, in whichever phase.
    pub fn lanes(&self) -> impl Iterator<Item = u32> {
        self.owned.keys().copied()
    }

    /// How each of its lanes was begun: see [`Inside::begun`].
    pub fn begun(&self) -> impl Iterator<Item = (u32, Option<u64>)> {
        self.owned.iter().map(|(lane, owned)| (*lane, owned.begun))
    }

    /// The offset after the last record that a lane handled; none where it is not ours.
    pub fn stands_at(&self, lane: u32) -> Option<u64> {
        Some(self.owned.get(&lane)?.position)
    }

    /// True where nothing that its lanes decided waits for a commit.
    pub fn is_settled(&self) -> bool {
        self.pending.retry.is_none() && self.pending.records.is_empty()
    }

    /// What is in a lane; none where it is not ours.
    pub fn inside(&self, lane: u32) -> Option<Inside> {
        let owned = self.owned.get(&lane)?;
        let own = self.pending.lanes.iter().zip(&self.pending.records).filter(|(of, _)| **of == lane);
        let timeout = |record: &bus::Outgoing| {
            let ((component, timer), generation) = read_back(&owned.lane, &record.headers, &record.value)?;
            Some((component, timer, generation))
        };
        Some(Inside {
            position: owned.position,
            begun: owned.begun,
            armed: owned.timers.can_pass().collect(),
            in_wheel: owned.timers.in_wheel(),
            passing: own.filter_map(|(_, record)| timeout(record)).collect(),
            waits: owned.lane.waits(),
        })
    }
}
