//! What librdkafka calls back: logs, delivery reports, and the group's decisions.

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

/// Passes on what librdkafka has to say. Its errors pass by themselves, so they are warnings here.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        // A property of the user's that is another kind of client's is no news.
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

/// Whether a client still knows any broker.
///
/// A client that is told of no broker lets go of the last one, and may never come back: the metadata of a cluster whose only broker
/// stood still for longer than its session with its controller names none for a moment. librdkafka 2.12.1 begins to bootstrap anew then,
/// and stops the timer that would do it as it ends the handling of that same metadata, if the broker's thread was quick
/// (`rd_kafka_rebootstrap_tmr_stop` in `rd_kafka_handle_Metadata`). Who is without a broker is made anew by its owner.
#[derive(Default)]
pub(super) struct Brokers {
    /// How often in a row the statistics named none.
    without: AtomicU32,
}

impl Brokers {
    /// One look may fall into the moment between letting go and beginning anew.
    const LOOKS: u32 = 2;

    fn see(&self, statistics: &Statistics) {
        // What is internal or logical stands for a broker, and is none.
        let any = statistics.brokers.values().any(|broker| matches!(&*broker.source, "configured" | "learned"));
        if any {
            self.without.store(0, Ordering::Relaxed);
        } else {
            self.without.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// True where the client knows no broker, and will not find one.
    pub(super) fn are_lost(&self) -> bool {
        self.without.load(Ordering::Relaxed) >= Self::LOOKS
    }
}

macro_rules! speaks_through_tracing {
    ($context:ty, $stats:expr) => {
        impl rdkafka::client::ClientContext for $context {
            fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
                $crate::kafka::context::log(level, facility, text);
            }
            fn error(&self, fault: rdkafka::error::KafkaError, reason: &str) {
                // A reader asks to be told of the end of a partition.
                if fault.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::PartitionEOF) {
                    tracing::warn!(target: "librdkafka", %fault, "{reason}");
                }
            }
            fn stats(&self, statistics: rdkafka::statistics::Statistics) {
                let see: fn(&Self, &rdkafka::statistics::Statistics) = $stats;
                see(self, &statistics);
            }
        }
    };
}

pub(super) use speaks_through_tracing;

/// The context of clients with nothing to decide.
pub(super) struct Quiet;

speaks_through_tracing!(Quiet, |_, _| ());
impl ConsumerContext for Quiet {}

/// The context of a reader.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) brokers: Brokers,
}

speaks_through_tracing!(Reads, |reads, statistics| reads.brokers.see(statistics));
impl ConsumerContext for Reads {}

/// The context of a member: what the group has decided waits here for the end of the poll that brought it.
pub(super) struct GroupNews {
    cluster: Arc<Cluster>,
    topic: Arc<str>,
    inner: Mutex<Inner>,
    pub(super) brokers: Brokers,
}

#[derive(Default)]
struct Inner {
    news: Vec<News>,
    /// The member's place in the group, as of the last decision that the member has heard of. A commit names this one and
    /// never a fresher one: librdkafka joins again by itself, and a place that the member has not heard of yet must not
    /// vouch for partitions that it lost meanwhile.
    place: Option<ConsumerGroupMetadata>,
    /// How many decisions there were.
    decisions: u64,
    closing: bool,
}

/// A decision of the group. It holds no list of librdkafka's: those keep their partitions alive, and a client whose
/// partitions are kept alive never ends.
pub(super) enum News {
    /// These are the member's now.
    Assigned(Vec<u32>),
    /// These are asked back; librdkafka waits until they are given up.
    Revoking(Vec<u32>),
    /// These are gone.
    Lost(Vec<u32>),
}

impl GroupNews {
    /// Nothing was decided yet about the partitions of `topic`.
    pub(super) fn of(cluster: &Arc<Cluster>, topic: &str) -> Self {
        let (cluster, topic) = (Arc::clone(cluster), topic.into());
        Self { cluster, topic, inner: Mutex::default(), brokers: Brokers::default() }
    }

