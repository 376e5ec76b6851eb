//! Lanes on an embedded bus, in virtual time.

use std::sync::Arc;

use bus::{Bus, BusError, Clock, Embedded, EmbeddedOptions, ManualClock, Part};
use topology::driver::Virtual;
use topology::{InboxLimit, Settings, Shard, ShardOptions, ShardStatus, Topology, Upkeep};
use wire::topics::Topics;

/// A topology on a bus, with as many shards of each stage as a test wants.
pub(crate) struct Lanes {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) embedded: Embedded,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) topology: Topology,
    pub(crate) shards: Vec<Shard>,
    pub(crate) settings: Settings,
    /// Of the newest shard.
    pub(crate) status: Arc<ShardStatus>,
    pub(crate) upkeep: Upkeep,
    pub(crate) inbox_limit: InboxLimit,
    turns: Virtual,
    joined: u32,
}

impl Lanes {
    /// With the topics made, and no shard yet.
    pub(crate) fn of(topology: Topology, seed: u64) -> Self {
        Self::on(topology, seed, |bus| Arc::new(bus))
    }

    /// On a bus that `wrap` puts around the embedded one.
    pub(crate) fn on(topology: Topology, seed: u64, wrap: impl FnOnce(Embedded) -> Arc<dyn Bus>) -> Self {
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        Self::new(topology, seed, &Arc::new(ManualClock::default()), options, wrap)
    }

    /// On a bus with these options, with this clock.
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
        let turns = Virtual::new(Arc::clone(&clock), seed);
        let bus = wrap(embedded.clone());
        Self {
            clock,
            embedded,
            bus,
            topology,
            shards: Vec::new(),
            settings: Settings::default(),
            status: ShardStatus::new("", 0),
            upkeep: Upkeep::default(),
            inbox_limit: InboxLimit::default(),
            turns,
            joined: 0,
        }
    }

    /// One more shard for each stage.
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
            upkeep: self.upkeep,
            inbox_limit: self.inbox_limit,
        };
        self.status = ShardStatus::new(stage, lanes);
        self.shards.push(Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(&self.status))?);
        Ok(())
    }

    /// Turns everything for at most `ms` milliseconds; true where nothing is left to do.
    pub(crate) fn run_ms(&mut self, ms: u64) -> bool {
        let until = self.clock.mono().plus_ms(ms);
        let mut parts: Vec<&mut dyn Part> = self.shards.iter_mut().map(|shard| shard as &mut dyn Part).collect();
        self.turns.run(&mut parts, until)
    }

    /// Every record of a topic, partition by partition.
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

    /// The dead letters so far: key and body.
    pub(crate) fn dead_letters(&self) -> Vec<(Option<String>, serde_json::Value)> {
        let records = self.records(&Topics::default().dead(self.topology.name()));
        let letter = |record: bus::Record| {
            let key = record.key.map(|key| String::from_utf8_lossy(&key).into_owned());
            (key, serde_json::from_slice(&record.value).expect("a dead letter is JSON"))
        };
        records.into_iter().map(letter).collect()
    }
}
