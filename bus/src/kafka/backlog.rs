//! How far groups are behind, and letting go of what they no longer need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::admin::AdminClient;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cluster::{self, Cluster};
use super::context::Quiet;
use super::options::{KafkaOptions, REQUEST};
use super::probe::Probe;
use super::takeover::not_yet;
use super::{admin, convert, fault};
use crate::{Bounds, BusError};

/// A partition is trimmed once at least this many offsets can go: a request to the cluster costs a millisecond, and a snapshot a second
/// would make one for each lane and second.
const TRIMMED_OFFSETS: u64 = 10_000;

/// One client for the committed offsets of each group that is asked about: as many as the stages that this process feeds.
pub(super) struct Backlogs {
    options: KafkaOptions,
    groups: Mutex<BTreeMap<String, Arc<Probe>>>,
    /// The client that deletes records, once one is needed, and up to where each partition was trimmed: as many as this process has lanes.
    trims: Mutex<Trims>,
}

#[derive(Default)]
struct Trims {
    client: Option<AdminClient<Quiet>>,
    done: BTreeMap<(String, u32), u64>,
}

impl Backlogs {
    pub(super) fn new(options: &KafkaOptions) -> Self {
        Self { options: options.clone(), groups: Mutex::default(), trims: Mutex::default() }
    }

    /// How far a group is behind the end of each partition of a topic.
    pub(super) fn of(&self, cluster: &Cluster, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        let what = || format!("cannot read the committed offsets of group `{group}`");
        let partitions = cluster.known_partitions(topic)?;
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition(topic, convert::raw_partition(partition));
        }
        let probe = self.probe(group)?;
        let mut looks = 1..cluster::LOOKS;
        let found = loop {
            match probe.ask(|client| client.committed_offsets(asked.clone(), REQUEST)) {
                Ok(found) => break found,
                Err(fault) if not_yet(&fault) && looks.next().is_some() => cluster.pause(),
                Err(fault) => return Err(fault::bus(&what(), &fault)),
            }
        };
        let mut backlog = Vec::new();
        for partition in 0..partitions {
            let Bounds { low, end } = cluster.bounds(topic, partition)?;
            let committed = found.find_partition(topic, convert::raw_partition(partition));
            let next = match committed.map(|element| element.offset()) {
                Some(Offset::Offset(next)) => convert::offset(next),
                Some(_) | None => low,
            };
            backlog.push(end.saturating_sub(next));
        }
        Ok(backlog)
    }

    fn probe(&self, group: &str) -> Result<Arc<Probe>, BusError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(probe) = groups.get(group) {
            return Ok(Arc::clone(probe));
        }
        // Offsets of a transaction that is still open are not counted: a backlog may look larger than it is, never smaller.
        let probe = Arc::new(Probe::open(self.options.probe(Some(group), false))?);
        groups.insert(group.to_owned(), Arc::clone(&probe));
        Ok(probe)
    }

    /// Sends the cluster a request to delete what is before an offset, where that is worth one. Nobody waits for its answer: what was
    /// not deleted goes with the next request.
    pub(super) fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut trims = self.trims.lock().unwrap_or_else(PoisonError::into_inner);
        let Trims { client, done } = &mut *trims;
        let done = done.entry((topic.to_owned(), partition)).or_default();
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
