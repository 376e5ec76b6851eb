//! Crashes by fault injection, and restarts.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bus::Task as _;
use floodlight_sim::FaultKind;
use support::{DOWN, World, crash, install, reply_to, settle};

#[test]
fn after_a_crash_executed_requests_are_answered_from_memory() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(crash(2, false));
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut task);
    assert!(world.speaker.is_down());
    assert_eq!((world.answers(), world.executed()), (vec![], 2), "it crashed between execution and answer");
    world.clock.advance_ms(1_000);
    assert_eq!(task.poll(std::time::Duration::ZERO).unwrap(), DOWN);

    world.speaker.restart().unwrap();
    settle(&mut task);
    assert_eq!(world.answers(), [1, 2, 3].map(|n| reply_to(n, 1)));
    assert_eq!(world.executed(), 3, "no request is executed twice");
}

#[test]
fn a_crash_after_the_answers_repeats_nothing() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(crash(2, true));
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut task);
    assert!(world.speaker.is_down());
    assert_eq!(world.answers(), [1, 2].map(|n| reply_to(n, 1)));
    world.speaker.restart().unwrap();
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(3, 1)]);
}

#[test]
fn a_crash_after_the_answers_waits_for_their_commit() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(crash(1, true));
    world.fate(support::Fate::UnknownAndLost);
    world.send(install(1, 1));
    settle(&mut task);
    world.send(install(2, 1));
    settle(&mut task);
    assert!(!world.speaker.is_down());
    world.clock.advance_ms(50);
    settle(&mut task);
    assert_eq!((world.speaker.is_down(), world.answers()), (true, vec![reply_to(1, 1)]));
    world.speaker.restart().unwrap();
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(2, 1)]);
}

#[test]
fn delayed_answers_are_lost_in_a_crash() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    settle(&mut task);
    world.speaker.crash(true);
    settle(&mut task);
    assert_eq!((world.speaker.is_down(), settle(&mut task)), (true, DOWN));
    world.speaker.restart().unwrap();
    world.clock.advance_ms(1_000);
    settle(&mut task);
    assert_eq!((world.answers(), world.executed()), (vec![], 1));
}

#[test]
fn a_restart_does_not_change_a_running_speaker() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    settle(&mut task);
    world.speaker.restart().unwrap();
    world.clock.advance_ms(100);
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(1, 1)]);
}

#[test]
fn a_speaker_joins_again_after_its_session_timed_out() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(crash(1, false));
    world.send(install(1, 1));
    settle(&mut task);
    world.clock.advance_ms(60_000);
    let mut other = world.task("speaker-1");
    settle(&mut other);
    world.speaker.restart().unwrap();
    for _ in 0..3 {
        settle(&mut task);
        settle(&mut other);
    }
    assert_eq!((world.answers(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn the_crash_callback_is_called_once() {
    let world = World::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    world.speaker.on_crash(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut task = world.task("speaker-0");
    world.fault(crash(1, false));
    world.send(install(1, 1));
    settle(&mut task);
    settle(&mut task);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(task.stop(), ["speaker-0: it crashed by fault injection and was not restarted"]);
}
