//! Answers at once and positions behind: what is committed was told, and nobody waits for a commit.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use bus::{Clock as _, Part as _, Turn};
use floodlight_sim::{FaultKind, SpeakerOptions};
use support::{DOWN, Fate, World, crash, install, reply_to, settle};

fn at_once() -> SpeakerOptions {
    SpeakerOptions { transactional: false, commit_every_ms: 500, heartbeats: None }
}

fn noted(next: u64, end: &str) -> (u64, String) {
    (next, format!("v1 speaker-0 {next} {end}"))
}

#[test]
fn an_answer_is_told_in_its_turn_and_its_position_follows() {
    let mut world = World::new();
    let mut part = world.part_with("speaker-0", &at_once());
    world.send(install(1, 1));
    let due = world.clock.mono().plus_ms(500);
    assert_eq!(settle(&mut part), Turn { worked: false, next: Some(due) });
    assert_eq!((world.told(), world.positions()), (vec![reply_to(1, 1)], vec![]));
    world.clock.advance_ms(499);
    world.send(install(2, 1));
    settle(&mut part);
    assert_eq!((world.told(), world.positions()), (vec![reply_to(2, 1)], vec![]));
    world.clock.advance_ms(1);
    assert_eq!(settle(&mut part).next, None);
    assert_eq!(world.positions(), [noted(2, "open")]);
}

#[test]
fn a_stop_commits_what_was_told_and_releases_it() {
    let mut world = World::new();
    let mut part = world.part_with("speaker-0", &at_once());
    world.send(install(1, 1));
    settle(&mut part);
    assert_eq!(part.stop(), [""; 0]);
    assert_eq!(world.told(), [reply_to(1, 1)]);
    assert!(world.positions().contains(&noted(1, "released")));
}

#[test]
fn a_partition_that_is_asked_back_is_given_up_at_what_was_told() {
    let mut world = World::new();
    let mut first = world.part_with("speaker-0", &at_once());
    let mut second = world.part_with("speaker-1", &at_once());
    for n in 1..=6 {
        world.send(install(n, 1));
        settle(&mut first);
        settle(&mut second);
    }
    assert_eq!(world.told(), [1, 2, 3, 4, 5, 6].map(|n| reply_to(n, 1)), "each is told once");
    first.stop();
    settle(&mut second);
    world.send(install(7, 1));
    settle(&mut second);
    assert_eq!((world.told(), world.executed()), (vec![reply_to(7, 1)], 7));
}

#[test]
fn what_cannot_be_told_is_not_committed_and_is_told_later() {
    let mut world = World::new();
    let mut part = world.part_with("speaker-0", &at_once());
    world.send(install(1, 1));
    settle(&mut part);
    world.fail_appends(20);
    world.send(install(2, 1));
    for _ in 0..12 {
        settle(&mut part);
        world.clock.advance_ms(100);
    }
    assert_eq!(
        (world.told(), world.positions()),
        (vec![reply_to(1, 1)], vec![noted(1, "open")]),
        "up to what was told"
    );
    // Until the bus takes something again, however long the pauses became.
    for _ in 0..200 {
        settle(&mut part);
        world.clock.advance_ms(100);
    }
    assert_eq!(world.told(), [reply_to(2, 1)]);
    assert_eq!(world.positions().last(), Some(&noted(2, "open")));
}

#[test]
fn answers_do_not_wait_for_a_commit_that_fails() {
    for fate in [Fate::Fails, Fate::IsFenced, Fate::IsLostInSilence, Fate::HappensInSilence] {
        let mut world = World::new();
        let mut part = world.part_with("speaker-0", &at_once());
        for _ in 0..4 {
            world.fate(fate);
        }
        for n in 1..=20 {
            world.send(install(n, 1));
            settle(&mut part);
            assert_eq!(world.told(), [reply_to(n, 1)], "{fate:?}");
            world.clock.advance_ms(100);
        }
        for _ in 0..10 {
            world.clock.advance_ms(100);
            settle(&mut part);
        }
        assert_eq!(world.positions().last(), Some(&noted(20, "open")), "{fate:?}");
        assert_eq!(settle(&mut part).next, None, "{fate:?}");
    }
}

#[test]
fn after_a_crash_what_was_not_committed_is_answered_again_from_memory() {
    let mut world = World::new();
    let mut part = world.part_with("speaker-0", &at_once());
    world.send(install(1, 1));
    settle(&mut part);
    world.fault(crash(2, false));
    world.send(install(2, 1));
    world.send(install(3, 1));
    settle(&mut part);
    assert_eq!((world.told(), settle(&mut part)), (vec![reply_to(1, 1)], DOWN));
    world.speaker.restart().unwrap();
    settle(&mut part);
    assert_eq!(world.told(), [1, 2, 3].map(|n| reply_to(n, 1)), "the first a second time, the same");
    assert_eq!(world.executed(), 3);
}

#[test]
fn what_nobody_can_be_told_is_passed_over() {
    let mut world = World::new();
    let mut part = world.part_with("speaker-0", &at_once());
    let mut far = install(1, 1).headers.envelope().unwrap();
    far.reply_partition = Some(77);
    world.send(install(1, 1).with(&far));
    settle(&mut part);
    world.fault(FaultKind::Oversized { bytes: 2 << 20 });
    world.send(install(2, 1));
    world.send(install(3, 1));
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(3, 1)]);
    world.clock.advance_ms(500);
    settle(&mut part);
    assert_eq!(world.positions(), [noted(3, "open")]);
}
