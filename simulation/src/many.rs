//! Runs many seeds on several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use topology::driver;

use super::fault::{Fault, FaultCounts};
use super::{SeedResult, Simulation};

/// The results of many seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of seeds run. No seed starts after one has failed.
    pub seeds: u64,
    /// The lowest seed that failed.
    pub failed: Option<SeedResult>,
    /// Number of faults by kind.
    pub fault_counts: FaultCounts,
    /// Number of requests by outcome.
    pub answers: BTreeMap<&'static str, u64>,
    /// Number of executed calls.
    pub calls: usize,
    /// Number of polls.
    pub polls: u64,
    /// Virtual time in milliseconds.
    pub virtual_ms: u64,
}

impl Summary {
    fn add(&mut self, result: SeedResult) {
        self.seeds += 1;
        self.fault_counts.take(&result.fault_counts);
        for (how, count) in &result.answers {
            *self.answers.entry(how).or_default() += count;
        }
        self.calls += result.calls;
        self.polls += result.polls;
        self.virtual_ms += result.virtual_ms;
        if result.failure.is_some() && self.failed.as_ref().is_none_or(|first| result.seed < first.seed) {
            self.failed = Some(result);
        }
    }

    fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.fault_counts.take(&other.fault_counts);
        for (how, count) in other.answers {
            *self.answers.entry(how).or_default() += count;
        }
        self.calls += other.calls;
        self.polls += other.polls;
        self.virtual_ms += other.virtual_ms;
        let seed = |failed: &Option<SeedResult>| failed.as_ref().map_or(u64::MAX, |result| result.seed);
        if seed(&other.failed) < seed(&self.failed) {
            self.failed = other.failed;
        }
    }

    /// The kinds of faults that never occurred. If many seeds were run, that indicates a bug in the
    /// simulation.
    pub fn never(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.fault_counts.of(*fault) == 0).collect()
    }

    /// Formats the summary for people.
    pub fn text(&self) -> String {
        let hours = self.virtual_ms / 3_600_000;
        let Self { seeds, calls, polls, .. } = self;
        let answers: Vec<String> = self.answers.iter().map(|(how, count)| format!("{count} {how}")).collect();
        let faults = Fault::ALL.iter().map(|fault| format!("{:>9}  {}\n", self.fault_counts.of(*fault), fault.text()));
        let faults: String = faults.collect();
        let answers = answers.join(", ");
        format!(
            "{seeds} seeds: {calls} calls, {polls} polls, {hours} virtual hours\nrequests: {answers}\nfaults:\n{faults}"
        )
    }

    /// Formats the summary for programs.
    pub fn json(&self) -> Value {
        let faults: serde_json::Map<String, Value> =
            Fault::ALL.iter().map(|fault| (fault.text().to_owned(), self.fault_counts.of(*fault).into())).collect();
        json!({
            "seeds": self.seeds,
            "calls": self.calls,
            "polls": self.polls,
            "virtual_ms": self.virtual_ms,
            "answers": self.answers,
            "faults": faults,
        })
    }
}

impl Simulation {
    /// Runs seeds `from` to `from + seeds - 1` on `threads` threads. No seed starts after one has
    /// failed.
    pub fn run_many(&self, from: u64, seeds: u64, threads: usize) -> Summary {
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let parts = driver::on_threads(threads, || {
            let mut summary = Summary::default();
            while !stop.load(Ordering::Acquire) {
                let place = next.fetch_add(1, Ordering::AcqRel);
                if place >= seeds {
                    break;
                }
                summary.add(self.run(from.wrapping_add(place)));
                if summary.failed.is_some() {
                    stop.store(true, Ordering::Release);
                }
            }
            summary
        });
        let mut all = Summary::default();
        for part in parts {
            all.join(part);
        }
        all
    }
}
