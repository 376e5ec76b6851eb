//! A process that runs the lanes of the hub like `nave up`: one thread per shard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bus::{BusError, Clock, MonoTime, PollOutcome, Task};
use nave::testing::{HUB, System};
use topology::driver::Threads;
use topology::names::{REPLAYED, RESTORED, SNAPSHOTS_CORRUPT, SNAPSHOTS_FAILED};
use topology::{RecoveryOptions, Shard};

use crate::instrumented::{InstrumentedBus, Observations, Timings};

/// The interval between checks of the threads.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A process without work for this long has saved everything: more than the interval of snapshots
/// and of positions.
const IDLE_MS: u64 = 2_500;
/// The time limit of every wait.
const TIMEOUT_MS: u64 = 300_000;

/// A process.
pub(crate) struct Process {
    threads: Threads,
    shards: Vec<ShardWatch>,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicBool>,
}

/// Access to the state of one shard.
#[derive(Clone)]
struct ShardWatch {
    seen: Observations,
    state: Arc<Mutex<ShardState>>,
}

/// The state of a shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardState {
    /// The number of live lanes, and the time of its last change.
    pub(crate) live: usize,
    pub(crate) since: MonoTime,
    /// The timings at that time.
    pub(crate) timings: Timings,
    /// The time of its last work.
    worked: MonoTime,
    /// The duration of the join.
    pub(crate) joined: Duration,
    /// Counters of restored snapshots and replayed records.
    pub(crate) restored: u64,
    pub(crate) replayed: u64,
    /// Failed or unusable snapshots.
    pub(crate) faults: u64,
    /// The number of live operations, counted on request by `count`.
    counted: Option<usize>,
    count: bool,
}

impl Process {
    /// Starts one shard of the hub per thread. `name` must be unique.
    pub(crate) fn start(
        system: &Arc<System>,
        name: &str,
        threads: usize,
        recovery: RecoveryOptions,
    ) -> anyhow::Result<Self> {
        let clock = system.bus.clock();
        let snapshots = system.options.topics.snapshot(system.topology.name(), HUB);
        let lost = Arc::new(AtomicBool::new(false));
        let mut process = Self { threads: Threads::default(), shards: Vec::new(), clock, lost };
        for thread in 0..threads {
            let clock = Arc::clone(&process.clock);
            let watch = ShardWatch { seen: Observations::new(Arc::clone(&clock), &snapshots), state: Arc::default() };
            let member = format!("{}-{name}-{thread}", system.options.topics.prefix());
            let (system, of, lost) = (Arc::clone(system), watch.clone(), Arc::clone(&process.lost));
            let make = move || {
                let begun = clock.mono();
                let bus = InstrumentedBus { bus: Arc::clone(&system.bus), seen: of.seen.clone() };
                let shard = system.shard_on(Arc::new(bus), HUB, &member, recovery)?;
                of.state.lock().expect("no panic while locked").joined = clock.mono().since(begun);
                Ok(Box::new(InstrumentedShard { shard, watch: of, clock, lost }) as Box<dyn Task>)
            };
            process.threads.spawn(&format!("{name}-{thread}"), Arc::clone(&process.clock), Box::new(make))?;
            process.shards.push(watch);
        }
        Ok(process)
    }

    /// The states of its shards.
    pub(crate) fn look(&self) -> Vec<ShardState> {
        let look = |watch: &ShardWatch| watch.state.lock().expect("no panic while locked").clone();
        self.shards.iter().map(look).collect()
    }

    /// Resets all timings.
    pub(crate) fn reset(&self) {
        self.shards.iter().for_each(|watch| watch.seen.reset());
    }

    /// Waits until this number of lanes is live.
    pub(crate) fn wait_live(&self, lanes: usize) -> anyhow::Result<()> {
        self.wait("lanes to be live", || self.look().iter().map(|state| state.live).sum::<usize>() == lanes)
    }

    /// Waits until all requests are started and saved.
    pub(crate) fn wait_idle(&self) -> anyhow::Result<()> {
        let begun = self.clock.mono();
        self.wait("idle shards", || {
            let last = self.look().iter().map(|state| state.worked).max().unwrap_or_default().max(begun);
            self.clock.mono() > last.plus_ms(IDLE_MS)
        })
    }

    /// Waits until this number of operations is live.
    pub(crate) fn wait_operations(&self, operations: usize) -> anyhow::Result<()> {
        let mut counted = 0;
        let outcome = self.wait("operations to live", || {
            for watch in &self.shards {
                let mut state = watch.state.lock().expect("no panic while locked");
                (state.count, state.counted) = (true, None);
            }
            let each = || self.look().iter().map(|state| state.counted).sum::<Option<usize>>();
            // An idle poll returns within 250 ms.
            counted = loop {
                if let Some(sum) = each() {
                    break sum;
                }
                if self.threads.has_failed() {
                    break 0;
                }
                std::thread::park_timeout(POLL_INTERVAL);
            };
            counted >= operations
        });
        outcome.with_context(|| format!("{counted} of {operations} are live"))?;
        anyhow::ensure!(counted == operations, "{counted} operations are live, not {operations}");
        Ok(())
    }

    fn wait(&self, what: &str, mut reached: impl FnMut() -> bool) -> anyhow::Result<()> {
        let until = self.clock.mono().plus_ms(TIMEOUT_MS);
        while !reached() {
            anyhow::ensure!(!self.threads.has_failed(), "a shard failed while waiting for {what}");
            anyhow::ensure!(self.clock.mono() < until, "no {what} after {TIMEOUT_MS} ms: {:?}", self.look());
            std::thread::park_timeout(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Stops the process in order, or like a crash (`lost`). Returns the states of its shards.
    pub(crate) fn end(self, lost: bool) -> Vec<ShardState> {
        self.lost.store(lost, Ordering::Release);
        let Self { threads, shards, .. } = self;
        threads.stop();
        let state = |watch: ShardWatch| watch.state.lock().expect("no panic while locked").clone();
        shards.into_iter().map(state).collect()
    }
}

/// A shard that publishes its state.
struct InstrumentedShard {
    shard: Shard,
    watch: ShardWatch,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicBool>,
}

impl Task for InstrumentedShard {
    fn name(&self) -> &str {
        self.shard.name()
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let turn = self.shard.poll(wait)?;
        let (live, now) = (self.shard.live().len(), self.clock.mono());
        let mut state = self.watch.state.lock().expect("no panic while locked");
        if state.live != live {
            (state.live, state.since, state.timings) = (live, now, self.watch.seen.timings());
            state.restored = self.shard.counter(RESTORED);
            state.replayed = self.shard.counter(REPLAYED);
        }
        if turn.worked {
            state.worked = now;
        }
        if std::mem::take(&mut state.count) {
            state.counted = Some(self.shard.unfinished().len());
        }
        Ok(turn)
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        let Self { shard, watch, lost, .. } = *self;
        let mut state = watch.state.lock().expect("no panic while locked");
        state.faults = shard.counter(SNAPSHOTS_FAILED) + shard.counter(SNAPSHOTS_CORRUPT);
        drop(state);
        if lost.load(Ordering::Acquire) {
            return Vec::new();
        }
        Box::new(shard).stop()
    }
}
