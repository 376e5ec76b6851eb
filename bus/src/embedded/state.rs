//! Everything that the lock of the bus protects: topics, groups, readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::WallTime;
use wire::routing::lane_of;

use super::EmbeddedOptions;
use super::disk::Disk;
use super::disk::tail::Tail;
use super::group::{Group, Seat};
use super::log::Log;
use super::waker::Waker;
use crate::{Bounds, BusError, Cleanup, Outgoing, Record, Route, TopicInfo, TopicSpec};

/// All there is.
#[derive(Default)]
pub(super) struct State {
    names: BTreeMap<Arc<str>, usize>,
    pub(super) topics: Vec<Topic>,
    group_names: BTreeMap<String, usize>,
    pub(super) groups: Vec<Group>,
    pub(super) readers: BTreeMap<u64, Audience>,
    pub(super) last_id: u64,
    /// The disk, where there is one.
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
}

/// One reader outside all groups.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// Where it reads on, by topic and partition.
    pub(super) places: BTreeMap<(usize, u32), u64>,
    /// Where it waits.
    pub(super) waker: Waker,
}

/// A partition that was found to exist.
pub(super) type Place = (usize, u32);

impl State {
    /// A number that nobody has.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The topic's number.
    pub(super) fn find(&self, name: &str) -> Result<usize, BusError> {
        self.names.get(name).copied().ok_or_else(|| BusError::NoTopic(name.into()))
    }

    /// The partition, where there is one.
    pub(super) fn place(&self, topic: &str, partition: u32) -> Result<Place, BusError> {
        let index = self.find(topic)?;
        if partition < self.topics[index].info.partitions {
            return Ok((index, partition));
        }
        Err(BusError::NoPartition { topic: topic.into(), partition })
    }

    /// The log of a partition.
    pub(super) fn log(&mut self, (topic, partition): Place) -> &mut Log {
        let index = usize::try_from(partition).expect("a partition is an index");
        &mut self.topics[topic].partitions[index]
    }

    /// The log of a partition, to look at.
    pub(super) fn log_of(&self, (topic, partition): Place) -> &Log {
        let index = usize::try_from(partition).expect("a partition is an index");
        &self.topics[topic].partitions[index]
    }

