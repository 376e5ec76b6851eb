//! Settings of librdkafka, with reasons.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::sender::{LINGER, Pace};
use crate::MemberSpec;

/// Time limit of one request to the cluster.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// Longest wait of one poll. librdkafka serves its queue only while it is polled, and the queue
/// wakes the waiting thread. Two things need a poll without an event: `max.poll.interval.ms`, which
/// is at least a session of 6 s unless the broker allows shorter ones, and a loss of all partitions
/// while some are being revoked ([`super::membership`]).
pub(super) const POLL: Duration = Duration::from_secs(1);

/// Time limit of one attempt of an append (`message.timeout.ms`). A leader change takes less.
pub(super) const APPEND: Duration = Duration::from_secs(10);

/// A commit is given up after this time without a response; a new producer then ends its
/// transaction in less than a second. A healthy broker answers within milliseconds, an overloaded
/// one within a second.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// Maximum time between two polls, in sessions. A live member that does not poll gets more time
/// than a dead one: it may be reading a large snapshot.
const SESSIONS_WITHOUT_POLL: u128 = 5;

/// For clients outside groups, which have no poll deadline: librdkafka's default, whatever the user
/// sets for members.
const NOT_A_MEMBER: (&str, &str) = ("max.poll.interval.ms", "300000");

/// Interval at which a client reports its brokers. Each report takes a fraction of a millisecond.
const STATISTICS: Duration = Duration::from_secs(2);

/// Interval at which a reading client refreshes the list of topics. librdkafka's default is five
/// minutes, during which a member would not notice that its topic was recreated.
const METADATA: Duration = Duration::from_secs(10);

/// The broker's limit, so that our largest record fits with the protocol overhead.
const LARGEST_BATCH: (&str, &str) = ("message.max.bytes", "1048576");

