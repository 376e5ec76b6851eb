//! Labels of counters and warnings that operators rely on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use bus::Outgoing;
use metrics_exporter_prometheus::PrometheusBuilder;
use support::{one_lane, request_record};
use topology::Topology;
use topology::testing::Lanes;
use wire::{CallId, Envelope, Kind};

const BODY: &str = r#"{"workflow":"create-flow","request":{"flowid":"test-01","length":3}}"#;

#[test]
fn rejected_replies_are_counted_by_service_and_header() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut world = one_lane(1, |_| {});
    let call = || CallId::new(wire::OperationId::new("op-1").unwrap(), 1, 1);
    let message = format!("{}/speaker/1", call());
    let from_speaker = |id: &'static str| Envelope::new(Kind::Reply, id, "/spoke/speaker");
    let without_call = |id| Envelope { causation: Some(message.clone()), ..from_speaker(id) };
    let without_cause = Envelope { call: Some(call()), ..from_speaker("a-2") };
    let complete = Envelope { call: Some(call()), ..without_call("a-3") };
    let inbox = world.replies();
    let reply =
        |envelope: &Envelope, body: &str| Outgoing::keyed(&inbox, "of:02", body.to_owned()).with(envelope).to(0);
    let not_utf8 = Outgoing { value: vec![0xff].into(), ..reply(&complete, "") };
    world.lanes.write(&[
        reply(&without_call("a-1"), "{}"),
        reply(&without_call("a-4"), "{}"),
        reply(&without_cause, "{}"),
        not_utf8,
    ]);
    metrics::with_local_recorder(&recorder, || world.run_until_idle());
    let page = recorder.handle().render();
    for (reason, times) in [("ce_callid", 2), ("ce_causationid", 1), ("body", 1)] {
        let line = format!("nave_replies_rejected_total{{service=\"speaker\",reason=\"{reason}\"}} {times}\n");
        assert!(page.contains(&line), "{line} is missing in {page}");
    }
}

/// Each emit, execution and failure once; a replay after a crash counts nothing, and a call that
/// panics emits nothing.
#[test]
fn the_tuples_of_each_component_are_counted_once() {
    let t = Topology::named("words");
    t.items("lines", || ["a b", "panic", "c"].map(str::to_owned))
        .shuffle()
        .flat_map("split", |line| {
            assert!(line != "panic", "a line that cannot be split");
            line.split(' ').map(str::to_owned).collect()
        })
        .for_each("end", |_word: String| {});
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.recovery.snapshot_ms = 3_600_000;
    metrics::with_local_recorder(&recorder, || {
        lanes.join();
        lanes.run_ms(1_000);
        lanes.kill("split");
        lanes.start("split");
        lanes.run_ms(1_000);
    });
    assert!(lanes.count(topology::names::REPLAYED) > 0, "the new owner replays");
    let page = recorder.handle().render();
    let counted = [("lines", [0, 3, 0]), ("split", [3, 3, 1]), ("end", [3, 0, 0])];
    for (component, counts) in counted {
        for (what, count) in ["executed", "emitted", "failed"].iter().zip(counts) {
            let stage = if component == "lines" { "lines" } else { "split" };
            let labels = format!("topology=\"words\",stage=\"{stage}\",component=\"{component}\"");
            let line = format!("nave_component_{what}_total{{{labels}}} {count}\n");
            assert!(page.contains(&line), "{line} is missing in {page}");
        }
    }
}

/// A writer that tests can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The default partitioner of librdkafka is not Kafka's: its users see only that everything is slower.
#[test]
fn misrouted_requests_are_reported_once_an_hour_with_the_remedy() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let mut world = support::world(1);
    let lane = wire::routing::lane_of(b"test-01", 2);
    let mut send = |id: &str| {
        let record = request_record(&world, id, id, "test-01", BODY).to(1 - lane);
        world.lanes.write(&[record]);
        world.run_until_idle();
    };
    tracing::subscriber::with_default(subscriber, || {
        send("r-1");
        send("r-2");
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let remedies = |text: &str| text.matches("partitioner=murmur2_random").count();
    assert_eq!(remedies(&text), 1, "{text}");
}
