//! Wall time in headers. Lane code never reads a clock; this is only the format.

use std::fmt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::WireError;

/// Milliseconds since 1970-01-01T00:00:00Z, such as the timestamps of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The allowed formats, for error texts.
    pub const ALLOWED: &str = "an RFC 3339 time with Z or an offset, like 2026-11-21T02:00:00.000Z";

    /// This time plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if `earlier` is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Appends the time to `text`: RFC 3339 with milliseconds, in UTC. Every message has one or
    /// two.
    pub(crate) fn push_to(self, text: &mut String) {
        // The year 9999 is the last that RFC 3339 can write.
        let last_ms = 253_402_300_799_000;
        let ms = self.0.min(last_ms);
        let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
        let (year, month, day) = date_of(days);
        push_padded(text, year, 1_000);
        for (mark, part) in [('-', month), ('-', day), ('T', in_day / 3_600_000)] {
            text.push(mark);
            push_padded(text, part, 10);
        }
        for part in [in_day / 60_000 % 60, in_day / 1_000 % 60] {
            text.push(':');
            push_padded(text, part, 10);
        }
        text.push('.');
        push_padded(text, in_day % 1_000, 100);
        text.push('Z');
    }
}

/// Year, month and day of the day `days` after 1970-01-01: `civil_from_days` of Howard Hinnant's
/// "chrono-compatible low-level date algorithms", for non-negative days.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01, where a year ends with its leap day
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Appends a number with as many digits as `unit` has.
fn push_padded(text: &mut String, n: u64, unit: u64) {
    let mut unit = unit;
    while unit > 0 {
        let digit = u32::try_from(n / unit % 10).ok().and_then(|digit| char::from_digit(digit, 10));
        text.push(digit.expect("a digit is below ten"));
        unit /= 10;
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 with milliseconds, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(24);
        self.push_to(&mut text);
        f.pad(&text)
    }
}

impl FromStr for WallTime {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        let fault = || WireError::new("time", text, Self::ALLOWED);
        let upper = text.to_ascii_uppercase();
        let (local, offset) = split_offset(&upper).ok_or_else(fault)?;
        let local = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_| fault())?;
        let since = local.duration_since(UNIX_EPOCH).map_err(|_| fault())?;
        let ms = u64::try_from(since.as_millis()).map_err(|_| fault())?;
        ms.checked_add_signed(-offset * 60_000).map(Self).ok_or_else(fault)
    }
}

/// The local time and its offset from UTC in minutes; none without an offset.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
    match offset.as_bytes().first()? {
        b'+' => Some((local, minutes)),
        b'-' => Some((local, -minutes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_a_round_trip() {
        let time = WallTime(1_795_226_400_123);
        assert_eq!(time.to_string(), "2026-11-21T02:00:00.123Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        for bad in
            ["", "yesterday", "2026-11-21T02:00:00", "1795226400", "2026-11-21T02:00:00+24:00", "1969-12-31T00:00:00Z"]
        {
            assert!(bad.parse::<WallTime>().is_err(), "{bad}");
        }
        for same in ["2026-11-21T04:00:00.123+02:00", "2026-11-20T20:30:00.123-05:30", "2026-11-21t02:00:00.123z"] {
            assert_eq!(same.parse(), Ok(time), "{same}");
        }
        assert_eq!(WallTime(u64::MAX).to_string(), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn dates_of_more_than_four_centuries_agree_with_humantime() {
        let day_ms = 86_400_000;
        for day in 0..200_000 {
            let time = WallTime(day * day_ms + day * 7_919 % day_ms);
            let theirs = UNIX_EPOCH + std::time::Duration::from_millis(time.0);
            assert_eq!(time.to_string(), humantime::format_rfc3339_millis(theirs).to_string());
        }
    }
}
