//! A bounded back-off, for parts whose bus does not answer.

use crate::MonoTime;

/// The first pause, in milliseconds: long enough for a broker to change its leader, short beside the deadline of a call.
const FIRST_MS: u64 = 50;
/// The longest pause: a group's session is six seconds, and signs of life must come in it; clients wait ten for answers.
const LONGEST_MS: u64 = 1_000;

/// How long not to try again: twice as long after each fault, up to a second.
#[derive(Debug, Default)]
pub struct Pause {
    until: Option<MonoTime>,
    last_ms: u64,
}

impl Pause {
    /// It failed at `now`.
    pub fn failed(&mut self, now: MonoTime) {
        self.last_ms = (self.last_ms * 2).clamp(FIRST_MS, LONGEST_MS);
        self.until = Some(now.plus_ms(self.last_ms));
    }

    /// It went well.
    pub fn over(&mut self) {
        *self = Self::default();
    }

    /// True where it is too early to try again.
    pub fn holds(&self, now: MonoTime) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When to try again.
    pub fn until(&self) -> Option<MonoTime> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_a_second_and_starts_anew_after_a_success() {
        let mut pause = Pause::default();
        let mut now = MonoTime(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            pause.failed(now);
            let until = pause.until().unwrap();
            assert!(pause.holds(now) && !pause.holds(until));
            waits.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_000, 1_000]);
        pause.over();
        assert!(!pause.holds(now));
    }
}
