//! The followed topics, their offsets and the receivers of their records.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{Bus, BusError, Follower, Gap, Record, Start};
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
    follower: Follower,
    sources: HashMap<String, Source>,
    /// Egress topics.
    egress: BTreeSet<String>,
    /// Missing topics of topologies.
    missing: Vec<String>,
    /// Missing heartbeat topics; a service need not send heartbeats.
    silent: BTreeSet<String>,
    /// True if the control topic is followed.
    follows_control: bool,
}

impl Subscriptions {
    pub(super) fn new(bus: Arc<dyn Bus>, topics: Topics, follows_control: bool) -> Self {
        Self {
            bus,
            topics,
            follower: Follower::default(),
            sources: HashMap::new(),
            egress: BTreeSet::new(),
            missing: Vec::new(),
            silent: BTreeSet::new(),
            follows_control,
        }
    }

    /// Missing topics of topologies.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// True if a missing topic may appear.
    pub(super) fn has_missing(&self) -> bool {
        !self.missing.is_empty() || !self.silent.is_empty() || self.lacks_control()
    }

    /// True if the control topic is to be followed and was not found yet.
    fn lacks_control(&self) -> bool {
        self.follows_control && !self.sources.contains_key(&self.topics.control())
    }

    /// True if all submissions before the start are known.
    pub(super) fn has_read_control(&self) -> bool {
        // On Kafka, a reader of several topics does not learn the end of one, so an empty poll
        // counts as well.
        let control = self.topics.control();
        !self.sources.contains_key(&control) || self.follower.has_caught_up(&control, 0)
    }

    pub(super) fn source(&self, topic: &str) -> Option<&Source> {
        self.sources.get(topic)
    }

    /// True for a heartbeat that was sent after its topic was found.
    pub(super) fn is_fresh(&self, record: &Record) -> bool {
        self.follower.is_new(record)
    }

    pub(super) fn is_egress(&self, topic: &str) -> bool {
        self.egress.contains(topic)
    }

    pub(super) fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<Option<Gap>, BusError> {
        self.follower.poll(max, wait, out)
    }

    /// Follows the control topic, if it exists.
    pub(super) fn control(&mut self) -> Result<(), BusError> {
        let topic = self.topics.control();
        if self.lacks_control() && self.bus.topic(&topic)?.is_some() {
            self.follower.follow(&*self.bus, &topic, 0, Start::Low)?;
            self.sources.insert(topic, Source::Control);
        }
        Ok(())
    }

    /// Follows the topics of these topologies, and no others.
    pub(super) fn topologies(&mut self, entries: &[Arc<TopologyEntry>]) -> Result<(), BusError> {
        let stale = |source: &Source| match source {
            Source::Topology(gateway) => !entries.iter().any(|entry| Arc::ptr_eq(&entry.gateway, gateway)),
            Source::Heartbeats(_) | Source::Control => false,
        };
        self.forget(stale)?;
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
        let known = options.limits.cached_operations as u64;
        let mut topics = Vec::new();
        for stage in &options.stages {
            topics.push((&stage.view, stage.lanes, Start::Low));
            if stage.runs_workflows {
                topics.push((&stage.egress, stage.lanes, Start::Last(known / u64::from(stage.lanes.max(1)))));
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
        for (topic, lanes, start) in topics {
            for partition in 0..lanes {
                self.follower.follow(&*self.bus, topic, partition, start)?;
            }
            self.sources.insert(topic.clone(), Source::Topology(Arc::clone(gateway)));
            if matches!(start, Start::Last(_)) {
                self.egress.insert(topic.clone());
            }
        }
        Ok(true)
    }

    /// Follows the heartbeats of these services, and no others.
    pub(super) fn services(&mut self, services: &BTreeSet<String>) -> Result<(), BusError> {
        let unused = |source: &Source| matches!(source, Source::Heartbeats(service) if !services.contains(service));
        self.forget(unused)?;
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
                self.follower.follow(&*self.bus, &topic, partition, Start::Low)?;
            }
            self.sources.insert(topic, Source::Heartbeats(service.clone()));
        }
        Ok(())
    }

    /// Stops reading the topics of these sources.
    fn forget(&mut self, is_obsolete: impl Fn(&Source) -> bool) -> Result<(), BusError> {
        let topics = self.sources.iter().filter(|(_, source)| is_obsolete(source)).map(|(topic, _)| topic.clone());
        for topic in topics.collect::<Vec<String>>() {
            self.follower.unfollow_topic(&topic)?;
            self.sources.remove(&topic);
            self.egress.remove(&topic);
        }
        Ok(())
    }
}
