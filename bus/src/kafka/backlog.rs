//! The backlog of groups, and trimming of records that they no longer need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::admin::AdminClient;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cluster::{self, Cluster};
use super::context::NoCallbacks;
use super::named::NamedFloors;
use super::options::{KafkaOptions, REQUEST};
use super::probe::Probe;
use super::takeover::not_yet;
use super::{admin, convert, fault};
use crate::{Bounds, BusError};

/// Minimum number of deletable offsets per trim request. A request costs the cluster a millisecond,
/// and every snapshot (one per lane and second) would send one.
const TRIMMED_OFFSETS: u64 = 10_000;

/// Probes for committed offsets, one for each group: at most the number of stages that this process
/// feeds, and the named followers of the topics that it reads or trims.
pub(super) struct Backlogs {
    pub(super) options: KafkaOptions,
    pub(super) groups: Mutex<BTreeMap<String, Arc<Probe>>>,
    /// The deletion client, created on first use, and the trimmed offset of each partition: at most
    /// the number of this process's lanes.
    trims: Mutex<Trims>,
}

#[derive(Default)]
struct Trims {
    client: Option<AdminClient<NoCallbacks>>,
    done: BTreeMap<(String, u32), u64>,
    /// The lowest positions of named followers, by topic.
    named: NamedFloors,
}

impl Backlogs {
    pub(super) fn new(options: &KafkaOptions) -> Self {
        Self { options: options.clone(), groups: Mutex::default(), trims: Mutex::default() }
    }

    /// Returns how far a group is behind the end of each partition of a topic.
    pub(super) fn of(&self, cluster: &Cluster, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        let mut backlog = Vec::new();
        for (partition, committed) in (0..).zip(self.committed(cluster, group, topic)?) {
            let Bounds { low, end } = cluster.bounds(topic, partition)?;
            backlog.push(end.saturating_sub(committed.unwrap_or(low)));
        }
        Ok(backlog)
    }

    /// Returns the committed offset of a group in each partition of a topic.
    pub(super) fn committed(&self, cluster: &Cluster, group: &str, topic: &str) -> Result<Vec<Option<u64>>, BusError> {
        let what = || format!("cannot read the committed offsets of group `{group}`");
        let partitions = cluster.cached_partitions(topic)?;
        let mut requested = TopicPartitionList::new();
        for partition in 0..partitions {
            requested.add_partition(topic, convert::raw_partition(partition));
        }
        let probe = self.probe(group)?;
        let mut checks = 1..cluster::CHECKS;
        let found = loop {
            match probe.request(|client| client.committed_offsets(requested.clone(), REQUEST)) {
                Ok(found) => break found,
                Err(fault) if not_yet(&fault) && checks.next().is_some() => cluster.pause(),
                Err(fault) => return Err(fault::bus(&what(), &fault)),
            }
        };
        let committed = |partition| match found.find_partition(topic, convert::raw_partition(partition))?.offset() {
            Offset::Offset(next) => Some(convert::offset(next)),
            Offset::Invalid | Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => None,
        };
        Ok((0..partitions).map(committed).collect())
    }

    /// Returns the client for the offsets of a group.
    pub(super) fn probe(&self, group: &str) -> Result<Arc<Probe>, BusError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(probe) = groups.get(group) {
            return Ok(Arc::clone(probe));
        }
        // Does not wait for pending transactions: a backlog may look larger than it is, never
        // smaller.
        let probe = Arc::new(Probe::open(self.options.probe(Some(group), false))?);
        groups.insert(group.to_owned(), Arc::clone(&probe));
        Ok(probe)
    }

    /// Requests deletion of the records below an offset if enough of them can be deleted. Does not
    /// wait for the response: the next request covers a failed one.
    pub(super) fn trim(&self, cluster: &Cluster, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut trims = self.trims.lock().unwrap_or_else(PoisonError::into_inner);
        let Trims { client, done, named } = &mut *trims;
        let done = done.entry((topic.to_owned(), partition)).or_default();
        if before < *done + TRIMMED_OFFSETS {
            return Ok(());
        }
        let before = before.min(self.named_floor(named, cluster, topic, partition)?);
        if before < *done + TRIMMED_OFFSETS {
            return Ok(());
        }
        *done = before;
        let client = match client {
            Some(client) => client,
            None => client.insert(admin::client(&self.options)?),
        };
        admin::send_deletion(client, topic, partition, before)
    }
}
