//! Which lanes have said nothing since something was asked of them: DESIGN's "silent lane", seen from outside.
//!
//! A lane that lives publishes its position within a second of handling a record. So one that was asked, and of which no
//! answer, no view and no position came since, has no owner, or its owner cannot commit. An idle lane is not silent: nobody
//! asked it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::MonoTime;

/// A lane is called silent after so long: four times what a live one takes to speak.
pub const LIMIT: Duration = Duration::from_secs(4);

/// Since when each lane owes a word; 0 where it owes none, else nanoseconds of the monotonic clock and one.
#[derive(Debug)]
pub struct Silence {
    owes_since: Vec<AtomicU64>,
}

impl Silence {
    /// Of so many lanes, none of which was asked.
    pub fn new(lanes: u32) -> Self {
        Self { owes_since: (0..lanes).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Something was asked of a lane.
    pub fn asked(&self, lane: u32, now: MonoTime) {
        let owes = &self.owes_since[lane as usize];
        // It owes since the first of those that it did not react to.
        let _owed_before = owes.compare_exchange(0, now.0.saturating_add(1), Ordering::AcqRel, Ordering::Acquire);
    }

    /// A lane said something. A lane that is not one of ours is passed over.
    pub fn heard(&self, lane: u32) {
        if let Some(owes) = self.owes_since.get(lane as usize) {
            owes.store(0, Ordering::Release);
        }
    }

    /// How long a lane has been silent, where it is.
    pub fn of(&self, lane: u32, now: MonoTime) -> Option<Duration> {
        let since = self.owes_since[lane as usize].load(Ordering::Acquire).checked_sub(1)?;
        Some(now.since(MonoTime(since))).filter(|silent| *silent >= LIMIT)
    }

    /// Each silent lane, with a line.
    pub fn lines(&self, now: MonoTime) -> impl Iterator<Item = (u32, String)> {
        (0..).zip(&self.owes_since).filter_map(move |(lane, _)| Some((lane, line(lane, self.of(lane, now)?))))
    }
}

/// What people read of a silent lane.
pub fn line(lane: u32, silent: Duration) -> String {
    let seconds = silent.as_secs_f64();
    format!("lane {lane}: silent for {seconds:.1} s; it has no owner, or its owner cannot commit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_silent_when_it_was_asked_and_says_nothing() {
        let silence = Silence::new(2);
        let at = |seconds: u64| MonoTime::default().plus_ms(seconds * 1_000);
        assert_eq!(silence.of(0, at(100)), None, "nobody asked");
        silence.asked(0, at(100));
        silence.asked(0, at(103));
        assert_eq!(silence.of(0, at(103)), None);
        assert_eq!(silence.of(0, at(104)), Some(Duration::from_secs(4)), "since the first question");
        let lines = |seconds: u64| silence.lines(at(seconds)).collect::<Vec<_>>();
        let line = "lane 0: silent for 5.0 s; it has no owner, or its owner cannot commit";
        assert_eq!(lines(105), [(0, line.to_owned())]);
        silence.heard(0);
        silence.heard(99);
        assert_eq!(lines(200), []);
    }
}
