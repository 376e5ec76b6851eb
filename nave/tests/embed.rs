//! Topologies inside a program: the topics of their sinks, and the ends of their channels.
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

#[test]
fn a_channel_is_closed_when_its_topology_has_ended() {
    let (numbers, receiver) = channel(1);
    let (seen, results) = sync_channel(10);
    // The declaration outlives the running topology.
    let t = Topology::named("numbers");
    t.channel_source("numbers", receiver).for_each("seen", move |number: u64| seen.send(number).unwrap());
    let topology = t.build().unwrap();
    let running = nave::embed(&topology).unwrap();
    numbers.send(1).unwrap();
    assert_eq!(results.recv().unwrap(), 1);
    running.stop();
    assert_eq!(numbers.try_send(2), Err(SendError::Closed(2)));
    assert_eq!(numbers.send(3), Err(SendError::Closed(3)));
}
