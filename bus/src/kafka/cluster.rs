//! Topic metadata: partition counts and watermarks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use wire::WallTime;
use wire::routing::lane_of;

use super::health::Health;
use super::options::{ANSWER, KafkaOptions, REQUEST};
use super::probe::Probe;
use super::{convert, fault};
use crate::record::modulo;
use crate::{Bounds, BusError, Clock, Outgoing, Route};

/// Maximum size of a record with key and headers, in bytes. A broker accepts batches of 1 MiB
/// (`message.max.bytes`), which must also hold the protocol overhead.
pub(super) const MAX_RECORD_BYTES: usize = 1_000_000;

/// Number of checks, 10 ms apart, before a topic that was seen once counts as deleted. Brokers
/// learn of a new topic one after another, and each request may go to another broker.
pub(super) const CHECKS: u32 = 100;

/// A connection for metadata requests, and a cache of partition counts, which never change.
pub(super) struct Cluster {
    probe: Probe,
    clock: Arc<dyn Clock>,
    health: Health,
    partitions: Mutex<BTreeMap<Arc<str>, u32>>,
}

/// Topics of Kafka itself. A client may not write them.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// True if Kafka allows a topic of this name (`org.apache.kafka.common.internals.Topic`).
fn is_topic_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(is_allowed)
}

impl Cluster {
    /// Connects.
    pub(super) fn open(clock: Arc<dyn Clock>, options: &KafkaOptions) -> Result<Self, BusError> {
        let probe = Probe::open(options.probe(None, true))?;
        let cluster = Self { probe, clock, health: Health::default(), partitions: Mutex::default() };
        cluster.id().map(|_| cluster)
    }

    /// Returns the clock that the bus was opened with.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Returns the health of the writers.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Returns the cluster id.
    pub(super) fn id(&self) -> Result<String, BusError> {
        let silence = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let id = self.probe.request(|client| client.client().fetch_cluster_id(REQUEST).ok_or(silence));
        id.map_err(|_| BusError::Unavailable("no broker answers".into()))
    }

    /// Returns the number of members of a group.
    pub(super) fn members(&self, group: &str) -> Result<usize, BusError> {
        let what = || format!("cannot read the members of group `{group}`");
        let list = self
            .probe
            .request(|client| client.fetch_group_list(Some(group), REQUEST))
            .map_err(|fault| fault::bus(&what(), &fault))?;
        Ok(list.groups().iter().filter(|found| found.name() == group).map(|found| found.members().len()).sum())
    }

    /// Returns the ids of all groups.
    pub(super) fn groups(&self) -> Result<Vec<String>, BusError> {
        let list = self.probe.request(|client| client.fetch_group_list(None, REQUEST));
        let list = list.map_err(|fault| fault::bus("cannot list the groups", &fault))?;
        Ok(list.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    /// Returns the partition count of a topic; `None` if it does not exist.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<u32>, BusError> {
        self.partitions_within(REQUEST, topic)
    }

    /// Like `partitions`, with a maximum wait for a response.
    fn partitions_within(&self, wait: Duration, topic: &str) -> Result<Option<u32>, BusError> {
        let seen = self.cache().contains_key(topic);
        for _ in 0..CHECKS {
            match self.fetch_partitions(wait, topic)? {
                None if seen => self.pause(),
                found => return Ok(found),
            }
        }
        self.cache().remove(topic);
        Ok(None)
    }

    /// Like `partitions_within`, from a single response.
    fn fetch_partitions(&self, wait: Duration, topic: &str) -> Result<Option<u32>, BusError> {
        let what = || format!("cannot read the metadata of topic `{topic}`");
        let metadata = self
            .probe
            .request(|client| client.fetch_metadata(Some(topic), wait))
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
        self.cache().insert(topic.into(), count);
        Ok(Some(count))
    }

    /// Returns the smallest replica count among the partitions of a topic.
    pub(super) fn copies(&self, topic: &str) -> Result<usize, BusError> {
        let what = || format!("cannot read the metadata of topic `{topic}`");
        let metadata = self
            .probe
            .request(|client| client.fetch_metadata(Some(topic), REQUEST))
            .map_err(|fault| fault::bus(&what(), &fault))?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        partitions.map(|partition| partition.replicas().len()).min().ok_or_else(|| BusError::NoTopic(topic.into()))
    }

    /// Returns the partition of a record.
    pub(super) fn route(&self, record: &Outgoing) -> Result<i32, BusError> {
        let (size, limit) = (record.size(), MAX_RECORD_BYTES);
        if size > limit {
            return Err(BusError::TooLarge { topic: record.topic.to_string(), size, limit });
        }
        if INTERNAL.contains(&&*record.topic) {
            return Err(BusError::NoTopic(record.topic.to_string()));
        }
        let partitions = self.cached_partitions(&record.topic)?;
        let partition = match (record.route, &record.key) {
            (Route::To(partition), _) if partition < partitions => partition,
            (Route::To(partition), _) => {
                return Err(BusError::NoPartition { topic: record.topic.to_string(), partition });
            }
            (Route::ByKey, Some(key)) => lane_of(key, partitions),
            (Route::ByKey, None) => 0,
            (Route::Modulo(number), _) => modulo(number, partitions),
        };
        Ok(convert::raw_partition(partition))
    }

    /// Returns the error of records that could not be written, with this code of the client, because
    /// one of their topics was deleted. A new producer waits for the metadata of such a topic longer than
    /// for a write, so a timeout may mean it too. Asks a bus that does not answer only once.
    pub(super) fn deleted_topic(&self, code: Option<RDKafkaErrorCode>, records: &[Outgoing]) -> Option<BusError> {
        if !code.is_some_and(fault::may_be_unknown_topic) {
            return None;
        }
        let topics: BTreeSet<&str> = records.iter().map(|record| &*record.topic).collect();
        for topic in topics {
            if self.partitions_within(ANSWER, topic).ok()?.is_none() {
                return Some(BusError::NoTopic(topic.into()));
            }
        }
        None
    }

    /// Fails if the partition does not exist.
    pub(super) fn check(&self, topic: &str, partition: u32) -> Result<(), BusError> {
        if partition < self.cached_partitions(topic)? {
            return Ok(());
        }
        Err(BusError::NoPartition { topic: topic.into(), partition })
    }

    /// Returns the low watermark and the end of the committed records.
    pub(super) fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.check(topic, partition)?;
        let found =
            self.probe.request(|client| client.fetch_watermarks(topic, convert::raw_partition(partition), REQUEST));
        let (low, end) =
            found.map_err(|fault| fault::bus(&format!("cannot read the bounds of `{topic}` {partition}"), &fault))?;
        Ok(Bounds { low: convert::offset(low), end: convert::offset(end) })
    }

