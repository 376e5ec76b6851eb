//! Topics: made as they are needed, or checked.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::cluster::{self, Cluster};
use super::context::Quiet;
use super::options::{KafkaOptions, REQUEST};
use super::{convert, fault};
use crate::{BusError, Cleanup, TopicSpec};

/// How often a new topic is looked for before it counts as not coming: once in 10 ms, so about ten seconds.
const LOOKS: u32 = 1000;

/// A week: the longest that a segment stays open, Kafka's own default.
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;

/// Creates the topic where there is none.
pub(super) fn create(cluster: &Cluster, options: &KafkaOptions, spec: &TopicSpec) -> Result<(), BusError> {
    let what = || format!("cannot create topic `{}`", spec.name);
    let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
    let settings = settings(spec.cleanup);
    let mut topic = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(options.replication.into()));
    for (name, value) in &settings {
        topic = topic.set(name, value);
    }
    let client = client(options)?;
    let results = wait_for(client.create_topics([&topic], &patience())).map_err(|fault| fault::bus(&what(), &fault))?;
    for result in results {
        match result {
            // Another process was faster. Whether it wanted the same is checked by the caller.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(fault::bus_code(&what(), code)),
        }
    }
    for _ in 0..LOOKS {
        if matches!(cluster.partitions(&spec.name), Ok(Some(_))) {
            return Ok(());
        }
        cluster.pause();
    }
    Err(BusError::Unavailable(format!("topic `{}` was created, and is not to be seen", spec.name)))
}

/// Checks that the topic's settings are those that are needed.
pub(super) fn check(cluster: &Cluster, options: &KafkaOptions, spec: &TopicSpec) -> Result<(), BusError> {
    let found = describe(cluster, options, &spec.name)?;
    for (name, needed) in settings(spec.cleanup) {
        if !MUST_AGREE.contains(&name) {
            continue;
        }
        let value = found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        // How long what may go is kept is the operator's business; too short a time is a weakness.
        let is_his = name == "retention.ms" && matches!(spec.cleanup, Cleanup::DeleteAfterMs(_));
        if value != needed && !is_his {
            return Err(BusError::WrongTopic { topic: spec.name.clone(), field: name, found: value, needed });
        }
    }
    Ok(())
}

/// Deletes the records of a partition below offset `before`.
pub(super) fn delete_records(options: &KafkaOptions, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
    let what = || format!("cannot delete records of `{topic}` {partition}");
    let list = before_offset(topic, partition, before)?;
    let client = client(options)?;
    let deleted = wait_for(client.delete_records(&list, &patience())).map_err(|fault| fault::bus(&what(), &fault))?;
    deleted.elements().iter().try_for_each(TopicPartitionListElem::error).map_err(|fault| fault::bus(&what(), &fault))
}

/// Sends a request to delete the records of a partition below offset `before`, and does not wait for its answer.
pub(super) fn send_deletion(
    client: &AdminClient<Quiet>,
    topic: &str,
    partition: u32,
    before: u64,
) -> Result<(), BusError> {
    let list = before_offset(topic, partition, before)?;
    // The request is sent as the future is made; the client's own thread takes the answer.
    drop(client.delete_records(&list, &patience()));
    Ok(())
}

fn before_offset(topic: &str, partition: u32, before: u64) -> Result<TopicPartitionList, BusError> {
    let mut list = TopicPartitionList::new();
    let before = Offset::Offset(convert::raw_offset(before));
    list.add_partition_offset(topic, convert::raw_partition(partition), before)
        .map_err(|fault| fault::bus(&format!("cannot delete records of `{topic}` {partition}"), &fault))?;
    Ok(list)
}

/// Deletes a topic. Brokers hear of it one after another.
pub(super) fn delete_topic(options: &KafkaOptions, topic: &str) -> Result<(), BusError> {
    let what = || format!("cannot delete topic `{topic}`");
    let client = client(options)?;
    let results = wait_for(client.delete_topics(&[topic], &patience())).map_err(|fault| fault::bus(&what(), &fault))?;
    let failed = results.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |(_, code)| Err(fault::bus_code(&what(), code)))
}

/// Which of these topics stamp another time than that of the append: one question for all of them.
pub(super) fn other_times(options: &KafkaOptions, topics: &[&str]) -> Result<Vec<String>, BusError> {
    let what = "cannot read the settings of topics";
    let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let client = client(options)?;
    let answers = wait_for(client.describe_configs(&asked, &patience())).map_err(|fault| fault::bus(what, &fault))?;
    let mut others = Vec::new();
    for answer in answers {
        match answer {
            Ok(resource) => others.extend(other_time(resource)),
            // It was deleted since it was looked for, or the broker has not heard of it yet.
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            Err(code) => return Err(fault::bus_code(what, code)),
        }
    }
    Ok(others)
}

/// The name of a topic that stamps another time than that of the append.
fn other_time(resource: ConfigResource) -> Option<String> {
    let stamp = resource.get("message.timestamp.type").and_then(|entry| entry.value.as_deref());
    // Of what is not there no setting is told.
    let is_other = stamp.is_some_and(|stamp| stamp != "LogAppendTime");
    match resource.specifier {
        OwnedResourceSpecifier::Topic(name) if is_other => Some(name),
        OwnedResourceSpecifier::Topic(_) | OwnedResourceSpecifier::Group(_) | OwnedResourceSpecifier::Broker(_) => None,
    }
}

