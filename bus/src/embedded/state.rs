//! Everything that the bus lock protects: topics, groups, readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::WallTime;
use wire::routing::lane_of;

use super::EmbeddedOptions;
use super::disk::Disk;
use super::disk::tail::Tail;
use super::group::{Group, GroupMember};
use super::log::Log;
use super::waker::Waker;
use crate::record::modulo;
use crate::{Bounds, BusError, Cleanup, Outgoing, Record, Route, TopicInfo, TopicSpec};

/// Topics, groups, readers and the disk.
#[derive(Default)]
pub(super) struct BusState {
    names: BTreeMap<Arc<str>, usize>,
    pub(super) topics: Vec<Topic>,
    group_names: BTreeMap<String, usize>,
    pub(super) groups: Vec<Group>,
    pub(super) readers: BTreeMap<u64, ReaderState>,
    pub(super) last_id: u64,
    /// The disk, if any.
    pub(super) disk: Option<Disk>,
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) info: TopicInfo,
    pub(super) name: Arc<str>,
    pub(super) cleanup: Cleanup,
    pub(super) partitions: Vec<Log>,
    /// The groups that read it.
    pub(super) groups: Vec<usize>,
    /// The positions of its named followers, by name and partition.
    pub(super) named: BTreeMap<String, Vec<Option<u64>>>,
}

/// A reader outside all groups.
#[derive(Debug, Default)]
pub(super) struct ReaderState {
    /// The next offset of each assigned partition.
    pub(super) places: BTreeMap<(usize, u32), u64>,
    /// The waker of its polls.
    pub(super) waker: Waker,
}

/// An existing partition: index of the topic, and partition number.
pub(super) type PartitionRef = (usize, u32);

impl BusState {
    /// Returns an unused number.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Returns the index of a topic.
    pub(super) fn find(&self, name: &str) -> Result<usize, BusError> {
        self.names.get(name).copied().ok_or_else(|| BusError::NoTopic(name.into()))
    }

    /// Returns the partition if it exists.
    pub(super) fn place(&self, topic: &str, partition: u32) -> Result<PartitionRef, BusError> {
        let index = self.find(topic)?;
        if partition < self.topics[index].info.partitions {
            return Ok((index, partition));
        }
        Err(BusError::NoPartition { topic: topic.into(), partition })
    }

    /// Returns the log of a partition, mutably.
    pub(super) fn log(&mut self, (topic, partition): PartitionRef) -> &mut Log {
        let index = usize::try_from(partition).expect("a partition is an index");
        &mut self.topics[topic].partitions[index]
    }

    /// Returns the log of a partition.
    pub(super) fn log_ref(&self, (topic, partition): PartitionRef) -> &Log {
        let index = usize::try_from(partition).expect("a partition is an index");
        &self.topics[topic].partitions[index]
    }

    /// Creates a topic, or checks the existing one.
    pub(super) fn ensure(&mut self, spec: &TopicSpec, now: WallTime) -> Result<TopicInfo, BusError> {
        if let Ok(index) = self.find(&spec.name) {
            let topic = &self.topics[index];
            let wrong = |field, found: String, needed: String| {
                Err(BusError::WrongTopic { topic: spec.name.clone(), field, found, needed })
            };
            if topic.info.partitions != spec.partitions {
                return wrong("partitions", topic.info.partitions.to_string(), spec.partitions.to_string());
            }
            if !spec.cleanup.is_met_by(topic.cleanup) {
                return wrong("clean-up", topic.cleanup.to_string(), spec.cleanup.to_string());
            }
            return Ok(topic.info.clone());
        }
        if spec.partitions == 0 {
            return Err(BusError::Refused(format!("topic `{}` must have at least 1 partition", spec.name)));
        }
        // The time distinguishes topics of different runs with the same number.
        let id = format!("{}-{}", now.0, self.fresh_id());
        let info = TopicInfo { name: spec.name.clone(), partitions: spec.partitions, id };
        self.keep_topic(&info, spec.cleanup)?;
        let tail = self.disk.is_some();
        self.add_topic(info.clone(), spec.cleanup);
        if tail {
            let index = self.topics.len() - 1;
            let logs = std::mem::take(&mut self.topics[index].partitions);
            let empty = Bounds { low: 0, end: 0 };
            self.topics[index].partitions = logs.into_iter().map(|log| log.on_disk(Tail::default(), empty)).collect();
        }
        Ok(info)
    }

