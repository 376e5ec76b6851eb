//! A speaker that dies of a fault: what was told, what was not, and how it goes on.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bus::Part as _;
use floodlight_sim::FaultKind;
use support::{DOWN, World, crash, install, reply_to, settle};

#[test]
fn what_was_done_in_its_last_turn_and_not_told_is_told_by_the_next_process_from_memory() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(crash(2, false));
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut part);
    assert!(world.speaker.is_down());
    assert_eq!((world.told(), world.executed()), (vec![], 2), "it died between doing and telling");
    world.clock.advance_ms(1_000);
    assert_eq!(part.turn(std::time::Duration::ZERO).unwrap(), DOWN);

    world.speaker.restart().unwrap();
    settle(&mut part);
    assert_eq!(world.told(), [1, 2, 3].map(|n| reply_to(n, 1)));
    assert_eq!(world.executed(), 3, "nothing was done twice");
}

#[test]
fn one_that_tells_before_it_dies_repeats_nothing() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(crash(2, true));
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut part);
    assert!(world.speaker.is_down());
    assert_eq!(world.told(), [1, 2].map(|n| reply_to(n, 1)));
    world.speaker.restart().unwrap();
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(3, 1)]);
}

#[test]
fn one_that_tells_before_it_dies_lives_until_its_commit_goes_through() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(crash(1, true));
    world.fate(support::Fate::IsLostInSilence);
    world.send(install(1, 1));
    settle(&mut part);
    world.send(install(2, 1));
    settle(&mut part);
    assert!(!world.speaker.is_down());
    world.clock.advance_ms(50);
    settle(&mut part);
    assert_eq!((world.speaker.is_down(), world.told()), (true, vec![reply_to(1, 1)]));
    world.speaker.restart().unwrap();
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(2, 1)]);
}

#[test]
fn what_was_delayed_dies_with_it() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    settle(&mut part);
    world.speaker.crash(true);
    settle(&mut part);
    assert_eq!((world.speaker.is_down(), settle(&mut part)), (true, DOWN));
    world.speaker.restart().unwrap();
    world.clock.advance_ms(1_000);
    settle(&mut part);
    assert_eq!((world.told(), world.executed()), (vec![], 1));
}

#[test]
fn one_that_lives_is_not_changed_by_a_start() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    settle(&mut part);
    world.speaker.restart().unwrap();
    world.clock.advance_ms(100);
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(1, 1)]);
}

#[test]
fn one_that_was_away_for_longer_than_its_session_joins_again() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(crash(1, false));
    world.send(install(1, 1));
    settle(&mut part);
    world.clock.advance_ms(60_000);
    let mut other = world.part("speaker-1");
    settle(&mut other);
    world.speaker.restart().unwrap();
    for _ in 0..3 {
        settle(&mut part);
        settle(&mut other);
    }
    assert_eq!((world.told(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn whoever_runs_it_hears_of_its_death_once() {
    let world = World::new();
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    world.speaker.on_crash(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut part = world.part("speaker-0");
    world.fault(crash(1, false));
    world.send(install(1, 1));
    settle(&mut part);
    settle(&mut part);
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    assert_eq!(part.stop(), ["speaker: it died of a fault, and was not started again"]);
}
