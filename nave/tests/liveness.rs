//! Lesson 26: calls to a spoke whose heartbeats stopped fail at once. A spoke that never sent any
//! is judged by its replies.

mod support;

use bus::Outgoing;
use floodlight_sim::FaultKind;
use floodlight_sim::fault::CommandKind;
use flow_messages::client::Origin;
use support::{FlowWorld, audit, complete_flow, fault, flow, idle_violations, inject, one_lane, rules};
use wire::alive::Heartbeat;
use wire::{Envelope, Kind};

const INTERVAL_MS: u64 = 500;

/// Writes a heartbeat of an instance of the speaker, or with `bye` its last one.
fn heartbeat(world: &mut FlowWorld, instance: &str, bye: bool) {
    let topic = world.lanes.topics.alive(flows::SPEAKER);
    let body = serde_json::to_vec(&Heartbeat { instance: instance.into(), every_ms: INTERVAL_MS, bye }).expect("plain");
    let envelope = Envelope::new(Kind::Heartbeat, format!("{instance}/{}", world.lanes.now_ms()), "/spoke/speaker");
    world.lanes.write(&[Outgoing::keyed(&topic, instance.to_owned(), body).with(&envelope)]);
}

/// Sends heartbeats for `ms` milliseconds.
fn send_heartbeats(world: &mut FlowWorld, ms: u64) {
    for _ in 0..ms / INTERVAL_MS {
        heartbeat(world, "speaker-1", false);
        world.run_ms(INTERVAL_MS);
    }
}

/// Checks that a flow fails within 1 ms because the spoke is down.
fn assert_fails_at_once(world: &mut FlowWorld, name: &str) {
    let (sent, begun) = (audit(world, "install").len(), world.lanes.now_ms());
    let asked = world.request(&flow(name, 3));
    world.run_ms(1);
    let failed = world.answer(asked).failure();
    assert_eq!(failed.origin, Origin::Worker, "{failed:?}");
    assert!(failed.detail.contains("unavailable"), "{failed:?}");
    assert!(!failed.degraded, "no call was sent, so no rule is left: {failed:?}");
    assert_eq!(audit(world, "install").len(), sent, "no call was sent");
    assert!(world.lanes.now_ms() - begun <= 1);
}

#[test]
fn calls_fail_fast_without_heartbeats_and_work_when_they_resume() {
    let mut world = one_lane(1, |_| {});
    send_heartbeats(&mut world, 2_000);
    let asked = world.request(&flow("first", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done());

    // Three heartbeats are missing.
    world.run_ms(2_000);
    assert_fails_at_once(&mut world, "second");

    send_heartbeats(&mut world, 1_000);
    let again = world.request(&flow("second", 3));
    world.run_ms(10);
    assert!(world.answer(again).is_done());
    world.run_until_idle();
    assert_eq!(idle_violations(&mut world, &[asked, again]), [""; 0]);
    assert_eq!(world.lanes.count(workers::names::WENT_DOWN), 2, "the heartbeats stopped twice");
}

#[test]
fn a_spoke_that_says_goodbye_is_judged_by_its_answers() {
    let mut world = one_lane(2, |_| {});
    heartbeat(&mut world, "speaker-1", false);
    heartbeat(&mut world, "speaker-2", false);
    world.run_ms(200);
    heartbeat(&mut world, "speaker-1", true);
    world.run_ms(200);
    let asked = world.request(&flow("first", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done(), "the other instance is up");
    heartbeat(&mut world, "speaker-2", true);
    world.run_ms(200);
    world.run_polls(20);
    let asked = world.request(&flow("second", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done(), "without heartbeats the spoke is judged by its answers");
}

/// Every reader of heartbeats uses the same parser, so all ignore the same records.
#[test]
fn a_malformed_heartbeat_stops_no_calls() {
    let mut world = one_lane(6, |_| {});
    let topic = world.lanes.topics.alive(flows::SPEAKER);
    let body = r#"{"instance":"py","every_ms":500,"bye":false}"#;
    let bare = Outgoing::keyed(&topic, "py", body);
    world.lanes.write(&[bare.clone(), bare.with(&Envelope::new(Kind::Reply, "py/1", "/spoke/speaker"))]);
    world.run_ms(5_000);
    let asked = world.request(&flow("first", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done());
}

#[test]
fn a_spoke_that_never_sent_a_heartbeat_is_judged_by_its_answers() {
    let mut world = one_lane(3, |_| {});
    inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert_eq!(world.answer(asked).failure().origin, Origin::Timeout, "all attempts were made");
    world.speaker().clear_faults();
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(asked).is_done());
    assert_eq!(rules(&world), complete_flow(3));
}

#[test]
fn a_new_lane_owner_learns_that_a_spoke_is_down() {
    let stage = if support::options().apart { flows::SPEAKER } else { flows::STAGE };
    let mut world = one_lane(4, |_| {});
    send_heartbeats(&mut world, 1_000);
    world.run_ms(2_000);
    world.lanes.kill(stage);
    world.run_ms(1_000);
    world.lanes.start(stage);
    world.run_ms(500);
    assert_fails_at_once(&mut world, "test-01");
}

/// A call that was sent before may have been executed, so the worker waits for its reply.
#[test]
fn a_call_in_progress_continues_when_heartbeats_stop() {
    let mut world = one_lane(5, |_| {});
    heartbeat(&mut world, "speaker-1", false);
    world.run_ms(200);
    inject(&world, fault(CommandKind::Install, 2, FaultKind::DelayReply { ms: 300 }, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(10);
    heartbeat(&mut world, "speaker-1", true);
    world.run_ms(200);
    heartbeat(&mut world, "speaker-1", false);
    world.run_ms(400);
    assert!(world.answer(asked).is_done());
}
