//! What the cluster knows of topics: how many partitions they have, and where those begin and end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use wire::routing::lane_of;

use super::health::Health;
use super::options::{KafkaOptions, REQUEST};
use super::probe::Probe;
use super::{convert, fault};
use crate::{Bounds, BusError, Clock, Outgoing, Route};

/// The largest record, with key and headers. A broker takes batches of 1 MiB (`message.max.bytes`), and what is added to a
/// single record must fit too.
pub(super) const MAX_RECORD_BYTES: usize = 1_000_000;

/// Brokers hear of a new topic one after another, and each question may go to another broker: a topic that was seen is gone only when
/// this many have not seen it, with 10 ms between them.
pub(super) const LOOKS: u32 = 100;

/// One connection for questions, and the answers that do not change: partitions may not be added.
pub(super) struct Cluster {
    probe: Probe,
    clock: Arc<dyn Clock>,
    health: Health,
    partitions: Mutex<BTreeMap<Arc<str>, u32>>,
}

impl Cluster {
    /// Connects.
    pub(super) fn open(clock: Arc<dyn Clock>, options: &KafkaOptions) -> Result<Self, BusError> {
        let probe = Probe::open(options.probe(None, true))?;
        let cluster = Self { probe, clock, health: Health::default(), partitions: Mutex::default() };
        cluster.id().map(|_| cluster)
    }

    /// The clock that the bus was opened with.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The waits of its writers.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// The cluster's own id.
    pub(super) fn id(&self) -> Result<String, BusError> {
        let silence = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let id = self.probe.ask(|client| client.client().fetch_cluster_id(REQUEST).ok_or(silence));
        id.map_err(|_| BusError::Unavailable("no broker answers".into()))
    }

    /// How many members a group has.
    pub(super) fn members(&self, group: &str) -> Result<usize, BusError> {
        let what = || format!("cannot ask for the members of group `{group}`");
        let list = self
            .probe
            .ask(|client| client.fetch_group_list(Some(group), REQUEST))
            .map_err(|fault| fault::bus(&what(), &fault))?;
        Ok(list.groups().iter().filter(|known| known.name() == group).map(|known| known.members().len()).sum())
    }

    /// How many partitions a topic has; none where it does not exist.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<u32>, BusError> {
        let seen = self.known().contains_key(topic);
        for _ in 0..LOOKS {
            match self.ask(topic)? {
                None if seen => self.pause(),
                found => return Ok(found),
            }
        }
        self.known().remove(topic);
        Ok(None)
    }

    /// The same, as the broker knows that is asked.
    fn ask(&self, topic: &str) -> Result<Option<u32>, BusError> {
        let what = || format!("cannot ask for topic `{topic}`");
        let metadata = self
            .probe
            .ask(|client| client.fetch_metadata(Some(topic), REQUEST))
            .map_err(|fault| fault::bus(&what(), &fault))?;
        let Some(found) = metadata.topics().first() else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => return Err(fault::bus_code(&what(), code)),
        }
        let count = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
        let led = found.partitions().iter().all(|partition| partition.leader() >= 0);
        if count == 0 || !led {
            return Err(BusError::Unavailable(format!("topic `{topic}` has no leaders yet")));
        }
        self.known().insert(topic.into(), count);
        Ok(Some(count))
    }

    /// How many copies each partition of a topic has at the least.
    pub(super) fn copies(&self, topic: &str) -> Result<usize, BusError> {
        let what = || format!("cannot ask for topic `{topic}`");
        let metadata = self
            .probe
            .ask(|client| client.fetch_metadata(Some(topic), REQUEST))
            .map_err(|fault| fault::bus(&what(), &fault))?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        partitions.map(|partition| partition.replicas().len()).min().ok_or_else(|| BusError::NoTopic(topic.into()))
    }

    /// Where a record goes.
    pub(super) fn route(&self, record: &Outgoing) -> Result<i32, BusError> {
        let (size, limit) = (record.size(), MAX_RECORD_BYTES);
        if size > limit {
            return Err(BusError::TooLarge { topic: record.topic.to_string(), size, limit });
        }
        let partitions = self.known_partitions(&record.topic)?;
        let partition = match (record.route, &record.key) {
            (Route::To(partition), _) if partition < partitions => partition,
            (Route::To(partition), _) => {
                return Err(BusError::NoPartition { topic: record.topic.to_string(), partition });
            }
            (Route::ByKey, Some(key)) => lane_of(key, partitions),
            (Route::ByKey, None) => 0,
        };
        Ok(convert::raw_partition(partition))
    }

    /// Fails where there is no such partition.
    pub(super) fn check(&self, topic: &str, partition: u32) -> Result<(), BusError> {
        if partition < self.known_partitions(topic)? {
            return Ok(());
        }
        Err(BusError::NoPartition { topic: topic.into(), partition })
    }

    /// Where a partition begins, and how far what is committed goes.
    pub(super) fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.check(topic, partition)?;
        let found = self.probe.ask(|client| client.fetch_watermarks(topic, convert::raw_partition(partition), REQUEST));
        let (low, end) = found
            .map_err(|fault| fault::bus(&format!("cannot ask for the bounds of `{topic}` {partition}"), &fault))?;
        Ok(Bounds { low: convert::offset(low), end: convert::offset(end) })
    }

    /// The bounds of a partition. Fails where one cannot read on at `from`, because it is gone or never was.
    pub(super) fn check_start(&self, topic: &str, partition: u32, from: u64) -> Result<Bounds, BusError> {
        let Bounds { low, end } = self.bounds(topic, partition)?;
        if from < low {
            return Err(BusError::Gone { topic: topic.into(), partition, asked: from, low });
        }
        if from > end {
            return Err(BusError::Refused(format!("{from} is past {end}, the end of `{topic}` {partition}")));
        }
        Ok(Bounds { low, end })
    }

    /// Fails where a reader cannot go on at `next`: that was deleted, or the whole topic was, and what was made anew ends before it.
    pub(super) fn check_next(&self, topic: &str, partition: u32, next: u64) -> Result<(), BusError> {
        let Bounds { low, end } = self.bounds(topic, partition).map_err(|fault| match fault {
            // Who reads it waits for it to come back, or to be told that it is another's.
            BusError::NoTopic(_) => BusError::Unavailable(fault.to_string()),
            fault => fault,
        })?;
        if (low..=end).contains(&next) {
            return Ok(());
        }
        Err(BusError::Gone { topic: topic.into(), partition, asked: next, low })
    }

    /// How many partitions a topic has; one that was seen before is not asked for again.
    pub(super) fn known_partitions(&self, topic: &str) -> Result<u32, BusError> {
        let known = self.known().get(topic).copied();
        match known {
            Some(partitions) => Ok(partitions),
            None => self.partitions(topic)?.ok_or_else(|| BusError::NoTopic(topic.into())),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u32>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment for the cluster.
    pub(super) fn pause(&self) {
        self.probe.pause();
    }
}