    /// Adds a topic that does not exist.
    pub(super) fn add_topic(&mut self, info: TopicInfo, cleanup: Cleanup) {
        let name: Arc<str> = info.name.as_str().into();
        let log = |partition| Log::new(Arc::clone(&name), partition, cleanup == Cleanup::Compact);
        let partitions = (0..info.partitions).map(log).collect();
        self.names.insert(Arc::clone(&name), self.topics.len());
        self.topics.push(Topic { partitions, name, cleanup, info, groups: Vec::new(), named: BTreeMap::new() });
    }

    /// Returns the index of a group; creates the group if it does not exist.
    pub(super) fn group(&mut self, name: &str, topic: &str) -> Result<usize, BusError> {
        let topic_index = self.find(topic)?;
        if let Some(index) = self.group_names.get(name) {
            if self.groups[*index].topic == topic_index {
                return Ok(*index);
            }
            return Err(BusError::Refused(format!("group `{name}` reads another topic than `{topic}`")));
        }
        self.keep_group(name, topic_index)?;
        Ok(self.add_group(name, topic_index))
    }

    /// Adds a group that does not exist.
    pub(super) fn add_group(&mut self, name: &str, topic: usize) -> usize {
        let index = self.groups.len();
        self.groups.push(Group::new(name, topic, self.topics[topic].partitions.len()));
        self.group_names.insert(name.into(), index);
        self.topics[topic].groups.push(index);
        index
    }

    /// Returns the group of this name, if it exists.
    pub(super) fn find_group(&mut self, name: &str) -> Option<&mut Group> {
        let index = *self.group_names.get(name)?;
        Some(&mut self.groups[index])
    }

    /// Returns member `id` of `group`.
    pub(super) fn member(&mut self, group: usize, id: u64) -> Option<&mut GroupMember> {
        self.groups[group].members.get_mut(&id)
    }

    /// Checks a record and returns its partition; `topic` is the index of its topic, if known.
    pub(super) fn route(
        &self,
        outgoing: &Outgoing,
        topic: Option<usize>,
        options: &EmbeddedOptions,
    ) -> Result<PartitionRef, BusError> {
        let index = topic.map_or_else(|| self.find(&outgoing.topic), Ok)?;
        let topic = &self.topics[index];
        let (size, limit) = (outgoing.size(), options.max_record_bytes);
        if size > limit {
            return Err(BusError::TooLarge { topic: topic.info.name.clone(), size, limit });
        }
        if outgoing.key.is_none() && topic.cleanup == Cleanup::Compact {
            return Err(BusError::Refused(format!("record without a key for the compacted topic `{}`", topic.name)));
        }
        match (outgoing.route, &outgoing.key) {
            (Route::To(partition), _) if partition < topic.info.partitions => Ok((index, partition)),
            (Route::To(partition), _) => Err(BusError::NoPartition { topic: topic.info.name.clone(), partition }),
            (Route::ByKey, Some(key)) => Ok((index, lane_of(key, topic.info.partitions))),
            (Route::ByKey, None) => Ok((index, 0)),
            (Route::Modulo(number), _) => Ok((index, modulo(number, topic.info.partitions))),
        }
    }

    /// Reads up to `max` records with offsets in `from..until`. Returns the next offset to read.
    pub(super) fn read(
        &mut self,
        place: PartitionRef,
        from: u64,
        max: usize,
        until: u64,
        mut out: impl FnMut(Record),
    ) -> Result<u64, BusError> {
        self.check_start(place, from)?;
        let (mut next, mut read) = (from, 0);
        while read < max
            && let Some(page) = self.log_ref(place).tail.as_ref().and_then(|tail| tail.page_of(next))
        {
            self.open_page(place, page)?;
            let Some(tail) = &mut self.log(place).tail else { break };
            let (after, whole) = tail.read_open(next, max - read, until, &mut |record| {
                read += 1;
                out(record);
            });
            next = after;
            if !whole {
                return Ok(next);
            }
        }
        Ok(self.log(place).read(next, max - read, until, out))
    }

