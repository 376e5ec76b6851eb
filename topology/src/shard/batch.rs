//! Fills a batch with the results of received records and of spouts, while downstream inboxes have
//! room.

use std::sync::Arc;

use bus::Record;

use super::owned::{OwnedLane, Phase};
use super::{Shard, ShardOptions, owner_of, read_back};
use crate::names;
use crate::status::ShardStatus;
use crate::timers::Origin;
use wire::header;

impl Shard {
    /// True if a received record can be handled now.
    pub(super) fn can_step(&self) -> bool {
        !self.received.waiting.is_empty() && !self.queue.is_retrying() && self.pressure.lanes_may_step()
    }

    /// Handles received records until the batch or a downstream inbox is full. Returns true if it
    /// handled any.
    pub(super) fn step_waiting(&mut self) -> bool {
        let begun = self.context.clock.mono();
        let mut any = false;
        while self.can_step()
            && let Some(record) = self.received.waiting.pop_front()
        {
            self.handle(&record);
            any = true;
            if self.context.clock.mono().since(begun) >= ShardOptions::BATCH {
                break;
            }
        }
        any
    }

    /// Handles a received record: steps its lane and takes its decisions.
    fn handle(&mut self, record: &Record) {
        // Further records of a held lane are read again after the next takeover.
        let claimed = |owned: &&mut OwnedLane| !matches!(owned.phase, Phase::Claiming { .. });
        let Some(owned) = self.owned.get_mut(&record.partition).filter(claimed) else { return };
        let now = self.context.clock.mono();
        if let Phase::Replaying { until, owner } = &owned.phase
            && record.offset >= *until
        {
            owned.phase = Phase::CatchingUp { owner: owner.clone() };
        }
        let replaying = matches!(owned.phase, Phase::Replaying { .. });
        let owner = owner_of(record);
        // Records that another build has decided are not decided again.
        if replaying
            && let Some(owner) = &owner
            && let Some(why) = self.takeover.refuses_replay_of(&owner.graph, &owner.versions)
        {
            let text = format!("build {} handled its inbox from offset {} on: {why}", owner.build, owner.from);
            return self.hold(record.partition, &text);
        }
        self.context.status.stepping(record.partition, Some(now));
        owned.lane.set_time(now);
        match read_back(&owned.lane, &record.headers, &record.value) {
            Some((id, generation)) if !owned.timers.read_back(id, generation) => owned.lane.skip_stale_timeout(record),
            Some(_) | None => owned.lane.step(record),
        }
        let effects = owned.lane.take_effects();
        owned.position = record.offset + 1;
        self.context.status.stepped(record.partition, owned.position);
        if let Some(owner) = owner {
            owned.timers.handled_late(owner.from, record.time);
        }
        let origin = Origin { offset: record.offset, time: record.time };
        // State that changed for a root is saved before the spout learns that the root is acked.
        let in_ms = if owned.lane.has_outcomes() { 0 } else { self.context.options.recovery.snapshot_ms };
        owned.snapshots.moved(now, in_ms);
        if replaying {
            for (component, effect) in effects.timers {
                owned.timers.replay(component, effect, origin);
            }
            for change in effects.views {
                let key = (change.component, change.key);
                if change.last {
                    owned.views.closed(&key);
                } else {
                    owned.views.changed(key, now, true);
                }
            }
            self.counters.add(names::REPLAYED, 1);
            owned.lane.take_work().for_each(drop);
            return;
        }
        owned.moved = true;
        self.queue.moved(now, in_ms);
        if let Phase::CatchingUp { owner } = &owned.phase
            && record.headers.get(header::ID) == Some(owner.as_bytes())
        {
            owned.phase = Phase::Live;
            owned.timers.go_live(record.time, now);
            self.context.status.set(record.partition, ShardStatus::LIVE, now);
            tracing::info!(stage = %self.context.options.stage, lane = record.partition, offset = record.offset, "lane is live");
        }
        self.decided(record.partition, effects, origin);
    }

    /// Adds the decisions of a step to the next commit.
    fn decided(&mut self, partition: u32, effects: crate::Effects, origin: Origin) {
        let now = self.context.clock.mono();
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        let sent = owned.lane.sent_time();
        for (component, effect) in effects.timers {
            owned.timers.decide(component, effect, origin);
        }
        owned.counts.extend(effects.counts);
        owned.lines.extend(effects.lines);
        let mut closed = Vec::new();
        for change in effects.views {
            let key = (change.component, change.key);
            if !change.last {
                owned.views.changed(key, now, false);
            } else if owned.views.closed(&key) {
                closed.push(key);
            }
        }
        if !effects.messages.is_empty() {
            let now = self.context.clock.wall();
            for message in effects.messages {
                self.send(partition, message, now, sent);
            }
        }
        for (component, key) in &closed {
            self.show(partition, *component, key, None);
        }
    }

