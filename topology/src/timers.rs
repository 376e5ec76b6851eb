//! The timers of one lane, as its shell keeps them: what is armed, since when, and the wheel that says what is due.
//!
//! While the owner lives, only its monotonic clock counts, from the commit that armed a timer. At a takeover what is left
//! is the duration less the time between the arming record and the owner record, both as the bus stamped them. A record
//! that had waited while nobody owned the lane armed its timers when the owner after it had come, so these run since the
//! record of that owner.

use std::collections::BTreeMap;

use bus::{Clock, MonoTime};
use wire::WallTime;

use crate::component::DueTimes;
use crate::lane::Lane;
use crate::outbox::TimerEffect;
use crate::wheel::{Handle, Wheel};

/// A component's number, and the timer's number in it.
pub(crate) type TimerId = (u16, u64);

/// Since when a timer runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// Since the record that armed it, under an owner before us: its offset and its time.
    Record(u64, WallTime),
    /// Since our commit.
    Commit(MonoTime),
}

#[derive(Debug)]
struct Armed {
    generation: u32,
    after_ms: u64,
    since: Since,
    /// None until the lane is live.
    due: Option<(MonoTime, Handle)>,
}

/// A timer whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) id: TimerId,
    pub(crate) generation: u32,
    /// When it was due.
    pub(crate) due: MonoTime,
}

#[derive(Debug)]
pub(crate) struct Timers {
    /// Ticks are milliseconds of the monotonic clock.
    wheel: Wheel<TimerId>,
    armed: BTreeMap<TimerId, Armed>,
    live: bool,
}

/// The first whole millisecond that is not before `time`: a timer is never early.
fn tick_of(time: MonoTime) -> u64 {
    time.0.div_ceil(1_000_000)
}

impl Timers {
    pub(crate) fn new(now: MonoTime) -> Self {
        Self { wheel: Wheel::new(now.0 / 1_000_000), armed: BTreeMap::new(), live: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.armed.len()
    }

    /// Component, number and generation of each.
    pub(crate) fn armed(&self) -> impl Iterator<Item = (u16, u64, u32)> {
        self.armed.iter().map(|((component, timer), armed)| (*component, *timer, armed.generation))
    }

    pub(crate) fn apply(&mut self, component: u16, effect: TimerEffect, since: Since) {
        match effect {
            TimerEffect::Arm { timer, generation, after_ms } => {
                let id = (component, timer);
                self.forget(id);
                let mut armed = Armed { generation, after_ms, since, due: None };
                if let (true, Since::Commit(at)) = (self.live, since) {
                    armed.due = Some(self.enter(id, at.plus_ms(after_ms)));
                }
                self.armed.insert(id, armed);
            }
            TimerEffect::Disarm { timer } => self.forget((component, timer)),
        }
    }

    /// A timeout was read back from the inbox: the timer has done its work.
    pub(crate) fn read_back(&mut self, id: TimerId, generation: u32) {
        if self.armed.get(&id).is_some_and(|armed| armed.generation == generation) {
            self.forget(id);
        }
    }

    /// An owner record of `time` was read, whose owner handled the records from `from` on: what they armed before runs since
    /// then, at the earliest.
    pub(crate) fn handled_late(&mut self, from: u64, time: WallTime) {
        for armed in self.armed.values_mut() {
            if let Since::Record(offset, at) = &mut armed.since
                && *offset >= from
            {
                *at = (*at).max(time);
            }
        }
    }

    /// The owner record was read back at `now`; the bus stamped it at `owned`. From here on timers fire.
    pub(crate) fn go_live(&mut self, owned: WallTime, now: MonoTime) {
        self.live = true;
        let ids: Vec<TimerId> = self.armed.keys().copied().collect();
        for id in ids {
            let Armed { after_ms, since, .. } = self.armed[&id];
            let due = match since {
                Since::Record(_, at) => now.plus_ms(after_ms.saturating_sub(owned.ms_since(at))),
                Since::Commit(at) => at.plus_ms(after_ms),
            };
            let due = self.enter(id, due);
            if let Some(armed) = self.armed.get_mut(&id) {
                armed.due = Some(due);
            }
        }
    }

    /// When the next timer may be due.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.wheel.next().map(|tick| MonoTime(tick.saturating_mul(1_000_000)))
    }

    /// Takes out all that are due.
    pub(crate) fn fire(&mut self, now: MonoTime) -> Vec<Expired> {
        let mut expired = Vec::new();
        let armed = &mut self.armed;
        self.wheel.advance(now.0 / 1_000_000, |id| {
            if let Some(Armed { generation, due: Some((due, _)), .. }) = armed.remove(&id) {
                expired.push(Expired { id, generation, due });
            }
        });
        expired
    }

