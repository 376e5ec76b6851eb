//! The progress of a start, until the banner: it tells the user what the process waits for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::{Clock, MonoTime};

/// Time until the first line, in milliseconds: most starts are faster, and later a user would
/// wonder.
const FIRST_MS: u64 = 2_000;
/// Interval between two lines about the same wait, in milliseconds.
const REPEAT_MS: u64 = 10_000;
/// Interval between two checks for a line to print.
const CHECK: Duration = Duration::from_millis(100);

/// The current step of a start; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Step(Arc<Mutex<String>>);

impl Step {
    /// Sets what the process waits for.
    pub(super) fn waits_for(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Prints what a start waits for.
pub(super) struct Starting {
    clock: Arc<dyn Clock>,
    begun: MonoTime,
    step: Step,
    /// The last line and its time.
    printed: Option<(String, MonoTime)>,
}

impl Starting {
    /// Starts the clock.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { begun: clock.mono(), clock, step: Step::default(), printed: None }
    }

    /// Time of the start.
    pub(super) fn begun(&self) -> MonoTime {
        self.begun
    }

    /// Runs blocking work on another thread, and prints meanwhile what it waits for.
    pub(super) async fn blocking<T: Send + 'static>(&mut self, work: impl FnOnce(&Step) -> T + Send + 'static) -> T {
        let step = self.step.clone();
        let mut work = tokio::task::spawn_blocking(move || work(&step));
        loop {
            tokio::select! {
                done = &mut work => return done.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic())),
                () = tokio::time::sleep(CHECK) => self.print(&self.step.get()),
            }
        }
    }

    /// Prints what the process waits for, if a line is due.
    pub(super) fn print(&mut self, what: &str) {
        if let Some(line) = self.line(what) {
            eprintln!("{line}");
        }
    }

    fn line(&mut self, what: &str) -> Option<String> {
        let now = self.clock.mono();
        let is_due = match &self.printed {
            None => self.begun.plus_ms(FIRST_MS) <= now,
            Some((printed, at)) => at.plus_ms(if printed == what { REPEAT_MS } else { FIRST_MS }) <= now,
        };
        is_due.then(|| {
            self.printed = Some((what.to_owned(), now));
            format!("not ready after {} s: {what}", now.since(self.begun).as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use bus::ManualClock;

    use super::*;

    #[test]
    fn a_start_prints_its_wait_after_two_seconds_and_each_change() {
        let clock = Arc::new(ManualClock::default());
        let mut starting = Starting::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mut printed = Vec::new();
        for ms in (0..30_000).step_by(100) {
            printed.extend(starting.line(if ms < 2_500 { "a broker" } else { "lanes" }));
            clock.advance_ms(100);
        }
        let lines = ["2 s: a broker", "4 s: lanes", "14 s: lanes", "24 s: lanes"];
        assert_eq!(printed, lines.map(|line| format!("not ready after {line}")));
    }
}
