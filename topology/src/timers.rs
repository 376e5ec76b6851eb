//! The timers of one lane: which are armed, since when, and the wheel that finds the due ones.
//!
//! A timer is recorded by the step that arms it and enters the wheel with the commit of that step.
//! While the owner lives, its monotonic clock counts, from that commit on. At a takeover the
//! remaining time is the delay minus the time between the arming record and the owner record, both
//! as stamped by the bus. If a record waited while its lane had no owner, the next owner armed its
//! timers. These timers run from that owner's record on.

use bus::{Clock, MonoTime};
use serde::{Deserialize, Serialize};
use wire::WallTime;

use crate::blocks::{BlockId, Blocks, Id, block_of};
use crate::lane::Lane;
use crate::outbox::TimerEffect;
use crate::snapshot::Changes;
use crate::views::DueTimes;
use crate::wheel::{Handle, Wheel};

/// A component's number, and the timer's number in it. Timers with neighbouring numbers are saved
/// as one record. Components number live objects in order, so a block is mostly full or gone; a
/// hundred thousand timers are some 1,600 records of 3 KB.
pub(crate) type TimerId = Id;

/// Maximum number of timers per millisecond that fire late after a takeover. A hundred thousand
/// take 1.5 s beside other work, instead of one commit that takes as long as a session.
const OVERDUE_PER_MS: u64 = 64;

/// The offset and the time of the record whose step armed a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) offset: u64,
    pub(crate) time: WallTime,
}

#[derive(Debug, Clone, Copy)]
enum Due {
    /// Armed under a previous owner: the remaining time is known when the lane goes live.
    FromLog,
    /// The commit of its step is pending.
    AfterCommit,
    /// Committed, but the lane is not live yet.
    At(MonoTime),
    /// In the wheel.
    InWheel(MonoTime, Handle),
    /// Its timeout is in the inbox, or waits for its commit. The timer is armed until the timeout
    /// is read back.
    Fired,
}

#[derive(Debug)]
struct Armed {
    generation: u64,
    after_ms: u64,
    origin: Origin,
    due: Due,
}

/// A saved timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedTimer {
    timer: u64,
    generation: u64,
    after_ms: u64,
    /// The offset of the arming record; `at` is its time.
    offset: u64,
    at: u64,
}

/// A timer whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) id: TimerId,
    pub(crate) generation: u64,
    /// When it was due.
    pub(crate) due: MonoTime,
}

#[derive(Debug)]
pub(crate) struct Timers {
    /// A tick is a millisecond of the monotonic clock.
    wheel: Wheel<TimerId>,
    armed: Blocks<Armed>,
    /// Timers armed since the last commit, in order. Some may be disarmed, or armed twice.
    uncommitted: Vec<TimerId>,
    live: bool,
    changes: Changes<BlockId>,
}

/// Returns the first whole millisecond at or after `time`: a timer never fires early.
fn tick_of(time: MonoTime) -> u64 {
    time.0.div_ceil(1_000_000)
}