    /// Returns the offset of the first record that was appended at `time` or later, or the end.
    pub(super) fn offset_at(&self, topic: &str, partition: u32, time: WallTime) -> Result<u64, BusError> {
        let Bounds { end, .. } = self.bounds(topic, partition)?;
        let mut list = TopicPartitionList::new();
        let time = Offset::Offset(convert::raw_offset(time.0));
        let listed = list.add_partition_offset(topic, convert::raw_partition(partition), time);
        let found = listed.and_then(|()| self.probe.request(|client| client.offsets_for_times(list, REQUEST)));
        let found = found.and_then(|found| {
            let element = &found.elements()[0];
            element.error().map(|()| element.offset())
        });
        match found.map_err(|fault| fault::bus(&format!("cannot search `{topic}` {partition} by time"), &fault))? {
            Offset::Offset(offset) => Ok(convert::offset(offset).min(end)),
            Offset::Invalid | Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => Ok(end),
        }
    }

    /// Returns the bounds of a partition. Fails if `from` was deleted or is past the end.
    pub(super) fn check_start(&self, topic: &str, partition: u32, from: u64) -> Result<Bounds, BusError> {
        let Bounds { low, end } = self.bounds(topic, partition)?;
        if from < low {
            return Err(BusError::Gone { topic: topic.into(), partition, requested: from, low });
        }
        if from > end {
            return Err(BusError::Refused(format!("offset {from} is past {end}, the end of `{topic}` {partition}")));
        }
        Ok(Bounds { low, end })
    }

    /// Fails if a reader cannot continue at `next`: the records or the topic were deleted, or a
    /// recreated topic ends before it.
    pub(super) fn check_next(&self, topic: &str, partition: u32, next: u64) -> Result<(), BusError> {
        let Bounds { low, end } = self.bounds(topic, partition).map_err(|fault| match fault {
            // The reader waits until the topic exists again or the partition is reassigned.
            BusError::NoTopic(_) => BusError::Unavailable(fault.to_string()),
            fault => fault,
        })?;
        if (low..=end).contains(&next) {
            return Ok(());
        }
        Err(BusError::Gone { topic: topic.into(), partition, requested: next, low })
    }

    /// Returns the partition count of a topic, from the cache if possible.
    pub(super) fn cached_partitions(&self, topic: &str) -> Result<u32, BusError> {
        let cached = self.cache().get(topic).copied();
        match cached {
            Some(partitions) => Ok(partitions),
            // The client reports such a name as a fault of its own.
            None if !is_topic_name(topic) => Err(BusError::NoTopic(topic.into())),
            None => self.partitions(topic)?.ok_or_else(|| BusError::NoTopic(topic.into())),
        }
    }

    fn cache(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u32>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits 10 ms for the cluster.
    pub(super) fn pause(&self) {
        self.probe.pause();
    }
}
