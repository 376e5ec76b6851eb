//! The followed topics, their offsets and the receivers of their records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{Bounds, Bus, BusError, Reader, Record};
use wire::topics::Topics;

use crate::Gateway;
use crate::directory::TopologyEntry;

/// The receiver of the records of a topic.
pub(super) enum Source {
    /// Views or answers of a topology.
    Topology(Arc<Gateway>),
    /// Heartbeats of a service.
    Heartbeats(String),
    /// Submissions.
    Control,
}

/// The followed topics.
pub(super) struct Subscriptions {
    bus: Arc<dyn Bus>,
    topics: Topics,
    reader: Box<dyn Reader>,
    sources: HashMap<String, Source>,
    /// The ends of heartbeat topics when they were found: later heartbeats are read when they are
    /// sent.
    fresh: BTreeMap<(Arc<str>, u32), u64>,
    /// Egress topics.
    egress: BTreeSet<String>,
    /// The offset of the next record of each partition, for a replacement reader.
    next: BTreeMap<(Arc<str>, u32), u64>,
    /// Partitions to be assigned again at another offset, since the records at the old one were
    /// deleted.
    behind: Vec<(String, u32, u64)>,
    /// Missing topics of topologies.
    missing: Vec<String>,
    /// Missing heartbeat topics; a service need not send heartbeats.
    silent: BTreeSet<String>,
    /// True if the control topic is followed.
    follows_control: bool,
    /// The end of the control topic when it was found: from there on all submissions are known.
    control_end: Option<u64>,
}

impl Subscriptions {
    pub(super) fn new(bus: Arc<dyn Bus>, topics: Topics, follows_control: bool) -> Result<Self, BusError> {
        Ok(Self {
            reader: bus.reader()?,
            bus,
            topics,
            sources: HashMap::new(),
            fresh: BTreeMap::new(),
            egress: BTreeSet::new(),
            next: BTreeMap::new(),
            behind: Vec::new(),
            missing: Vec::new(),
            silent: BTreeSet::new(),
            follows_control,
            control_end: None,
        })
    }

    /// Missing topics of topologies.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// True if a missing topic may appear.
    pub(super) fn has_missing(&self) -> bool {
        !self.missing.is_empty() || !self.silent.is_empty() || (self.follows_control && self.control_end.is_none())
    }

    /// True if all submissions before the start are known.
    pub(super) fn has_read_control(&self) -> bool {
        let Some(end) = self.control_end else { return true };
        // On Kafka, a reader of several topics does not learn the end of one, so an empty poll
        // counts as well.
        self.reader.position(&self.topics.control(), 0).is_some_and(|position| position >= end)
    }

    pub(super) fn source(&self, topic: &str) -> Option<&Source> {
        self.sources.get(topic)
    }

    /// True for a heartbeat that was sent after its topic was found.
    pub(super) fn is_fresh(&self, record: &Record) -> bool {
        let end = self.fresh.get(&(Arc::clone(&record.topic), record.partition));
        end.is_some_and(|end| record.offset >= *end)
    }

    pub(super) fn is_egress(&self, topic: &str) -> bool {
        self.egress.contains(topic)
    }

