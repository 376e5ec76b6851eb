//! Many seeds, on several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use topology::driver;

use super::fault::{Fault, Struck};
use super::{Ran, Simulation};

/// How many seeds went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many were run: after one that broke none is begun.
    pub seeds: u64,
    /// The first that broke.
    pub broken: Option<Ran>,
    /// What went wrong, and how often.
    pub struck: Struck,
    /// How many requests were answered how.
    pub answers: BTreeMap<&'static str, u64>,
    /// How many calls were carried out.
    pub calls: usize,
    /// How many turns were given.
    pub turns: u64,
    /// How much virtual time passed, in milliseconds.
    pub virtual_ms: u64,
}

impl Summary {
    fn add(&mut self, ran: Ran) {
        self.seeds += 1;
        self.struck.take(&ran.struck);
        for (how, count) in &ran.answers {
            *self.answers.entry(how).or_default() += count;
        }
        self.calls += ran.calls;
        self.turns += ran.turns;
        self.virtual_ms += ran.virtual_ms;
        if ran.broken.is_some() && self.broken.as_ref().is_none_or(|first| ran.seed < first.seed) {
            self.broken = Some(ran);
        }
    }

    fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.struck.take(&other.struck);
        for (how, count) in other.answers {
            *self.answers.entry(how).or_default() += count;
        }
        self.calls += other.calls;
        self.turns += other.turns;
        self.virtual_ms += other.virtual_ms;
        let seed = |broken: &Option<Ran>| broken.as_ref().map_or(u64::MAX, |ran| ran.seed);
        if seed(&other.broken) < seed(&self.broken) {
            self.broken = other.broken;
        }
    }

    /// The kinds of faults that never struck: where there are many seeds, something is wrong with the simulation.
    pub fn never(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.struck.of(*fault) == 0).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let hours = self.virtual_ms / 3_600_000;
        let Self { seeds, calls, turns, .. } = self;
        let answers: Vec<String> = self.answers.iter().map(|(how, count)| format!("{count} {how}")).collect();
        let faults = Fault::ALL.iter().map(|fault| format!("{:>9}  {}\n", self.struck.of(*fault), fault.text()));
        let faults: String = faults.collect();
        let answers = answers.join(", ");
        format!(
            "{seeds} seeds: {calls} calls, {turns} turns, {hours} virtual hours\nrequests: {answers}\nwhat went wrong:\n{faults}"
        )
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let struck: serde_json::Map<String, Value> =
            Fault::ALL.iter().map(|fault| (fault.text().to_owned(), self.struck.of(*fault).into())).collect();
        json!({
            "seeds": self.seeds,
            "calls": self.calls,
            "turns": self.turns,
            "virtual_ms": self.virtual_ms,
            "answers": self.answers,
            "faults": struck,
        })
    }
}

impl Simulation {
    /// Runs `seeds` seeds from `from` on, on so many threads; after one that broke none is begun.
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
                if summary.broken.is_some() {
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
