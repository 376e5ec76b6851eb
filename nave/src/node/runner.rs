//! Runners poll the lanes of a stage: on threads in a running process, on the caller's thread in
//! virtual time.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Clock, PollOutcome, Task};
use topology::driver::{MakeTask, Threads};

/// Polls the tasks of one stage.
pub trait StageRunner {
    /// Adds a task.
    ///
    /// # Errors
    /// If the thread or the task cannot be created.
    fn spawn(&mut self, name: &str, make: MakeTask) -> std::io::Result<()>;

    /// Polls the tasks, unless they have threads of their own.
    ///
    /// # Errors
    /// If a task fails.
    fn poll(&mut self) -> Result<PollOutcome, BusError>;

    /// Wakes tasks that wait for records.
    fn wake(&self) {}

    /// Returns true if a task failed.
    fn has_failed(&self) -> bool;

    /// Stops the tasks within `timeout`; returns what they left unfinished.
    fn stop(self: Box<Self>, timeout: Duration) -> Vec<String>;
}

/// Creates the runner of a stage.
pub type MakeRunner = Box<dyn Fn() -> Box<dyn StageRunner> + Send>;

/// Runs each task on a thread of its own.
pub struct ThreadedRunner {
    threads: Threads,
    clock: Arc<dyn Clock>,
}

impl ThreadedRunner {
    /// Creates a runner without tasks.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { threads: Threads::default(), clock }
    }
}

impl StageRunner for ThreadedRunner {
    fn spawn(&mut self, name: &str, make: MakeTask) -> std::io::Result<()> {
        self.threads.spawn(name, Arc::clone(&self.clock), make)
    }

    fn poll(&mut self) -> Result<PollOutcome, BusError> {
        Ok(PollOutcome { worked: false, next: None })
    }

    fn wake(&self) {
        self.threads.wake();
    }

    fn has_failed(&self) -> bool {
        self.threads.has_failed()
    }

    fn stop(self: Box<Self>, timeout: Duration) -> Vec<String> {
        self.threads.stop_within(timeout, &*self.clock)
    }
}

/// Polls all tasks on the thread of the caller, for virtual time.
#[derive(Default)]
pub struct InlineRunner(Vec<Box<dyn Task>>);

impl StageRunner for InlineRunner {
    fn spawn(&mut self, name: &str, make: MakeTask) -> std::io::Result<()> {
        self.0.push(make().map_err(|error| std::io::Error::other(format!("{name}: {error}")))?);
        Ok(())
    }

    fn poll(&mut self) -> Result<PollOutcome, BusError> {
        let mut total = PollOutcome { worked: false, next: None };
        for task in &mut self.0 {
            let polled = task.poll(Duration::ZERO)?;
            total.worked |= polled.worked;
            total.next = total.next.into_iter().chain(polled.next).min();
        }
        Ok(total)
    }

    fn has_failed(&self) -> bool {
        false
    }

    fn stop(self: Box<Self>, _timeout: Duration) -> Vec<String> {
        self.0.into_iter().flat_map(Task::stop).collect()
    }
}
