//! The speaker on the embedded bus, through whatever may become of a commit or of a partition.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use bus::{Clock as _, Outgoing, Part as _, Turn};
use floodlight_sim::{Fault, FaultKind, Garbage, Match};
use support::{Fate, TOPIC, World, install, partition, reply_to, settle};
use wire::Kind;

#[test]
fn a_request_is_answered_where_it_says_and_its_position_goes_with_the_answer() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.send(install(1, 1));
    settle(&mut part);
    let replies = world.replies();
    let [reply] = &replies[..] else { panic!("one reply: {replies:?}") };
    assert_eq!((reply.partition, reply.key.as_deref()), (1, Some(&b"of:08"[..])));
    assert_eq!(reply.headers.envelope().unwrap().time, Some(world.clock.wall()));
    assert_eq!(part.stop(), [""; 0]);
    assert_eq!(world.committed(), (1, "v1 speaker-0 1 released".into()), "it replays nothing");
}

#[test]
fn what_cannot_be_read_or_told_does_not_stop_it() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    let garbage = Outgoing { value: "null".into(), ..install(1, 1) };
    let bare = Outgoing { headers: bus::Headers::default(), ..install(2, 1) };
    let mut lost = install(3, 1).headers.envelope().unwrap();
    lost.reply_to = Some("nowhere".into());
    let mut far = install(4, 1).headers.envelope().unwrap();
    far.reply_partition = Some(77);
    for request in [garbage, bare, install(3, 1).with(&lost), install(4, 1).with(&far), install(5, 1)] {
        world.send(request);
    }
    settle(&mut part);
    assert_eq!(world.told(), [("op/1/1/speaker/1".into(), Kind::Refusal), reply_to(5, 1)]);
    assert_eq!(world.executed(), 3);
}

#[test]
fn a_delayed_answer_comes_at_its_time_and_never_before() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    let due = world.clock.mono().plus_ms(100);
    assert_eq!(settle(&mut part), Turn { worked: false, next: Some(due) });
    world.clock.advance_ms(99);
    settle(&mut part);
    assert_eq!(world.told(), []);
    world.clock.advance_ms(1);
    assert_eq!(settle(&mut part).next, None);
    assert_eq!(world.told(), [reply_to(1, 1)]);
}

#[test]
fn a_commit_that_fails_is_tried_again_with_the_same_answers_after_a_pause() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fate(Fate::Fails);
    world.send(install(1, 1));
    let turn = settle(&mut part);
    assert_eq!((world.told(), turn.next), (vec![], Some(world.clock.mono().plus_ms(50))));
    world.clock.advance_ms(50);
    assert_eq!(settle(&mut part).next, None);
    assert_eq!((world.told(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn a_commit_with_unknown_outcome_is_settled_and_nothing_is_lost_or_told_twice() {
    for fate in [Fate::HappensInSilence, Fate::IsLostInSilence] {
        let mut world = World::new();
        let mut part = world.part("speaker-0");
        world.fate(fate);
        world.send(install(1, 1));
        settle(&mut part);
        // More comes before it is settled.
        world.send(install(2, 1));
        world.clock.advance_ms(50);
        assert_eq!(settle(&mut part).next, None, "{fate:?}");
        assert_eq!(world.told(), [reply_to(1, 1), reply_to(2, 1)], "{fate:?}");
        assert_eq!(world.executed(), 2, "{fate:?}");
    }
}

#[test]
fn one_that_is_fenced_and_still_owns_its_partitions_goes_on() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fate(Fate::IsFenced);
    world.send(install(1, 1));
    settle(&mut part);
    world.clock.advance_ms(50);
    settle(&mut part);
    assert_eq!((world.told(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn one_that_was_given_up_by_its_group_joins_again_and_repeats_nothing() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    settle(&mut part);
    world.send(install(1, 1));
    world.fate(Fate::Fails);
    settle(&mut part);
    world.bus.expel(TOPIC);
    world.clock.advance_ms(50);
    for _ in 0..5 {
        settle(&mut part);
        world.clock.advance_ms(1_000);
    }
    // Its answer was kept, and the request was read again and answered from memory: at least once.
    assert_eq!(world.told(), [reply_to(1, 1), reply_to(1, 1)]);
    assert_eq!(world.executed(), 1);
}

#[test]
fn a_new_part_goes_on_with_the_same_rules_and_memory_where_the_last_one_stopped() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.send(install(1, 1));
    settle(&mut part);
    part.stop();
    let mut part = world.part("speaker-1");
    world.send(install(1, 2));
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(1, 1), reply_to(1, 2)]);
    assert_eq!((world.executed(), world.speaker.all_rules().len()), (1, 1));
}

#[test]
fn a_partition_that_is_asked_back_is_given_up_with_all_that_was_answered() {
    let mut world = World::new();
    let mut first = world.part("speaker-0");
    settle(&mut first);
    let mut second = world.part("speaker-1");
    for n in 1..=3 {
        world.send(install(n, 1));
        settle(&mut first);
        settle(&mut second);
    }
    assert_eq!(world.told(), [1, 2, 3].map(|n| reply_to(n, 1)));
    assert_eq!(world.executed(), 3);
    first.stop();
    settle(&mut second);
    world.send(install(4, 1));
    settle(&mut second);
    assert_eq!(world.told(), [reply_to(4, 1)]);
}

#[test]
fn requests_that_were_deleted_are_passed_over_and_the_next_is_served() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    settle(&mut part);
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    world.bus.delete_records(TOPIC, partition(), 2).unwrap();
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(3, 1)]);
}

#[test]
fn a_stop_says_what_is_left() {
    let world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::DelayExecution { ms: 100 });
    world.send(install(1, 1));
    settle(&mut part);
    world.fate(Fate::Fails);
    world.send(install(2, 1));
    settle(&mut part);
    world.fate(Fate::Fails);
    assert_eq!(
        part.stop(),
        ["speaker: 1 answers could not be committed", "speaker: 1 commands or answers are still delayed by a fault",]
    );
}

#[test]
fn an_answer_that_the_bus_does_not_take_is_dropped_and_others_are_told() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::Oversized { bytes: 2 << 20 });
    world.fault(FaultKind::Oversized { bytes: 10_000 });
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut part);
    let sizes: Vec<usize> = world.replies().iter().map(|reply| reply.value.len()).collect();
    assert_eq!((sizes[0], sizes.len()), (10_000, 2));
    assert_eq!(world.executed(), 3);
}

#[test]
fn a_thousand_answers_that_are_made_long_stay_within_their_bytes() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    let kind = FaultKind::Oversized { bytes: 1_000_000 };
    world.speaker.inject(Fault { when: Match::default(), kind, times: None }).unwrap();
    for n in 1..=200 {
        world.send(install(n, 1));
    }
    settle(&mut part);
    let replies = world.replies();
    let long = replies.iter().filter(|reply| reply.value.len() == 1_000_000).count();
    assert_eq!((long, replies.len()), (68, 200), "64 MiB of them, and the others as they are");
}

#[test]
fn a_spoilt_answer_goes_the_way_of_a_sound_one() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::Corrupt { what: Garbage::Headers });
    world.send(install(1, 1));
    settle(&mut part);
    let [reply] = &world.replies()[..] else { panic!("one reply") };
    assert_eq!((reply.partition, reply.headers.get("ce_type")), (1, None));
}
