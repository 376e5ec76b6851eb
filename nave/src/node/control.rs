//! The control topic, which holds the submitted topologies. It has one record per name; the last
//! one is valid. A record without a body means that the topology is gone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bus::{Bus, BusError, Cleanup, Follower, Outgoing, Record, Start, TopicSpec};
use wire::control::Submitted;
use wire::topics::Topics;

/// Maximum number of records per poll; topologies are few and take a few kilobytes each.
const MAX_POLL_RECORDS: usize = 256;
/// Maximum silence of a broker before the control topic counts as unreadable: the timeout of one
/// request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the specification of the topic.
pub fn topic(topics: &Topics) -> TopicSpec {
    TopicSpec::log(&topics.control(), 1).with_cleanup(Cleanup::Compact)
}

/// Follows the control topic. Compaction keeps the last record of each name, so a gap loses nothing.
pub struct ControlReader {
    topic: String,
    follower: Follower,
    topologies: BTreeMap<String, Submitted>,
}

impl ControlReader {
    /// Opens a reader at the first record. Creates the topic if it is missing.
    ///
    /// # Errors
    /// If the bus does not answer, or the topic has the wrong shape.
    pub fn open(bus: &dyn Bus, topics: &Topics) -> Result<Self, BusError> {
        bus.ensure_topic(&topic(topics))?;
        let (topic, mut follower) = (topics.control(), Follower::default());
        follower.follow(bus, &topic, 0, Start::Low)?;
        Ok(Self { topic, follower, topologies: BTreeMap::new() })
    }

    /// Returns the submitted topologies by name.
    pub fn topologies(&self) -> &BTreeMap<String, Submitted> {
        &self.topologies
    }

    /// Reads new records, waiting at most `wait` for the first; returns true if there were any.
    ///
    /// # Errors
    /// If the bus does not answer.
    pub fn poll(&mut self, wait: Duration) -> Result<bool, BusError> {
        let mut records = Vec::new();
        let polled = self.follower.poll(MAX_POLL_RECORDS, wait, &mut records);
        for record in &records {
            apply(&mut self.topologies, record);
        }
        polled?;
        Ok(!records.is_empty())
    }

    /// Reads all records that were written before this call.
    ///
    /// # Errors
    /// If the bus does not answer in time.
    pub fn catch_up(&mut self, bus: &dyn Bus) -> Result<(), BusError> {
        let Self { topic, follower, topologies } = self;
        let mut take = |record| {
            apply(topologies, &record);
            ControlFlow::Continue(())
        };
        while follower.catch_up(bus, topic, [0], PATIENCE, &mut take)?.is_some() {}
        Ok(())
    }
}

fn apply(topologies: &mut BTreeMap<String, Submitted>, record: &Record) {
    let key = record.key.as_deref().unwrap_or_default();
    let Ok(name) = std::str::from_utf8(key) else {
        tracing::warn!(offset = record.offset, "the key of a record of the control topic is not a name");
        return;
    };
    if record.value.is_empty() {
        topologies.remove(name);
        return;
    }
    match serde_json::from_slice::<Submitted>(&record.value) {
        Ok(submitted) if submitted.name == name => drop(topologies.insert(name.to_owned(), submitted)),
        Ok(other) => {
            tracing::warn!(key = name, name = other.name, "key and name of a record of the control topic differ");
        }
        Err(error) => tracing::warn!(key = name, %error, "a record of the control topic cannot be read"),
    }
}

/// Writes the record of a topology.
///
/// # Errors
/// If the bus does not accept the record.
pub fn write(bus: &dyn Bus, topics: &Topics, submitted: &Submitted) -> Result<(), BusError> {
    let body = serde_json::to_vec(submitted).expect("a submission is plain data");
    bus.writer("control")?.append(&[Outgoing::keyed(&topics.control(), submitted.name.clone(), body)])
}

/// Deletes a topology, which frees its name.
///
/// # Errors
/// If the bus does not accept the record.
pub fn delete(bus: &dyn Bus, topics: &Topics, name: &str) -> Result<(), BusError> {
    bus.writer("control")?.append(&[Outgoing::keyed(&topics.control(), name.to_owned(), Vec::new())])
}

/// Returns the number of members in all processes that run a stage of this topology.
///
/// # Errors
/// If the bus does not answer.
pub fn members(bus: &dyn Bus, topics: &Topics, submitted: &Submitted) -> Result<usize, BusError> {
    let of = |stage: &wire::control::SubmittedStage| bus.members(&topics.inbox(&submitted.name, &stage.name));
    submitted.stages.iter().map(of).sum()
}
