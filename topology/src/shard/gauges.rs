//! The gauges of a lane.

use metrics::Gauge;

use crate::names;

/// The gauges of one lane in this process. They are 0 once the lane has another owner.
pub(super) struct LaneGauges {
    timers: Gauge,
    backlog: Gauge,
}

impl LaneGauges {
    /// Creates the gauges of a lane, with the labels topology, stage and lane: each lane has one
    /// owner, so no two shards set one gauge.
    pub(super) fn of(topology: &str, stage: &str, lane: u32) -> Self {
        let gauge = |name: &'static str| metrics::gauge!(name, "topology" => topology.to_owned(), "stage" => stage.to_owned(), "lane" => lane.to_string());
        Self { timers: gauge(names::TIMERS_PENDING), backlog: gauge(names::BACKLOG) }
    }

    pub(super) fn timers(&self, pending: usize) {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 timers")]
        self.timers.set(pending as f64);
    }

    pub(super) fn backlog(&self, records: u64) {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
        self.backlog.set(records as f64);
    }
}

impl Drop for LaneGauges {
    fn drop(&mut self) {
        self.timers.set(0.0);
        self.backlog.set(0.0);
    }
}
