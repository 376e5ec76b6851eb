//! How a worker tries.

use serde::{Deserialize, Serialize};

/// The settings of one worker. All of them are lane state: only an owner record changes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// How often a call is sent in all, from 1.
    pub attempts: u32,
    /// How long an attempt waits for its answer, in milliseconds.
    pub timeout_ms: u64,
    /// The pause after the first attempt; it doubles with each further one. Between half of it and all of it, by chance.
    pub backoff_ms: u64,
    /// No pause is longer.
    pub backoff_cap_ms: u64,
    /// So many calls may be in flight to the service from all lanes together; each lane has its share, at least one.
    pub in_flight: u32,
    /// So many more may wait for a place in each lane. A call beyond it is refused at once.
    pub queue: usize,
    /// A request to the spoke has at most so many bytes; a larger one is refused and never sent. Half of what a Kafka broker
    /// takes, which leaves room for its headers.
    pub body_bytes: usize,
}

impl Default for WorkerSettings {
    /// Three attempts of 400 ms with pauses of at most 100 and 200 ms: 1.5 s in all, so that a request whose spoke stays
    /// silent is answered, with what was done undone, in about 3 s. 4,096 in flight is four of the largest flows at once;
    /// the queue holds what the hub's budget of operations may ask for beyond it.
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
    /// The longest that a call can take, in milliseconds: every attempt and every pause.
    pub fn longest_ms(&self) -> u64 {
        let pauses: u64 = (1..self.attempts).map(|attempt| self.longest_pause_ms(attempt)).sum();
        u64::from(self.attempts) * self.timeout_ms + pauses
    }

    /// The longest pause after `attempt`.
    pub(crate) fn longest_pause_ms(&self, attempt: u32) -> u64 {
        let doubled = self.backoff_ms.saturating_mul(1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX));
        doubled.min(self.backoff_cap_ms)
    }

    /// The pause after `attempt`, by `chance`: full jitter over the upper half.
    pub(crate) fn pause_ms(&self, attempt: u32, chance: u64) -> u64 {
        let longest = self.longest_pause_ms(attempt);
        longest - chance % (longest / 2 + 1)
    }

    /// A lane's share of what may be in flight.
    pub(crate) fn share(&self, lanes: u32) -> usize {
        usize::try_from(self.in_flight / lanes.max(1)).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_has_a_cap_and_lies_in_its_upper_half() {
        let settings = WorkerSettings { backoff_ms: 100, backoff_cap_ms: 350, ..WorkerSettings::default() };
        for (attempt, longest) in [(1, 100), (2, 200), (3, 350), (64, 350), (200, 350)] {
            for chance in [0, 1, 49, 50, 51, u64::MAX] {
                let pause = settings.pause_ms(attempt, chance);
                assert!((longest - longest / 2..=longest).contains(&pause), "{attempt}: {pause}");
            }
        }
    }

    #[test]
    fn the_default_fits_into_what_the_first_page_promises() {
        assert_eq!(WorkerSettings::default().longest_ms(), 1_500);
    }
}
