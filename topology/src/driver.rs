//! Gives parts their turns: each on a thread of its own, or all on one thread in virtual time. The parts are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bus::{BusError, Clock, ManualClock, MonoTime, Part};

/// Makes a part, on the thread that will turn it: a part may hold what cannot leave its thread.
pub type MakePart = Box<dyn FnOnce() -> Result<Box<dyn Part>, BusError> + Send>;

/// What a thread ends with: what its part left undone.
type Running = JoinHandle<Result<Vec<String>, BusError>>;

/// Parts on threads: the one place where threads are made.
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
    /// Longest wait of a part for something to come. What it waits for wakes it, and so does a stop; a second bounds the
    /// delay of what a part only looks at when it is polled.
    const WAIT: Duration = Duration::from_secs(1);
    /// A part that came back at once with nothing done, because its bus is away, is not asked again sooner.
    const PAUSE: Duration = Duration::from_millis(5);

    /// Turns a part on a thread of its own until [`Threads::stop`].
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn spawn(&mut self, name: &str, clock: Arc<dyn Clock>, make: MakePart) -> std::io::Result<()> {
        let (stop, failed) = (Arc::clone(&self.stop), Arc::clone(&self.failed));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let end = End { failed };
            let outcome = make().and_then(|part| keep_turning(part, &stop, &*clock));
            if let Err(error) = &outcome {
                tracing::error!(%error, "a part ended with a fault");
                end.failed.store(true, Ordering::Release);
            }
            outcome
        })?;
        self.running.push((name.to_owned(), thread));
        Ok(())
    }

    /// True where a part ended with a fault, or panicked.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Wakes the parts that wait: each is polled at once, as far as its bus lets a waiting thread be woken.
    pub fn wake(&self) {
        self.running.iter().for_each(|(_, thread)| thread.thread().unpark());
    }

    /// Stops the parts in the order in which they were spawned, and says what each left undone.
    pub fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.wake();
        Self::joined(self.running)
    }

    /// As [`Threads::stop`], and waits at most `most` in all: a part that has not ended by then is named and left behind, for the end of
    /// the process.
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

/// The end of a thread: one that panics has failed too. Else its process would live on without it, and take itself for ready.
struct End {
    failed: Arc<AtomicBool>,
}

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed.store(true, Ordering::Release);
        }
    }
}

fn keep_turning(mut part: Box<dyn Part>, stop: &AtomicBool, clock: &dyn Clock) -> Result<Vec<String>, BusError> {
    while !stop.load(Ordering::Acquire) {
        let begun = clock.mono();
        let turn = part.turn(Threads::WAIT)?;
        let ended = clock.mono();
        let due = turn.next.is_some_and(|next| next <= ended);
        if !turn.worked && !due && ended.since(begun) < Duration::from_millis(1) {
            std::thread::park_timeout(Threads::PAUSE);
        }
    }
    Ok(part.stop())
}

/// Does `work` on each of so many threads at once, and waits for all of them: for work that has an end, and shares it out by
/// itself.
///
/// # Panics
/// Where one of them does, or the system gives no thread.
pub fn on_threads<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Parts on one thread, in virtual time, in an order that a seed gives.
///
/// The clock stands while anything can be done, and then jumps to the next moment for which a part has asked.
pub struct Virtual {
    clock: Arc<ManualClock>,
    random: u64,
}

impl Virtual {
    /// So many rounds in one instant are no progress but a circle.
    const ROUNDS: usize = 1_000_000;

    /// Turns parts on this clock, in the order of `seed`.
    pub fn new(clock: Arc<ManualClock>, seed: u64) -> Self {
        Self { clock, random: seed }
    }

    /// Turns `parts` until none has anything to do before `until`, and moves the clock at most there. Says whether they are
    /// idle for good: waiting for nothing but others.
    ///
    /// # Panics
    /// Where parts turn in a circle and time stands still, or where one ends with a fault.
    pub fn run(&mut self, parts: &mut [&mut dyn Part], until: MonoTime) -> bool {
        for _ in 0..Self::ROUNDS {
            let mut worked = false;
            let mut next: Option<MonoTime> = None;
            let first = self.pick(parts.len());
            for i in 0..parts.len() {
                let part = &mut parts[(first + i) % parts.len().max(1)];
                let turn = part.turn(Duration::ZERO).unwrap_or_else(|error| panic!("{}: {error}", part.name()));
                worked |= turn.worked;
                next = next.into_iter().chain(turn.next).min();
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
                // Due now, and not done: the part waits for another's turn.
                Some(_) => {}
            }
        }
        panic!("no end after {} rounds", Self::ROUNDS);
    }

    /// Gives `turns` single turns, one part after the other; the clock moves where a whole round found nothing to do. Says
    /// whether the parts are idle for good. For tests that stop a system between any two turns.
    ///
    /// # Panics
    /// Where a part ends with a fault.
    pub fn run_turns(&mut self, parts: &mut [&mut dyn Part], turns: usize) -> bool {
        let (mut idle, mut next) = (0, None::<MonoTime>);
        let first = self.pick(parts.len());
        for i in 0..turns {
            let part = &mut parts[(first + i) % parts.len().max(1)];
            let turn = part.turn(Duration::ZERO).unwrap_or_else(|error| panic!("{}: {error}", part.name()));
            idle = if turn.worked { 0 } else { idle + 1 };
            next = if idle <= 1 { turn.next } else { next.into_iter().chain(turn.next).min() };
            if idle >= parts.len() {
                let Some(next) = next else { return true };
                self.clock.advance_to(next);
                idle = 0;
            }
        }
        false
    }

    fn pick(&mut self, among: usize) -> usize {
        // Xorshift64 (Marsaglia 2003); the seed is never 0.
        self.random |= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % among.max(1) as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use bus::Turn;

    use super::*;

    struct Clumsy;

    impl Part for Clumsy {
        fn name(&self) -> &'static str {
            "clumsy"
        }

        fn turn(&mut self, _: Duration) -> Result<Turn, BusError> {
            panic!("over its own feet")
        }

        fn stop(self: Box<Self>) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn a_part_that_panics_has_failed() {
        let mut threads = Threads::default();
        let make: MakePart = Box::new(|| Ok(Box::new(Clumsy) as Box<dyn Part>));
        threads.spawn("clumsy", Arc::new(ManualClock::default()), make).expect("a thread");
        while !threads.running[0].1.is_finished() {
            std::thread::yield_now();
        }
        assert!(threads.has_failed());
        assert_eq!(threads.stop(), ["clumsy panicked: over its own feet"]);
    }
}