    /// Calls the stage's spouts in rounds until none emits, or the batch or a downstream inbox is
    /// full. Returns true if one emitted.
    pub(super) fn run_spouts(&mut self) -> bool {
        if !self.context.status.runs_spouts() || self.queue.is_retrying() {
            return false;
        }
        // Tuples of a lane that can no longer be saved could not be committed with the position of
        // their spout.
        let now = self.context.clock.mono();
        let can_run = |OwnedLane { lane, snapshots, spouts_at, .. }: &OwnedLane| {
            lane.has_spouts() && *spouts_at <= now && (snapshots.checksums.is_some() || !lane.has_positions())
        };
        let has_spouts = |lane: &u32| self.owned.get(lane).is_some_and(can_run);
        let mut lanes: Vec<u32> = self.live().into_iter().filter(has_spouts).collect();
        // Another lane is first each time, since the first ones may fill the batch.
        let first = lanes.iter().position(|lane| *lane >= self.received.first_spouts).unwrap_or(0);
        lanes.rotate_left(first);
        self.received.first_spouts = lanes.first().map_or(0, |lane| lane + 1);
        let (begun, mut calls, mut emitted) = (self.context.clock.mono(), 0, false);
        while !lanes.is_empty() && calls < ShardOptions::SPOUT_CALLS {
            let mut busy = Vec::new();
            for lane in lanes {
                for _ in 0..ShardOptions::SPOUT_VISITS {
                    let late = self.context.clock.mono().since(begun) >= ShardOptions::BATCH;
                    if late || self.queue.is_full() || !self.pressure.spouts_may_emit() {
                        return emitted;
                    }
                    let (called, more) = self.call_spouts(lane);
                    calls += called;
                    if !more {
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

    /// Calls the spouts of a lane, which it opens first if needed; see [`crate::Lane::call_spouts`].
    fn call_spouts(&mut self, lane: u32) -> (usize, bool) {
        let Some(owned) = self.owned.get_mut(&lane) else { return (0, false) };
        if !std::mem::replace(&mut owned.spouts_open, true) {
            owned.lane.open(&self.context.bus, Arc::downgrade(&self.context.exists));
        }
        owned.lane.set_time(self.context.clock.mono());
        let (calls, more) = owned.lane.call_spouts(ShardOptions::SPOUT_VISIT_CALLS);
        owned.spouts_due = owned.lane.take_call_after_ms().map(|ms| self.context.clock.mono().plus_ms(ms));
        self.take_effects_of_spouts(lane, calls > 0);
        (calls, more)
    }

    /// Adds the decisions of a step of spouts to the next commit. `worked` is true if a spout emitted or
    /// changed its position.
    fn take_effects_of_spouts(&mut self, lane: u32, worked: bool) {
        let Some(owned) = self.owned.get_mut(&lane) else { return };
        let effects = owned.lane.take_effects();
        if !worked && effects.is_empty() {
            return;
        }
        // The last record that was handled: its offset is less than that of the next owner record,
        // from which on timers count as armed late.
        let origin = Origin { offset: owned.position.saturating_sub(1), time: self.context.clock.wall() };
        // The commit of the tuples contains the position of their spout and the timers that they armed, so
        // it is a snapshot.
        let snapshot_ms = self.context.options.recovery.snapshot_ms;
        let is_output = worked || !effects.messages.is_empty();
        let in_ms =
            if (owned.lane.has_positions() && is_output) || !effects.timers.is_empty() { 0 } else { snapshot_ms };
        let now = self.context.clock.mono();
        if !worked && effects.counts.iter().any(|(name, _)| name == names::PANICS) {
            owned.spouts_at = now.plus_ms(ShardOptions::SPOUT_BACKOFF_MS);
        }
        owned.snapshots.moved(now, in_ms);
        // Outcomes wait for the commit of a position that is due.
        self.queue.moved(now, if owned.lane.has_outcomes() { in_ms } else { snapshot_ms });
        self.decided(lane, effects, origin);
    }

    /// Tells spouts which of their roots were acked, if everything that these caused is committed, and
    /// which failed. Returns true if it told any.
    pub(super) fn settle_roots(&mut self) -> bool {
        let now = self.context.clock.mono();
        let (mut settled, mut waits) = (Vec::new(), false);
        for (lane, owned) in &mut self.owned {
            if owned.phase != Phase::Live || !owned.lane.expire(now) || owned.settle_at > now {
                continue;
            }
            let is_saved = owned.snapshots.pending.is_none() && owned.snapshots.due.is_none_or(|due| due > now);
            if is_saved && !self.queue.concerns(*lane) {
                if owned.lane.settle_roots() {
                    owned.settle_at = now.plus_ms(ShardOptions::SETTLE_MS);
                }
                owned.gauges.roots(owned.lane.pending_roots());
                settled.push(*lane);
            } else {
                waits = true;
            }
        }
        if waits {
            self.queue.moved(now, 0);
        }
        for lane in &settled {
            self.take_effects_of_spouts(*lane, true);
        }
        !settled.is_empty()
    }

    /// Checks whether downstream inboxes have room, and reports changes.
    pub(super) fn look_downstream(&mut self) {
        if !self.pressure.look(&*self.context.bus, &*self.context.clock) {
            return;
        }
        let full: Vec<String> = self.pressure.full().collect();
        if !full.is_empty() {
            let (topology, stage) = (self.context.topology.name().to_owned(), self.context.options.stage.clone());
            self.counters.add_labelled(names::HELD_UP, &[("topology", topology), ("stage", stage)], 1);
        }
        self.context.status.held_up(full);
    }

    /// True if records or spouts wait for room in a downstream inbox.
    pub(super) fn is_held_up(&self) -> bool {
        let has_spouts = || self.owned.values().any(|owned| owned.lane.has_spouts());
        (!self.received.waiting.is_empty() && !self.pressure.lanes_may_step())
            || (!self.pressure.spouts_may_emit() && has_spouts())
    }
}