    /// Creates a topic, or checks the one there is.
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
            return Err(BusError::Refused(format!("topic `{}` must have a partition", spec.name)));
        }
        // The time tells topics of one run from those of another, which had the same numbers.
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

    /// Adds a topic that is not there.
    pub(super) fn add_topic(&mut self, info: TopicInfo, cleanup: Cleanup) {
        let name: Arc<str> = info.name.as_str().into();
        let log = |partition| Log::new(Arc::clone(&name), partition, cleanup == Cleanup::Compact);
        let partitions = (0..info.partitions).map(log).collect();
        self.names.insert(Arc::clone(&name), self.topics.len());
        self.topics.push(Topic { partitions, name, cleanup, info, groups: Vec::new() });
    }

    /// The group's number; it is made where there is none.
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

    /// Adds a group that is not there.
    pub(super) fn add_group(&mut self, name: &str, topic: usize) -> usize {
        let index = self.groups.len();
        self.groups.push(Group::new(name, topic, self.topics[topic].partitions.len()));
        self.group_names.insert(name.into(), index);
        self.topics[topic].groups.push(index);
        index
    }

    /// The group of this name, where there is one.
    pub(super) fn known_group(&mut self, name: &str) -> Option<&mut Group> {
        let index = *self.group_names.get(name)?;
        Some(&mut self.groups[index])
    }

    /// The seat of member `id` of `group`.
    pub(super) fn seat(&mut self, group: usize, id: u64) -> Option<&mut Seat> {
        self.groups[group].seats.get_mut(&id)
    }

    /// Checks a record, and finds where it goes; `topic` is the number of its topic, where that is known.
    pub(super) fn route(
        &self,
        outgoing: &Outgoing,
        topic: Option<usize>,
        options: &EmbeddedOptions,
    ) -> Result<Place, BusError> {
        let index = topic.map_or_else(|| self.find(&outgoing.topic), Ok)?;
        let topic = &self.topics[index];
        let (size, limit) = (outgoing.size(), options.max_record_bytes);
        if size > limit {
            return Err(BusError::TooLarge { topic: topic.info.name.clone(), size, limit });
        }
        if outgoing.key.is_none() && topic.cleanup == Cleanup::Compact {
            return Err(BusError::Refused(format!("a record without a key for the compacted topic `{}`", topic.name)));
        }
        match (outgoing.route, &outgoing.key) {
            (Route::To(partition), _) if partition < topic.info.partitions => Ok((index, partition)),
            (Route::To(partition), _) => Err(BusError::NoPartition { topic: topic.info.name.clone(), partition }),
            (Route::ByKey, Some(key)) => Ok((index, lane_of(key, topic.info.partitions))),
            (Route::ByKey, None) => Ok((index, 0)),
        }
    }

    /// Up to `max` records of a partition with offsets from `from` on and below `until`. Says where to read on.
    pub(super) fn read(
        &mut self,
        place: Place,
        from: u64,
        max: usize,
        until: u64,
        mut out: impl FnMut(Record),
    ) -> Result<u64, BusError> {
        self.check_start(place, from)?;
        let (mut next, mut read) = (from, 0);
        while read < max
            && let Some(page) = self.log_of(place).tail.as_ref().and_then(|tail| tail.page_of(next))
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

    /// Whether one can read on at `from`: neither what is gone nor what never was is passed over in silence.
    pub(super) fn check_start(&mut self, place: Place, from: u64) -> Result<(), BusError> {
        let bounds = self.log(place).bounds();
        let topic = &self.topics[place.0].info.name;
        if from < bounds.low {
            return Err(BusError::Gone { topic: topic.clone(), partition: place.1, asked: from, low: bounds.low });
        }
        if from > bounds.end {
            return Err(BusError::Refused(format!("{from} is past {}, the end of `{topic}` {}", bounds.end, place.1)));
        }
        Ok(())
    }

    pub(super) fn wake(&mut self, place: Place) {
        let (topic, partition) = place;
        for group in &self.topics[topic].groups {
            if let Some(seat) = self.groups[*group].owner_of(partition)
                && seat.places.get(&partition).is_some_and(Option::is_some)
            {
                seat.waker.wake();
            }
        }
        for audience in self.readers.values_mut().filter(|audience| audience.places.contains_key(&place)) {
            audience.waker.wake();
        }
    }

    /// How far a group is behind the end of each partition of a topic.
    pub(super) fn backlog(&self, group: &str, topic: usize) -> Vec<u64> {
        let group = self.group_names.get(group).map(|index| &self.groups[*index]);
        let behind = |(partition, log): (u32, &Log)| {
            let committed = group.and_then(|group| group.share(partition)?.committed.as_ref());
            let (low, end) = (log.bounds().low, log.end_of_records());
            end.saturating_sub(committed.map_or(low, |committed| committed.next))
        };
        (0..).zip(&self.topics[topic].partitions).map(behind).collect()
    }

    /// What each group has committed of a partition; 0 where nothing yet.
    pub(super) fn committed(&self, (topic, partition): Place) -> impl Iterator<Item = u64> {
        let groups = self.topics[topic].groups.iter().map(|group| &self.groups[*group]);
        groups
            .filter_map(move |group| group.share(partition))
            .map(|share| share.committed.as_ref().map_or(0, |c| c.next))
    }

    /// Where everybody who reads a partition reads on.
    pub(super) fn next_reads(&self, place: Place) -> impl Iterator<Item = u64> {
        let groups = self.topics[place.0].groups.iter().map(|group| &self.groups[*group]);
        let seats = groups.flat_map(|group| group.seats.values());
        let members = seats.filter_map(move |seat| seat.places.get(&place.1).copied().flatten());
        members.chain(self.readers.values().filter_map(move |audience| audience.places.get(&place).copied()))
    }
}
