//! The counters of a shard, by name.

use std::collections::BTreeMap;

use bus::MonoTime;

use crate::counts::Label;
use crate::names;

/// The counters of a shard over all its lanes. Replays increment none of the counters of steps.
#[derive(Debug, Default)]
pub(super) struct Counters {
    values: BTreeMap<&'static str, u64>,
    /// Earliest time of the next warning about misrouted requests.
    warn_at: MonoTime,
}

impl Counters {
    /// Minimum interval between two warnings about misrouted requests, in milliseconds: a
    /// misconfigured client misroutes all day.
    const WARN_MS: u64 = 3_600_000;

    /// Returns the value of the counter `name`.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Adds `by` to the counter `name` and to the metric of this name.
    pub(super) fn add(&mut self, name: &'static str, by: u64) {
        self.add_labelled(name, &[], by);
    }

    /// Like [`Counters::add`], for a metric with labels.
    pub(super) fn add_labelled(&mut self, name: &'static str, labels: &[Label], by: u64) {
        *self.values.entry(name).or_default() += by;
        metrics::counter!(name, labels).increment(by);
    }

    /// Adds the counts of committed steps. If some of the steps forwarded misrouted requests and a
    /// warning is due, it returns the total number of forwarded requests for the warning.
    pub(super) fn committed(
        &mut self,
        counts: impl IntoIterator<Item = (&'static str, Vec<Label>, u64)>,
        now: MonoTime,
    ) -> Option<u64> {
        let before = self.get(names::FORWARDED);
        for (name, labels, by) in counts {
            self.add_labelled(name, &labels, by);
        }
        let forwarded = self.get(names::FORWARDED);
        if forwarded == before || self.warn_at > now {
            return None;
        }
        self.warn_at = now.plus_ms(Self::WARN_MS);
        Some(forwarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: MonoTime = MonoTime(3_600 * 1_000_000_000);

    fn forwarded(by: u64) -> [(&'static str, Vec<Label>, u64); 1] {
        [(names::FORWARDED, Vec::new(), by)]
    }

    #[test]
    fn a_counter_adds_up_over_all_its_labels() {
        let mut counters = Counters::default();
        counters.add(names::HELD_UP, 1);
        counters.add_labelled(names::HELD_UP, &[("stage", "a".to_owned())], 2);
        assert_eq!([names::HELD_UP, names::COMMITS].map(|name| counters.get(name)), [3, 0]);
    }

    #[test]
    fn a_warning_about_misrouted_requests_is_due_once_an_hour() {
        let mut counters = Counters::default();
        let just_before = MonoTime(HOUR.0 - 1);
        assert_eq!(counters.committed(forwarded(2), MonoTime(0)), Some(2));
        assert_eq!(counters.committed(forwarded(3), just_before), None);
        assert_eq!(counters.committed(forwarded(1), HOUR), Some(6));
    }

    #[test]
    fn commits_without_misrouted_requests_cause_no_warning() {
        let mut counters = Counters::default();
        assert_eq!(counters.committed([(names::RECORDS, Vec::new(), 5)], MonoTime(0)), None);
        assert_eq!(counters.get(names::RECORDS), 5);
        assert_eq!(counters.committed(forwarded(1), MonoTime(1)), Some(1), "the first warning is not delayed");
    }
}
