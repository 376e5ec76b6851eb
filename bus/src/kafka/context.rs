//! Callbacks of librdkafka: logs, statistics and rebalances.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::convert;
use super::wakeup::Wakeup;

/// Forwards a log line of librdkafka. Its errors are temporary, so they are warnings here.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        // A user property that applies to another kind of client is not worth a warning.
        _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, "{text}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, "{text}");
        }
    }
}

/// Whether a client still knows a broker.
///
/// A client whose metadata names no broker drops its last one and may never recover. This happens
/// when the only broker of a cluster stalls for longer than its session with the controller: its
/// metadata is empty for a moment. librdkafka 2.12.1 then schedules a new bootstrap, but cancels
/// that timer when it finishes processing the same metadata, if the broker's thread was fast
/// (`rd_kafka_rebootstrap_tmr_stop` in `rd_kafka_handle_Metadata`). The owner of such a client
/// therefore recreates it.
#[derive(Default)]
pub(super) struct Brokers {
    /// Number of consecutive statistics that named no broker.
    without: AtomicU32,
}

impl Brokers {
    /// A single one can fall into the moment between dropping the last broker and the new
    /// bootstrap.
    const CHECKS: u32 = 2;

    fn update(&self, statistics: &Statistics) {
        // Internal and logical entries are placeholders, not brokers.
        let any = statistics.brokers.values().any(|broker| matches!(&*broker.source, "configured" | "learned"));
        if any {
            self.without.store(0, Ordering::Relaxed);
        } else {
            self.without.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// True if the client knows no broker and will not find one.
    pub(super) fn are_lost(&self) -> bool {
        self.without.load(Ordering::Relaxed) >= Self::CHECKS
    }
}

macro_rules! log_to_tracing {
    ($context:ty, $stats:expr, $handled:expr) => {
        impl rdkafka::client::ClientContext for $context {
            fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
                $crate::kafka::context::log(level, facility, text);
                let handled: fn(&Self) = $handled;
                handled(self);
            }
            fn error(&self, fault: rdkafka::error::KafkaError, reason: &str) {
                // Expected: readers enable the end-of-partition event.
                if fault.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::PartitionEOF) {
                    tracing::warn!(target: "librdkafka", %fault, "{reason}");
                }
            }
            fn stats(&self, statistics: rdkafka::statistics::Statistics) {
                let update: fn(&Self, &rdkafka::statistics::Statistics) = $stats;
                update(self, &statistics);
                let handled: fn(&Self) = $handled;
                handled(self);
            }
        }
    };
}

pub(super) use log_to_tracing;

/// The context of clients without callbacks.
pub(super) struct NoCallbacks;

log_to_tracing!(NoCallbacks, |_, _| (), |_| ());
impl ConsumerContext for NoCallbacks {}

/// The context of a reader.
#[derive(Default)]
pub(super) struct ReaderContext {
    pub(super) brokers: Brokers,
    pub(super) wakeup: Arc<Wakeup>,
}

log_to_tracing!(ReaderContext, |context, statistics| context.brokers.update(statistics), |context| context
    .wakeup
    .has_handled());
impl ConsumerContext for ReaderContext {}

/// The context of a member. Stores the group's decisions until the end of the poll that received
/// them.
pub(super) struct GroupContext {
    cluster: Arc<Cluster>,
    topic: Arc<str>,
    state: Mutex<GroupState>,
    pub(super) brokers: Brokers,
    pub(super) wakeup: Arc<Wakeup>,
}

#[derive(Default)]
struct GroupState {
    pending: Vec<GroupDecision>,
    /// The member's group metadata as of the last decision that it has processed. Commits use this
    /// and never a newer one: librdkafka rejoins by itself, and metadata that the member has not
    /// seen must not authorize partitions that it lost meanwhile.
    place: Option<ConsumerGroupMetadata>,
    /// Number of decisions.
    decisions: u64,
    closing: bool,
}

/// A decision of the group. It holds no librdkafka list: such a list keeps its partitions alive,
/// and a client with live partitions never terminates.
pub(super) enum GroupDecision {
    /// The group assigned these partitions.
    Assigned(Vec<u32>),
    /// The group asks for these partitions; librdkafka waits until they are unassigned.
    Revoking(Vec<u32>),
    /// These partitions were lost.
    Lost(Vec<u32>),
}

