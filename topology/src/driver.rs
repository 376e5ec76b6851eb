//! Polls tasks: each on a thread, or all on one thread in virtual time. The tasks are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bus::{BusError, Clock, ManualClock, MonoTime, Task};

/// Makes a task on the thread that polls it: a task may hold values that cannot leave their thread.
pub type MakeTask = Box<dyn FnOnce() -> Result<Box<dyn Task>, BusError> + Send>;

/// The result of a thread: the problems that its task reported when it stopped.
type Running = JoinHandle<Result<Vec<String>, BusError>>;

/// Tasks on threads. No other code spawns threads.
pub struct Threads {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    running: Vec<(String, Running)>,
}

impl Default for Threads {
    fn default() -> Self {
        Self { stop: Arc::new(AtomicBool::new(false)), failed: Arc::new(AtomicBool::new(false)), running: Vec::new() }
    }
}

impl Threads {
    /// Maximum wait of a poll. Events and a stop wake a waiting task earlier; one second bounds the
    /// delay of conditions that a task only checks when it is polled.
    const WAIT: Duration = Duration::from_secs(1);
    /// Minimum interval between two polls of a task that returns at once without work because its
    /// bus is unavailable.
    const PAUSE: Duration = Duration::from_millis(5);

    /// Polls a task on a new thread until [`Threads::stop`].
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn spawn(&mut self, name: &str, clock: Arc<dyn Clock>, make: MakeTask) -> std::io::Result<()> {
        let (stop, failed) = (Arc::clone(&self.stop), Arc::clone(&self.failed));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let end = FailOnPanic { failed };
            let outcome = make().and_then(|task| poll_until_stopped(task, &stop, &*clock));
            if let Err(error) = &outcome {
                tracing::error!(%error, "a task failed");
                end.failed.store(true, Ordering::Release);
            }
            outcome
        })?;
        self.running.push((name.to_owned(), thread));
        Ok(())
    }

    /// True if a task failed or panicked.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Wakes the waiting tasks: each is polled at once.
    pub fn wake(&self) {
        self.running.iter().for_each(|(_, thread)| thread.thread().unpark());
    }

    /// Stops the tasks in the order in which they were spawned. Returns the problems that they
    /// report.
    pub fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.wake();
        Self::joined(self.running)
    }

    /// Stops the tasks like [`Threads::stop`], but waits at most `most` in total. A task that has
    /// not ended by then is reported and left to the end of the process.
    pub fn stop_within(self, most: Duration, clock: &dyn Clock) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.wake();
        let begun = clock.mono();
        while clock.mono().since(begun) < most && !self.running.iter().all(|(_, thread)| thread.is_finished()) {
            std::thread::park_timeout(Self::PAUSE);
        }
        let (ended, late): (Vec<_>, Vec<_>) = self.running.into_iter().partition(|(_, thread)| thread.is_finished());
        let mut left = Self::joined(ended);
        let most = most.as_secs_f64();
        left.extend(late.into_iter().map(|(name, _)| format!("{name}: did not end within {most:.1} s")));
        left
    }

    fn joined(running: Vec<(String, Running)>) -> Vec<String> {
        let mut left = Vec::new();
        for (name, thread) in running {
            match thread.join() {
                Ok(Ok(lines)) => left.extend(lines),
                Ok(Err(error)) => left.push(format!("{name}: {error}")),
                Err(panic) => left.push(format!("{name} panicked: {}", crate::panic_text(panic.as_ref()))),
            }
        }
        left
    }
}

/// Marks a task as failed if its thread panics. Otherwise its process would continue without it and
/// report itself ready.
struct FailOnPanic {
    failed: Arc<AtomicBool>,
}

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed.store(true, Ordering::Release);
        }
    }
}

fn poll_until_stopped(mut task: Box<dyn Task>, stop: &AtomicBool, clock: &dyn Clock) -> Result<Vec<String>, BusError> {
    while !stop.load(Ordering::Acquire) {
        let begun = clock.mono();
        let outcome = task.poll(Threads::WAIT)?;
        let ended = clock.mono();
        let due = outcome.next.is_some_and(|next| next <= ended);
        if !outcome.worked && !due && ended.since(begun) < Duration::from_millis(1) {
            std::thread::park_timeout(Threads::PAUSE);
        }
    }
    Ok(task.stop())
}

