//! How librdkafka is set up, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::sender::{LINGER, Pace};
use crate::MemberSpec;

/// How long one request to the cluster may take before it counts as unanswered.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// Longest wait of one poll: librdkafka does not let a waiting thread be woken, and a stop is not to wait for long.
pub(super) const POLL: Duration = Duration::from_millis(250);

/// Time limit of one try of an append (`message.timeout.ms`). Another broker takes over from one that failed in less.
pub(super) const APPEND: Duration = Duration::from_secs(10);

/// A commit without any sign of the broker for this long is given up, and a fresh producer ends its transaction in less than a second.
/// A healthy broker answers within milliseconds, an overloaded one within a second.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// How many sessions a member may take between two polls. A member that lives but does not poll is given longer than one
/// that is dead: it may be reading a large snapshot.
const SESSIONS_WITHOUT_POLL: u128 = 5;

/// What joins no group has no poll to be late for; this is librdkafka's own default, whatever the user gave the members.
const NO_MEMBER: (&str, &str) = ("max.poll.interval.ms", "300000");

/// How often a client that is polled says which brokers it knows; it takes a fraction of a millisecond each time.
const STATISTICS: Duration = Duration::from_secs(2);

/// Interval between two questions of a client that reads which topics there are. librdkafka's default is five minutes: for that long
/// a member of a group did not notice that its topic had been made anew, and all that was sent to it waited.
const METADATA: Duration = Duration::from_secs(10);

/// As large as a broker takes it, so that the largest record of ours fits into one with what is added to it.
const LARGEST_BATCH: (&str, &str) = ("message.max.bytes", "1048576");

/// Which cluster, and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Where to begin, as `host:port,host:port`.
    pub brokers: String,
    /// How many copies of each partition new topics have.
    pub replication: i16,
    /// Properties of librdkafka besides: security, and what is set here for speed. What the bus's promises rest on is refused
    /// when it is opened ([`super::REFUSED`]), and set after these all the same.
    pub client: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// A cluster without security, and one copy of each partition.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), replication: 1, client: BTreeMap::new() }
    }

    /// What asks for metadata, watermarks and committed offsets, and joins nothing. In the name of `group` it sees its
    /// committed offsets at once, pending transactions or not.
    pub(super) fn probe(&self, group: Option<&str>, committed_only: bool) -> ClientConfig {
        let mut wanted = vec![
            NO_MEMBER,
            ("enable.auto.commit", "false"),
            ("allow.auto.create.topics", "false"),
            ("isolation.level", if committed_only { "read_committed" } else { "read_uncommitted" }),
        ];
        wanted.extend(group.map(|group| ("group.id", group)));
        self.config(&[], &wanted)
    }

    /// What creates topics.
    pub(super) fn admin(&self) -> ClientConfig {
        self.config(&[], &[])
    }

    /// What reads partitions that it is told, in no group. (A consumer of librdkafka must name one all the same.)
    pub(super) fn reader(&self) -> ClientConfig {
        // Only this event tells the end of a partition: its last offsets need not have a record.
        self.consumer(&[("group.id", "nave.reader"), NO_MEMBER, ("enable.partition.eof", "true")])
    }

    /// What reads as a member of a group.
    pub(super) fn member(&self, spec: &MemberSpec) -> ClientConfig {
        let session = spec.session_timeout.as_millis();
        // A rebalance begins for a member when its next heartbeat is answered.
        let heartbeat = (session / 3).min(300);
        let mut config = self.consumer(&[
            ("group.id", &spec.group),
            ("client.id", &spec.name),
            ("session.timeout.ms", &session.to_string()),
            ("heartbeat.interval.ms", &heartbeat.to_string()),
            // The next generation's protocol lets the broker's own interval pace a rebalance: 5 s instead of 0.3.
            ("group.protocol", "classic"),
            // Only what must move is moved; the rest goes on while it does.
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
            // Whether there still is a broker is told by nothing else.
            ("statistics.interval.ms", &*statistics),
            // The default adds up to a second when the local queue was full.
            ("fetch.queue.backoff.ms", "1"),
            ("fetch.min.bytes", "1"),
            // How long a fetch of nothing lasts: short enough to stop promptly.
            ("fetch.wait.max.ms", "100"),
            // What is fetched ahead of the poll: some 10,000 records, never more than 16 MiB.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "16384"),
        ];
        let safety = [
            // Anything else can silently start at 0 after a rebalance that came at a bad moment.
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
        ];
        self.config(&speed, &[&safety[..], wanted].concat())
    }

    /// What commits. One in a process: one for each lane costs 5 to 30 % of the throughput.
    pub(super) fn transactional(&self, id: &str, session: Duration) -> ClientConfig {
        let times = [session, LINGER, ANSWER.min(session)];
        let [timeout, linger, answer] = times.map(|time| time.as_millis().to_string());
        let speed = [
            // Limits each request of a commit. Nothing else limits the one that adds offsets.
            ("socket.timeout.ms", &*answer),
            // Right after a commit the broker answers "concurrent transactions" to the next one's first request. With the
            // default of 100 ms a transaction takes 102 ms; with this, 3 to 5.
            ("retry.backoff.ms", "1"),
            ("retry.backoff.max.ms", "10"),
            ("topic.metadata.propagation.max.ms", "2000"),
        ];
        let safety = [
            ("transactional.id", id),
            // Costs no latency: it is over before the first partition has joined the transaction.
            ("linger.ms", &linger),
            LARGEST_BATCH,
            ("acks", "all"),
            // An open transaction hides its partitions from their next reader: no longer than a dead owner's session.
            ("transaction.timeout.ms", &timeout),
            ("message.timeout.ms", &timeout),
        ];
        self.config(&speed, &safety)
    }

    /// What appends outside of transactions.
    pub(super) fn writer(&self, name: &str, pace: Pace) -> ClientConfig {
        let timeout = APPEND.as_millis().to_string();
        let linger = match pace {
            Pace::Singly => Duration::ZERO,
            Pace::InBatches => LINGER,
        };
        // An unknown topic is known as such soon.
        let speed = [("topic.metadata.propagation.max.ms", "2000"), ("message.timeout.ms", &timeout)];
        let safety = [
            ("client.id", name),
            ("linger.ms", &*linger.as_millis().to_string()),
            LARGEST_BATCH,
            // A record that is sent again by librdkafka is written once, and in order.
            ("enable.idempotence", "true"),
            ("acks", "all"),
        ];
        self.config(&speed, &safety)
    }

    /// Our figures for speed, then the user's properties, then what must be so.
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
    /// Names the properties without their values: some are secrets.
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
    fn the_user_may_change_what_is_for_speed_but_not_what_is_for_safety() {
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