    /// Returns the first offset whose next record is not older than `time`.
    pub(super) fn offset_at(&mut self, place: PartitionRef, time: WallTime) -> Result<u64, BusError> {
        let Bounds { mut low, end } = self.log(place).bounds();
        let mut high = end;
        while low < high {
            let middle = low + (high - low) / 2;
            let mut older = None;
            self.read(place, middle, 1, end, |record| older = Some(record).filter(|record| record.time < time))?;
            match older {
                Some(record) => low = record.offset + 1,
                None => high = middle,
            }
        }
        Ok(low)
    }

    /// Fails if `from` was deleted or is past the end: neither is skipped silently.
    pub(super) fn check_start(&mut self, place: PartitionRef, from: u64) -> Result<(), BusError> {
        let bounds = self.log(place).bounds();
        let topic = &self.topics[place.0].info.name;
        if from < bounds.low {
            return Err(BusError::Gone { topic: topic.clone(), partition: place.1, requested: from, low: bounds.low });
        }
        if from > bounds.end {
            return Err(BusError::Refused(format!(
                "offset {from} is past {}, the end of `{topic}` {}",
                bounds.end, place.1
            )));
        }
        Ok(())
    }

    /// Wakes every member and reader: the bus failed, and their next poll says so.
    pub(super) fn wake_all(&mut self) {
        let members = self.groups.iter_mut().flat_map(|group| group.members.values_mut());
        let readers = self.readers.values_mut().map(|reader| &mut reader.waker);
        members.map(|member| &mut member.waker).chain(readers).for_each(Waker::wake);
    }

    /// Wakes the members and readers of a partition.
    pub(super) fn wake(&mut self, place: PartitionRef) {
        let (topic, partition) = place;
        for group in &self.topics[topic].groups {
            if let Some(member) = self.groups[*group].owner_of(partition)
                && member.places.get(&partition).is_some_and(Option::is_some)
            {
                member.waker.wake();
            }
        }
        for reader in self.readers.values_mut().filter(|reader| reader.places.contains_key(&place)) {
            reader.waker.wake();
        }
    }

    /// Returns how far a group is behind the end of each partition of a topic.
    pub(super) fn backlog(&self, group: &str, topic: usize) -> Vec<u64> {
        let group = self.group_names.get(group).map(|index| &self.groups[*index]);
        let behind = |(partition, log): (u32, &Log)| {
            let committed = group.and_then(|group| group.share(partition)?.committed.as_ref());
            let (low, end) = (log.bounds().low, log.end_of_records());
            end.saturating_sub(committed.map_or(low, |committed| committed.next))
        };
        (0..).zip(&self.topics[topic].partitions).map(behind).collect()
    }

    /// Returns the committed offset of each group that reads the partition; 0 without a commit.
    pub(super) fn committed(&self, (topic, partition): PartitionRef) -> impl Iterator<Item = u64> {
        let groups = self.topics[topic].groups.iter().map(|group| &self.groups[*group]);
        groups
            .filter_map(move |group| group.share(partition))
            .map(|share| share.committed.as_ref().map_or(0, |c| c.next))
    }

    /// Returns the next offset of each reader, named follower and member of a partition.
    pub(super) fn next_reads(&self, place: PartitionRef) -> impl Iterator<Item = u64> {
        let groups = self.topics[place.0].groups.iter().map(|group| &self.groups[*group]);
        let members = groups.flat_map(|group| group.members.values());
        let members = members.filter_map(move |member| member.places.get(&place.1).copied().flatten());
        let members = members.chain(self.named(place).map(|(_, saved)| saved));
        members.chain(self.readers.values().filter_map(move |reader| reader.places.get(&place).copied()))
    }
}
