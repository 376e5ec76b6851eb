//! Topologies inside a program: the topics of their sinks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bus::{BusError, Embedded, EmbeddedOptions, ManualClock};
use nave::prelude::stream::*;

/// Writes numbers to the topic `out`, and passes them to `seen`.
fn numbers() -> (Topology, ChannelSender<u64>, std::sync::mpsc::Receiver<u64>) {
    let (numbers, receiver) = channel(1);
    let (seen, results) = sync_channel(10);
    let t = Topology::named("numbers");
    let source = t.channel_source("numbers", receiver);
    source.kafka_sink("out", "out");
    source.for_each("seen", move |number: u64| seen.send(number).unwrap());
    (t.build().unwrap(), numbers, results)
}

#[test]
fn embed_creates_the_topic_of_a_sink() {
    let (topology, numbers, results) = numbers();
    let running = nave::embed(&topology).unwrap();
    for number in 0..3 {
        numbers.send(number).unwrap();
        assert_eq!(results.recv().unwrap(), number);
    }
    assert!(!running.has_failed());
    assert_eq!(running.stop(), Vec::<String>::new());
}

#[test]
fn embed_on_a_bus_refuses_to_start_without_the_topic_of_a_sink() {
    let bus: Arc<dyn Bus> = Arc::new(Embedded::open(Arc::new(ManualClock::default()), EmbeddedOptions::default()));
    let (topology, ..) = numbers();
    let refused = nave::embed_on(&bus, &topology).map(drop);
    assert!(matches!(&refused, Err(BusError::Refused(why)) if why.starts_with("NAVE-0064")), "{refused:?}");
}
