//! Settings of a worker: attempts, timeouts and limits.

use serde::{Deserialize, Serialize};

/// The settings of one worker. They are lane state: only an owner record changes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// Maximum number of attempts for a call, at least 1.
    pub attempts: u32,
    /// How long an attempt waits for its answer, in milliseconds.
    pub timeout_ms: u64,
    /// Backoff after the first attempt, in milliseconds. It doubles after each further attempt.
    /// Jitter picks a value between half of it and all of it.
    pub backoff_ms: u64,
    /// Maximum backoff in milliseconds.
    pub backoff_cap_ms: u64,
    /// Maximum number of calls in flight to the service over all lanes. Each lane gets an equal
    /// share, at least one.
    pub in_flight: u32,
    /// Maximum number of calls that wait for a free place in one lane. A worker refuses further
    /// calls at once.
    pub queue: usize,
    /// Maximum size of a request to the spoke in bytes. A worker refuses larger ones and never
    /// sends them. Half of what a Kafka broker accepts leaves room for its headers.
    pub body_bytes: usize,
}

impl Default for WorkerSettings {
    /// Three attempts of 400 ms with a backoff of at most 100 and 200 ms take 1.5 s. So a request
    /// to a silent spoke is undone and answered in about 3 s. 4,096 in flight are four of the
    /// largest flows at once; the queue holds the other calls of all operations that the hub
    /// admits.
    fn default() -> Self {
        Self {
            attempts: 3,
            timeout_ms: 400,
            backoff_ms: 100,
            backoff_cap_ms: 2_000,
            in_flight: 4_096,
            queue: 100_000,
            body_bytes: 512 << 10,
        }
    }
}

impl WorkerSettings {
    /// Returns the longest duration of a call in milliseconds: all attempts and all backoffs.
    pub fn longest_ms(&self) -> u64 {
        let delays: u64 = (1..self.attempts).map(|attempt| self.max_delay_ms(attempt)).sum();
        u64::from(self.attempts) * self.timeout_ms + delays
    }

    /// Returns the maximum backoff after `attempt`, in milliseconds.
    pub(crate) fn max_delay_ms(&self, attempt: u32) -> u64 {
        let doubled = self.backoff_ms.saturating_mul(1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX));
        doubled.min(self.backoff_cap_ms)
    }

    /// Returns the backoff after `attempt` in milliseconds: `chance` picks from the upper half of
    /// the range.
    pub(crate) fn delay_ms(&self, attempt: u32, chance: u64) -> u64 {
        let max = self.max_delay_ms(attempt);
        max - chance % (max / 2 + 1)
    }

    /// Returns a lane's share of the calls in flight.
    pub(crate) fn share(&self, lanes: u32) -> usize {
        usize::try_from(self.in_flight / lanes.max(1)).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap_with_jitter_over_the_upper_half() {
        let settings = WorkerSettings { backoff_ms: 100, backoff_cap_ms: 350, ..WorkerSettings::default() };
        for (attempt, longest) in [(1, 100), (2, 200), (3, 350), (64, 350), (200, 350)] {
            for chance in [0, 1, 49, 50, 51, u64::MAX] {
                let delay = settings.delay_ms(attempt, chance);
                assert!((longest - longest / 2..=longest).contains(&delay), "attempt {attempt}: {delay} ms");
            }
        }
    }

    #[test]
    fn a_call_takes_at_most_1500_ms_with_the_default_settings() {
        assert_eq!(WorkerSettings::default().longest_ms(), 1_500);
    }
}