/// The cluster's address and client properties.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Bootstrap servers, as `host:port,host:port`.
    pub brokers: String,
    /// Replication factor of new topics.
    pub replication: i16,
    /// Additional librdkafka properties, such as security and tuning. Properties that the bus
    /// relies on are rejected at opening ([`super::REFUSED`]), and overwritten in any case.
    pub client: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// Creates options without security, with replication factor 1.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), replication: 1, client: BTreeMap::new() }
    }

    /// Configures the client for metadata, watermarks and committed offsets; it joins no group. With
    /// `group` it reads that group's committed offsets. If `committed_only` is false it does not
    /// wait for pending transactions.
    pub(super) fn probe(&self, group: Option<&str>, committed_only: bool) -> ClientConfig {
        let mut wanted = vec![
            NOT_A_MEMBER,
            ("enable.auto.commit", "false"),
            ("allow.auto.create.topics", "false"),
            ("isolation.level", if committed_only { "read_committed" } else { "read_uncommitted" }),
        ];
        wanted.extend(group.map(|group| ("group.id", group)));
        self.config(&[], &wanted)
    }

    /// Configures the client that creates topics.
    pub(super) fn admin(&self) -> ClientConfig {
        self.config(&[], &[])
    }

    /// Configures the client that reads assigned partitions outside groups. (librdkafka requires a
    /// group id anyway.)
    pub(super) fn reader(&self) -> ClientConfig {
        // Only this event reports the end of a partition: its last offsets may have no record.
        self.consumer(&[("group.id", "nave.reader"), NOT_A_MEMBER, ("enable.partition.eof", "true")])
    }

    /// Configures the client that reads as a member of a group.
    pub(super) fn member(&self, spec: &MemberSpec) -> ClientConfig {
        let session = spec.session_timeout.as_millis();
        // A member learns of a rebalance with its next heartbeat response.
        let heartbeat = (session / 3).min(300);
        let mut config = self.consumer(&[
            ("group.id", &spec.group),
            ("client.id", &spec.name),
            ("session.timeout.ms", &session.to_string()),
            ("heartbeat.interval.ms", &heartbeat.to_string()),
            // With the newer protocol the broker's interval paces a rebalance: 5 s instead of 0.3
            // s.
            ("group.protocol", "classic"),
            // Moves only the partitions that must move; the others continue to be read meanwhile.
            ("partition.assignment.strategy", "cooperative-sticky"),
        ]);
        let longest = session.saturating_mul(SESSIONS_WITHOUT_POLL).to_string();
        if !self.client.contains_key("max.poll.interval.ms") {
            config.set("max.poll.interval.ms", longest);
        }
        config
    }

    fn consumer(&self, wanted: &[(&str, &str)]) -> ClientConfig {
        let [statistics, metadata] = [STATISTICS, METADATA].map(|interval| interval.as_millis().to_string());
        let speed = [
            ("topic.metadata.refresh.interval.ms", &*metadata),
            // The only way to learn whether the client still knows a broker.
            ("statistics.interval.ms", &*statistics),
            // The default adds up to a second after the local queue was full.
            ("fetch.queue.backoff.ms", "1"),
            ("fetch.min.bytes", "1"),
            // Duration of an empty fetch: short, so that stopping is prompt.
            ("fetch.wait.max.ms", "100"),
            // Prefetch: some 10,000 records, at most 16 MiB.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "16384"),
        ];
        let safety = [
            // Any other setting can silently start at 0 if a rebalance comes at a bad moment.
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
        ];
        self.config(&speed, &[&safety[..], wanted].concat())
    }

    /// Configures the client that commits. One per member: one per lane costs 5 to 30 % of the
    /// throughput.
    pub(super) fn transactional(&self, id: &str, session: Duration) -> ClientConfig {
        let times = [session, LINGER, ANSWER.min(session)];
        let [timeout, linger, answer] = times.map(|time| time.as_millis().to_string());
        let speed = [
            // Limits each request of a commit. No other setting limits the request that adds
            // offsets.
            ("socket.timeout.ms", &*answer),
            // Right after a commit the broker answers the next commit's first request with
            // "concurrent transactions". With the default of 100 ms a transaction takes 102 ms;
            // with this setting 3 to 5 ms.
            ("retry.backoff.ms", "1"),
            ("retry.backoff.max.ms", "10"),
            ("topic.metadata.propagation.max.ms", "2000"),
        ];
        let safety = [
            ("transactional.id", id),
            // Adds no latency: it ends before the first partition has joined the transaction.
            ("linger.ms", &linger),
            LARGEST_BATCH,
            ("acks", "all"),
            // An open transaction hides its partitions from their next reader, but no longer than a
            // dead owner's session.
            ("transaction.timeout.ms", &timeout),
            ("message.timeout.ms", &timeout),
        ];
        self.config(&speed, &safety)
    }

    /// Configures the client that appends outside transactions.
    pub(super) fn writer(&self, name: &str, pace: Pace) -> ClientConfig {
        let timeout = APPEND.as_millis().to_string();
        let linger = match pace {
            Pace::Single => Duration::ZERO,
            Pace::Batched => LINGER,
        };
        // Report an unknown topic soon.
        let speed = [("topic.metadata.propagation.max.ms", "2000"), ("message.timeout.ms", &timeout)];
        let safety = [
            ("client.id", name),
            ("linger.ms", &*linger.as_millis().to_string()),
            LARGEST_BATCH,
            // A record that librdkafka sends again is written once, in order.
            ("enable.idempotence", "true"),
            ("acks", "all"),
        ];
        self.config(&speed, &safety)
    }

    /// Applies our tuning, then the user's properties, then the mandatory settings.
    fn config(&self, speed: &[(&str, &str)], wanted: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        let user = self.client.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in speed.iter().copied().chain(user).chain(wanted.iter().copied()) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

impl fmt::Debug for KafkaOptions {
    /// Prints property names without their values: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("replication", &self.replication)
            .field("client", &self.client.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_change_tuning_but_not_safety_settings() {
        let mut options = KafkaOptions::new("here:9092");
        options.client.insert("socket.nagle.disable".into(), "true".into());
        options.client.insert("auto.offset.reset".into(), "earliest".into());
        options.client.insert("isolation.level".into(), "read_uncommitted".into());
        options.client.insert("acks".into(), "1".into());
        let member = options.member(&MemberSpec::new("g", "t", "m"));
        assert_eq!(member.get("auto.offset.reset"), Some("error"));
        assert_eq!(member.get("isolation.level"), Some("read_committed"));
        let producer = options.transactional("m", MemberSpec::SESSION);
        assert_eq!((producer.get("socket.nagle.disable"), producer.get("acks")), (Some("true"), Some("all")));
    }

    #[test]
    fn a_transaction_hides_records_no_longer_than_a_session() {
        let options = KafkaOptions::new("here:9092");
        let spec = MemberSpec::new("g", "t", "m");
        let (member, producer) = (options.member(&spec), options.transactional(&spec.name, spec.session_timeout));
        assert_eq!(producer.get("transaction.timeout.ms"), member.get("session.timeout.ms"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut options = KafkaOptions::new("here:9092");
        options.client.insert("sasl.password".into(), "hunter2".into());
        let printed = format!("{options:?}");
        assert!(printed.contains("sasl.password") && !printed.contains("hunter2"), "{printed}");
    }
}
