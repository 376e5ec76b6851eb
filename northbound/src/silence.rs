//! Silent lanes: lanes that have requests but publish nothing, and how far they are behind.
//!
//! A live lane publishes its position within a second of handling a record. A lane that got a
//! request and publishes no answer, view or position has no owner, or its owner cannot commit. An
//! idle lane is not silent: it got no request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::MonoTime;

/// Time after which a lane counts as silent: four times the reaction time of a live lane.
pub const LIMIT: Duration = Duration::from_secs(4);

/// Time after which the end of its inbox is queried, so that it is known when the lane becomes
/// silent.
const QUERY_AFTER: Duration = Duration::from_secs(2);

/// The lanes of a stage.
#[derive(Debug)]
pub struct Silence(Vec<Lane>);

/// Each value is stored plus one; 0 means none.
#[derive(Debug, Default)]
struct Lane {
    /// The time of the first request without a reaction: nanoseconds of the monotonic clock.
    waiting_since: AtomicU64,
    /// The offset of the next record, as last published by the lane.
    next: AtomicU64,
    /// The end of its inbox at the last query.
    end: AtomicU64,
}

fn load(number: &AtomicU64) -> Option<u64> {
    number.load(Ordering::Acquire).checked_sub(1)
}

fn store(number: &AtomicU64, value: u64) {
    number.store(value.saturating_add(1), Ordering::Release);
}

impl Lane {
    fn waiting_for(&self, now: MonoTime) -> Option<Duration> {
        load(&self.waiting_since).map(|since| now.since(MonoTime(since)))
    }

    fn behind(&self) -> Option<u64> {
        load(&self.end)?.checked_sub(load(&self.next)?)
    }
}

impl Silence {
    /// `lanes` lanes without requests.
    pub fn new(lanes: u32) -> Self {
        Self((0..lanes).map(|_| Lane::default()).collect())
    }

    /// Called when a request is sent to a lane.
    pub fn request_sent(&self, lane: u32, now: MonoTime) {
        let waits = &self.0[lane as usize].waiting_since;
        // The first request without a reaction counts.
        let _earlier_request = waits.compare_exchange(0, now.0.saturating_add(1), Ordering::AcqRel, Ordering::Acquire);
    }

    /// Called for each record that a lane publishes. Unknown lanes are ignored.
    pub fn record_received(&self, lane: u32) {
        if let Some(lane) = self.0.get(lane as usize) {
            lane.waiting_since.store(0, Ordering::Release);
        }
    }

    /// Records the next offset of a lane.
    pub fn set_position(&self, lane: u32, next: u64) {
        if let Some(lane) = self.0.get(lane as usize) {
            store(&lane.next, next);
        }
    }

    /// The lanes whose inbox ends have to be queried.
    pub fn lanes_to_query(&self, now: MonoTime) -> Vec<u32> {
        let waits = |lane: &Lane| lane.waiting_for(now).is_some_and(|waits| waits >= QUERY_AFTER);
        (0..).zip(&self.0).filter(|(_, lane)| waits(lane)).map(|(number, _)| number).collect()
    }

    /// Records the end of the inbox of a lane.
    pub fn set_inbox_end(&self, lane: u32, end: u64) {
        if let Some(lane) = self.0.get(lane as usize) {
            store(&lane.end, end);
        }
    }

    /// Describes a silent lane: "lane 3: silent for 5.0 s, 120 records behind". Transaction markers
    /// count as records.
    pub fn line(&self, lane: u32, now: MonoTime) -> Option<String> {
        let known = self.0.get(lane as usize)?;
        let silent = known.waiting_for(now).filter(|silent| *silent >= LIMIT)?.as_secs_f64();
        let behind =
            known.behind().map(|records| format!(", {records} record{} behind", if records == 1 { "" } else { "s" }));
        let behind = behind.unwrap_or_default();
        Some(format!("lane {lane}: silent for {silent:.1} s{behind}; it has no owner, or its owner cannot commit"))
    }

    /// All silent lanes with their descriptions.
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
    fn a_lane_is_silent_if_it_does_not_react_to_a_request() {
        let silence = Silence::new(2);
        let is_silent = |seconds: u64| silence.line(0, at(seconds)).is_some();
        assert!(!is_silent(100), "no request was sent");
        silence.request_sent(0, at(100));
        silence.request_sent(0, at(103));
        assert!(!is_silent(103));
        assert!(is_silent(104), "the first request counts");
        let lines = |seconds: u64| silence.lines(at(seconds)).collect::<Vec<_>>();
        let line = "lane 0: silent for 5.0 s; it has no owner, or its owner cannot commit";
        assert_eq!(lines(105), [(0, line.to_owned())]);
        silence.record_received(0);
        silence.record_received(99);
        assert_eq!(lines(200), []);
    }

    #[test]
    fn a_silent_lane_is_behind_by_the_unhandled_records_of_its_inbox() {
        let silence = Silence::new(4);
        silence.request_sent(3, at(0));
        assert_eq!((silence.lanes_to_query(at(1)), silence.lanes_to_query(at(2))), (vec![], vec![3]));
        let line = |behind: &str| {
            Some(format!("lane 3: silent for 5.0 s{behind}; it has no owner, or its owner cannot commit"))
        };
        silence.set_inbox_end(3, 121);
        assert_eq!(silence.line(3, at(5)), line(""), "its position is unknown");
        silence.set_position(3, 1);
        assert_eq!(silence.line(3, at(5)), line(", 120 records behind"));
        silence.set_position(3, 120);
        assert_eq!(silence.line(3, at(5)), line(", 1 record behind"));
        silence.set_position(3, 121);
        assert_eq!(silence.line(3, at(5)), line(", 0 records behind"));
        silence.set_position(3, 130);
        assert_eq!(silence.line(3, at(5)), line(""), "it has handled more records since the query");
        silence.set_position(99, 1);
        silence.set_inbox_end(99, 1);
    }
}
