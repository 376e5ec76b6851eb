//! How flows are made.

use serde::{Deserialize, Serialize};

/// The settings of the flow workflows: lane state, changed by owner records alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSettings {
    /// So many cookies there are for all lanes together: as many flows may stand.
    pub cookies: u64,
    /// So many meters each switch has, for all lanes together.
    pub meters: u64,
    /// A call to the speaker ends after so many milliseconds: every attempt of the worker, and a margin.
    pub call_ms: u64,
    /// A step ends after so many milliseconds: its calls, and a margin.
    pub step_ms: u64,
    /// A request waits so long for its answer, in milliseconds: every step, those that remove among them.
    pub request_ms: u64,
    /// The first pause before a removal is tried again, in milliseconds; it doubles. None is shorter than a call may take:
    /// then every message of the last try is past its time.
    pub retry_ms: u64,
    /// No such pause is longer.
    pub retry_cap_ms: u64,
}

impl FlowSettings {
    /// The pause before try `retry` (from 0) to remove what is left.
    pub(crate) fn pause_ms(&self, retry: u32) -> u64 {
        self.retry_ms.saturating_mul(1 << retry.min(16)).min(self.retry_cap_ms).max(self.call_ms)
    }
}

impl Default for FlowSettings {
    /// A worker is done after 1.5 s at the latest. Four steps (install, validate, remove, check) of 2 s fit into the 10 s
    /// that a northbound waits.
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

    /// Lessons 21 and 22, for the defaults: what a parent waits covers what its children may take, the undoing included.
    #[test]
    fn the_budgets_of_children_fit_into_their_parents() {
        let flows = FlowSettings::default();
        let worker = workers::WorkerSettings::default();
        assert!(worker.longest_ms() <= flows.call_ms);
        assert!(flows.call_ms < flows.step_ms);
        assert!(4 * flows.step_ms <= 10_000, "install, validate, remove and check end before a northbound's patience");
    }
}