    pub(super) fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        self.catch_up()?;
        let result = self.reader.poll(max, wait, out);
        for record in out.iter() {
            if let Some(next) = self.next.get_mut(&(Arc::clone(&record.topic), record.partition)) {
                *next = record.offset + 1;
            }
        }
        result
    }

    /// Continues at `low`, since the next records of the partition were deleted.
    pub(super) fn skip(&mut self, topic: String, partition: u32, low: u64) {
        self.behind.push((topic, partition, low));
    }

    /// Assigns the partitions whose next records were deleted.
    fn catch_up(&mut self) -> Result<(), BusError> {
        while let Some((topic, partition, from)) = self.behind.last().cloned() {
            let assigned = self.assign(&topic, partition, from);
            // If more was deleted meanwhile, `Gone` gives the new offset, and this entry is
            // obsolete.
            if matches!(assigned, Ok(()) | Err(BusError::Gone { .. })) {
                self.behind.pop();
            }
            assigned?;
        }
        Ok(())
    }

    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError> {
        self.reader.assign(topic, partition, from)?;
        self.next.insert((topic.into(), partition), from);
        Ok(())
    }

    /// Follows the control topic, if it exists.
    pub(super) fn control(&mut self) -> Result<(), BusError> {
        let topic = self.topics.control();
        if !self.follows_control || self.control_end.is_some() || self.bus.topic(&topic)?.is_none() {
            return Ok(());
        }
        let bounds = self.bus.bounds(&topic, 0)?;
        self.assign(&topic, 0, bounds.low)?;
        self.sources.insert(topic, Source::Control);
        self.control_end = Some(bounds.end);
        Ok(())
    }

    /// Follows the topics of these topologies, and no others.
    pub(super) fn topologies(&mut self, entries: &[Arc<TopologyEntry>]) -> Result<(), BusError> {
        let stale = |source: &Source| match source {
            Source::Topology(gateway) => !entries.iter().any(|entry| Arc::ptr_eq(&entry.gateway, gateway)),
            Source::Heartbeats(_) | Source::Control => false,
        };
        let gone = self.sources.iter().filter(|(_, source)| stale(source)).map(|(topic, _)| topic.clone());
        let gone: Vec<String> = gone.collect();
        self.forget(&gone)?;
        self.missing.clear();
        for entry in entries {
            if !entry.followed.load(Ordering::Acquire) && self.topology(&entry.gateway)? {
                entry.followed.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    /// True if all its topics exist and are followed now.
    fn topology(&mut self, gateway: &Arc<Gateway>) -> Result<bool, BusError> {
        let options = gateway.options();
        let known = options.limits.known_operations as u64;
        let mut topics = Vec::new();
        for stage in &options.stages {
            topics.push((&stage.view, stage.lanes, None));
            if stage.runs_workflows {
                topics.push((&stage.egress, stage.lanes, Some(known / u64::from(stage.lanes.max(1)))));
            }
        }
        let before = self.missing.len();
        for (topic, lanes, _) in &topics {
            match self.bus.topic(topic)? {
                Some(info) if info.partitions == *lanes => {}
                Some(info) => {
                    let (partitions, topic) = (info.partitions, topic.as_str());
                    tracing::error!(
                        topic,
                        partitions,
                        lanes,
                        "the number of partitions of a topic differs from the lanes of its stage"
                    );
                    self.missing.push(topic.to_owned());
                }
                None => self.missing.push((*topic).clone()),
            }
        }
        if self.missing.len() > before {
            return Ok(false);
        }
        for (topic, lanes, back) in topics {
            for partition in 0..lanes {
                let bounds = self.bus.bounds(topic, partition)?;
                let from = back.map_or(bounds.low, |back| bounds.low.max(bounds.end.saturating_sub(back)));
                self.assign(topic, partition, from)?;
            }
            self.sources.insert(topic.clone(), Source::Topology(Arc::clone(gateway)));
            if back.is_some() {
                self.egress.insert(topic.clone());
            }
        }
        Ok(true)
    }

    /// Follows the heartbeats of these services, and no others.
    pub(super) fn services(&mut self, services: &BTreeSet<String>) -> Result<(), BusError> {
        let unused = |source: &Source| matches!(source, Source::Heartbeats(service) if !services.contains(service));
        let gone = self.sources.iter().filter(|(_, source)| unused(source)).map(|(topic, _)| topic.clone());
        let gone: Vec<String> = gone.collect();
        self.forget(&gone)?;
        self.silent.clear();
        for service in services {
            let topic = self.topics.alive(service);
            if self.sources.contains_key(&topic) {
                continue;
            }
            let Some(info) = self.bus.topic(&topic)? else {
                self.silent.insert(topic);
                continue;
            };
            for partition in 0..info.partitions {
                let Bounds { low, end } = self.bus.bounds(&topic, partition)?;
                self.assign(&topic, partition, low)?;
                self.fresh.insert((topic.as_str().into(), partition), end);
            }
            self.sources.insert(topic, Source::Heartbeats(service.clone()));
        }
        Ok(())
    }

    /// Stops reading these topics: a new reader continues with the others at their offsets.
    fn forget(&mut self, topics: &[String]) -> Result<(), BusError> {
        if topics.is_empty() {
            return Ok(());
        }
        let mut reader = self.bus.reader()?;
        self.next.retain(|(topic, _), _| !topics.iter().any(|gone| **gone == **topic));
        self.behind.retain(|(topic, _, _)| !topics.contains(topic));
        for ((topic, partition), next) in &self.next {
            match reader.assign(topic, *partition, *next) {
                Ok(()) => {}
                Err(BusError::Gone { topic, partition, low, .. }) => self.behind.push((topic, partition, low)),
                Err(error) => return Err(error),
            }
        }
        self.reader = reader;
        for topic in topics {
            self.sources.remove(topic);
            self.fresh.retain(|(known, _), _| **known != **topic);
            self.egress.remove(topic);
        }
        Ok(())
    }
}
