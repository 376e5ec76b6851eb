//! Shutdown of a process in phases, each with a timeout, and a report of what was not finished.
//!
//! | phase | actions | timeout |
//! |---|---|---|
//! | intake | the REST interface refuses new requests, `/readyz` answers 503, accepted requests are written to the bus | `shutdown.intake_ms` |
//! | spouts | spouts emit nothing more | none |
//! | drain | waits for open requests; other processes continue those that are left | `shutdown.drain_ms` |
//! | lanes | lanes commit their decisions, record that no transaction is open, and leave their group | `shutdown.lanes_ms` |
//! | close | answers and the simulated switch controller stop, then the servers close their ports | `shutdown.close_ms` |
//!
//! The first Ctrl-C, SIGTERM or SIGHUP starts the shutdown; a second one ends the process
//! immediately with exit code 130. A task that exceeds its timeout is reported and abandoned; its
//! lanes move to others after the session timeout. A process that starts with SIGHUP ignored, as
//! under `nohup`, keeps running when its terminal closes.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Unfinished work of each phase.
#[derive(Debug, Default)]
pub(crate) struct StopReport(Vec<String>);

impl StopReport {
    /// Adds what a phase left unfinished.
    pub(crate) fn add(&mut self, phase: &str, lines: Vec<String>) {
        for line in lines {
            tracing::warn!(phase, fault = line, "a shutdown phase did not finish cleanly");
            self.0.push(format!("{phase}: {line}"));
        }
    }

    /// Returns the text that the process prints when it ends.
    pub(crate) fn summary(&self) -> String {
        if self.0.is_empty() {
            return "stopped; nothing unfinished".to_owned();
        }
        let lines: Vec<String> = self.0.iter().map(|line| format!("\n  {line}")).collect();
        format!("stopped; unfinished:{}", lines.concat())
    }
}

/// The signals that end a process: Ctrl-C, SIGTERM, and SIGHUP unless it is ignored. Created once,
/// so that a signal between two waits is not lost.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers; from now on signals no longer end the process by themselves.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn receive() -> std::io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
        }
    }

    /// Runs blocking work beside the servers; a signal meanwhile ends the process.
    pub(crate) async fn phase<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let work = tokio::task::spawn_blocking(work);
        tokio::select! {
            done = work => done.expect("a phase of a shutdown does not panic"),
            () = self.next() => at_once(),
        }
    }

    /// Waits for `done`, at most `timeout`; returns false on timeout. A signal meanwhile ends the
    /// process.
    pub(crate) async fn within(&mut self, timeout: Duration, done: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = done => true,
            () = tokio::time::sleep(timeout) => false,
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

/// Returns true if the process was started with SIGHUP ignored. Only Linux shows this; elsewhere
/// SIGHUP starts the shutdown.
fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Reads `SigIgn` of `proc_pid_status(5)`: bit 0 is signal 1, SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Ends immediately: committed work remains, the next owner replays the rest.
fn at_once() -> ! {
    eprintln!("stopped immediately: second signal");
    std::process::exit(130)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_reported_with_its_phase() {
        let mut left = StopReport::default();
        assert_eq!(left.summary(), "stopped; nothing unfinished");
        left.add("drain", vec!["2 requests are unanswered".to_owned()]);
        assert_eq!(left.summary(), "stopped; unfinished:\n  drain: 2 requests are unanswered");
    }

    #[test]
    fn nohup_is_detected_by_the_mask_of_ignored_signals() {
        assert!(ignores_hangup("Name:\tnave\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup("no such line"));
    }
}
