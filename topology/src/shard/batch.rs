//! Fills a batch with the results of received records and of spouts, while downstream inboxes have
//! room.

use super::{Shard, ShardOptions};
use crate::names;
use crate::timers::Origin;

impl Shard {
    /// True if a received record can be handled now.
    pub(super) fn can_step(&self) -> bool {
        !self.waiting.is_empty() && !self.queue.is_retrying() && self.pressure.lanes_may_step()
    }

    /// Handles received records until the batch or a downstream inbox is full. Returns true if it
    /// handled any.
    pub(super) fn step_waiting(&mut self) -> bool {
        let begun = self.clock.mono();
        let mut any = false;
        while self.can_step()
            && let Some(record) = self.waiting.pop_front()
        {
            self.handle(&record);
            any = true;
            if self.clock.mono().since(begun) >= ShardOptions::BATCH {
                break;
            }
        }
        any
    }

    /// Calls the stage's spouts in rounds until none emits, or the batch or a downstream inbox is
    /// full. Returns true if one emitted.
    pub(super) fn run_spouts(&mut self) -> bool {
        if self.status.is_draining() || self.queue.is_retrying() {
            return false;
        }
        let has_spouts = |lane: &u32| self.owned.get(lane).is_some_and(|owned| owned.lane.has_spouts());
        let mut lanes: Vec<u32> = self.live().into_iter().filter(has_spouts).collect();
        let (begun, mut calls, mut emitted) = (self.clock.mono(), 0, false);
        while !lanes.is_empty() && calls < ShardOptions::MAX_RECORDS {
            let mut busy = Vec::new();
            for lane in lanes {
                for _ in 0..ShardOptions::SPOUT_CALLS {
                    let late = self.clock.mono().since(begun) >= ShardOptions::BATCH;
                    if late || self.queue.is_full() || !self.pressure.spouts_may_emit() {
                        return emitted;
                    }
                    calls += 1;
                    if !self.call_spouts(lane) {
                        break;
                    }
                    emitted = true;
                    if busy.last() != Some(&lane) {
                        busy.push(lane);
                    }
                }
            }
            lanes = busy;
        }
        emitted
    }

    /// Calls the spouts of a lane once. Returns true if one emitted.
    fn call_spouts(&mut self, lane: u32) -> bool {
        let Some(owned) = self.owned.get_mut(&lane) else { return false };
        let emitted = owned.lane.call_spouts();
        let effects = owned.lane.take_effects();
        if !emitted && effects.is_empty() {
            return false;
        }
        let origin = Origin { offset: owned.position, time: self.clock.wall() };
        owned.snapshots.moved(self.clock.mono(), self.options.recovery.snapshot_ms);
        self.decided(lane, effects, origin);
        emitted
    }

    /// Checks whether downstream inboxes have room, and reports changes.
    pub(super) fn look_downstream(&mut self) {
        if !self.pressure.look(&*self.bus, &*self.clock) {
            return;
        }
        let full: Vec<String> = self.pressure.full().collect();
        if !full.is_empty() {
            let (topology, stage) = (self.topology.name().to_owned(), self.options.stage.clone());
            self.counters.add_labelled(names::HELD_UP, &[("topology", topology), ("stage", stage)], 1);
        }
        self.status.held_up(full);
    }

    /// True if records or spouts wait for room in a downstream inbox.
    pub(super) fn is_held_up(&self) -> bool {
        let has_spouts = || self.owned.values().any(|owned| owned.lane.has_spouts());
        (!self.waiting.is_empty() && !self.pressure.lanes_may_step())
            || (!self.pressure.spouts_may_emit() && has_spouts())
    }
}