/// Runs `work` on `threads` threads and waits for all of them. `work` has to end, and divides the
/// work among the threads.
///
/// # Panics
/// If one of them panics, or the system cannot start a thread.
pub fn on_threads<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Polls tasks on one thread in virtual time, in an order derived from a PRNG seed.
///
/// The clock does not advance while any task has work, then jumps to the next time that a task asked
/// for.
pub struct Virtual {
    clock: Arc<ManualClock>,
    random: u64,
}

impl Virtual {
    /// Maximum number of rounds at one instant; more is an endless loop.
    const ROUNDS: usize = 1_000_000;

    /// Polls tasks on this clock, in the order of `seed`.
    pub fn new(clock: Arc<ManualClock>, seed: u64) -> Self {
        Self { clock, random: seed }
    }

    /// Polls `tasks` until none has work before `until`, and advances the clock at most to `until`.
    /// Returns true if all tasks are idle and none has a next time.
    ///
    /// # Panics
    /// If tasks loop without progress of time, or one fails.
    pub fn run(&mut self, tasks: &mut [&mut dyn Task], until: MonoTime) -> bool {
        for _ in 0..Self::ROUNDS {
            let mut worked = false;
            let mut next: Option<MonoTime> = None;
            let first = self.pick(tasks.len());
            for i in 0..tasks.len() {
                let task = &mut tasks[(first + i) % tasks.len().max(1)];
                let outcome = task.poll(Duration::ZERO).unwrap_or_else(|error| panic!("{}: {error}", task.name()));
                worked |= outcome.worked;
                next = next.into_iter().chain(outcome.next).min();
            }
            if worked {
                continue;
            }
            match next {
                None => return true,
                Some(next) if next > until => {
                    self.clock.advance_to(until);
                    return false;
                }
                Some(next) if next > self.clock.mono() => self.clock.advance_to(next),
                // Due now but not done: the task waits for another one.
                Some(_) => {}
            }
        }
        panic!("tasks loop: no progress of time after {} rounds", Self::ROUNDS);
    }

    /// Polls `polls` times, one task after the other. The clock advances when a whole round did no
    /// work. Returns true if all tasks are idle and none has a next time. Tests use it to stop a
    /// system between any two polls.
    ///
    /// # Panics
    /// If a task fails.
    pub fn run_polls(&mut self, tasks: &mut [&mut dyn Task], polls: usize) -> bool {
        let (mut idle, mut next) = (0, None::<MonoTime>);
        let first = self.pick(tasks.len());
        for i in 0..polls {
            let task = &mut tasks[(first + i) % tasks.len().max(1)];
            let outcome = task.poll(Duration::ZERO).unwrap_or_else(|error| panic!("{}: {error}", task.name()));
            idle = if outcome.worked { 0 } else { idle + 1 };
            next = if idle <= 1 { outcome.next } else { next.into_iter().chain(outcome.next).min() };
            if idle >= tasks.len() {
                let Some(next) = next else { return true };
                self.clock.advance_to(next);
                idle = 0;
            }
        }
        false
    }

    fn pick(&mut self, among: usize) -> usize {
        // Xorshift64 (Marsaglia 2003); the state is never 0.
        self.random |= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % among.max(1) as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use bus::PollOutcome;

    use super::*;

    struct Clumsy;

    impl Task for Clumsy {
        fn name(&self) -> &'static str {
            "clumsy"
        }

        fn poll(&mut self, _: Duration) -> Result<PollOutcome, BusError> {
            panic!("tripped")
        }

        fn stop(self: Box<Self>) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn a_task_that_panics_has_failed() {
        let mut threads = Threads::default();
        let make: MakeTask = Box::new(|| Ok(Box::new(Clumsy) as Box<dyn Task>));
        threads.spawn("clumsy", Arc::new(ManualClock::default()), make).expect("a thread");
        while !threads.running[0].1.is_finished() {
            std::thread::yield_now();
        }
        assert!(threads.has_failed());
        assert_eq!(threads.stop(), ["clumsy panicked: tripped"]);
    }
}
