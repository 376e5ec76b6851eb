//! Tasks: the lanes of a stage, a spoke, a northbound.
//!
//! A task has no thread. A running system polls each task on its own thread; a test polls all tasks
//! on one thread, in virtual time.

use std::time::Duration;

use crate::{BusError, MonoTime};

/// A unit of work that a driver polls. It need not be `Send`: the thread that polls it creates it.
pub trait Task {
    /// Returns the name, for logs and threads.
    fn name(&self) -> &str;

    /// Does the available work, waiting at most `wait` for more.
    ///
    /// # Errors
    /// A permanent error. The task itself logs temporary errors and retries with backoff.
    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError>;

    /// Commits finished work, leaves its groups, and returns one line of text for each error.
    /// Waiting operations are no error: the next owner of their lanes continues them.
    fn stop(self: Box<Self>) -> Vec<String>;
}

/// The result of one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollOutcome {
    /// True if work was done, so that another poll may find more.
    pub worked: bool,
    /// When the task next has work without an external event, on the monotonic clock of its bus;
    /// `None` if it only waits for others.
    pub next: Option<MonoTime>,
}
