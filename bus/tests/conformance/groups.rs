//! Assignment of a topic's partitions to the members of a group.

use std::collections::BTreeSet;

use bus::{Arrival, BusError, Outgoing};

use super::fixture::{Fixture, TestMember, together, values};

pub(crate) fn a_lone_member_gets_every_partition(on: &impl Fixture) {
    let mut owner = on.join(&on.name("g"), &on.topic(5));
    owner.until_owned(5);
    assert!(owner.seen.iter().all(|arrival| matches!(arrival, Arrival::Assigned(_))), "{:?}", owner.seen);
}

/// A member that joins when all partitions are taken has joined too, but not before the group's
/// decision.
pub(crate) fn a_member_has_joined_after_the_first_decision_of_the_group(on: &impl Fixture) {
    let (group, topic) = (on.name("g"), on.topic(1));
    let mut one = on.join(&group, &topic);
    assert!(!one.member.has_joined(), "not polled yet");
    one.until("its share", |member| member.member.has_joined());
    assert_eq!(one.owned.len(), 1, "its partitions are assigned when it has joined");
    let mut two = on.join(&group, &topic);
    together(&mut [&mut one, &mut two], "both", |members| members.iter().all(|member| member.member.has_joined()));
    assert_eq!(one.owned.len() + two.owned.len(), 1);
}

pub(crate) fn a_group_counts_the_members_that_joined_and_did_not_leave(on: &impl Fixture) {
    let (group, topic) = (on.name("g"), on.topic(2));
    let members = || on.bus().members(&group).expect("an answer");
    assert_eq!(members(), 0, "no member ever joined");
    let mut one = on.join(&group, &topic);
    one.until_owned(2);
    assert_eq!(members(), 1);
    let mut two = on.join(&group, &topic);
    together(&mut [&mut one, &mut two], "one each", |members| members.iter().all(|member| member.owned.len() == 1));
    assert_eq!(members(), 2);
    one.member.leave().expect("a leave");
    two.member.leave().expect("a leave");
    assert_eq!(members(), 0);
}

pub(crate) fn no_record_of_a_partition_arrives_before_it_is_started(on: &impl Fixture) {
    let topic = on.topic(2);
    on.append(&topic, &["a", "b"]);
    on.bus()
        .writer("w")
        .and_then(|mut writer| writer.append(&[Outgoing::keyed(&topic, "k", "other").to(1)]))
        .expect("an append");
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(2);
    owner.poll_more();
    assert_eq!(owner.records(), []);
    owner.member.start(1, 0).expect("a start");
    assert_eq!(values(&owner.until_records(1)), ["other"]);
    owner.poll_more();
    assert_eq!(owner.records().len(), 1, "the other partition was not started");
    owner.member.start(0, 0).expect("a start");
    assert_eq!(values(&owner.until_records(3))[1..], ["a", "b"]);
}

pub(crate) fn a_partition_starts_at_the_given_offset(on: &impl Fixture) {
    let topic = on.topic(1);
    on.append(&topic, &["a", "b", "c", "d"]);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    owner.member.start(0, 2).expect("a start");
    assert_eq!(values(&owner.until_records(2)), ["c", "d"]);
    owner.member.start(0, 4).expect("a start at the end");
    on.append(&topic, &["e"]);
    assert_eq!(values(&owner.until_records(3)), ["c", "d", "e"]);
}

/// Clean-up has deleted the beginning. Every new owner starts at the low watermark without delay.
pub(crate) fn a_partition_with_a_deleted_beginning_starts_at_the_low_watermark(on: &impl Fixture) {
    let (topic, group) = (on.topic(1), on.name("g"));
    on.append(&topic, &["a", "b", "c", "d"]);
    on.delete_records(&topic, 0, 2);
    for _ in 0..5 {
        let mut owner = on.join(&group, &topic);
        owner.until_owned(1);
        owner.member.start(0, 2).expect("a start");
        assert_eq!(values(&owner.until_records(2)), ["c", "d"]);
        owner.member.leave().expect("a leave");
    }
}

