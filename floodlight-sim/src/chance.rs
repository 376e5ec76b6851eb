//! Random choices from a seed: the same seed and calls select the same commands, in any order.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::CallId;

/// A percentage above 0 and at most 100, with at most two decimals.
///
/// ```
/// use floodlight_sim::Percent;
/// assert_eq!(serde_json::from_str::<Percent>("12.5")?.to_string(), "12.5 %");
/// assert!(serde_json::from_str::<Percent>("0").is_err(), "such a fault would never apply");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u32);

/// The error for a number that is not a valid percentage.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("percent is `{0}`; allowed is a number above 0, at most 100, with at most two decimals")]
pub struct InvalidPercent(f64);

impl TryFrom<f64> for Percent {
    type Error = InvalidPercent;

    fn try_from(percent: f64) -> Result<Self, InvalidPercent> {
        let parts = (percent * 100.0).round();
        // Tolerates the error of a decimal in binary.
        let exact = (percent * 100.0 - parts).abs() < 1e-6;
        if !exact || !(1.0..=10_000.0).contains(&parts) {
            return Err(InvalidPercent(percent));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number up to 10,000")]
        Ok(Self(parts as u32))
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        f64::from(percent.0) / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(*self))
    }
}

impl Percent {
    /// Returns true for this percentage of all calls. The result depends only on the arguments: the
    /// seed, the index of the fault in the order of injection, the call, and its attempt.
    pub fn selects(self, seed: u64, index: u64, call: &CallId, attempt: u32) -> bool {
        let mut bits = mixed(seed ^ mixed(index));
        for byte in call.to_string().bytes() {
            bits = (bits ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        mixed(bits ^ u64::from(attempt)) % 10_000 < u64::from(self.0)
    }
}

/// Every input bit affects every output bit. The loop over bytes above is FNV-1a.
fn mixed(mut bits: u64) -> u64 {
    wire::hash::splitmix64(&mut bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(percent: f64, seed: u64, index: u64) -> Vec<(u32, u32)> {
        let percent = Percent::try_from(percent).unwrap();
        let selects = |n: u32, attempt| {
            let call = CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, n);
            percent.selects(seed, index, &call, attempt)
        };
        (1..=1_000).flat_map(|n| [(n, 1), (n, 2)]).filter(|(n, attempt)| selects(*n, *attempt)).collect()
    }

    #[test]
    fn the_number_of_selected_commands_matches_the_percentage() {
        for (percent, least, most) in [(0.01, 0, 4), (10.0, 150, 250), (50.0, 900, 1_100), (100.0, 2_000, 2_000)] {
            let count = selected(percent, 7, 1).len();
            assert!((least..=most).contains(&count), "{percent}: {count}");
        }
    }

    #[test]
    fn the_selection_depends_on_the_seed_and_on_the_fault() {
        assert_eq!(selected(10.0, 7, 1), selected(10.0, 7, 1));
        assert_ne!(selected(10.0, 7, 1), selected(10.0, 8, 1));
        assert_ne!(selected(10.0, 7, 1), selected(10.0, 7, 2));
    }

    #[test]
    fn a_percentage_round_trips_and_an_invalid_one_is_refused() {
        for text in ["0.01", "10.0", "12.5", "33.33", "99.99", "100.0"] {
            let percent: Percent = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&percent).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Percent>("10").unwrap(), Percent(1_000), "a whole number is valid");
        for text in ["0", "-1", "100.01", "12.345", "1e300", "\"10\"", "null"] {
            assert!(serde_json::from_str::<Percent>(text).is_err(), "{text}");
        }
    }
}
