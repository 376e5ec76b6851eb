//! How a process ends: an order of phases, each with a deadline, and a line for what was left.
//!
//! | phase | what happens | its deadline |
//! |---|---|---|
//! | intake | the REST interface refuses new requests and `/readyz` answers 503; what was taken is written to the bus | `shutdown.intake_ms` |
//! | spouts | spouts emit nothing more | at once |
//! | drain | requests that are unanswered are waited for; what is left goes on in other processes | `shutdown.drain_ms` |
//! | lanes | lanes commit what they decided, leave a note that nothing is open, and leave their group | `shutdown.lanes_ms` |
//! | close | answers and the simulated switch controller end, then the servers close their ports | `shutdown.close_ms` |
//!
//! The first Ctrl-C, SIGTERM or SIGHUP begins it; a second one ends the process at once, with exit code 130. A part that does
//! not end in time is named and left behind: its lanes go to others after the session timeout. A process that was started with
//! SIGHUP ignored, as by `nohup`, goes on when its terminal closes.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was left, phase by phase.
#[derive(Debug, Default)]
pub struct Left(Vec<String>);

impl Left {
    /// Takes what a phase left.
    pub fn take(&mut self, phase: &str, lines: Vec<String>) {
        for line in lines {
            tracing::warn!(phase, fault = line, "a phase of the stop did not end in order");
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

/// The signals that end a process: Ctrl-C, SIGTERM, and SIGHUP where it is not ignored. Made once, so that a signal that comes
/// while nothing waits for it is not lost.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// From here on signals do not end the process by themselves.
    ///
    /// # Errors
    /// Where the system does not let signals be received.
    pub fn receive() -> std::io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
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

async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// True where the process was started with SIGHUP ignored. Linux alone tells; elsewhere SIGHUP ends the process in order.
fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Reads `SigIgn` of `proc_pid_status(5)`: bit 0 is signal 1, SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
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

    #[test]
    fn nohup_is_known_by_the_mask_of_ignored_signals() {
        assert!(ignores_hangup("Name:\tnave\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup("nothing of the kind"));
    }
}
