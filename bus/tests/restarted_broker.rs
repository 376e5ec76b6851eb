//! The only broker is killed and restarted with its data (`tools/kafka crash` and `restart`).
#![expect(clippy::disallowed_methods, reason = "a real broker needs a real clock")]

#[path = "support/broker.rs"]
mod broker;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bus::{Bus, Kafka, KafkaOptions, Outgoing, TopicSpec};

use crate::broker::{Broker, RealClock};

#[test]
fn a_kafka_broker_with_a_long_session_keeps_its_data_over_a_crash() {
    let broker = Broker::start("restarted");
    let connect =
        || Kafka::open(Arc::new(RealClock(Instant::now())), KafkaOptions::new(broker.address())).expect("a cluster");
    let bus = connect();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    bus.writer("w").expect("a writer").append(&[Outgoing::keyed("t", "k", "v")]).expect("an append");
    // With this setting the session of the broker in `.kafka` is as long as a starting broker tries
    // to register (60 s by default).
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/restarted/1/server.properties");
    let properties = std::fs::read_to_string(&file).expect("properties");
    let longer = properties.replace("broker.session.timeout.ms=9000", "broker.session.timeout.ms=60000");
    assert_ne!(longer, properties);
    std::fs::write(&file, longer).expect("properties");

    broker.tool("crash");
    broker.tool("restart");

    let bounds = connect().bounds("t", 0).expect("the cluster answers");
    assert_eq!((bounds.low, bounds.end), (0, 1), "the record is still there");
}
