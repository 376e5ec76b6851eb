//! How a process ends: an order of phases, each with a deadline, and a line for what was left.
//!
//! | phase | what happens | its deadline |
//! |---|---|---|
//! | intake | the REST interface takes no new request; those that were taken are written to the bus | `shutdown.intake_ms` |
//! | spouts | spouts emit nothing more | at once |
//! | drain | requests that are unanswered are waited for; what is left goes on in other processes | `shutdown.drain_ms` |
//! | lanes | lanes commit what they decided, leave a note that nothing is open, and leave their group | `shutdown.lanes_ms` |
//! | close | answers, the simulated switch controller and the servers end | `shutdown.close_ms` |
//!
//! The first Ctrl-C (or SIGTERM) begins it; a second one ends the process at once, with exit code 130. A part that does not
//! end in time is named and left behind: its lanes go to others after the session timeout.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was left, phase by phase.
#[derive(Debug, Default)]
pub struct Left(Vec<String>);

impl Left {
    /// Takes what a phase left.
    pub fn take(&mut self, phase: &str, lines: Vec<String>) {
        for line in lines {
            tracing::warn!(phase, line, "left undone");
            self.0.push(format!("{phase}: {line}"));
        }
    }

    /// The last word.
    pub fn told(&self) -> String {
        if self.0.is_empty() {
            return "stopped; nothing was left undone".to_owned();
        }
        let lines: Vec<String> = self.0.iter().map(|line| format!("\n  {line}")).collect();
        format!("stopped; left undone:{}", lines.concat())
    }
}

/// Ctrl-C, and the signal by which a system stops its services. Made once: one that comes while nobody waits is not lost.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on signals do not end the process by themselves.
    ///
    /// # Errors
    /// Where the system does not let signals be received.
    pub fn receive() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs what blocks, beside the servers; a signal ends the process meanwhile.
    pub async fn phase<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let work = tokio::task::spawn_blocking(work);
        tokio::select! {
            done = work => done.expect("a phase of a shutdown does not panic"),
            () = self.next() => at_once(),
        }
    }

    /// Waits for `done`, at most so long; false where it did not come. A signal ends the process meanwhile.
    pub async fn within(&mut self, most: Duration, done: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = done => true,
            () = tokio::time::sleep(most) => false,
            () = self.next() => at_once(),
        }
    }
}

/// The end without any order: what is committed stays, the rest is replayed by the next owner.
fn at_once() -> ! {
    eprintln!("stopped at once: a second signal");
    std::process::exit(130)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_told_with_its_phase() {
        let mut left = Left::default();
        assert_eq!(left.told(), "stopped; nothing was left undone");
        left.take("drain", vec!["2 requests are unanswered".to_owned()]);
        assert_eq!(left.told(), "stopped; left undone:\n  drain: 2 requests are unanswered");
    }
}
