//! The start of a process, until its banner: it tells the person who started it what it waits for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::{Clock, MonoTime};

/// Time after which a process that is not ready says so: most are ready sooner, and a person begins to wonder.
const FIRST_MS: u64 = 2_000;
/// Interval between two lines about the same thing.
const REPEAT_MS: u64 = 10_000;
/// Interval between two looks at whether there is something to say.
const LOOK: Duration = Duration::from_millis(100);

/// The step that a starting process is at. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Step(Arc<Mutex<String>>);

impl Step {
    /// From here on the process waits for this.
    pub(super) fn waits_for(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says what a start waits for.
pub(super) struct Starting {
    clock: Arc<dyn Clock>,
    begun: MonoTime,
    step: Step,
    /// The last line, and its time.
    said: Option<(String, MonoTime)>,
}

impl Starting {
    /// Of a process that begins now.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { begun: clock.mono(), clock, step: Step::default(), said: None }
    }

    /// When the process began.
    pub(super) fn begun(&self) -> MonoTime {
        self.begun
    }

    /// Does what blocks on another thread, and says meanwhile what it waits for.
    pub(super) async fn blocking<T: Send + 'static>(&mut self, work: impl FnOnce(&Step) -> T + Send + 'static) -> T {
        let step = self.step.clone();
        let mut work = tokio::task::spawn_blocking(move || work(&step));
        loop {
            tokio::select! {
                done = &mut work => return done.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic())),
                () = tokio::time::sleep(LOOK) => self.say(&self.step.get()),
            }
        }
    }

    /// The process waits for this now: says so where it has waited for long.
    pub(super) fn say(&mut self, what: &str) {
        if let Some(line) = self.line(what) {
            eprintln!("{line}");
        }
    }

    fn line(&mut self, what: &str) -> Option<String> {
        let now = self.clock.mono();
        let is_due = match &self.said {
            None => self.begun.plus_ms(FIRST_MS) <= now,
            Some((said, at)) => at.plus_ms(if said == what { REPEAT_MS } else { FIRST_MS }) <= now,
        };
        is_due.then(|| {
            self.said = Some((what.to_owned(), now));
            format!("not ready after {} s: {what}", now.since(self.begun).as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use bus::ManualClock;

    use super::*;

    #[test]
    fn a_start_says_what_it_waits_for_after_two_seconds_and_what_is_new_since() {
        let clock = Arc::new(ManualClock::default());
        let mut starting = Starting::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mut said = Vec::new();
        for ms in (0..30_000).step_by(100) {
            said.extend(starting.line(if ms < 2_500 { "a broker" } else { "lanes" }));
            clock.advance_ms(100);
        }
        let lines = ["2 s: a broker", "4 s: lanes", "14 s: lanes", "24 s: lanes"];
        assert_eq!(said, lines.map(|line| format!("not ready after {line}")));
    }
}
