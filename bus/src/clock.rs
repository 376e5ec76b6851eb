//! Time as a parameter. Only `nave` creates the clock of a running system; tests use
//! [`ManualClock`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub use wire::WallTime;

/// Nanoseconds on a clock that never goes back. Compare only values from the same clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// Returns this time plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Returns the duration since `earlier`; zero if this is not later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The two clocks of a process: a monotonic clock and a wall clock.
pub trait Clock: Send + Sync {
    /// Returns the monotonic time. All deadlines use it.
    fn mono(&self) -> MonoTime;

    /// Returns the time of day, which may jump. It is stamped on records and used for nothing else.
    fn wall(&self) -> WallTime;
}

/// A clock that moves only by method calls: virtual time.
///
/// ```
/// use bus::{Clock, ManualClock};
/// let clock = ManualClock::default();
/// let (start, day) = (clock.mono(), clock.wall());
/// clock.advance_ms(1_500);
/// clock.step_wall_ms(-60_000);                      // an operator sets the time back
/// assert_eq!(clock.mono().since(start).as_millis(), 1_500);
/// assert_eq!(clock.wall().0, day.0 + 1_500 - 60_000);
/// ```
#[derive(Debug)]
pub struct ManualClock {
    mono_ns: AtomicU64,
    wall_offset_ms: AtomicI64,
}

impl Default for ManualClock {
    /// Starts at 2026-11-21T02:00:00Z.
    fn default() -> Self {
        Self { mono_ns: AtomicU64::new(0), wall_offset_ms: AtomicI64::new(Self::DAY_MS.cast_signed()) }
    }
}

impl ManualClock {
    /// The start of the wall clock, in ms since the Unix epoch.
    pub(crate) const DAY_MS: u64 = 1_795_226_400_000;

    /// Advances both clocks by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        self.mono_ns.fetch_add(ms * 1_000_000, Ordering::SeqCst);
    }

    /// Advances to `time` if that is later than now.
    pub fn advance_to(&self, time: MonoTime) {
        self.mono_ns.fetch_max(time.0, Ordering::SeqCst);
    }

    /// Shifts the wall clock alone, as an operator or a time server would.
    pub fn step_wall_ms(&self, ms: i64) {
        self.wall_offset_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> MonoTime {
        MonoTime(self.mono_ns.load(Ordering::SeqCst))
    }

    fn wall(&self) -> WallTime {
        let passed = i64::try_from(self.mono().0 / 1_000_000).unwrap_or(i64::MAX);
        let ms = self.wall_offset_ms.load(Ordering::SeqCst).saturating_add(passed);
        WallTime(u64::try_from(ms).unwrap_or(0))
    }
}
