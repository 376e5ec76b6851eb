//! Settings of the flow workflows.

use serde::{Deserialize, Serialize};

/// The settings of the flow workflows: lane state, changed only by owner records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSettings {
    /// Number of cookies of all lanes together, and so the maximum number of flows.
    pub cookies: u64,
    /// Number of meters of each switch, for all lanes together.
    pub meters: u64,
    /// Maximum time of a call to the speaker in milliseconds: all attempts of the worker, and a
    /// margin.
    pub call_ms: u64,
    /// Maximum time of a step in milliseconds: its calls, and a margin.
    pub step_ms: u64,
    /// Maximum time of a request in milliseconds: all steps, with those that remove.
    pub request_ms: u64,
    /// First backoff before a removal is retried, in milliseconds; it doubles with each retry. At
    /// least `call_ms`, so that all messages of the last attempt have expired.
    pub retry_ms: u64,
    /// Maximum backoff, in milliseconds.
    pub retry_cap_ms: u64,
}

impl FlowSettings {
    /// The backoff before retry `retry` (from 0) of a removal.
    pub(crate) fn pause_ms(&self, retry: u32) -> u64 {
        self.retry_ms.saturating_mul(1 << retry.min(16)).min(self.retry_cap_ms).max(self.call_ms)
    }
}

impl Default for FlowSettings {
    /// A worker ends a call after at most 1.5 s. Four steps (install, validate, remove, check) of 2
    /// s fit into the 10 s that a northbound waits.
    fn default() -> Self {
        Self {
            cookies: 1 << 20,
            meters: 1 << 16,
            call_ms: 1_600,
            step_ms: 2_000,
            request_ms: 10_000,
            retry_ms: 1_000,
            retry_cap_ms: 60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the default settings, each timeout covers the timeouts of its children, undo included.
    #[test]
    fn the_timeouts_of_children_fit_into_those_of_their_parents() {
        let flows = FlowSettings::default();
        let worker = workers::WorkerSettings::default();
        assert!(worker.longest_ms() <= flows.call_ms);
        assert!(flows.call_ms < flows.step_ms);
        assert!(4 * flows.step_ms <= 10_000, "install, validate, remove and check end within the wait of a northbound");
    }
}
