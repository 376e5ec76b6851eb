//! Topic administration: create, check, delete, and read settings.

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
use super::context::NoCallbacks;
use super::options::{KafkaOptions, REQUEST};
use super::{convert, fault};
use crate::{BusError, Cleanup, TopicSpec};

/// Maximum number of checks for a new topic: one every 10 ms, so about ten seconds.
const CHECKS: u32 = 1000;

/// A week, in milliseconds: the longest time that a segment stays open (Kafka's default).
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;

/// Creates the topic if it does not exist.
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
            // Another process created it first. The caller checks that it has the required
            // settings.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(fault::bus_code(&what(), code)),
        }
    }
    for _ in 0..CHECKS {
        if matches!(cluster.partitions(&spec.name), Ok(Some(_))) {
            return Ok(());
        }
        cluster.pause();
    }
    Err(BusError::Unavailable(format!("topic `{}` was created, but no broker reports it", spec.name)))
}

/// Checks that the topic has the required settings.
pub(super) fn check(cluster: &Cluster, options: &KafkaOptions, spec: &TopicSpec) -> Result<(), BusError> {
    let found = describe(cluster, options, &spec.name)?;
    for (name, needed) in settings(spec.cleanup) {
        if !MUST_AGREE.contains(&name) {
            continue;
        }
        let value = found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        // The operator decides how long deletable records stay; `topic_warnings` reports too short
        // a time.
        let is_operators_choice = name == "retention.ms" && matches!(spec.cleanup, Cleanup::DeleteAfterMs(_));
        if value != needed && !is_operators_choice {
            return Err(BusError::WrongTopic { topic: spec.name.clone(), field: name, found: value, needed });
        }
    }
    Ok(())
}

/// True if the topic is compacted.
pub(super) fn is_compacted(cluster: &Cluster, options: &KafkaOptions, topic: &str) -> Result<bool, BusError> {
    // A broker describes a topic that does not exist too.
    cluster.cached_partitions(topic)?;
    let found = describe(cluster, options, topic)?;
    let policy = found.get("cleanup.policy").and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    Ok(policy.split(',').any(|policy| policy.trim() == "compact"))
}

/// Deletes the records of a partition below offset `before`.
pub(super) fn delete_records(options: &KafkaOptions, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
    let what = || format!("cannot delete records of `{topic}` {partition}");
    let list = before_offset(topic, partition, before)?;
    let client = client(options)?;
    let deleted = wait_for(client.delete_records(&list, &patience())).map_err(|fault| fault::bus(&what(), &fault))?;
    deleted.elements().iter().try_for_each(TopicPartitionListElem::error).map_err(|fault| fault::bus(&what(), &fault))
}

/// Sends a request to delete the records of a partition below offset `before`, without waiting for
/// the response.
pub(super) fn send_deletion(
    client: &AdminClient<NoCallbacks>,
    topic: &str,
    partition: u32,
    before: u64,
) -> Result<(), BusError> {
    let list = before_offset(topic, partition, before)?;
    // The request is sent when the future is created; the client's own thread receives the
    // response.
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

/// Deletes a topic. Brokers learn of it one after another.
pub(super) fn delete_topic(options: &KafkaOptions, topic: &str) -> Result<(), BusError> {
    let what = || format!("cannot delete topic `{topic}`");
    let client = client(options)?;
    let results = wait_for(client.delete_topics(&[topic], &patience())).map_err(|fault| fault::bus(&what(), &fault))?;
    let failed = results.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |(_, code)| Err(fault::bus_code(&what(), code)))
}

/// Deletes a group without members, and its committed offsets.
pub(super) fn delete_group(options: &KafkaOptions, group: &str) -> Result<(), BusError> {
    let what = || format!("cannot delete group `{group}`");
    let client = client(options)?;
    let results = wait_for(client.delete_groups(&[group], &patience())).map_err(|fault| fault::bus(&what(), &fault))?;
    let failed = results.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |(_, code)| Err(fault::bus_code(&what(), code)))
}

/// Returns the names of those topics that do not stamp records with the append time, with one
/// request.
pub(super) fn topics_without_append_time(options: &KafkaOptions, topics: &[&str]) -> Result<Vec<String>, BusError> {
    let what = "cannot read the settings of topics";
    let requested: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let client = client(options)?;
    let answers =
        wait_for(client.describe_configs(&requested, &patience())).map_err(|fault| fault::bus(what, &fault))?;
    let mut others = Vec::new();
    for answer in answers {
        match answer {
            Ok(resource) => others.extend(other_time(resource)),
            // The topic was deleted meanwhile, or the broker does not know it yet.
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            Err(code) => return Err(fault::bus_code(what, code)),
        }
    }
    Ok(others)
}

/// Returns the topic's name if it does not stamp records with the append time.
fn other_time(resource: ConfigResource) -> Option<String> {
    let stamp = resource.get("message.timestamp.type").and_then(|entry| entry.value.as_deref());
    // A topic that does not exist has no settings.
    let is_other = stamp.is_some_and(|stamp| stamp != "LogAppendTime");
    match resource.specifier {
        OwnedResourceSpecifier::Topic(name) if is_other => Some(name),
        OwnedResourceSpecifier::Topic(_) | OwnedResourceSpecifier::Group(_) | OwnedResourceSpecifier::Broker(_) => None,
    }
}