pub(crate) fn a_partition_can_be_rewound_repeatedly(on: &impl Fixture) {
    let topic = on.topic(1);
    let numbers: Vec<String> = (0..500).map(|i| i.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    on.append(&topic, &numbers);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    for from in [0, 400, 0, 250, 0, 0, 499] {
        owner.member.start(0, from).expect("a start");
        owner.seen.clear();
        // Some prefetched records are still on their way when the partition is moved again.
        let some = (500 - usize::try_from(from).expect("small")).min(120);
        let records = owner.until_records(some);
        assert_eq!(
            values(&records)[..some],
            numbers[numbers.len() - (500 - usize::try_from(from).expect("small"))..][..some]
        );
    }
}

pub(crate) fn a_new_member_gets_its_share_and_no_other_partition_moves(on: &impl Fixture) {
    let (topic, group) = (on.topic(6), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.until_owned(6);
    first.seen.clear();
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "three each", |members| {
        members.iter().all(|member| member.owned.len() == 3)
    });
    let moved: usize = revoking(&first.seen);
    assert_eq!(moved, 3, "{:?}", first.seen);
    assert!(first.owned.is_disjoint(&second.owned));

    let (kept, had) = (first.owned.clone(), second.owned.clone());
    let mut third = on.join(&group, &topic);
    together(&mut [&mut first, &mut second, &mut third], "two each", |members| {
        members.iter().all(|member| member.owned.len() == 2)
    });
    assert!(first.owned.is_subset(&kept) && second.owned.is_subset(&had), "no other partition moves");
    assert_eq!(revoking(&third.seen), 0);
}

/// As processes share the lanes of a stage: up to eight processes, sixteen lanes.
pub(crate) fn joining_and_leaving_members_move_as_few_partitions_as_possible(on: &impl Fixture) {
    const PARTITIONS: usize = 16;
    let (topic, group) = (on.topic(16), on.name("g"));
    let mut members: Vec<TestMember> = Vec::new();
    let share = |members: &mut Vec<TestMember>| {
        let each = PARTITIONS / members.len();
        together(&mut members.iter_mut().collect::<Vec<_>>(), "an even share each", |members| {
            let shares = || members.iter().map(|member| member.owned.len());
            shares().all(|share| share == each || share == each + 1) && shares().sum::<usize>() == PARTITIONS
        });
        let all: BTreeSet<u32> = members.iter().flat_map(|member| member.owned.clone()).collect();
        assert_eq!(all.len(), PARTITIONS, "each partition has one owner");
    };
    for _ in 0..8 {
        let before: Vec<BTreeSet<u32>> = members.iter().map(|member| member.owned.clone()).collect();
        members.push(on.join(&group, &topic));
        share(&mut members);
        let stays = |(member, before): (&TestMember, &BTreeSet<u32>)| member.owned.is_subset(before);
        assert!(members.iter().zip(&before).all(stays), "existing members gain nothing");
    }
    while members.len() > 1 {
        let gone = members.swap_remove(members.len() / 2);
        let before: Vec<BTreeSet<u32>> = members.iter().map(|member| member.owned.clone()).collect();
        gone.member.leave().expect("it leaves");
        share(&mut members);
        let stays = |(member, before): (&TestMember, &BTreeSet<u32>)| member.owned.is_superset(before);
        assert!(members.iter().zip(&before).all(stays), "remaining members lose nothing");
    }
}

fn revoking(seen: &[Arrival]) -> usize {
    let count = |arrival: &Arrival| match arrival {
        Arrival::Revoking(partitions) | Arrival::Lost(partitions) => partitions.len(),
        Arrival::Assigned(_) | Arrival::Record(_) => 0,
    };
    seen.iter().map(count).sum()
}

pub(crate) fn an_owner_may_commit_between_revoking_and_release(on: &impl Fixture) {
    let (topic, out, group) = (on.topic(2), on.topic(1), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.until_owned(2);
    first.auto_release = false;
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "a revoked partition", |members| !members[0].revoking.is_empty());
    second.poll_more();
    assert!(second.owned.is_empty(), "not assigned before its release");
    let moving = *first.revoking.first().expect("one was revoked");
    let last = vec![Outgoing::keyed(&out, "k", "last commit")];
    first.member.commit(&first.at(moving, 0, last)).expect("the owner's last commit");
    first.release();
    together(&mut [&mut first, &mut second], "the partition at its new owner", |members| {
        members[1].owned.contains(&moving)
    });
    let left = second.member.take_over(moving).expect("a takeover").committed.expect("an offset");
    assert_eq!(left.metadata, format!("v1 {} 0 1 open", first.name));
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["last commit"]);
    let late = first.member.commit(&first.at(moving, 0, vec![]));
    assert!(matches!(late, Err(bus::CommitError::Fenced(_))), "{late:?}");
}

/// A commit is all or nothing, even if only one of its lanes has moved.
pub(crate) fn a_commit_with_one_partition_not_owned_is_fenced_as_a_whole(on: &impl Fixture) {
    let (topic, out, group) = (on.topic(2), on.topic(1), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.until_owned(2);
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "one each", |members| {
        members.iter().all(|member| member.owned.len() == 1)
    });
    let kept = *first.owned.first().expect("it has one");
    let moved = *second.owned.first().expect("it has the other");
    let mut both = first.at(kept, 0, vec![Outgoing::keyed(&out, "k", "of both")]);
    both.positions.extend(first.at(moved, 0, vec![]).positions);
    let fenced = first.member.commit(&both);
    assert!(matches!(fenced, Err(bus::CommitError::Fenced(_))), "{fenced:?}");
    first.poll_once(std::time::Duration::ZERO);
    first
        .member
        .commit(&first.at(kept, 0, vec![Outgoing::keyed(&out, "k", "of one")]))
        .expect("it still owns the partition");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["of one"], "the fenced batch is not visible");
}