impl Timers {
    pub(crate) fn new(now: MonoTime) -> Self {
        Self {
            wheel: Wheel::new(now.0 / 1_000_000),
            armed: Blocks::default(),
            uncommitted: Vec::new(),
            live: false,
            changes: Changes::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.armed.len()
    }

    /// Returns component, number and generation of each timer.
    pub(crate) fn armed(&self) -> impl Iterator<Item = (u16, u64, u64)> {
        self.armed.iter().map(|((component, timer), armed)| (component, timer, armed.generation))
    }

    /// Returns the size of the wheel and the number of timers recorded as in the wheel. They are
    /// equal unless there is a bug.
    pub(crate) fn in_wheel(&self) -> (usize, usize) {
        let entered = self.armed.iter().filter(|(_, armed)| matches!(armed.due, Due::InWheel(..))).count();
        (self.wheel.len(), entered)
    }

    /// Returns the armed timers that can fire: in the wheel, or waiting for a commit or for the
    /// lane to go live.
    pub(crate) fn can_fire(&self) -> impl Iterator<Item = (u16, u64, u64)> {
        let can = |id: &TimerId, armed: &Armed| match armed.due {
            Due::InWheel(..) => true,
            Due::AfterCommit => self.uncommitted.contains(id),
            Due::FromLog | Due::At(_) => !self.live,
            Due::Fired => false,
        };
        self.armed.iter().filter(move |(id, armed)| can(id, armed)).map(|(id, armed)| (id.0, id.1, armed.generation))
    }

    /// Returns the armed timers that have fired.
    pub(crate) fn fired(&self) -> impl Iterator<Item = (u16, u64, u64)> {
        let fired = self.armed.iter().filter(|(_, armed)| matches!(armed.due, Due::Fired));
        fired.map(|(id, armed)| (id.0, id.1, armed.generation))
    }

    /// Applies an effect that a previous owner committed.
    pub(crate) fn replay(&mut self, component: u16, effect: TimerEffect, origin: Origin) {
        self.apply(component, effect, origin, Due::FromLog);
    }

    /// Applies an effect of a step. It takes effect with the commit of the step.
    pub(crate) fn decide(&mut self, component: u16, effect: TimerEffect, origin: Origin) {
        self.apply(component, effect, origin, Due::AfterCommit);
        if let TimerEffect::Arm { timer, .. } = effect {
            self.uncommitted.push((component, timer));
        }
    }

    fn apply(&mut self, component: u16, effect: TimerEffect, origin: Origin, due: Due) {
        match effect {
            TimerEffect::Arm { timer, generation, after_ms } => {
                let id = (component, timer);
                if let Some(before) = self.armed.insert(id, Armed { generation, after_ms, origin, due }) {
                    self.cancel(&before);
                }
                self.changes.changed(&block_of(id));
            }
            TimerEffect::Disarm { timer } => self.forget((component, timer)),
        }
    }

    /// Starts the timers whose effects were committed at `now`.
    pub(crate) fn committed(&mut self, now: MonoTime) {
        for id in self.uncommitted.drain(..) {
            let Some(armed) = self.armed.get_mut(id).filter(|armed| matches!(armed.due, Due::AfterCommit)) else {
                continue;
            };
            let at = now.plus_ms(armed.after_ms);
            armed.due = if self.live { Due::InWheel(at, self.wheel.insert(tick_of(at), id)) } else { Due::At(at) };
        }
    }

    /// True if a timer waits for a commit.
    pub(crate) fn has_uncommitted(&self) -> bool {
        !self.uncommitted.is_empty()
    }

    /// Handles a timeout that was read back from the inbox: removes its timer. False if the timer is
    /// not armed with this generation any more: the timeout is stale.
    pub(crate) fn read_back(&mut self, id: TimerId, generation: u64) -> bool {
        let is_armed = self.armed.get(id).is_some_and(|armed| armed.generation == generation);
        if is_armed {
            self.forget(id);
        }
        is_armed
    }

    /// Handles an owner record of `time`, whose owner handled the records from offset `from` on.
    /// Timers that these records armed run from `time` on at the earliest.
    pub(crate) fn handled_late(&mut self, from: u64, time: WallTime) {
        for (id, armed) in self.armed.iter_mut() {
            if armed.origin.offset >= from && armed.origin.time < time {
                armed.origin.time = time;
                self.changes.changed(&block_of(id));
            }
        }
    }

    /// Goes live: the owner record, stamped `owned` by the bus, was read back at `now`. Timers fire
    /// from now on.
    pub(crate) fn go_live(&mut self, owned: WallTime, now: MonoTime) {
        self.live = true;
        let mut overdue = 0;
        for (id, armed) in self.armed.iter_mut() {
            let at = match armed.due {
                Due::FromLog => match armed.after_ms.saturating_sub(owned.ms_since(armed.origin.time)) {
                    0 => {
                        overdue += 1;
                        now.plus_ms((overdue - 1) / OVERDUE_PER_MS)
                    }
                    left => now.plus_ms(left),
                },
                Due::At(at) => at,
                Due::AfterCommit | Due::InWheel(..) | Due::Fired => continue,
            };
            armed.due = Due::InWheel(at, self.wheel.insert(tick_of(at), id));
        }
    }

    // ---- snapshots -----------------------------------------------------------------------------

    /// Returns the changed blocks with their timers, and clears the list of changes. Deleted blocks
    /// are empty.
    pub(crate) fn take_changes(&mut self) -> Vec<(BlockId, Vec<SavedTimer>)> {
        let armed = &self.armed;
        self.changes.take(|block| {
            let timers = armed.block(*block)?.iter();
            let saved = timers.map(|(timer, armed)| SavedTimer {
                timer: *timer,
                generation: armed.generation,
                after_ms: armed.after_ms,
                offset: armed.origin.offset,
                at: armed.origin.time.0,
            });
            Some(saved.collect())
        })
    }

    /// Loads a saved block.
    pub(crate) fn load(&mut self, id: BlockId, saved: Vec<SavedTimer>) {
        for SavedTimer { timer, generation, after_ms, offset, at } in saved {
            let origin = Origin { offset, time: WallTime(at) };
            self.armed.insert((id.0, timer), Armed { generation, after_ms, origin, due: Due::FromLog });
        }
        self.changes.loaded(id);
    }

    // ---- firing --------------------------------------------------------------------------------

    /// Returns when the next timer may be due.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.wheel.next().map(|tick| MonoTime(tick.saturating_mul(1_000_000)))
    }

