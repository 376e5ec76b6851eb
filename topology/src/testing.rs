//! The test kit: the lanes of a topology on an embedded bus, in virtual time, from one seed.
//!
//! ```
//! use topology::testing::Lanes;
//! use topology::{Emitter, Spout, Topology};
//!
//! struct Once(bool);
//! impl Spout for Once {
//!     type Out = ();
//!     type Position = ();
//!     fn next(&mut self, (): &mut (), _: &mut Emitter<()>) -> bool {
//!         !std::mem::replace(&mut self.0, true)
//!     }
//! }
//!
//! let topology = Topology::named("once");
//! topology.spout("once", || Once(false));
//! let mut lanes = Lanes::of(topology.build()?, 7);
//! lanes.join();
//! assert!(lanes.run_ms(60_000), "nothing is left to do");
//! # Ok::<(), topology::BuildErrors>(())
//! ```
#![expect(clippy::disallowed_types, reason = "a test collects what a bolt emits")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Bus, BusError, Clock, Embedded, EmbeddedOptions, ManualClock, MonoTime, Outgoing, Record, Task};
use wire::topics::Topics;

use crate::driver::Virtual;
use crate::{Bolt, InboxLimit, RecoveryOptions, Settings, Shard, ShardOptions, ShardStatus, Topology};

/// Runs a bolt over inputs in one lane, and then for an hour of virtual time, for its timers. Returns
/// the tuples of its main stream.
///
/// ```
/// use topology::{Bolt, Emitter, testing};
///
/// struct Split;
/// impl Bolt for Split {
///     type In = String;
///     type Out = String;
///     fn execute(&mut self, line: String, out: &mut Emitter<String>) {
///         line.split(' ').for_each(|word| out.emit(word.to_owned()));
///     }
/// }
///
/// assert_eq!(testing::run(|| Split, ["a rose is".to_owned(), "a rose".to_owned()]), ["a", "rose", "is", "a", "rose"]);
/// ```
///
/// # Panics
/// If the bolt fails a tuple, with the reason.
pub fn run<B: Bolt>(
    make: impl Fn() -> B + Send + Sync + 'static,
    inputs: impl IntoIterator<Item = B::In>,
) -> Vec<B::Out>
where
    B::In: Clone + Send + Sync,
    B::Out: Clone + Send + 'static,
{
    const HOUR_MS: u64 = 3_600_000;
    let inputs: Vec<B::In> = inputs.into_iter().collect();
    let emitted = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&emitted);
    let t = Topology::named("test");
    let inputs = t.items("inputs", move || inputs.clone());
    t.bolt("bolt", make)
        .reads(inputs.local())
        .for_each("emitted", move |tuple| collected.lock().expect("no reader panics").push(tuple));
    let mut lanes = Lanes::of(t.build().expect("the bolt can be built"), 0);
    lanes.join();
    lanes.run_ms(HOUR_MS);
    if let Some((_, letter)) = lanes.dead_letters().first() {
        panic!("the bolt failed a tuple: {}", letter["reason"]);
    }
    std::mem::take(&mut *emitted.lock().expect("no reader panics"))
}

/// A topology on a bus, with any number of shards per stage. A test may change every field.
pub struct Lanes {
    /// The clock.
    pub clock: Arc<ManualClock>,
    /// The bus.
    pub embedded: Embedded,
    /// The view of the bus that new shards use.
    pub bus: Arc<dyn Bus>,
    /// Names of the topics.
    pub topics: Topics,
    /// The topology of new shards.
    pub topology: Topology,
    /// The running shards, oldest first. A shard that is dropped has crashed: it stays in its group
    /// until its session ends.
    pub shards: Vec<Shard>,
    /// The settings of new shards.
    pub settings: Settings,
    /// The status of the newest shard.
    pub status: Arc<ShardStatus>,
    /// The recovery options of new shards.
    pub recovery: RecoveryOptions,
    /// The inbox limit of new shards.
    pub inbox_limit: InboxLimit,
    driver: Virtual,
    joined: u32,
    /// Stages with crashed shards in their group.
    crashed: BTreeSet<String>,
}

