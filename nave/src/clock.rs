//! The clock of a running system: the only place that reads real time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bus::{Clock, MonoTime};
use wire::WallTime;

/// Monotonic time since its creation, and the time of day.
#[derive(Debug)]
pub struct SystemClock {
    begun: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn default() -> Self {
        Self { begun: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.begun.elapsed().as_nanos()).expect("584 years pass before this overflows"))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
