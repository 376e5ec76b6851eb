//! What is given turns: the lanes of a stage, a spoke, a northbound.
//!
//! A part has no thread. A running system gives each part a thread that does nothing but turn it; a test turns all of them
//! on one thread, in virtual time.

use std::time::Duration;

use crate::{BusError, MonoTime};

/// Something that is polled. It may hold what cannot leave its thread, so it is made there.
pub trait Part {
    /// What it is, for logs and thread names.
    fn name(&self) -> &str;

    /// Does what there is to do, waiting at most `wait` for something to come.
    ///
    /// # Errors
    /// A fault that does not pass by itself. One that may pass is kept inside, logged, and tried again with back-off.
    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError>;

    /// Commits what is finished, leaves its groups, and returns a line for each thing that went wrong. Operations that wait
    /// are no fault: the next owner of their lanes continues them.
    fn stop(self: Box<Self>) -> Vec<String>;
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// True where something was done, so that another turn may find more.
    pub worked: bool,
    /// When it next has something to do by itself, on the monotonic clock of its bus; none where it only waits for others.
    pub next: Option<MonoTime>,
}
