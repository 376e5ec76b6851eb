//! A process that runs the lanes of the hub, as `nave up` has them: a thread for each shard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, BusError, Clock, MonoTime, Part, Turn};
use nave::system::{HUB, System};
use topology::driver::Threads;
use topology::names::{REPLAYED, RESTORED, SNAPSHOTS_FAILED, SNAPSHOTS_SPOILT};
use topology::{Shard, ShardOptions, ShardStatus, Upkeep};

use crate::watched::{Marks, Seen, Watched};

/// Between two looks at what the threads do.
const LOOK: Duration = Duration::from_millis(5);
/// After so long without work a process has said and saved everything: more than a cadence, and the second between two positions.
const QUIET_MS: u64 = 2_500;
/// Nothing that is waited for takes longer.
const PATIENCE_MS: u64 = 300_000;

/// The lanes of a stage of one thread, as the member `name`, with an upkeep that is not the usual one.
pub(crate) fn shard(
    system: &System,
    bus: Arc<dyn Bus>,
    stage: &str,
    name: &str,
    upkeep: Upkeep,
) -> Result<Shard, BusError> {
    let options = ShardOptions {
        topics: system.options.topics.clone(),
        stage: stage.to_owned(),
        member: name.to_owned(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        settings: system.topology.settings().clone(),
        upkeep,
        inbox_limit: topology::InboxLimit::default(),
    };
    Shard::join(bus, system.topology.clone(), options, ShardStatus::new(stage, system.options.lanes))
}

/// A process.
pub(crate) struct Process {
    threads: Threads,
    shards: Vec<Watch>,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicBool>,
}

/// What is known of one shard.
#[derive(Clone)]
struct Watch {
    seen: Seen,
    state: Arc<Mutex<State>>,
}

/// How a shard stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Lanes that are live, and since when so many are.
    pub(crate) live: usize,
    pub(crate) since: MonoTime,
    /// What had been seen of it then.
    pub(crate) marks: Marks,
    /// When it last worked.
    worked: MonoTime,
    /// How long it took to join.
    pub(crate) joined: Duration,
    /// What it counted.
    pub(crate) restored: u64,
    pub(crate) replayed: u64,
    /// Lanes that could not be saved, or whose snapshots could not be used.
    pub(crate) faults: u64,
    /// Operations that live, where they are to be counted.
    counted: Option<usize>,
    count: bool,
}

impl Process {
    /// Starts as many shards of the hub as there are to be threads. `name` is its own among all that ever were.
    pub(crate) fn start(system: &Arc<System>, name: &str, threads: usize, upkeep: Upkeep) -> anyhow::Result<Self> {
        let clock = system.bus.clock();
        let snapshots = system.options.topics.snapshot(system.topology.name(), HUB);
        let lost = Arc::new(AtomicBool::new(false));
        let mut process = Self { threads: Threads::default(), shards: Vec::new(), clock, lost };
        for thread in 0..threads {
            let clock = Arc::clone(&process.clock);
            let watch = Watch { seen: Seen::new(Arc::clone(&clock), &snapshots), state: Arc::default() };
            let member = format!("{}-{name}-{thread}", system.options.topics.prefix());
            let (system, of, lost) = (Arc::clone(system), watch.clone(), Arc::clone(&process.lost));
            let make = move || {
                let begun = clock.mono();
                let bus = Watched { bus: Arc::clone(&system.bus), seen: of.seen.clone() };
                let shard = shard(&system, Arc::new(bus), HUB, &member, upkeep)?;
                of.state.lock().expect("nobody panics while holding it").joined = clock.mono().since(begun);
                Ok(Box::new(Watching { shard, watch: of, clock, lost }) as Box<dyn Part>)
            };
            process.threads.spawn(&format!("{name}-{thread}"), Arc::clone(&process.clock), Box::new(make))?;
            process.shards.push(watch);
        }
        Ok(process)
    }

    /// How its shards stand.
    pub(crate) fn look(&self) -> Vec<State> {
        let look = |watch: &Watch| watch.state.lock().expect("nobody panics while holding it").clone();
        self.shards.iter().map(look).collect()
    }

    /// Forgets what was seen so far.
    pub(crate) fn reset(&self) {
        self.shards.iter().for_each(|watch| watch.seen.reset());
    }

    /// Waits until so many lanes are live here.
    pub(crate) fn wait_live(&self, lanes: usize) -> anyhow::Result<()> {
        self.wait("lanes to be live", || self.look().iter().map(|state| state.live).sum::<usize>() == lanes)
    }

    /// Waits until nothing is left to do: everything that was asked for is begun, and saved.
    pub(crate) fn wait_quiet(&self) -> anyhow::Result<()> {
        let begun = self.clock.mono();
        self.wait("quiet", || {
            let last = self.look().iter().map(|state| state.worked).max().unwrap_or_default().max(begun);
            self.clock.mono() > last.plus_ms(QUIET_MS)
        })
    }

    /// Waits until so many operations live here.
    pub(crate) fn wait_operations(&self, operations: usize) -> anyhow::Result<()> {
        let mut counted = 0;
        let outcome = self.wait("operations to live", || {
            for watch in &self.shards {
                let mut state = watch.state.lock().expect("nobody panics while holding it");
                (state.count, state.counted) = (true, None);
            }
            let each = || self.look().iter().map(|state| state.counted).sum::<Option<usize>>();
            // A turn that waits for something to do comes back within a quarter of a second.
            counted = loop {
                if let Some(sum) = each() {
                    break sum;
                }
                if self.threads.has_failed() {
                    break 0;
                }
                std::thread::park_timeout(LOOK);
            };
            counted >= operations
        });
        outcome.with_context(|| format!("{counted} of {operations} live"))?;
        anyhow::ensure!(counted == operations, "{counted} operations live, not {operations}");
        Ok(())
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
        let until = self.clock.mono().plus_ms(PATIENCE_MS);
        while !is_so() {
            anyhow::ensure!(!self.threads.has_failed(), "a shard ended while it was waited for {what}");
            anyhow::ensure!(self.clock.mono() < until, "{what}: not after {PATIENCE_MS} ms: {:?}", self.look());
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }

    /// Ends it: in order, or (`lost`) as one that leaves no word and saves nothing. How its shards stood.
    pub(crate) fn end(self, lost: bool) -> Vec<State> {
        self.lost.store(lost, Ordering::Release);
        let Self { threads, shards, .. } = self;
        threads.stop();
        let state = |watch: Watch| watch.state.lock().expect("nobody panics while holding it").clone();
        shards.into_iter().map(state).collect()
    }
}

/// A shard that is watched.
struct Watching {
    shard: Shard,
    watch: Watch,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicBool>,
}

impl Part for Watching {
    fn name(&self) -> &str {
        self.shard.name()
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        let turn = self.shard.turn(wait)?;
        let (live, now) = (self.shard.live().len(), self.clock.mono());
        let mut state = self.watch.state.lock().expect("nobody panics while holding it");
        if state.live != live {
            (state.live, state.since, state.marks) = (live, now, self.watch.seen.marks());
            state.restored = self.shard.tally(RESTORED);
            state.replayed = self.shard.tally(REPLAYED);
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
        let mut state = watch.state.lock().expect("nobody panics while holding it");
        state.faults = shard.tally(SNAPSHOTS_FAILED) + shard.tally(SNAPSHOTS_SPOILT);
        drop(state);
        if lost.load(Ordering::Acquire) {
            return Vec::new();
        }
        Box::new(shard).stop()
    }
}
