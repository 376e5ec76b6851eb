//! The gauges of a lane, and the counters of its components.

use metrics::{Counter, Gauge};

use crate::lane::Lane;
use crate::names;

/// The gauges of one lane in this process. They are 0 once the lane has another owner.
pub(super) struct LaneGauges {
    timers: Gauge,
    roots: Gauge,
    backlog: Gauge,
}

impl LaneGauges {
    /// Creates the gauges of a lane, with the labels topology, stage and lane: each lane has one
    /// owner, so no two shards set one gauge.
    pub(super) fn of(topology: &str, stage: &str, lane: u32) -> Self {
        let gauge = |name: &'static str| metrics::gauge!(name, "topology" => topology.to_owned(), "stage" => stage.to_owned(), "lane" => lane.to_string());
        Self {
            timers: gauge(names::TIMERS_PENDING),
            roots: gauge(names::ROOTS_PENDING),
            backlog: gauge(names::BACKLOG),
        }
    }

    pub(super) fn timers(&self, pending: usize) {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 timers")]
        self.timers.set(pending as f64);
    }

    pub(super) fn roots(&self, pending: u32) {
        self.roots.set(f64::from(pending));
    }

    pub(super) fn backlog(&self, records: u64) {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
        self.backlog.set(records as f64);
    }
}

impl Drop for LaneGauges {
    fn drop(&mut self) {
        self.timers.set(0.0);
        self.roots.set(0.0);
        self.backlog.set(0.0);
    }
}

/// The counters of the components of a lane: executed, emitted, failed and acked. Lanes of a stage share
/// them, since they have no label for the lane: its values would be too many.
pub(super) struct ComponentCounters(Vec<[Counter; 4]>);

impl ComponentCounters {
    pub(super) fn of(topology: &str, stage: &str, lane: &Lane) -> Self {
        let counter = |name: &'static str, component: &str| {
            let (topology, stage, component) = (topology.to_owned(), stage.to_owned(), component.to_owned());
            metrics::counter!(name, "topology" => topology, "stage" => stage, "component" => component)
        };
        let of = |component| {
            [names::EXECUTED, names::EMITTED, names::FAILED, names::ACKED].map(|name| counter(name, component))
        };
        Self(lane.components().map(|component| of(component)).collect())
    }

    /// Adds the work of committed steps.
    pub(super) fn committed(&self, lane: &Lane) {
        for (counters, work) in self.0.iter().zip(lane.take_work()) {
            for (counter, by) in counters.iter().zip(work) {
                counter.increment(by);
            }
        }
    }
}