    /// Returns all due timers. They stay armed until [`Timers::read_back`].
    pub(crate) fn fire(&mut self, now: MonoTime) -> Vec<Expired> {
        let mut expired = Vec::new();
        let Self { wheel, armed, .. } = self;
        wheel.advance(now.0 / 1_000_000, |id| {
            if let Some(Armed { generation, due: due @ Due::InWheel(..), .. }) = armed.get_mut(id)
                && let Due::InWheel(at, _) = std::mem::replace(due, Due::Fired)
            {
                expired.push(Expired { id, generation: *generation, due: at });
            }
        });
        expired
    }

    fn forget(&mut self, id: TimerId) {
        let Some((armed, is_last)) = self.armed.remove(id) else { return };
        self.cancel(&armed);
        if is_last {
            self.changes.gone(&block_of(id));
        } else {
            self.changes.changed(&block_of(id));
        }
    }

    fn cancel(&mut self, armed: &Armed) {
        if let Due::InWheel(_, handle) = armed.due {
            self.wheel.cancel(handle);
        }
    }
}

/// The due times of one component's timers, for its views.
pub(crate) struct DueOf<'a> {
    pub(crate) timers: &'a Timers,
    pub(crate) lane: &'a Lane,
    pub(crate) component: u16,
    pub(crate) clock: &'a dyn Clock,
}