    fn enter(&mut self, id: TimerId, due: MonoTime) -> (MonoTime, Handle) {
        (due, self.wheel.insert(tick_of(due), id))
    }

    fn forget(&mut self, id: TimerId) {
        if let Some(Armed { due: Some((_, handle)), .. }) = self.armed.remove(&id) {
            self.wheel.cancel(handle);
        }
    }
}

/// The timers of one component, for its views.
pub(crate) struct DueOf<'a> {
    pub(crate) timers: &'a Timers,
    pub(crate) lane: &'a Lane,
    pub(crate) component: u16,
    pub(crate) clock: &'a dyn Clock,
}

impl DueTimes for DueOf<'_> {
    fn due(&self, key: u64) -> Option<WallTime> {
        let (due, _) = self.timers.armed.get(&self.lane.timer_of(self.component, key))?.due?;
        let left = due.since(self.clock.mono());
        Some(self.clock.wall().plus_ms(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn arm(timer: u64, generation: u32, after_ms: u64) -> TimerEffect {
        TimerEffect::Arm { timer, generation, after_ms }
    }

    fn live() -> Timers {
        let mut timers = Timers::new(MonoTime(0));
        timers.go_live(WallTime(0), MonoTime(0));
        timers
    }

    /// LESSONS 3.
    #[test]
    fn a_timer_that_is_armed_anew_never_fires_early() {
        let mut timers = live();
        timers.apply(0, arm(1, 1, 100), Since::Commit(MonoTime(0)));
        timers.apply(0, arm(1, 2, 100), Since::Commit(MonoTime(30 * MS)));
        assert_eq!(timers.fire(MonoTime(101 * MS)), []);
        let due = MonoTime(130 * MS);
        assert_eq!(timers.fire(due), [Expired { id: (0, 1), generation: 2, due }]);
    }

    #[test]
    fn a_timer_is_not_early_by_a_nanosecond() {
        let mut timers = live();
        timers.apply(0, arm(1, 1, 10), Since::Commit(MonoTime(1)));
        assert_eq!(timers.fire(MonoTime(10 * MS)), []);
        assert_eq!(timers.fire(MonoTime(11 * MS)).len(), 1);
    }

    /// DESIGN rule 3: what is left at a takeover.
    #[test]
    fn at_a_takeover_the_time_in_the_log_counts() {
        let mut timers = Timers::new(MonoTime(500 * MS));
        timers.apply(0, arm(1, 1, 1_000), Since::Record(0, WallTime(10_000)));
        timers.apply(0, arm(2, 1, 1_000), Since::Record(0, WallTime(3_000)));
        assert_eq!(timers.next(), None, "nothing fires before the backlog was handled");
        timers.go_live(WallTime(10_400), MonoTime(500 * MS));
        let overdue = timers.fire(MonoTime(500 * MS));
        assert_eq!(overdue.iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 2)]);
        assert_eq!(timers.fire(MonoTime(1_099 * MS)), []);
        assert_eq!(timers.fire(MonoTime(1_100 * MS)).len(), 1);
    }

    /// The first record waited for three seconds before an owner came and handled it; then that owner died too.
    #[test]
    fn a_timer_of_a_record_that_waited_for_an_owner_runs_since_that_owner_came() {
        let mut timers = Timers::new(MonoTime(0));
        timers.apply(0, arm(1, 1, 1_000), Since::Record(7, WallTime(2_000)));
        timers.apply(0, arm(2, 1, 1_000), Since::Record(6, WallTime(2_000)));
        timers.handled_late(7, WallTime(5_000));
        timers.go_live(WallTime(5_100), MonoTime(0));
        assert_eq!(timers.fire(MonoTime(899 * MS)).iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 2)]);
        assert_eq!(timers.fire(MonoTime(900 * MS)).iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn a_timeout_in_the_log_ends_its_timer_and_no_later_generation() {
        let mut timers = Timers::new(MonoTime(0));
        timers.apply(0, arm(1, 1, 5), Since::Record(0, WallTime(0)));
        timers.apply(0, arm(2, 4, 5), Since::Record(0, WallTime(0)));
        timers.read_back((0, 1), 1);
        timers.read_back((0, 2), 3);
        timers.go_live(WallTime(0), MonoTime(0));
        assert_eq!(timers.fire(MonoTime(5 * MS)).iter().map(|expired| expired.id).collect::<Vec<_>>(), [(0, 2)]);
    }
}