/// Settings that an existing topic must share with a new one. Operators may choose segment sizes.
const MUST_AGREE: [&str; 3] = ["message.timestamp.type", "cleanup.policy", "retention.ms"];

/// Returns the settings of a topic under their Kafka names.
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
            // Only closed segments are compacted. By default a segment closes at 1 GiB or after a
            // week.
            ("segment.ms", (10 * 60 * 1000).to_string()),
            ("segment.bytes", (16 << 20).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            // Deletion markers stay for a day by default, and every reader of a snapshot reads
            // them. A reader that is slower than this detects it by the snapshot's checksum.
            ("delete.retention.ms", (10 * 60 * 1000).to_string()),
        ],
    });
    settings
}

/// Returns one line of text for each setting that can lose acknowledged records or block writers.
pub(super) fn topic_warnings(cluster: &Cluster, options: &KafkaOptions, topic: &str) -> Result<Vec<String>, BusError> {
    let settings = describe(cluster, options, topic)?;
    let setting = |name| settings.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let needed = setting("min.insync.replicas").parse().unwrap_or(1);
    let mut lines = weaknesses_of(cluster.copies(topic)?, needed, setting("unclean.leader.election.enable") == "true");
    if setting("cleanup.policy") == "delete" {
        lines.extend(short_retention(setting("retention.ms").parse().unwrap_or(-1)));
    }
    Ok(lines)
}

/// Minimum retention, in milliseconds. A takeover needs seconds, but people may need a day to
/// repair a fault.
const SHORTEST_MS: i64 = 24 * 3_600 * 1_000;

fn short_retention(ms: i64) -> Option<String> {
    (0..SHORTEST_MS).contains(&ms).then(|| {
        let minutes = ms / 60_000;
        format!("retention.ms = {ms}: records that a takeover or an operator needs may be deleted after {minutes} minutes; set at least one day")
    })
}

fn weaknesses_of(copies: usize, needed: usize, unclean: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match (copies, needed) {
        (0 | 1, _) => {
            lines.push("1 replica: the loss of one disk loses acknowledged records; use 3 replicas".to_owned());
        }
        (copies, needed) if needed > copies => {
            let line = format!("{copies} replicas and min.insync.replicas = {needed}: no record can be written");
            lines.push(line);
        }
        (copies, needed) if needed == copies => {
            let line = format!(
                "{copies} replicas and min.insync.replicas = {needed}: no record can be written while one broker is down"
            );
            lines.push(line);
        }
        (copies, 0 | 1) => {
            let line = format!(
                "{copies} replicas and min.insync.replicas = 1: an acknowledged record may be on one broker only; set 2"
            );
            lines.push(line);
        }
        (_enough, _between) => {}
    }
    if unclean {
        lines.push(
            "unclean.leader.election.enable = true: a broker without all acknowledged records may become leader; set false"
                .to_owned(),
        );
    }
    lines
}

fn describe(cluster: &Cluster, options: &KafkaOptions, topic: &str) -> Result<ConfigResource, BusError> {
    let what = || format!("cannot read the settings of topic `{topic}`");
    let client = client(options)?;
    for _ in 0..cluster::CHECKS {
        let found = wait_for(client.describe_configs(&[ResourceSpecifier::Topic(topic)], &patience()));
        match found.map_err(|fault| fault::bus(&what(), &fault))?.pop() {
            Some(Ok(resource)) => return Ok(resource),
            // The broker that received the request does not know the topic yet.
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => cluster.pause(),
            Some(Err(code)) => return Err(fault::bus_code(&what(), code)),
            None => break,
        }
    }
    Err(BusError::NoTopic(topic.into()))
}

pub(super) fn client(options: &KafkaOptions) -> Result<AdminClient<NoCallbacks>, BusError> {
    options
        .admin()
        .create_with_context(NoCallbacks)
        .map_err(|fault: KafkaError| fault::bus("cannot set up a client", &fault))
}

fn patience() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

/// Waits for a response. The client's own threads complete the future within its time limit.
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
            Poll::Ready(output) => {
                // The parks may have used up a wake-up that is meant for a poll.
                thread::current().unpark();
                return output;
            }
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_below_one_day_is_reported() {
        assert_eq!([-1, SHORTEST_MS, SHORTEST_MS * 7].map(short_retention), [None, None, None]);
        assert!(short_retention(600_000).is_some_and(|line| line.contains("after 10 minutes")));
    }

    #[test]
    fn only_three_replicas_with_two_in_sync_give_no_warning() {
        assert_eq!(weaknesses_of(3, 2, false), [""; 0]);
        for (copies, needed, unclean, text) in [
            (1, 1, false, "1 replica"),
            (3, 1, false, "on one broker only"),
            (3, 3, false, "while one broker is down"),
            (2, 3, false, "no record can be written"),
            (3, 2, true, "unclean.leader.election.enable"),
        ] {
            let lines = weaknesses_of(copies, needed, unclean);
            assert!(lines.len() == 1 && lines[0].contains(text), "{copies}, {needed}, {unclean}: {lines:?}");
        }
    }
}
