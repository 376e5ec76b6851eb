//! Lesson 26: a spoke whose heartbeats stopped is not waited for; one that never sent any is judged by its answers.

mod support;

use bus::Outgoing;
use floodlight_sim::FaultKind;
use floodlight_sim::fault::Word;
use nave::world::World;
use support::{audit, fault, flow, inject, not_at_rest, one_lane, rules, whole};
use wire::alive::Heartbeat;
use wire::flow::Origin;
use wire::{Envelope, Kind};

const EVERY_MS: u64 = 500;

/// An instance of the speaker says that it lives, or goodbye.
fn beat(world: &mut World, instance: &str, bye: bool) {
    let topic = world.system().options.topics.alive(flows::SPEAKER);
    let body = serde_json::to_vec(&Heartbeat { instance: instance.into(), every_ms: EVERY_MS, bye }).expect("plain");
    let envelope = Envelope::new(Kind::Heartbeat, format!("{instance}/{}", world.now_ms()), "/spoke/speaker");
    world.write(&[Outgoing::keyed(&topic, instance.to_owned(), body).with(&envelope)]);
}

/// It beats for so long.
fn beats_for(world: &mut World, ms: u64) {
    for _ in 0..ms / EVERY_MS {
        beat(world, "speaker-1", false);
        world.run_ms(EVERY_MS);
    }
}

/// A flow that is refused because the spoke is down: how long that took, in milliseconds.
fn fails_at_once(world: &mut World, name: &str) {
    let (sent, begun) = (audit(world, "install").len(), world.now_ms());
    let asked = world.request(&flow(name, 3));
    world.run_ms(1);
    let failed = world.answer(asked).failure();
    assert_eq!(failed.origin, Origin::Worker, "{failed:?}");
    assert!(failed.detail.contains("unavailable"), "{failed:?}");
    assert!(!failed.degraded, "nothing was sent, so nothing is left: {failed:?}");
    assert_eq!(audit(world, "install").len(), sent, "nothing was sent");
    assert!(world.now_ms() - begun <= 1);
}

#[test]
fn a_call_to_a_spoke_whose_heartbeats_stopped_is_refused_at_once_and_it_comes_back_by_itself() {
    let mut world = one_lane(1, |_| {});
    beats_for(&mut world, 2_000);
    let asked = world.request(&flow("first", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done());

    // Three beats are missing.
    world.run_ms(2_000);
    fails_at_once(&mut world, "second");

    beats_for(&mut world, 1_000);
    let again = world.request(&flow("second", 3));
    world.run_ms(10);
    assert!(world.answer(again).is_done());
    world.run_until_idle();
    assert_eq!(not_at_rest(&mut world, &[asked, again]), [""; 0]);
    assert_eq!(world.count(workers::names::WENT_DOWN), 2, "and once more, since it stopped again");
}

#[test]
fn a_spoke_that_says_goodbye_is_judged_by_its_answers_from_then_on() {
    let mut world = one_lane(2, |_| {});
    beat(&mut world, "speaker-1", false);
    beat(&mut world, "speaker-2", false);
    world.run_ms(200);
    beat(&mut world, "speaker-1", true);
    world.run_ms(200);
    let asked = world.request(&flow("first", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done(), "the other one lives");
    beat(&mut world, "speaker-2", true);
    world.run_ms(200);
    world.run_turns(20);
    let asked = world.request(&flow("second", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done(), "it is judged by its answers: whoever comes next need not send heartbeats");
}

/// Every reader of heartbeats has the same parser: none acts on what another one passes over.
#[test]
fn what_only_looks_like_a_heartbeat_stops_no_calls() {
    let mut world = one_lane(6, |_| {});
    let topic = world.system().options.topics.alive(flows::SPEAKER);
    let body = r#"{"instance":"py","every_ms":500,"bye":false}"#;
    let bare = Outgoing::keyed(&topic, "py", body);
    world.write(&[bare.clone(), bare.with(&Envelope::new(Kind::Reply, "py/1", "/spoke/speaker"))]);
    world.run_ms(5_000);
    let asked = world.request(&flow("first", 3));
    world.run_ms(10);
    assert!(world.answer(asked).is_done());
}

#[test]
fn a_spoke_that_never_sent_a_heartbeat_is_judged_by_its_answers() {
    let mut world = one_lane(3, |_| {});
    inject(&world, fault(Word::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert_eq!(world.answer(asked).failure().origin, Origin::Timeout, "it was tried as often as may be");
    world.speaker().clear_faults();
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(asked).is_done());
    assert_eq!(rules(&world), whole(3));
}

#[test]
fn who_takes_a_lane_over_learns_that_a_spoke_is_down() {
    let stage = if support::options().apart { flows::SPEAKER } else { flows::STAGE };
    let mut world = one_lane(4, |_| {});
    beats_for(&mut world, 1_000);
    world.run_ms(2_000);
    world.kill(stage);
    world.run_ms(1_000);
    world.start(stage);
    world.run_ms(500);
    fails_at_once(&mut world, "test-01");
}

/// What was sent before may have been done: its answer is waited for.
#[test]
fn what_is_under_way_when_the_heartbeats_stop_goes_on() {
    let mut world = one_lane(5, |_| {});
    beat(&mut world, "speaker-1", false);
    world.run_ms(200);
    inject(&world, fault(Word::Install, 2, FaultKind::DelayReply { ms: 300 }, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(10);
    beat(&mut world, "speaker-1", true);
    world.run_ms(200);
    beat(&mut world, "speaker-1", false);
    world.run_ms(400);
    assert!(world.answer(asked).is_done());
}
