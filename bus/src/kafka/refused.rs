//! librdkafka properties that users may not set, each with the reason.

use crate::BusError;

/// A property that the user set and may not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedProperty {
    /// The name, as in librdkafka.
    pub property: String,
    /// The reason.
    pub reason: &'static str,
}

const OFFSETS: &str = "offsets are committed in one transaction with the results; automatic commits would silently lose or repeat \
                       records";
const UNCOMMITTED: &str = "inboxes are read with `read_committed`, so that aborted records are never seen";
const TRANSACTIONS: &str = "each process creates its own transactional ids, so that a dead owner can be fenced";
const DURABLE: &str = "a record counts as written when all in-sync replicas have it, once and in order";
const START: &str = "a lane starts at the committed offset or not at all; any other rule can silently start it at 0";
const GROUP: &str = "each stage is a group, and each of its threads is a member with its own name";
const SHARING: &str = "lanes move one by one while the others continue; other protocols stop all lanes, or rebalance at the broker's \
                       interval";
const SESSION: &str = "set bus.kafka.session_timeout_ms, which also sets transaction.timeout.ms: an open transaction may not hide \
                       records for longer than the session of a dead owner";
const BROKERS: &str = "set bus.kafka.brokers instead";
const TOPICS: &str = "a misspelt topic is an error; required topics are created with their settings";
const SIZE: &str = "all components share one record size limit, so that no record is too large for the next one";
const PACE: &str = "records are sent in batches that fit into one request; with other batches librdkafka keeps a core busy while it \
                    waits for the broker";
const CORRUPT: &str = "a record that was corrupted in transit must not be handled";
const ROUTE: &str = "a key always maps to the same lane, with every Kafka client";
const EVENTS: &str = "the bus needs the group's events to transfer lanes in order";

/// Every forbidden property, with the reason.
pub const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("enable.auto.commit", OFFSETS),
    ("auto.commit.enable", OFFSETS),
    ("auto.commit.interval.ms", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("offset.store.method", OFFSETS),
    ("isolation.level", UNCOMMITTED),
    ("transactional.id", TRANSACTIONS),
    ("transaction.timeout.ms", SESSION),
    ("session.timeout.ms", SESSION),
    ("heartbeat.interval.ms", SESSION),
    ("message.timeout.ms", SESSION),
    ("delivery.timeout.ms", SESSION),
    ("enable.idempotence", DURABLE),
    ("enable.gapless.guarantee", DURABLE),
    ("acks", DURABLE),
    ("request.required.acks", DURABLE),
    ("max.in.flight", DURABLE),
    ("max.in.flight.requests.per.connection", DURABLE),
    ("retries", DURABLE),
    ("message.send.max.retries", DURABLE),
    ("auto.offset.reset", START),
    ("group.id", GROUP),
    ("group.instance.id", GROUP),
    ("client.id", GROUP),
    ("group.protocol", SHARING),
    ("group.protocol.type", SHARING),
    ("group.remote.assignor", SHARING),
    ("partition.assignment.strategy", SHARING),
    ("allow.auto.create.topics", TOPICS),
    ("message.max.bytes", SIZE),
    ("linger.ms", PACE),
    ("queue.buffering.max.ms", PACE),
    ("batch.num.messages", PACE),
    ("batch.size", PACE),
    ("check.crcs", CORRUPT),
    ("partitioner", ROUTE),
    ("enabled_events", EVENTS),
    ("enable.partition.eof", EVENTS),
];

/// Returns those of the properties that may not be set.
pub fn refused<'a>(properties: impl IntoIterator<Item = &'a str>) -> Vec<RefusedProperty> {
    let reason = |property: &str| REFUSED.iter().find(|(name, _)| *name == property).map(|(_, reason)| *reason);
    let refused =
        |property: &str| reason(property).map(|reason| RefusedProperty { property: property.to_owned(), reason });
    properties.into_iter().filter_map(refused).collect()
}

/// True if the value of the property is secret: it is never logged or printed.
pub fn is_secret(property: &str) -> bool {
    ["password", "secret", ".pem", "sasl.oauthbearer.config", "sasl.jaas.config"]
        .iter()
        .any(|pattern| property.contains(pattern))
}

/// Rejects all forbidden properties with one error.
pub(super) fn check<'a>(properties: impl IntoIterator<Item = &'a str>) -> Result<(), BusError> {
    let refused = refused(properties);
    if refused.is_empty() {
        return Ok(());
    }
    let line = |refused: &RefusedProperty| format!("`{}` may not be set: {}", refused.property, refused.reason);
    Err(BusError::Refused(refused.iter().map(line).collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forbidden_property_is_refused_with_its_reason() {
        for (property, reason) in REFUSED {
            let found = refused([*property]);
            assert_eq!(found, [RefusedProperty { property: (*property).to_owned(), reason }]);
            assert!(reason.len() > 20, "{property}: a reason is a sentence");
        }
        assert_eq!(refused(["compression.type", "security.protocol", "sasl.password", "ssl.ca.location", "debug"]), []);
    }

    #[test]
    fn all_refusals_are_reported_at_once() {
        let text = check(["compression.type", "acks", "enable.auto.commit"]).unwrap_err().to_string();
        assert!(
            text.contains("`acks`") && text.contains("`enable.auto.commit`") && !text.contains("compression"),
            "{text}"
        );
    }

    #[test]
    fn passwords_and_keys_are_secrets() {
        for secret in ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            assert!(is_secret(secret), "{secret}");
        }
        assert!(!is_secret("sasl.username") && !is_secret("compression.type"));
    }
}