/// What of an existing topic must be as it would be made. How it is cut into segments is the operator's business.
const MUST_AGREE: [&str; 3] = ["message.timestamp.type", "cleanup.policy", "retention.ms"];

/// The settings of a topic, by the names that Kafka has for them.
pub fn settings(cleanup: Cleanup) -> Vec<(&'static str, String)> {
    let mut settings = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
    settings.extend(match cleanup {
        Cleanup::Keep => vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", "-1".to_owned())],
        Cleanup::DeleteAfterMs(ms) => vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", ms.to_string()),
            // Only closed segments are deleted.
            ("segment.ms", ms.clamp(60_000, WEEK_MS).to_string()),
        ],
        Cleanup::Compact => vec![
            ("cleanup.policy", "compact".to_owned()),
            // Only closed segments are compacted, and a segment closes at 1 GiB or after a week unless it is told otherwise.
            ("segment.ms", (10 * 60 * 1000).to_string()),
            ("segment.bytes", (16 << 20).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            // A deletion stays for a day unless it is told otherwise, and whoever reads a snapshot reads it along; one who is slower than
            // this finds out by the sum of the snapshot.
            ("delete.retention.ms", (10 * 60 * 1000).to_string()),
        ],
    });
    settings
}

/// What about a topic could lose what was acknowledged, or stop those who write it.
pub(super) fn weaknesses(cluster: &Cluster, options: &KafkaOptions, topic: &str) -> Result<Vec<String>, BusError> {
    let settings = describe(cluster, options, topic)?;
    let setting = |name| settings.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let needed = setting("min.insync.replicas").parse().unwrap_or(1);
    let mut lines = weaknesses_of(cluster.copies(topic)?, needed, setting("unclean.leader.election.enable") == "true");
    if setting("cleanup.policy") == "delete" {
        lines.extend(short_retention(setting("retention.ms").parse().unwrap_or(-1)));
    }
    Ok(lines)
}

/// A snapshot is taken every second, and a lane without an owner is seen; but mending what is wrong takes people, and people sleep.
const SHORTEST_MS: i64 = 24 * 3_600 * 1_000;

fn short_retention(ms: i64) -> Option<String> {
    (0..SHORTEST_MS).contains(&ms).then(|| {
        let minutes = ms / 60_000;
        format!("retention.ms = {ms}: what a takeover or a person needs may be gone after {minutes} minutes; give it a day at the least")
    })
}

fn weaknesses_of(copies: usize, needed: usize, unclean: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match (copies, needed) {
        (0 | 1, _) => {
            lines.push("one copy: what is acknowledged goes with its broker's disk; give it three".to_owned());
        }
        (copies, needed) if needed > copies => {
            let line = format!("{copies} copies, and min.insync.replicas = {needed}: nothing can be written");
            lines.push(line);
        }
        (copies, needed) if needed == copies => {
            let line = format!(
                "{copies} copies, and min.insync.replicas = {needed}: nobody can write while one broker is away"
            );
            lines.push(line);
        }
        (copies, 0 | 1) => {
            let line = format!(
                "{copies} copies, and min.insync.replicas = 1: what is acknowledged may be on one broker alone; set 2"
            );
            lines.push(line);
        }
        (_enough, _between) => {}
    }
    if unclean {
        lines.push(
            "unclean.leader.election.enable: a broker that lacks acknowledged records may lead; set it to false"
                .to_owned(),
        );
    }
    lines
}

fn describe(cluster: &Cluster, options: &KafkaOptions, topic: &str) -> Result<ConfigResource, BusError> {
    let what = || format!("cannot read the settings of topic `{topic}`");
    let client = client(options)?;
    for _ in 0..cluster::LOOKS {
        let found = wait_for(client.describe_configs(&[ResourceSpecifier::Topic(topic)], &patience()));
        match found.map_err(|fault| fault::bus(&what(), &fault))?.pop() {
            Some(Ok(resource)) => return Ok(resource),
            // The broker that was asked has not heard of it yet.
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => cluster.pause(),
            Some(Err(code)) => return Err(fault::bus_code(&what(), code)),
            None => break,
        }
    }
    Err(BusError::NoTopic(topic.into()))
}

pub(super) fn client(options: &KafkaOptions) -> Result<AdminClient<Quiet>, BusError> {
    options.admin().create_with_context(Quiet).map_err(|fault: KafkaError| fault::bus("cannot set up a client", &fault))
}

fn patience() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

/// Waits for an answer. The client has threads of its own, which complete it within its time limit.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_for_a_day_at_the_least() {
        assert_eq!([-1, SHORTEST_MS, SHORTEST_MS * 7].map(short_retention), [None, None, None]);
        assert!(short_retention(600_000).is_some_and(|line| line.contains("after 10 minutes")));
    }

    #[test]
    fn what_outlives_a_broker_has_three_copies_of_which_two_are_needed() {
        assert_eq!(weaknesses_of(3, 2, false), [""; 0]);
        for (copies, needed, unclean, said) in [
            (1, 1, false, "one copy"),
            (3, 1, false, "may be on one broker alone"),
            (3, 3, false, "nobody can write while one broker is away"),
            (2, 3, false, "nothing can be written"),
            (3, 2, true, "unclean.leader.election.enable"),
        ] {
            let lines = weaknesses_of(copies, needed, unclean);
            assert!(lines.len() == 1 && lines[0].contains(said), "{copies}, {needed}, {unclean}: {lines:?}");
        }
    }
}
