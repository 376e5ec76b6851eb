//! Properties of librdkafka that a user may not set, each with the promise that it would break.

use crate::BusError;

/// A property that was said, and may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedProperty {
    /// Its name, as librdkafka has it.
    pub property: String,
    /// What it would break.
    pub reason: &'static str,
}

const OFFSETS: &str = "an offset is committed with what was decided at it, in one transaction; committed by itself it would lose or \
                       repeat records in silence";
const UNCOMMITTED: &str = "inboxes are read committed: what a transaction took back must never be seen";
const TRANSACTIONS: &str = "each process makes transactional ids of its own, so that a dead owner can be fenced";
const DURABLE: &str = "a record counts as written when all replicas in sync have it, once and in order";
const START: &str =
    "a lane starts where its last owner committed, or not at all: any other rule can start it at 0 in silence";
const GROUP: &str = "a stage is a group, and each thread of it a member that is known by its own name";
const SHARING: &str = "lanes move one by one, so that those which stay go on; other protocols stop all of them, or are paced by the \
                       broker";
const SESSION: &str = "it is set together with transaction.timeout.ms, by bus.kafka.session_timeout_ms: an open transaction may not hide \
                       records for longer than a dead owner is waited for";
const BROKERS: &str = "say it as bus.kafka.brokers";
const TOPICS: &str = "a misspelt topic is an error; those that are needed are made with their settings";
const SIZE: &str = "the largest record is known to every part, so that none is too large for what comes of it";
const PACE: &str = "records are handed over in batches that fit into one request; where they are cut otherwise, librdkafka keeps a core \
                    busy while it waits for the broker";
const CORRUPT: &str = "a record that was damaged on its way must not be handled";
const ROUTE: &str = "a key has one lane, the one that any Kafka client finds";
const EVENTS: &str = "the bus needs the events of its group to hand lanes over in order";

/// Every property that is refused, and why.
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

/// Which of these may not be set.
pub fn refused<'a>(properties: impl IntoIterator<Item = &'a str>) -> Vec<RefusedProperty> {
    let reason = |property: &str| REFUSED.iter().find(|(known, _)| *known == property).map(|(_, reason)| *reason);
    let refused =
        |property: &str| reason(property).map(|reason| RefusedProperty { property: property.to_owned(), reason });
    properties.into_iter().filter_map(refused).collect()
}

/// True where the value of a property is nobody's business: it is never logged nor printed.
pub fn is_secret(property: &str) -> bool {
    ["password", "secret", ".pem", "sasl.oauthbearer.config", "sasl.jaas.config"]
        .iter()
        .any(|word| property.contains(word))
}

/// All that is refused, as one fault of the bus.
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
    fn a_property_that_would_break_a_promise_is_refused_with_its_reason() {
        for (property, reason) in REFUSED {
            let found = refused([*property]);
            assert_eq!(found, [RefusedProperty { property: (*property).to_owned(), reason }]);
            assert!(reason.len() > 20, "{property}: a reason is a sentence");
        }
        assert_eq!(refused(["compression.type", "security.protocol", "sasl.password", "ssl.ca.location", "debug"]), []);
    }

    #[test]
    fn all_refusals_are_told_at_once() {
        let told = check(["compression.type", "acks", "enable.auto.commit"]).unwrap_err().to_string();
        assert!(
            told.contains("`acks`") && told.contains("`enable.auto.commit`") && !told.contains("compression"),
            "{told}"
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
