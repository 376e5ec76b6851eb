//! Which lanes have said nothing since something was asked of them, and how far they are behind.
//!
//! A lane that lives publishes its position within a second of handling a record. So one that was asked, and of which no
//! answer, no view and no position came since, has no owner, or its owner cannot commit. An idle lane is not silent: nobody
//! asked it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::MonoTime;

/// Time after which a lane is called silent: four times what a live one takes to speak.
pub const LIMIT: Duration = Duration::from_secs(4);

/// Time after which the end of its inbox is asked for, so that it is known when the lane is called silent.
const ASK: Duration = Duration::from_secs(2);

/// The lanes of a stage, as they are seen from outside.
#[derive(Debug)]
pub struct Silence(Vec<Lane>);

/// Each number is that of the thing and one; 0 where there is none.
#[derive(Debug, Default)]
struct Lane {
    /// Since when the lane owes a word: nanoseconds of the monotonic clock.
    owes_since: AtomicU64,
    /// The offset of the next record that it handles, as it published it last.
    next: AtomicU64,
    /// The end of its inbox, when it was asked for last.
    end: AtomicU64,
}

fn load(number: &AtomicU64) -> Option<u64> {
    number.load(Ordering::Acquire).checked_sub(1)
}

fn store(number: &AtomicU64, value: u64) {
    number.store(value.saturating_add(1), Ordering::Release);
}

impl Lane {
    fn owes_for(&self, now: MonoTime) -> Option<Duration> {
        load(&self.owes_since).map(|since| now.since(MonoTime(since)))
    }

    fn behind(&self) -> Option<u64> {
        load(&self.end)?.checked_sub(load(&self.next)?)
    }
}

impl Silence {
    /// Of so many lanes, none of which was asked.
    pub fn new(lanes: u32) -> Self {
        Self((0..lanes).map(|_| Lane::default()).collect())
    }

    /// Something was asked of a lane.
    pub fn asked(&self, lane: u32, now: MonoTime) {
        let owes = &self.0[lane as usize].owes_since;
        // It owes since the first of those that it did not react to.
        let _owed_before = owes.compare_exchange(0, now.0.saturating_add(1), Ordering::AcqRel, Ordering::Acquire);
    }

    /// A lane said something. A lane that is not one of ours is passed over.
    pub fn heard(&self, lane: u32) {
        if let Some(lane) = self.0.get(lane as usize) {
            lane.owes_since.store(0, Ordering::Release);
        }
    }

    /// A lane said which record it handles next.
    pub fn stands_at(&self, lane: u32, next: u64) {
        if let Some(lane) = self.0.get(lane as usize) {
            store(&lane.next, next);
        }
    }

    /// The lanes of which it is to be asked where their inboxes end.
    pub fn to_ask(&self, now: MonoTime) -> Vec<u32> {
        let owes = |lane: &Lane| lane.owes_for(now).is_some_and(|owes| owes >= ASK);
        (0..).zip(&self.0).filter(|(_, lane)| owes(lane)).map(|(number, _)| number).collect()
    }

    /// The inbox of a lane ends here.
    pub fn ends_at(&self, lane: u32, end: u64) {
        if let Some(lane) = self.0.get(lane as usize) {
            store(&lane.end, end);
        }
    }

    /// The line about a silent lane, for people: "lane 3: silent for 5.0 s, 120 records behind". Markers of transactions count as records.
    pub fn line(&self, lane: u32, now: MonoTime) -> Option<String> {
        let known = self.0.get(lane as usize)?;
        let silent = known.owes_for(now).filter(|silent| *silent >= LIMIT)?.as_secs_f64();
        let behind =
            known.behind().map(|records| format!(", {records} record{} behind", if records == 1 { "" } else { "s" }));
        let behind = behind.unwrap_or_default();
        Some(format!("lane {lane}: silent for {silent:.1} s{behind}; it has no owner, or its owner cannot commit"))
    }

    /// Each silent lane, with its line.
    pub fn lines(&self, now: MonoTime) -> impl Iterator<Item = (u32, String)> {
        (0..).zip(&self.0).filter_map(move |(lane, _)| Some((lane, self.line(lane, now)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::default().plus_ms(seconds * 1_000)
    }

    #[test]
    fn a_lane_is_silent_when_it_was_asked_and_says_nothing() {
        let silence = Silence::new(2);
        let is_silent = |seconds: u64| silence.line(0, at(seconds)).is_some();
        assert!(!is_silent(100), "nobody asked");
        silence.asked(0, at(100));
        silence.asked(0, at(103));
        assert!(!is_silent(103));
        assert!(is_silent(104), "since the first question");
        let lines = |seconds: u64| silence.lines(at(seconds)).collect::<Vec<_>>();
        let line = "lane 0: silent for 5.0 s; it has no owner, or its owner cannot commit";
        assert_eq!(lines(105), [(0, line.to_owned())]);
        silence.heard(0);
        silence.heard(99);
        assert_eq!(lines(200), []);
    }

    #[test]
    fn it_is_behind_by_what_its_inbox_has_and_it_did_not_handle() {
        let silence = Silence::new(4);
        silence.asked(3, at(0));
        assert_eq!((silence.to_ask(at(1)), silence.to_ask(at(2))), (vec![], vec![3]));
        let line = |behind: &str| {
            Some(format!("lane 3: silent for 5.0 s{behind}; it has no owner, or its owner cannot commit"))
        };
        silence.ends_at(3, 121);
        assert_eq!(silence.line(3, at(5)), line(""), "it never said where it stands");
        silence.stands_at(3, 1);
        assert_eq!(silence.line(3, at(5)), line(", 120 records behind"));
        silence.stands_at(3, 120);
        assert_eq!(silence.line(3, at(5)), line(", 1 record behind"));
        silence.stands_at(3, 121);
        assert_eq!(silence.line(3, at(5)), line(", 0 records behind"));
        silence.stands_at(3, 130);
        assert_eq!(silence.line(3, at(5)), line(""), "it has handled more since");
        silence.stands_at(99, 1);
        silence.ends_at(99, 1);
    }
}