    /// Has each partition begin at an offset that it has. A question to the cluster for each takes a millisecond; to begin at the end, which
    /// librdkafka would look for by itself, takes most of a second until it reads. Where nobody answers it is the end all the same.
    fn place(&self, list: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
        let (mut placed, mut answers) = (TopicPartitionList::new(), true);
        for element in list.elements() {
            let partition = convert::partition(element.partition());
            let bounds = if answers { self.cluster.bounds(&self.topic, partition).ok() } else { None };
            // A question without an answer lasts ten seconds: one of them is enough.
            answers = bounds.is_some();
            let begin = bounds.map_or(Offset::End, |bounds| Offset::Offset(convert::raw_offset(bounds.low)));
            placed.add_partition_offset(&self.topic, element.partition(), begin)?;
        }
        Ok(placed)
    }

    /// What was decided since the last time.
    pub(super) fn take(&self) -> Vec<News> {
        std::mem::take(&mut lock(&self.inner).news)
    }

    /// How many decisions the member has heard of.
    pub(super) fn decisions(&self) -> u64 {
        lock(&self.inner).decisions
    }

    /// Calls `act` with the member's place in the group, where it has one.
    pub(super) fn with_place<T>(&self, act: impl FnOnce(&ConsumerGroupMetadata) -> T) -> Option<T> {
        lock(&self.inner).place.as_ref().map(act)
    }

    /// From now on everything that is asked back is given up at once.
    pub(super) fn close(&self) {
        lock(&self.inner).closing = true;
    }
}

speaks_through_tracing!(GroupNews, |news, statistics| news.brokers.see(statistics));

impl ConsumerContext for GroupNews {
    /// What became of positions that nobody waited for.
    fn commit_callback(&self, result: Result<(), KafkaError>, _offsets: &TopicPartitionList) {
        if let Err(fault) = result {
            tracing::warn!(%fault, "positions were not committed; the next commit names them again");
        }
    }

    /// Called inside a poll. Nothing is fetched of what is assigned until the member starts it: it is assigned at its beginning, so that
    /// librdkafka looks for no committed offset, and paused. (Any other may have been deleted, and a fetch that is quicker than
    /// the pause would end in an error that the partition does not come back from.) What is asked back is paused, and not given up here:
    /// librdkafka lets the group wait until the member releases it (`wait-unassign-call` in its logs), so that its owner can commit once
    /// more.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, decision: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if consumer.closed() {
            // A decision that was left over when the client ended; librdkafka would not answer any more.
            return;
        }
        let all_lost = consumer.assignment_lost();
        let closing = lock(&self.inner).closing;
        let result = if decision == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let assigned = self.place(list).and_then(|placed| take(consumer, &placed));
            assigned.and_then(|()| if list.count() > 0 { consumer.pause(list) } else { Ok(()) })
        } else if all_lost || closing {
            give_up(consumer, list)
        } else {
            consumer.pause(list)
        };
        if let Err(fault) = result {
            tracing::warn!(%fault, "a decision of the group could not be followed");
        }
        // Not asked of a client that ends: once its last partition is given up, the thread that would answer may be gone,
        // and librdkafka waits for the answer without an end.
        let place = if closing { None } else { consumer.group_metadata() };
        let mut inner = lock(&self.inner);
        inner.decisions += 1;
        if !all_lost {
            inner.place = place;
        }
        if list.count() > 0 {
            let mut list: Vec<u32> =
                list.elements().iter().map(|element| convert::partition(element.partition())).collect();
            list.sort_unstable();
            inner.news.push(match decision {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => News::Assigned(list),
                _ if all_lost || closing => News::Lost(list),
                _ => News::Revoking(list),
            });
        }
    }
}

/// Takes partitions, as the group's protocol has it.
fn take(consumer: &BaseConsumer<GroupNews>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Gives partitions up, as the group's protocol has it.
pub(super) fn give_up(consumer: &BaseConsumer<GroupNews>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// The values behind these locks are whole at all times: a panic elsewhere cannot have broken them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
