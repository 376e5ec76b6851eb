//! Wall time as it stands in headers. Lane code never reads a clock; this is only its form.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::WireError;

/// Milliseconds since 1970-01-01T00:00:00Z, as the bus stamps them on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This time and `ms` milliseconds more.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How many milliseconds after `earlier`; 0 where it is not after.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 with milliseconds, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The year 9999 is the last that RFC 3339 can write.
        let last = Duration::from_secs(253_402_300_799);
        let time = UNIX_EPOCH + Duration::from_millis(self.0).min(last);
        fmt::Display::fmt(&humantime::format_rfc3339_millis(time), f)
    }
}

impl FromStr for WallTime {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        let fault = || WireError::new("time", text, "an RFC 3339 time in UTC, like 2026-11-21T02:00:00.000Z");
        let time = humantime::parse_rfc3339(text).map_err(|_| fault())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| fault())?;
        u64::try_from(since.as_millis()).map(Self).map_err(|_| fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        let time = WallTime(1_795_226_400_123);
        assert_eq!(time.to_string(), "2026-11-21T02:00:00.123Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        assert!("yesterday".parse::<WallTime>().is_err());
        assert_eq!(WallTime(u64::MAX).to_string(), "9999-12-31T23:59:59.000Z");
    }
}
