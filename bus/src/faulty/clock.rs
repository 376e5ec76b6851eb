//! A clock of one's own: no two processes agree on the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use wire::WallTime;

use crate::{Clock, ManualClock, MonoTime};

/// The clocks of one process: its monotonic clock began elsewhere and goes faster or slower than the true one, and its time of
/// day is off by what it is told. The monotonic clock never goes back.
///
/// ```
/// use std::sync::Arc;
/// use bus::{Clock, ManualClock, MonoTime};
/// use bus::faulty::DriftingClock;
///
/// let world = Arc::new(ManualClock::default());
/// let clock = DriftingClock::new(world.clone(), 10_000, 5);   // one part in a hundred too fast, begun 5 ns before
/// world.advance_ms(1_000);
/// assert_eq!(clock.mono(), MonoTime(1_010_000_005));
/// clock.set_wall_off_ms(-500);
/// assert_eq!(clock.wall().0 + 500, world.wall().0);
/// ```
#[derive(Debug)]
pub struct DriftingClock {
    world: Arc<ManualClock>,
    /// So many millionths too fast.
    ppm: i64,
    ahead_ns: u64,
    wall_off_ms: AtomicI64,
}

const MILLION: i128 = 1_000_000;

impl DriftingClock {
    /// A clock that goes `ppm` millionths too fast, or too slow where it is negative, and stands `ahead_ns` at the beginning of
    /// the world. Its time of day is right.
    ///
    /// # Panics
    /// Where it would stand still or go back: at -1,000,000 and below.
    pub fn new(world: Arc<ManualClock>, ppm: i64, ahead_ns: u64) -> Self {
        assert!(i128::from(ppm) > -MILLION, "a monotonic clock goes on");
        Self { world, ppm, ahead_ns, wall_off_ms: AtomicI64::new(0) }
    }

    /// Sets its time of day off by so much, as an operator or a time server would; 0 sets it right.
    pub fn set_wall_off_ms(&self, ms: i64) {
        self.wall_off_ms.store(ms, Ordering::SeqCst);
    }

    /// The first moment of the world at which this clock shows `own` or more.
    pub fn world_time(&self, own: MonoTime) -> MonoTime {
        let passed = i128::from(own.0.saturating_sub(self.ahead_ns)) * MILLION;
        let rate = MILLION + i128::from(self.ppm);
        // Rounded up: `rate` is above zero.
        MonoTime(u64::try_from((passed + rate - 1) / rate).unwrap_or(u64::MAX))
    }
}

impl Clock for DriftingClock {
    fn mono(&self) -> MonoTime {
        let passed = i128::from(self.world.mono().0) * (MILLION + i128::from(self.ppm)) / MILLION;
        MonoTime(u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(self.ahead_ns))
    }

    fn wall(&self) -> WallTime {
        let off = self.wall_off_ms.load(Ordering::SeqCst);
        let passed = self.world.mono().0 / 1_000_000;
        WallTime((ManualClock::DAY_MS + passed).saturating_add_signed(off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_the_world_is_the_first_at_which_the_clock_shows_it() {
        let world = Arc::new(ManualClock::default());
        for ppm in [-30_000, -1, 0, 1, 7_777, 50_000] {
            let clock = DriftingClock::new(Arc::clone(&world), ppm, 123);
            for step in [1, 999_999, 1_000_001, 987_654_321] {
                let own = MonoTime(clock.mono().0 + step);
                let at = clock.world_time(own);
                world.advance_to(MonoTime(at.0 - 1));
                assert!(clock.mono() < own || world.mono() >= at, "{ppm} {step}: not before");
                world.advance_to(at);
                assert!(clock.mono() >= own, "{ppm} {step}: then");
            }
        }
    }
}