impl Lanes {
    /// Creates the topics, but no shard. Offsets have gaps if the seed is odd.
    pub fn of(topology: Topology, seed: u64) -> Self {
        Self::on(topology, seed, |bus| Arc::new(bus))
    }

    /// Uses a bus that `wrap` makes of the embedded one.
    pub fn on(topology: Topology, seed: u64, wrap: impl FnOnce(Embedded) -> Arc<dyn Bus>) -> Self {
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        Self::new(topology, seed, &Arc::new(ManualClock::default()), options, wrap)
    }

    /// Uses a bus with these options and this clock.
    pub fn with(topology: Topology, seed: u64, clock: &Arc<ManualClock>, options: EmbeddedOptions) -> Self {
        Self::new(topology, seed, clock, options, |bus| Arc::new(bus))
    }

    fn new(
        topology: Topology,
        seed: u64,
        clock: &Arc<ManualClock>,
        options: EmbeddedOptions,
        wrap: impl FnOnce(Embedded) -> Arc<dyn Bus>,
    ) -> Self {
        let (clock, topics) = (Arc::clone(clock), Topics::default());
        let embedded = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        for spec in topology.topics(&topics) {
            embedded.ensure_topic(&spec).expect("a new bus takes every topic");
        }
        Self {
            driver: Virtual::new(Arc::clone(&clock), seed),
            clock,
            bus: wrap(embedded.clone()),
            embedded,
            topics,
            settings: topology.settings().clone(),
            topology,
            shards: Vec::new(),
            status: ShardStatus::new("", 0),
            recovery: RecoveryOptions::default(),
            inbox_limit: InboxLimit::default(),
            joined: 0,
            crashed: BTreeSet::new(),
        }
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Adds a shard for each stage.
    ///
    /// # Panics
    /// If the bus refuses one.
    pub fn join(&mut self) {
        for stage in self.topology.stages() {
            self.join_stage(&stage.name).expect("the topics are there");
        }
    }

    /// Adds a shard for a stage, under a new name. The group moves lanes to it.
    ///
    /// # Errors
    /// If the bus refuses it.
    pub fn join_stage(&mut self, stage: &str) -> Result<(), BusError> {
        self.joined += 1;
        let options = ShardOptions {
            topics: self.topics.clone(),
            stage: stage.to_owned(),
            member: format!("{stage}-{}", self.joined),
            build: "test".into(),
            settings: self.settings.clone(),
            recovery: self.recovery,
            inbox_limit: self.inbox_limit,
        };
        let lanes =
            self.topology.stages().into_iter().find(|known| *known.name == *stage).map_or(0, |known| known.lanes);
        self.status = ShardStatus::new(stage, lanes);
        self.shards.push(Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(&self.status))?);
        Ok(())
    }

    /// Crashes every shard of a stage, with the state and timers of its lanes. Committed records
    /// remain on the bus.
    pub fn kill(&mut self, stage: &str) {
        self.shards.retain(|shard| shard.stage() != stage);
        self.crashed.insert(stage.to_owned());
    }

    /// Adds a shard for a stage, in place of those that were killed: expels them at once, instead of
    /// waiting for their session timeout.
    ///
    /// # Panics
    /// If the bus refuses it.
    pub fn start(&mut self, stage: &str) {
        self.join_stage(stage).expect("the topics are there");
        if self.crashed.remove(stage) {
            self.expel(stage);
        }
    }

    /// Shuts down the oldest shard of a stage, and returns its unfinished work.
    ///
    /// # Panics
    /// If the stage has none.
    pub fn stop(&mut self, stage: &str) -> Vec<String> {
        let oldest = self.shards.iter().position(|shard| shard.stage() == stage).expect("the stage has a shard");
        Box::new(self.shards.remove(oldest)).stop()
    }

    /// Expels all members of the group of a stage, as a broker does after a session timeout. Those
    /// that run join again.
    pub fn expel(&self, stage: &str) {
        self.embedded.expel(&self.inbox(stage));
    }