impl DueTimes for DueOf<'_> {
    fn due(&self, key: u64) -> Option<WallTime> {
        let armed = |id| self.timers.armed.get(id);
        let armed = armed((self.component, key)).or_else(|| armed(self.lane.timer_of(self.component, key)))?;
        let Due::InWheel(due, _) = armed.due else { return None };
        let left = due.since(self.clock.mono());
        Some(self.clock.wall().plus_ms(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MS: u64 = 1_000_000;

    fn arm(timer: u64, generation: u64, after_ms: u64) -> TimerEffect {
        TimerEffect::Arm { timer, generation, after_ms }
    }

    fn origin(offset: u64, time: u64) -> Origin {
        Origin { offset, time: WallTime(time) }
    }

    fn decided(timers: &mut Timers, effect: TimerEffect, at: MonoTime) {
        timers.decide(0, effect, origin(0, 0));
        timers.committed(at);
    }

    fn live() -> Timers {
        let mut timers = Timers::new(MonoTime(0));
        timers.go_live(WallTime(0), MonoTime(0));
        timers
    }

    /// Lesson 3.
    #[test]
    fn a_timer_that_is_armed_again_never_fires_early() {
        let mut timers = live();
        decided(&mut timers, arm(1, 1, 100), MonoTime(0));
        decided(&mut timers, arm(1, 2, 100), MonoTime(30 * MS));
        assert_eq!(timers.fire(MonoTime(101 * MS)), []);
        let due = MonoTime(130 * MS);
        assert_eq!(timers.fire(due), [Expired { id: (0, 1), generation: 2, due }]);
    }

    #[test]
    fn a_timer_is_not_early_by_a_nanosecond() {
        let mut timers = live();
        decided(&mut timers, arm(1, 1, 10), MonoTime(1));
        assert_eq!(timers.fire(MonoTime(10 * MS)), []);
        assert_eq!(timers.fire(MonoTime(11 * MS)).len(), 1);
    }

    /// Checks the remaining time of a timer at a takeover.
    #[test]
    fn a_takeover_computes_remaining_time_from_the_log() {
        let mut timers = Timers::new(MonoTime(500 * MS));
        timers.replay(0, arm(1, 1, 1_000), origin(0, 10_000));
        timers.replay(0, arm(2, 1, 1_000), origin(0, 3_000));
        assert_eq!(timers.next(), None, "nothing fires before the backlog was handled");
        timers.go_live(WallTime(10_400), MonoTime(500 * MS));
        let overdue = timers.fire(MonoTime(500 * MS));
        assert_eq!(overdue.iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 2)]);
        assert_eq!(timers.fire(MonoTime(1_099 * MS)), []);
        assert_eq!(timers.fire(MonoTime(1_100 * MS)).len(), 1);
    }

    /// The first record waited three seconds for an owner, which handled it and then crashed.
    #[test]
    fn a_timer_of_a_delayed_record_runs_from_its_owner_record() {
        let mut timers = Timers::new(MonoTime(0));
        timers.replay(0, arm(1, 1, 1_000), origin(7, 2_000));
        timers.replay(0, arm(2, 1, 1_000), origin(6, 2_000));
        timers.handled_late(7, WallTime(5_000));
        timers.go_live(WallTime(5_100), MonoTime(0));
        assert_eq!(timers.fire(MonoTime(899 * MS)).iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 2)]);
        assert_eq!(timers.fire(MonoTime(900 * MS)).iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn timers_overdue_at_a_takeover_are_spread_and_fire_once() {
        let mut timers = Timers::new(MonoTime(0));
        for timer in 0..10_000 {
            timers.replay(0, arm(timer, 1, 5), origin(0, 0));
        }
        timers.go_live(WallTime(60_000), MonoTime(0));
        let fired: Vec<usize> = (0..200).map(|ms| timers.fire(MonoTime(ms * MS)).len()).collect();
        assert_eq!((fired.iter().sum::<usize>(), timers.in_wheel()), (10_000, (0, 0)));
        assert!(fired.iter().all(|count| *count <= 64), "{fired:?}");
    }

    #[test]
    fn a_timeout_in_the_log_ends_only_its_own_generation() {
        let mut timers = Timers::new(MonoTime(0));
        timers.replay(0, arm(1, 1, 5), origin(0, 0));
        timers.replay(0, arm(2, 4, 5), origin(0, 0));
        assert!(timers.read_back((0, 1), 1));
        assert!(!timers.read_back((0, 2), 3), "it is stale");
        timers.go_live(WallTime(0), MonoTime(0));
        assert_eq!(timers.fire(MonoTime(5 * MS)).iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 2)]);
    }

    /// Between the firing and the reading of its timeout a timer is armed: it can be disarmed or
    /// replaced, and the timeout is then stale.
    #[test]
    fn a_fired_timer_is_armed_until_its_timeout_is_read() {
        let mut timers = live();
        for timer in 1..=3 {
            decided(&mut timers, arm(timer, 1, 10), MonoTime(0));
        }
        assert_eq!(timers.fire(MonoTime(10 * MS)).len(), 3);
        assert_eq!((timers.fire(MonoTime(20 * MS)), timers.fired().count(), timers.can_fire().count()), (vec![], 3, 0));
        decided(&mut timers, TimerEffect::Disarm { timer: 2 }, MonoTime(20 * MS));
        decided(&mut timers, arm(3, 2, 10), MonoTime(20 * MS));
        let valid = [1, 2, 3].map(|timer| timers.read_back((0, timer), 1));
        assert_eq!((valid, timers.len()), ([true, false, false], 1));
        assert!(!timers.read_back((0, 1), 1), "a duplicate timeout is stale");
        assert_eq!(timers.fire(MonoTime(30 * MS)).iter().map(|expired| expired.generation).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_timer_runs_from_its_commit_on() {
        let mut timers = live();
        timers.decide(0, arm(1, 1, 10), origin(0, 0));
        assert!(timers.has_uncommitted());
        assert_eq!((timers.next(), timers.fire(MonoTime(50 * MS))), (None, vec![]));
        timers.committed(MonoTime(50 * MS));
        assert_eq!(timers.fire(MonoTime(59 * MS)), []);
        assert_eq!(timers.fire(MonoTime(60 * MS)).len(), 1);
    }

    /// Saved timers equal those that a replay of the log produces: which are armed, and since when.
    #[test]
    fn timers_are_restored_from_a_snapshot() {
        let mut timers = live();
        let mut saved = BTreeMap::new();
        let mut save = |timers: &mut Timers| -> usize {
            let changes = timers.take_changes();
            let count = changes.len();
            for (id, block) in changes {
                if block.is_empty() {
                    saved.remove(&id)
                } else {
                    saved.insert(id, block)
                };
            }
            let mut restored = Timers::new(MonoTime(0));
            for (id, block) in saved.clone() {
                restored.load(id, block);
            }
            assert_eq!(restored.take_changes(), [], "it is saved as it is");
            let of = |timers: &Timers| -> Vec<_> {
                let timer = |(id, armed): (TimerId, &Armed)| (id, armed.generation, armed.after_ms, armed.origin);
                timers.armed.iter().map(timer).collect()
            };
            assert_eq!(of(&restored), of(timers));
            count
        };
        for timer in 0..200 {
            timers.decide(u16::from(timer % 2 == 0), arm(timer, 1, 100 + timer), origin(timer, 1_000));
        }
        timers.committed(MonoTime(0));
        assert_eq!(save(&mut timers), 8, "blocks of 64 numbers for each of two components");
        assert_eq!(save(&mut timers), 0);
        let read_back = |timers: &mut Timers, ms: u64| {
            let fired = timers.fire(MonoTime(ms * MS));
            fired.iter().filter(|expired| timers.read_back(expired.id, expired.generation)).count()
        };
        assert_eq!(read_back(&mut timers, 120), 21);
        timers.decide(0, TimerEffect::Disarm { timer: 151 }, origin(300, 1_000));
        timers.decide(0, arm(1_000, 3, 5), origin(300, 1_000));
        timers.decide(0, TimerEffect::Disarm { timer: 1_000 }, origin(301, 1_000));
        assert_eq!(save(&mut timers), 3, "a timer armed and disarmed between two snapshots costs nothing");
        timers.handled_late(190, WallTime(7_000));
        assert_eq!(save(&mut timers), 4);
        assert_eq!(read_back(&mut timers, 10_000), 178);
        assert_eq!(save(&mut timers), 8);
        assert_eq!(timers.len(), 0);
    }
}