pub(crate) fn no_record_arrives_after_revoking(on: &impl Fixture) {
    let (topic, group) = (on.topic(2), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.auto_start = true;
    first.auto_release = false;
    first.until_owned(2);
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "a revoked partition", |members| !members[0].revoking.is_empty());
    let moving = *first.revoking.first().expect("one was revoked");
    let both = [Outgoing::keyed(&topic, "k", "0").to(0), Outgoing::keyed(&topic, "k", "1").to(1)];
    on.bus().writer("w").and_then(|mut writer| writer.append(&both)).expect("an append");
    first.poll_more();
    assert!(first.records().iter().all(|record| record.partition != moving), "{:?}", first.seen);
    first.release();
    second.auto_start = true;
    together(&mut [&mut first, &mut second], "a record at each owner", |members| {
        members.iter().all(|member| member.records().len() == 1)
    });
    assert_eq!((first.records()[0].partition, second.records()[0].partition), (1 - moving, moving));
}

pub(crate) fn partitions_of_a_leaving_member_go_to_the_others(on: &impl Fixture) {
    let (topic, group) = (on.topic(4), on.name("g"));
    let (mut first, mut second) = (on.join(&group, &topic), on.join(&group, &topic));
    together(&mut [&mut first, &mut second], "two each", |members| {
        members.iter().all(|member| member.owned.len() == 2)
    });
    first.member.leave().expect("a leave");
    let before = on.bus().clock().mono();
    second.until_owned(4);
    assert!(on.bus().clock().mono().since(before) < on.session(), "they do not wait for the session");
}

pub(crate) fn members_share_the_records_and_lose_none(on: &impl Fixture) {
    let (topic, group) = (on.topic(4), on.name("g"));
    let numbers: Vec<Outgoing> = (0..200).map(|i| Outgoing::keyed(&topic, format!("k{i}"), i.to_string())).collect();
    let mut writer = on.bus().writer("w").expect("a writer");
    writer.append(&numbers[..100]).expect("an append");
    let (mut first, mut second) = (on.join(&group, &topic), on.join(&group, &topic));
    for member in [&mut first, &mut second] {
        member.auto_start = true;
    }
    together(&mut [&mut first, &mut second], "two each", |members| {
        members.iter().all(|member| member.owned.len() == 2)
    });
    writer.append(&numbers[100..]).expect("an append");
    let all = |members: &[&mut super::fixture::TestMember]| {
        let seen = members.iter().flat_map(|member| member.records()).map(|record| record.value);
        seen.collect::<std::collections::BTreeSet<_>>().len() == 200
    };
    together(&mut [&mut first, &mut second], "every record", all);
}

pub(crate) fn a_partition_not_owned_cannot_be_started_or_taken_over(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut owner = on.join(&on.name("g"), &topic);
    assert_eq!(owner.member.start(7, 0), Err(BusError::NotOwned(7)));
    assert_eq!(owner.member.take_over(7), Err(BusError::NotOwned(7)));
    let fenced = owner.member.commit(&owner.at(7, 0, vec![]));
    assert!(matches!(fenced, Err(bus::CommitError::Fenced(_))), "{fenced:?}");
    owner.until_owned(1);
    assert_eq!(owner.member.release(&[0, 7]), Ok(()), "the group did not ask for them");
    assert_eq!(owner.member.take_over(0).map(|left| left.low), Ok(0));
}

/// A member without room for records stays in the group and receives its decisions; records arrive
/// once there is room again.
pub(crate) fn a_poll_for_zero_records_delivers_group_decisions(on: &impl Fixture) {
    let (topic, group) = (on.topic(2), on.name("g"));
    let mut one = on.join(&group, &topic);
    one.until_owned(2);
    one.member.start(0, 0).expect("a start");
    one.member.start(1, 0).expect("a start");
    one.max_records = 0;
    on.append(&topic, &["a", "b", "c"]);
    let mut two = on.join(&group, &topic);
    together(&mut [&mut one, &mut two], "one each", |members| members.iter().all(|member| member.owned.len() == 1));
    one.poll_more();
    assert_eq!(one.records(), []);
    if one.owned.contains(&0) {
        one.max_records = 100;
        assert_eq!(values(&one.until_records(3)), ["a", "b", "c"]);
    } else {
        two.member.start(0, 0).expect("a start");
        assert_eq!(values(&two.until_records(3)), ["a", "b", "c"]);
    }
}

pub(crate) fn the_backlog_of_a_group_is_what_it_has_not_committed(on: &impl Fixture) {
    let (topic, group) = (on.topic(2), on.name("g"));
    let backlog = || on.bus().backlog(&group, &topic).expect("an answer");
    assert_eq!(backlog(), [0, 0], "nothing was written");
    on.append(&topic, &["a", "b", "c", "d"]);
    assert_eq!(backlog(), [4, 0], "no member ever joined");
    let mut owner = on.join(&group, &topic);
    owner.until_owned(2);
    owner.member.commit(&owner.at(0, 3, vec![])).expect("a commit");
    owner.until("the commit to be counted", |_| backlog() == [1, 0]);
    on.append(&topic, &["e"]);
    assert_eq!(backlog(), [2, 0]);
    assert!(on.bus().backlog(&group, &on.name("nothing")).is_err());
}