    // ---- time ---------------------------------------------------------------------------------------------------------

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.clock.mono().0 / 1_000_000
    }

    /// Polls all shards for `ms` milliseconds. Returns true if nothing is left to do.
    pub fn run_ms(&mut self, ms: u64) -> bool {
        self.run_ms_with(&mut [], ms)
    }

    /// Polls all shards and other tasks for `ms` milliseconds. Returns true if nothing is left to do.
    pub fn run_ms_with(&mut self, others: &mut [&mut dyn Task], ms: u64) -> bool {
        let until = self.clock.mono().plus_ms(ms);
        let is_idle = self.run_until(others, until);
        self.clock.advance_to(until);
        is_idle
    }

    /// Polls all shards and other tasks until the time `until`, or until nothing is left to do, and
    /// returns true in that case.
    pub fn run_until(&mut self, others: &mut [&mut dyn Task], until: MonoTime) -> bool {
        self.driver.run(&mut tasks(others, &mut self.shards), until)
    }

    /// Executes `polls` single polls, so that a test can interrupt the system between any two.
    /// Returns true if nothing is left to do.
    pub fn run_polls(&mut self, others: &mut [&mut dyn Task], polls: usize) -> bool {
        self.driver.run_polls(&mut tasks(others, &mut self.shards), polls)
    }

    // ---- inside -------------------------------------------------------------------------------------------------------

    /// Returns the live lanes of each shard of a stage.
    pub fn live(&self, stage: &str) -> Vec<Vec<u32>> {
        self.shards.iter().filter(|shard| shard.stage() == stage).map(Shard::live).collect()
    }

    /// Returns the value of the counter `name`, over all shards.
    pub fn count(&self, name: &str) -> u64 {
        self.shards.iter().map(|shard| shard.counter(name)).sum()
    }

    /// Returns the number of armed timers in all lanes.
    pub fn timers(&self) -> usize {
        self.shards.iter().map(Shard::timers).sum()
    }

    /// Returns the number of roots of all lanes that are neither acked nor failed.
    pub fn pending_roots(&self) -> u32 {
        self.shards.iter().map(Shard::pending_roots).sum()
    }

    /// Returns one line per live operation.
    pub fn unfinished(&self) -> Vec<String> {
        self.shards.iter().flat_map(Shard::unfinished).collect()
    }

    // ---- the bus ------------------------------------------------------------------------------------------------------

    /// Returns the inbox of a stage.
    pub fn inbox(&self, stage: &str) -> String {
        self.topics.inbox(self.topology.name(), stage)
    }

    /// Returns the topic of the answers of a stage.
    pub fn egress(&self, stage: &str) -> String {
        self.topics.egress(self.topology.name(), stage)
    }

    /// Writes records, as a foreign client would.
    ///
    /// # Panics
    /// If a topic does not exist.
    pub fn write(&self, records: &[Outgoing]) {
        self.embedded.writer("stranger").and_then(|mut writer| writer.append(records)).expect("the topics are there");
    }

    /// Returns all records that a topic still has, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let partitions = self.embedded.topic(topic).expect("the bus answers").map_or(0, |topic| topic.partitions);
        let of = |partition| {
            let low = self.embedded.bounds(topic, partition).expect("the topic is there").low;
            let mut reader = self.embedded.reader().expect("the bus gives readers");
            reader.assign(topic, partition, low).expect("the record is there");
            let mut records = Vec::new();
            reader.poll(usize::MAX, Duration::ZERO, &mut records).expect("it can be read");
            records
        };
        (0..partitions).flat_map(of).collect()
    }

    /// Returns the dead letters so far: key and body.
    ///
    /// # Panics
    /// If one is not JSON.
    pub fn dead_letters(&self) -> Vec<(Option<String>, serde_json::Value)> {
        let records = self.records(&self.topics.dead(self.topology.name()));
        let letter = |record: Record| {
            let key = record.key.map(|key| String::from_utf8_lossy(&key).into_owned());
            (key, serde_json::from_slice(&record.value).expect("a dead letter is JSON"))
        };
        records.into_iter().map(letter).collect()
    }
}

fn tasks<'a>(others: &'a mut [&mut dyn Task], shards: &'a mut [Shard]) -> Vec<&'a mut dyn Task> {
    let others = others.iter_mut().map(|task| &mut **task as &mut dyn Task);
    others.chain(shards.iter_mut().map(|shard| shard as &mut dyn Task)).collect()
}
