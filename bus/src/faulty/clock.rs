//! A clock per process: no two processes agree on the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use wire::WallTime;

use crate::{Clock, ManualClock, MonoTime};

/// The clocks of one process. Its monotonic clock has another origin and rate than the true clock,
/// and never goes back. Its wall clock has an adjustable error.
///
/// ```
/// use std::sync::Arc;
/// use bus::{Clock, ManualClock, MonoTime};
/// use bus::faulty::DriftingClock;
///
/// let true_clock = Arc::new(ManualClock::default());
/// let clock = DriftingClock::new(true_clock.clone(), 10_000, 5);   // 1 % too fast, 5 ns ahead
/// true_clock.advance_ms(1_000);
/// assert_eq!(clock.mono(), MonoTime(1_010_000_005));
/// clock.set_wall_error_ms(-500);
/// assert_eq!(clock.wall().0 + 500, true_clock.wall().0);
/// ```
#[derive(Debug)]
pub struct DriftingClock {
    true_clock: Arc<ManualClock>,
    /// Rate error, in millionths; positive is fast.
    ppm: i64,
    ahead_ns: u64,
    wall_error_ms: AtomicI64,
}

const MILLION: i128 = 1_000_000;

impl DriftingClock {
    /// Creates a clock that runs `ppm` millionths too fast (too slow if negative), and shows
    /// `ahead_ns` nanoseconds when the true clock shows zero. Its wall clock is correct.
    ///
    /// # Panics
    /// If `ppm` is -1,000,000 or less: the clock would stop or go back.
    pub fn new(true_clock: Arc<ManualClock>, ppm: i64, ahead_ns: u64) -> Self {
        assert!(i128::from(ppm) > -MILLION, "a monotonic clock must advance");
        Self { true_clock, ppm, ahead_ns, wall_error_ms: AtomicI64::new(0) }
    }

    /// Sets the error of the wall clock, in milliseconds; 0 makes it correct.
    pub fn set_wall_error_ms(&self, ms: i64) {
        self.wall_error_ms.store(ms, Ordering::SeqCst);
    }

    /// Returns the first true time at which this clock shows `own` or more.
    pub fn true_time(&self, own: MonoTime) -> MonoTime {
        let passed = i128::from(own.0.saturating_sub(self.ahead_ns)) * MILLION;
        let rate = MILLION + i128::from(self.ppm);
        // Rounds up: `rate` is above zero.
        MonoTime(u64::try_from((passed + rate - 1) / rate).unwrap_or(u64::MAX))
    }
}

impl Clock for DriftingClock {
    fn mono(&self) -> MonoTime {
        let passed = i128::from(self.true_clock.mono().0) * (MILLION + i128::from(self.ppm)) / MILLION;
        MonoTime(u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(self.ahead_ns))
    }

    fn wall(&self) -> WallTime {
        let off = self.wall_error_ms.load(Ordering::SeqCst);
        let passed = self.true_clock.mono().0 / 1_000_000;
        WallTime((ManualClock::DAY_MS + passed).saturating_add_signed(off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_time_is_the_first_moment_at_which_the_clock_shows_it() {
        let true_clock = Arc::new(ManualClock::default());
        for ppm in [-30_000, -1, 0, 1, 7_777, 50_000] {
            let clock = DriftingClock::new(Arc::clone(&true_clock), ppm, 123);
            for step in [1, 999_999, 1_000_001, 987_654_321] {
                let own = MonoTime(clock.mono().0 + step);
                let at = clock.true_time(own);
                true_clock.advance_to(MonoTime(at.0 - 1));
                assert!(clock.mono() < own || true_clock.mono() >= at, "{ppm} {step}: too early");
                true_clock.advance_to(at);
                assert!(clock.mono() >= own, "{ppm} {step}: too late");
            }
        }
    }
}
