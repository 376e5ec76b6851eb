//! The output of a process. A thread reads it, so that a full pipe never blocks the process and
//! tests can wait for a line.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The text that a pipe has delivered so far.
#[derive(Default)]
struct Text {
    read: String,
    has_ended: bool,
}

#[derive(Default)]
struct Shared {
    text: Mutex<Text>,
    changed: Condvar,
}

impl Shared {
    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The standard output or standard error of a process.
pub(crate) struct Output(Arc<Shared>);

impl Output {
    /// Reads `pipe` until its end, which is the end of the process.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                writer.text().read.push_str(&String::from_utf8_lossy(&line));
                writer.changed.notify_all();
                line.clear();
            }
            writer.text().has_ended = true;
            writer.changed.notify_all();
        });
        Self(shared)
    }

    /// Its text so far.
    pub(crate) fn text(&self) -> String {
        self.0.text().read.clone()
    }

    /// Waits until `done` returns true for the text. Returns false if the output ended or the time
    /// limit was reached before.
    pub(crate) fn wait_until(&self, limit: Duration, done: impl Fn(&str) -> bool) -> bool {
        done(&self.wait_while(limit, |text| !text.has_ended && !done(&text.read)).read)
    }

    /// Waits for the end of the output. Returns false if the time limit was reached before.
    pub(crate) fn wait_for_end(&self, limit: Duration) -> bool {
        self.wait_while(limit, |text| !text.has_ended).has_ended
    }

    fn wait_while(&self, limit: Duration, holds: impl Fn(&Text) -> bool) -> MutexGuard<'_, Text> {
        let waited = self.0.changed.wait_timeout_while(self.0.text(), limit, |text| holds(text));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
