//! Records of the maximum size: everything derived from them fits too, so no lane is stuck behind
//! one.

mod support;

use bus::Outgoing;
use floodlight_sim::FaultKind;
use floodlight_sim::fault::CommandKind;
use nave::testing::HUB;
use support::{FlowWorld, complete_flow, dead, fault, flow, inject, refused, request_envelope, request_record, rules};
use wire::{CallId, Code, Envelope, Kind, MessageId};

/// Maximum record size of the embedded bus, the same as that of a Kafka broker.
const MAX_BYTES: usize = 1 << 20;

/// Checks that flows in each lane succeed, before and after a restart.
fn assert_lanes_work(world: &mut FlowWorld, what: &str) {
    for restart in [false, true] {
        if restart {
            world.lanes.kill(HUB);
            world.lanes.start(HUB);
        }
        for name in ["a", "b", "c", "d"] {
            let asked = world.request(&flow(name, 2));
            world.run_until_idle();
            assert!(world.answer(asked).is_done(), "{what}, flow {name}, after a restart: {restart}");
        }
    }
}

/// Enlarges `record` to the maximum size. `fill` adds the given number of bytes.
fn filled(record: &Outgoing, fill: impl Fn(&Outgoing, usize) -> Outgoing) -> Outgoing {
    let fullest = fill(record, MAX_BYTES - record.size());
    let over = fullest.size().saturating_sub(MAX_BYTES);
    fill(record, MAX_BYTES - record.size() - over)
}

#[test]
fn a_request_of_maximum_size_stops_no_lane() {
    type Fill = fn(&Outgoing, usize) -> Outgoing;
    let long = |bytes: usize| "x".repeat(bytes);
    let key: Fill = |record, bytes| Outgoing { key: Some(vec![b'k'; bytes].into()), ..record.clone() };
    let id: Fill =
        |record, bytes| record.clone().with(&request_envelope(&"i".repeat(bytes.saturating_sub(500)), "op-1"));
    let spaces: Fill =
        |record, bytes| Outgoing { value: vec![b' '; bytes + record.value.len()].into(), ..record.clone() };
    for (name, fill) in [("key", key), ("id", id), ("spaces", spaces)] {
        let mut world = support::world(1);
        let record = request_record(&world, "r-1", "op-1", "a", "{}");
        let record = filled(&record, fill);
        world.lanes.write(&[record.clone().to(0), record.to(1)]);
        assert_lanes_work(&mut world, name);
        assert!(!dead(&world).is_empty(), "{name}");
    }
    let bodies = [
        format!("\"{}\"", long(MAX_BYTES - 1_000)),
        format!(r#"{{"workflow":"{}","request":null}}"#, long(MAX_BYTES - 1_000)),
        format!(r#"{{"workflow":"create-flow","request":"{}"}}"#, long(MAX_BYTES - 1_000)),
        format!(r#"{{"workflow":"create-flow","request":{{"flowid":"{}","length":3}}}}"#, long(MAX_BYTES - 1_000)),
        format!(r#"{{"workflow":"create-flow","request":{{"flowid":"a","{}":3}}}}"#, long(MAX_BYTES - 1_000)),
    ];
    for body in bodies {
        let mut world = support::world(2);
        let record = request_record(&world, "r-1", "op-1", "a", &body);
        world.lanes.write(&[record]);
        assert_lanes_work(&mut world, &body[..40]);
        let codes = refused(&world, "r-1");
        assert!([[Code::NotJson], [Code::InvalidField]].iter().any(|code| codes == code), "{}: {codes:?}", &body[..40]);
    }
}

#[test]
fn a_spoke_reply_of_maximum_size_stops_no_lane() {
    for kind in [Kind::Reply, Kind::Refusal, Kind::Failure] {
        let mut world = support::world(1);
        inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, None));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(100);
        let call = CallId::new(world.operation_of(asked), 1, 2);
        let message = MessageId::new(call.clone(), "speaker", 1);
        let mut envelope = Envelope::new(kind, "large", "/stranger");
        envelope.call = Some(call);
        envelope.causation = Some(message.to_string());
        let text = "x".repeat(MAX_BYTES / 2 - 1_000);
        let body = format!(r#"{{"error":"{text}","detail":"{text}"}}"#);
        let lane = wire::routing::lane_of(b"test-01", 2);
        let record = Outgoing::keyed(&world.replies(), "of:02", body).with(&envelope).to(lane);
        world.lanes.write(&[record]);
        world.run_until_idle();
        assert!(!world.answer(asked).failure().degraded, "{kind}");
        world.speaker().clear_faults();
        assert_lanes_work(&mut world, kind.as_str());
        assert_eq!(rules(&world).len(), 4 * complete_flow(2).len(), "{kind}");
    }
}
