//! The topics of a topology as they were when it was submitted, and whether they still are. A process asks it when it takes a topology
//! up, and from time to time while it runs or serves it ([`crate::node::topics`]).

use bus::{Bus, BusError, TopicInfo, TopicSpec};
use wire::control::Submitted;
use wire::{Code, Problem};

/// The topics of one topology.
#[derive(Debug, Default)]
pub struct Recorded {
    topology: String,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    partitions: u32,
    /// None where it was not recorded: only its name and its shape are known.
    id: Option<String>,
}

impl Recorded {
    /// The topics that were recorded for each stage, and those that the code needs besides: what it saves, and what is for spokes. Who has no
    /// code for it gives none.
    pub fn of(submitted: &Submitted, needed: Vec<TopicSpec>) -> Self {
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

    /// Whose they are.
    pub fn topology(&self) -> &str {
        &self.topology
    }

    /// The first thing that is not as it was: [`Code::TopicReplaced`] where a topic is gone or was made anew, [`Code::WrongTopic`] where it was
    /// changed. A question for each topic, and one for all.
    ///
    /// # Errors
    /// Where the bus does not answer: then nobody knows.
    pub fn check(&self, bus: &dyn Bus) -> Result<Option<Problem>, BusError> {
        for topic in &self.topics {
            if let Some(problem) = self.judge(topic, bus.topic(&topic.name)?) {
                return Ok(Some(problem));
            }
        }
        let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        let others = match bus.other_times(&names) {
            // Who may use topics need not be one who may read their settings.
            Err(BusError::Refused(_)) => Vec::new(),
            others => others?,
        };
        let line = "stamps another time on its records than that of the append (message.timestamp.type)";
        let remedy = "set message.timestamp.type=LogAppendTime on it (kafka-configs.sh --alter --entity-type topics)";
        Ok(others.first().map(|name| self.changed(name, line, remedy)))
    }

    fn judge(&self, topic: &Topic, found: Option<TopicInfo>) -> Option<Problem> {
        let name = &topic.name;
        let Some(found) = found else { return Some(self.replaced(name, "is gone")) };
        if topic.id.as_ref().is_some_and(|id| *id != found.id) {
            return Some(self.replaced(name, "was deleted and made anew"));
        }
        let line = || format!("has {} partitions, not {}", found.partitions, topic.partitions);
        let remedy = || {
            let name = &self.topology;
            format!(
                "partitions cannot be removed again: nave topologies kill {name}, delete all its topics, nave submit {name}"
            )
        };
        (found.partitions != topic.partitions).then(|| self.changed(&topic.name, &line(), &remedy()))
    }

    fn replaced(&self, topic: &str, how: &str) -> Problem {
        let name = &self.topology;
        Problem::new(
            Code::TopicReplaced,
            format!(
                "topic `{topic}` of topology `{name}` {how} since the topology was submitted, and what it held is lost; `nave submit \
                 {name}` makes views, answers and topics of spokes anew, but an inbox or snapshots need: nave topologies kill {name}, \
                 delete all its topics, nave submit {name}"
            ),
        )
    }

    fn changed(&self, topic: &str, how: &str, remedy: &str) -> Problem {
        let name = &self.topology;
        let detail = format!(
            "topic `{topic}` of topology `{name}` {how}, and had not when the topology was submitted; {remedy}"
        );
        Problem::new(Code::WrongTopic, detail)
    }
}
