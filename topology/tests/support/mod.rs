//! Lanes on an embedded bus, in virtual time.

use std::sync::Arc;

use bus::{Bus, BusError, Clock, Embedded, EmbeddedOptions, ManualClock, Task};
use topology::driver::Virtual;
use topology::{InboxLimit, RecoveryOptions, Settings, Shard, ShardOptions, ShardStatus, Topology};
use wire::topics::Topics;

/// A topology on a bus, with any number of shards per stage.
pub(crate) struct Lanes {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) embedded: Embedded,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) topology: Topology,
    pub(crate) shards: Vec<Shard>,
    pub(crate) settings: Settings,
    /// The status of the newest shard.
    pub(crate) status: Arc<ShardStatus>,
    pub(crate) recovery: RecoveryOptions,
    pub(crate) inbox_limit: InboxLimit,
    driver: Virtual,
    joined: u32,
}

impl Lanes {
    /// Creates the topics, but no shard.
    pub(crate) fn of(topology: Topology, seed: u64) -> Self {
        Self::on(topology, seed, |bus| Arc::new(bus))
    }

    /// Uses a bus that `wrap` makes of the embedded one.
    pub(crate) fn on(topology: Topology, seed: u64, wrap: impl FnOnce(Embedded) -> Arc<dyn Bus>) -> Self {
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        Self::new(topology, seed, &Arc::new(ManualClock::default()), options, wrap)
    }

    /// Uses a bus with these options and this clock.
    pub(crate) fn with(topology: Topology, seed: u64, clock: &Arc<ManualClock>, options: EmbeddedOptions) -> Self {
        Self::new(topology, seed, clock, options, |bus| Arc::new(bus))
    }

    fn new(
        topology: Topology,
        seed: u64,
        clock: &Arc<ManualClock>,
        options: EmbeddedOptions,
        wrap: impl FnOnce(Embedded) -> Arc<dyn Bus>,
    ) -> Self {
        let clock = Arc::clone(clock);
        let embedded = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        for spec in topology.topics(&Topics::default()) {
            embedded.ensure_topic(&spec).expect("a new bus takes every topic");
        }
        let driver = Virtual::new(Arc::clone(&clock), seed);
        let bus = wrap(embedded.clone());
        Self {
            clock,
            embedded,
            bus,
            topology,
            shards: Vec::new(),
            settings: Settings::default(),
            status: ShardStatus::new("", 0),
            recovery: RecoveryOptions::default(),
            inbox_limit: InboxLimit::default(),
            driver,
            joined: 0,
        }
    }

    /// Adds a shard for each stage.
    pub(crate) fn join(&mut self) {
        for stage in self.topology.stages() {
            self.join_stage(&stage.name, stage.lanes).expect("the topics are there");
        }
    }

    pub(crate) fn join_stage(&mut self, stage: &str, lanes: u32) -> Result<(), BusError> {
        self.joined += 1;
        let options = ShardOptions {
            topics: Topics::default(),
            stage: stage.to_owned(),
            member: format!("{stage}-{}", self.joined),
            build: "test".into(),
            settings: self.settings.clone(),
            recovery: self.recovery,
            inbox_limit: self.inbox_limit,
        };
        self.status = ShardStatus::new(stage, lanes);
        self.shards.push(Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(&self.status))?);
        Ok(())
    }

    /// Polls all shards for at most `ms` milliseconds. Returns true if no work is left.
    pub(crate) fn run_ms(&mut self, ms: u64) -> bool {
        let until = self.clock.mono().plus_ms(ms);
        let mut tasks: Vec<&mut dyn Task> = self.shards.iter_mut().map(|shard| shard as &mut dyn Task).collect();
        self.driver.run(&mut tasks, until)
    }

    /// Returns all records of a topic, partition by partition.
    pub(crate) fn records(&self, topic: &str) -> Vec<bus::Record> {
        let partitions = self.bus.topic(topic).expect("the bus answers").expect("the topic is there").partitions;
        let mut records = Vec::new();
        for partition in 0..partitions {
            let mut reader = self.bus.reader().expect("the bus gives readers");
            reader.assign(topic, partition, 0).expect("nothing was deleted");
            reader.poll(100_000, std::time::Duration::ZERO, &mut records).expect("it can be read");
        }
        records
    }

    /// Returns the dead letters so far: key and body.
    pub(crate) fn dead_letters(&self) -> Vec<(Option<String>, serde_json::Value)> {
        let records = self.records(&Topics::default().dead(self.topology.name()));
        let letter = |record: bus::Record| {
            let key = record.key.map(|key| String::from_utf8_lossy(&key).into_owned());
            (key, serde_json::from_slice(&record.value).expect("a dead letter is JSON"))
        };
        records.into_iter().map(letter).collect()
    }
}
