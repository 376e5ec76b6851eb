//! A bounded backoff for tasks whose bus does not answer.

use crate::MonoTime;

/// First delay, in milliseconds: enough for a broker to change leaders, short compared with a
/// call's deadline.
const FIRST_MS: u64 = 50;
/// Longest delay, in milliseconds: short compared with a group's session of 6 s and a client's wait
/// of 10 s.
const LONGEST_MS: u64 = 1_000;

/// The time of the next attempt. The delay doubles after each failure, up to a second.
#[derive(Debug, Default)]
pub struct Backoff {
    until: Option<MonoTime>,
    last_ms: u64,
}

impl Backoff {
    /// Records a failure at `now`.
    pub fn failed(&mut self, now: MonoTime) {
        self.last_ms = (self.last_ms * 2).clamp(FIRST_MS, LONGEST_MS);
        self.until = Some(now.plus_ms(self.last_ms));
    }

    /// Records a success: resets the delay.
    pub fn over(&mut self) {
        *self = Self::default();
    }

    /// True while it is too early for the next attempt.
    pub fn holds(&self, now: MonoTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Returns the time of the next attempt; `None` after a success.
    pub fn until(&self) -> Option<MonoTime> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_a_second_and_resets_after_a_success() {
        let mut backoff = Backoff::default();
        let mut now = MonoTime(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            backoff.failed(now);
            let until = backoff.until().unwrap();
            assert!(backoff.holds(now) && !backoff.holds(until));
            waits.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_000, 1_000]);
        backoff.over();
        assert!(!backoff.holds(now));
    }
}