impl GroupContext {
    /// Creates a context without decisions about the partitions of `topic`.
    pub(super) fn of(cluster: &Arc<Cluster>, topic: &str) -> Self {
        let (cluster, topic) = (Arc::clone(cluster), topic.into());
        Self { cluster, topic, state: Mutex::default(), brokers: Brokers::default(), wakeup: Arc::default() }
    }

    /// Sets each partition's start to its low watermark. This costs a request of a millisecond per
    /// partition. The alternative is the end, which librdkafka looks up by itself; that delays
    /// reading by most of a second. It is the fallback if the cluster does not answer.
    fn place(&self, list: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
        let (mut placed, mut answers) = (TopicPartitionList::new(), true);
        for element in list.elements() {
            let partition = convert::partition(element.partition());
            let bounds = if answers { self.cluster.bounds(&self.topic, partition).ok() } else { None };
            // A request without a response takes ten seconds: stop after the first.
            answers = bounds.is_some();
            let begin = bounds.map_or(Offset::End, |bounds| Offset::Offset(convert::raw_offset(bounds.low)));
            placed.add_partition_offset(&self.topic, element.partition(), begin)?;
        }
        Ok(placed)
    }

    /// Returns the decisions since the last call.
    pub(super) fn take(&self) -> Vec<GroupDecision> {
        std::mem::take(&mut lock(&self.state).pending)
    }

    /// Returns the number of decisions so far.
    pub(super) fn decisions(&self) -> u64 {
        lock(&self.state).decisions
    }

    /// Calls `act` with the member's group metadata, if there is any.
    pub(super) fn with_place<T>(&self, act: impl FnOnce(&ConsumerGroupMetadata) -> T) -> Option<T> {
        lock(&self.state).place.as_ref().map(act)
    }

    /// From now on, revoked partitions are unassigned at once.
    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
    }
}

log_to_tracing!(GroupContext, |context, statistics| context.brokers.update(statistics), |context| context
    .wakeup
    .has_handled());

impl ConsumerContext for GroupContext {
    /// Logs failed background commits.
    fn commit_callback(&self, result: Result<(), KafkaError>, _offsets: &TopicPartitionList) {
        self.wakeup.has_handled();
        if let Err(fault) = result {
            tracing::warn!(%fault, "positions were not committed; the next commit includes them again");
        }
    }

    /// Runs inside a poll. Assigned partitions are paused until the member starts them. They start
    /// at the low watermark, so that librdkafka does not look up the committed offset: that offset
    /// may be deleted, and a fetch that beats the pause would end in an error from which the
    /// partition does not recover. Revoked partitions are paused but stay assigned: librdkafka
    /// makes the group wait until the member releases them (`wait-unassign-call` in its logs), so
    /// that their owner can commit once more.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, decision: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if consumer.closed() {
            // A leftover decision after the client was closed; librdkafka no longer responds.
            return;
        }
        self.wakeup.has_handled();
        let all_lost = consumer.assignment_lost();
        let closing = lock(&self.state).closing;
        let result = if decision == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let assigned = self.place(list).and_then(|placed| take(consumer, &placed));
            assigned.and_then(|()| if list.count() > 0 { consumer.pause(list) } else { Ok(()) })
        } else if all_lost || closing {
            give_up(consumer, list)
        } else {
            consumer.pause(list)
        };
        if let Err(fault) = result {
            tracing::warn!(%fault, "cannot apply a decision of the group");
        }
        // Skipped while closing: after the last unassignment the responding thread may have ended,
        // and librdkafka would wait forever.
        let place = if closing { None } else { consumer.group_metadata() };
        let mut state = lock(&self.state);
        state.decisions += 1;
        if !all_lost {
            state.place = place;
        }
        if list.count() > 0 {
            let mut list: Vec<u32> =
                list.elements().iter().map(|element| convert::partition(element.partition())).collect();
            list.sort_unstable();
            state.pending.push(match decision {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => GroupDecision::Assigned(list),
                _ if all_lost || closing => GroupDecision::Lost(list),
                _ => GroupDecision::Revoking(list),
            });
        }
    }
}

/// Assigns partitions with the call that the group's protocol requires.
fn take(consumer: &BaseConsumer<GroupContext>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Unassigns partitions with the call that the group's protocol requires.
pub(super) fn give_up(consumer: &BaseConsumer<GroupContext>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// These values are consistent at all times, so a poisoned lock is harmless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
