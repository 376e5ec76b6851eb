//! The topics of a topology as recorded at its submission, and the check that they are unchanged. A
//! process checks when it starts a topology, and periodically while it runs or serves it
//! ([`super::topics`]).

use bus::{Bus, BusError, TopicInfo, TopicSpec};
use wire::control::Submitted;
use wire::{Code, Problem};

/// The recorded topics of one topology.
#[derive(Debug, Default)]
pub(super) struct RecordedTopics {
    topology: String,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    partitions: u32,
    /// None if not recorded: only name and partitions are known.
    id: Option<String>,
}

impl RecordedTopics {
    /// Returns the topics recorded for each stage, and the `needed` topics of the code: snapshots
    /// and requests to spokes. A process without the code passes no `needed` topics.
    pub(super) fn of(submitted: &Submitted, needed: Vec<TopicSpec>) -> Self {
        let mut topics: Vec<Topic> = Vec::new();
        for stage in &submitted.stages {
            let of_stage = stage.topics.iter();
            topics.extend(of_stage.map(|(name, id)| Topic {
                name: name.clone(),
                partitions: stage.lanes,
                id: Some(id.clone()),
            }));
        }
        for TopicSpec { name, partitions, .. } in needed {
            if !topics.iter().any(|topic| topic.name == name) {
                topics.push(Topic { name, partitions, id: None });
            }
        }
        Self { topology: submitted.name.clone(), topics }
    }

    /// Returns the name of the topology.
    pub(super) fn topology(&self) -> &str {
        &self.topology
    }

    /// Returns the first difference: [`Code::TopicReplaced`] if a topic is gone or was recreated,
    /// [`Code::WrongTopic`] if it was changed. It sends one query per topic and one for all.
    ///
    /// # Errors
    /// If the bus does not answer.
    pub(super) fn check(&self, bus: &dyn Bus) -> Result<Option<Problem>, BusError> {
        for topic in &self.topics {
            if let Some(problem) = self.compare(topic, bus.topic(&topic.name)?) {
                return Ok(Some(problem));
            }
        }
        let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        let others = match bus.topics_without_append_time(&names) {
            // The user may have access to topics but not to their settings.
            Err(BusError::Refused(_)) => Vec::new(),
            others => others?,
        };
        let line = "does not stamp its records with the time of their append (message.timestamp.type)";
        let remedy = "set message.timestamp.type=LogAppendTime on it (kafka-configs.sh --alter --entity-type topics)";
        Ok(others.first().map(|name| self.changed(name, line, remedy)))
    }

    fn compare(&self, topic: &Topic, found: Option<TopicInfo>) -> Option<Problem> {
        let name = &topic.name;
        let Some(found) = found else { return Some(self.replaced(name, "is gone")) };
        if topic.id.as_ref().is_some_and(|id| *id != found.id) {
            return Some(self.replaced(name, "was deleted and recreated"));
        }
        let line = || format!("has {} partitions, not {}", found.partitions, topic.partitions);
        let remedy = || {
            let (name, program) = (&self.topology, crate::program::name());
            format!(
                "partitions cannot be removed: {program} topologies kill {name}, delete all its topics, {program} submit {name}"
            )
        };
        (found.partitions != topic.partitions).then(|| self.changed(&topic.name, &line(), &remedy()))
    }

    fn replaced(&self, topic: &str, difference: &str) -> Problem {
        let (name, program) = (&self.topology, crate::program::name());
        Problem::new(
            Code::TopicReplaced,
            format!(
                "topic `{topic}` of topology `{name}` {difference} since the topology was submitted, and its records are lost; `{program} submit \
                 {name}` recreates views, answers and topics of spokes, but an inbox or snapshots need: {program} topologies kill {name}, \
                 delete all its topics, {program} submit {name}"
            ),
        )
    }

    fn changed(&self, topic: &str, difference: &str, remedy: &str) -> Problem {
        let name = &self.topology;
        let detail = format!(
            "topic `{topic}` of topology `{name}` {difference}, unlike when the topology was submitted; {remedy}"
        );
        Problem::new(Code::WrongTopic, detail)
    }
}
