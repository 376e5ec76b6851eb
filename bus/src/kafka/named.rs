//! Positions of named followers: the committed offsets of groups without members.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::backlog::Backlogs;
use super::cluster::Cluster;
use super::{admin, convert, fault};
use crate::{BusError, MonoTime, follower};

/// Interval between two reads of the positions that hold back trims. A read costs the cluster some
/// milliseconds, and a busy process trims a partition many times per second.
const LOOK_MS: u64 = 1_000;

/// The lowest position of any named follower of each partition, by topic, and when it was read: at
/// most the topics that this process trims.
pub(super) type NamedFloors = BTreeMap<String, (MonoTime, Vec<u64>)>;

/// Returns the beginning of the group ids of a topic's named followers. The names contain no `.`,
/// so no other topic's follower has such an id.
fn prefix(topic: &str) -> String {
    format!("{topic}.follower.")
}

impl Backlogs {
    /// Saves positions of a named follower.
    pub(super) fn save_positions(
        &self,
        cluster: &Cluster,
        name: &str,
        topic: &str,
        positions: &[(u32, u64)],
    ) -> Result<(), BusError> {
        let group = prefix(topic) + name;
        if !self.groups.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&group) {
            follower::check_name(name, topic, &names(cluster, topic)?)?;
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in positions {
            cluster.check(topic, *partition)?;
            convert::add(&mut list, topic, convert::raw_partition(*partition), Some((*next, "")));
        }
        let saved = self.probe(&group)?.request(|client| client.commit(&list, CommitMode::Sync));
        saved
            .map_err(|fault| fault::bus(&format!("cannot save the position of follower `{name}` of `{topic}`"), &fault))
    }

    /// Returns the saved position of a named follower.
    pub(super) fn saved_position(
        &self,
        cluster: &Cluster,
        name: &str,
        topic: &str,
        partition: u32,
    ) -> Result<Option<u64>, BusError> {
        cluster.check(topic, partition)?;
        if !names(cluster, topic)?.iter().any(|known| known == name) {
            return Ok(None);
        }
        let saved = self.committed(cluster, &(prefix(topic) + name), topic)?;
        Ok(saved[usize::try_from(partition).expect("a partition is an index")])
    }

    /// Forgets a named follower.
    pub(super) fn forget_name(&self, cluster: &Cluster, name: &str, topic: &str) -> Result<(), BusError> {
        let group = prefix(topic) + name;
        if names(cluster, topic)?.iter().any(|known| known == name) {
            admin::delete_group(&self.options, &group)?;
        }
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
        Ok(())
    }

    /// Returns the lowest position of the named followers of a partition; [`u64::MAX`] without any.
    pub(super) fn named_floor(
        &self,
        floors: &mut NamedFloors,
        cluster: &Cluster,
        topic: &str,
        partition: u32,
    ) -> Result<u64, BusError> {
        let now = cluster.clock().mono();
        let index = usize::try_from(partition).expect("a partition is an index");
        if let Some((_, floors)) = floors.get(topic).filter(|(read, _)| now < read.plus_ms(LOOK_MS)) {
            return Ok(floors[index]);
        }
        let mut lowest = vec![u64::MAX; usize::try_from(cluster.cached_partitions(topic)?).unwrap_or(usize::MAX)];
        for name in names(cluster, topic)? {
            let saved = self.committed(cluster, &(prefix(topic) + &name), topic)?;
            for (lowest, saved) in lowest.iter_mut().zip(saved) {
                *lowest = (*lowest).min(saved.unwrap_or(u64::MAX));
            }
        }
        let floor = lowest[index];
        floors.insert(topic.to_owned(), (now, lowest));
        Ok(floor)
    }
}

/// Returns the names of a topic's named followers.
fn names(cluster: &Cluster, topic: &str) -> Result<Vec<String>, BusError> {
    let prefix = prefix(topic);
    let groups = cluster.groups()?;
    let names = groups.iter().filter_map(|group| group.strip_prefix(&prefix)).filter(|name| !name.contains('.'));
    Ok(names.map(str::to_owned).collect())
}
