//! The speaker on the embedded bus: every outcome of a commit, and every change of partitions.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

mod support;

use bus::{Clock as _, Outgoing, PollOutcome, Task as _};
use floodlight_sim::{Fault, FaultKind, Garbage, Match};
use support::{Fate, TOPIC, World, install, partition, reply_to, settle};
use wire::Kind;

#[test]
fn an_answer_goes_to_the_reply_address_with_the_offset_in_one_commit() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.send(install(1, 1));
    settle(&mut task);
    let replies = world.replies();
    let [reply] = &replies[..] else { panic!("one reply: {replies:?}") };
    assert_eq!((reply.partition, reply.key.as_deref()), (1, Some(&b"of:08"[..])));
    assert_eq!(reply.headers.envelope().unwrap().time, Some(world.clock.wall()));
    assert_eq!(task.stop(), [""; 0]);
    assert_eq!(world.committed(), (1, "v1 speaker-0 1 2 released".into()), "nothing is replayed");
}

#[test]
fn unreadable_requests_and_undeliverable_answers_do_not_stop_it() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    let garbage = Outgoing { value: "null".into(), ..install(1, 1) };
    let bare = Outgoing { headers: bus::Headers::default(), ..install(2, 1) };
    let mut lost = install(3, 1).headers.envelope().unwrap();
    lost.reply_to = Some("nowhere".into());
    let mut far = install(4, 1).headers.envelope().unwrap();
    far.reply_partition = Some(77);
    for request in [garbage, bare, install(3, 1).with(&lost), install(4, 1).with(&far), install(5, 1)] {
        world.send(request);
    }
    settle(&mut task);
    assert_eq!(world.answers(), [("op/1/1/speaker/1".into(), Kind::Refusal), reply_to(5, 1)]);
    assert_eq!(world.executed(), 3);
}

#[test]
fn a_delayed_answer_is_never_early() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    let due = world.clock.mono().plus_ms(100);
    assert_eq!(settle(&mut task), PollOutcome { worked: false, next: Some(due) });
    world.clock.advance_ms(99);
    settle(&mut task);
    assert_eq!(world.answers(), []);
    world.clock.advance_ms(1);
    assert_eq!(settle(&mut task).next, None);
    assert_eq!(world.answers(), [reply_to(1, 1)]);
}

#[test]
fn a_failed_commit_is_retried_with_the_same_answers_after_a_backoff() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fate(Fate::Fails);
    world.send(install(1, 1));
    let turn = settle(&mut task);
    assert_eq!((world.answers(), turn.next), (vec![], Some(world.clock.mono().plus_ms(50))));
    world.clock.advance_ms(50);
    assert_eq!(settle(&mut task).next, None);
    assert_eq!((world.answers(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn a_commit_of_unknown_outcome_neither_loses_nor_repeats_answers() {
    for fate in [Fate::UnknownButCommitted, Fate::UnknownAndLost] {
        let mut world = World::new();
        let mut task = world.task("speaker-0");
        world.fate(fate);
        world.send(install(1, 1));
        settle(&mut task);
        // Another request arrives before the commit is settled.
        world.send(install(2, 1));
        world.clock.advance_ms(50);
        assert_eq!(settle(&mut task).next, None, "{fate:?}");
        assert_eq!(world.answers(), [reply_to(1, 1), reply_to(2, 1)], "{fate:?}");
        assert_eq!(world.executed(), 2, "{fate:?}");
    }
}

#[test]
fn a_fenced_speaker_continues_with_the_partitions_that_it_owns() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fate(Fate::Fenced);
    world.send(install(1, 1));
    settle(&mut task);
    world.clock.advance_ms(50);
    settle(&mut task);
    assert_eq!((world.answers(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn an_expelled_speaker_joins_again_and_executes_nothing_twice() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    settle(&mut task);
    world.send(install(1, 1));
    world.fate(Fate::Fails);
    settle(&mut task);
    world.bus.expel(TOPIC);
    world.clock.advance_ms(50);
    for _ in 0..5 {
        settle(&mut task);
        world.clock.advance_ms(1_000);
    }
    // The pending answer, and the answer from memory to the request that was read again.
    assert_eq!(world.answers(), [reply_to(1, 1), reply_to(1, 1)]);
    assert_eq!(world.executed(), 1);
}

#[test]
fn a_new_task_resumes_with_the_rules_and_the_memory_of_the_last() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.send(install(1, 1));
    settle(&mut task);
    task.stop();
    let mut task = world.task("speaker-1");
    world.send(install(1, 2));
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(1, 1), reply_to(1, 2)]);
    assert_eq!((world.executed(), world.speaker.all_rules().len()), (1, 1));
}

#[test]
fn a_revoked_partition_is_released_after_its_answers() {
    let mut world = World::new();
    let mut first = world.task("speaker-0");
    settle(&mut first);
    let mut second = world.task("speaker-1");
    for n in 1..=3 {
        world.send(install(n, 1));
        settle(&mut first);
        settle(&mut second);
    }
    assert_eq!(world.answers(), [1, 2, 3].map(|n| reply_to(n, 1)));
    assert_eq!(world.executed(), 3);
    first.stop();
    settle(&mut second);
    world.send(install(4, 1));
    settle(&mut second);
    assert_eq!(world.answers(), [reply_to(4, 1)]);
}

#[test]
fn deleted_requests_are_skipped_and_the_next_is_answered() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    settle(&mut task);
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    world.bus.delete_records(TOPIC, partition(), 2).unwrap();
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(3, 1)]);
}

#[test]
fn a_stop_reports_unfinished_work() {
    let world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(FaultKind::DelayExecution { ms: 100 });
    world.send(install(1, 1));
    settle(&mut task);
    world.fate(Fate::Fails);
    world.send(install(2, 1));
    settle(&mut task);
    world.fate(Fate::Fails);
    assert_eq!(
        task.stop(),
        [
            "speaker-0: 1 commands or answers are still delayed by a fault",
            "speaker-0: 1 answers were not committed; the next instance sends them",
        ]
    );
}

#[test]
fn an_answer_that_the_bus_rejects_is_dropped_and_others_are_sent() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(FaultKind::Oversized { bytes: 2 << 20 });
    world.fault(FaultKind::Oversized { bytes: 10_000 });
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut task);
    let sizes: Vec<usize> = world.replies().iter().map(|reply| reply.value.len()).collect();
    assert_eq!((sizes[0], sizes.len()), (10_000, 2));
    assert_eq!(world.executed(), 3);
}

#[test]
fn oversized_answers_are_limited_to_64_mib_in_total() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    let kind = FaultKind::Oversized { bytes: 1_000_000 };
    world.speaker.inject(Fault { when: Match::default(), kind, times: None }).unwrap();
    for n in 1..=200 {
        world.send(install(n, 1));
    }
    settle(&mut task);
    let replies = world.replies();
    let long = replies.iter().filter(|reply| reply.value.len() == 1_000_000).count();
    assert_eq!((long, replies.len()), (68, 200), "64 MiB of oversized answers, and the others unchanged");
}

#[test]
fn a_corrupt_answer_goes_to_the_reply_address() {
    let mut world = World::new();
    let mut task = world.task("speaker-0");
    world.fault(FaultKind::Corrupt { what: Garbage::Headers });
    world.send(install(1, 1));
    settle(&mut task);
    let [reply] = &world.replies()[..] else { panic!("one reply") };
    assert_eq!((reply.partition, reply.headers.get("ce_type")), (1, None));
}
