//! Delivery without transactions: only answered requests are committed, and answers never wait.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

mod support;

use bus::{Clock as _, PollOutcome, Task as _};
use floodlight_sim::FaultKind;
use spoke::{Delivery, SpokeOptions};
use support::{DOWN, Fate, World, crash, install, reply_to, settle};

fn options() -> SpokeOptions {
    SpokeOptions { delivery: Delivery::Immediate { commit_every_ms: 500 }, ..SpokeOptions::default() }
}

fn position(next: u64, end: &str) -> (u64, String) {
    (next, format!("v1 speaker-0 {next} 0 {end}"))
}

#[test]
fn an_answer_is_sent_at_once_and_its_offset_is_committed_later() {
    let mut world = World::new();
    let mut task = world.task_with("speaker-0", &options());
    world.send(install(1, 1));
    let due = world.clock.mono().plus_ms(500);
    assert_eq!(settle(&mut task), PollOutcome { worked: false, next: Some(due) });
    assert_eq!((world.answers(), world.positions()), (vec![reply_to(1, 1)], vec![]));
    world.clock.advance_ms(499);
    world.send(install(2, 1));
    settle(&mut task);
    assert_eq!((world.answers(), world.positions()), (vec![reply_to(2, 1)], vec![]));
    world.clock.advance_ms(1);
    assert_eq!(settle(&mut task).next, None);
    assert_eq!(world.positions(), [position(2, "open")]);
}

#[test]
fn a_stop_commits_the_answered_requests_and_releases_the_partition() {
    let mut world = World::new();
    let mut task = world.task_with("speaker-0", &options());
    world.send(install(1, 1));
    settle(&mut task);
    assert_eq!(task.stop(), [""; 0]);
    assert_eq!(world.answers(), [reply_to(1, 1)]);
    assert!(world.positions().contains(&position(1, "released")));
}

#[test]
fn a_revoked_partition_is_released_after_its_answered_requests() {
    let mut world = World::new();
    let mut first = world.task_with("speaker-0", &options());
    let mut second = world.task_with("speaker-1", &options());
    for n in 1..=6 {
        world.send(install(n, 1));
        settle(&mut first);
        settle(&mut second);
    }
    assert_eq!(world.answers(), [1, 2, 3, 4, 5, 6].map(|n| reply_to(n, 1)), "each is answered once");
    first.stop();
    settle(&mut second);
    world.send(install(7, 1));
    settle(&mut second);
    assert_eq!((world.answers(), world.executed()), (vec![reply_to(7, 1)], 7));
}

#[test]
fn an_unsent_answer_is_not_committed_and_is_sent_later() {
    let mut world = World::new();
    let mut task = world.task_with("speaker-0", &options());
    world.send(install(1, 1));
    settle(&mut task);
    world.fail_appends(20);
    world.send(install(2, 1));
    for _ in 0..12 {
        settle(&mut task);
        world.clock.advance_ms(100);
    }
    assert_eq!(
        (world.answers(), world.positions()),
        (vec![reply_to(1, 1)], vec![position(1, "open")]),
        "only the answered request is committed"
    );
    // Long enough for any backoff.
    for _ in 0..200 {
        settle(&mut task);
        world.clock.advance_ms(100);
    }
    assert_eq!(world.answers(), [reply_to(2, 1)]);
    assert_eq!(world.positions().last(), Some(&position(2, "open")));
}

#[test]
fn answers_do_not_wait_for_a_failed_commit() {
    for fate in [Fate::Fails, Fate::Fenced, Fate::UnknownAndLost, Fate::UnknownButCommitted] {
        let mut world = World::new();
        let mut task = world.task_with("speaker-0", &options());
        for _ in 0..4 {
            world.fate(fate);
        }
        for n in 1..=20 {
            world.send(install(n, 1));
            settle(&mut task);
            assert_eq!(world.answers(), [reply_to(n, 1)], "{fate:?}");
            world.clock.advance_ms(100);
        }
        for _ in 0..10 {
            world.clock.advance_ms(100);
            settle(&mut task);
        }
        assert_eq!(world.positions().last(), Some(&position(20, "open")), "{fate:?}");
        assert_eq!(settle(&mut task).next, None, "{fate:?}");
    }
}

#[test]
fn uncommitted_requests_are_answered_from_memory_after_a_crash() {
    let mut world = World::new();
    let mut task = world.task_with("speaker-0", &options());
    world.send(install(1, 1));
    settle(&mut task);
    world.fault(crash(2, false));
    world.send(install(2, 1));
    world.send(install(3, 1));
    settle(&mut task);
    assert_eq!((world.answers(), settle(&mut task)), (vec![reply_to(1, 1)], DOWN));
    world.speaker.restart().unwrap();
    settle(&mut task);
    assert_eq!(world.answers(), [1, 2, 3].map(|n| reply_to(n, 1)), "the first request gets the same answer again");
    assert_eq!(world.executed(), 3);
}

#[test]
fn undeliverable_answers_are_dropped() {
    let mut world = World::new();
    let mut task = world.task_with("speaker-0", &options());
    let mut far = install(1, 1).headers.envelope().unwrap();
    far.reply_partition = Some(77);
    world.send(install(1, 1).with(&far));
    settle(&mut task);
    world.fault(FaultKind::Oversized { bytes: 2 << 20 });
    world.send(install(2, 1));
    world.send(install(3, 1));
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(3, 1)]);
    world.clock.advance_ms(500);
    settle(&mut task);
    assert_eq!(world.positions(), [position(3, "open")]);
}
