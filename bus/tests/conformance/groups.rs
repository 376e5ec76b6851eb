//! How the members of a group share a topic, and how its partitions move.

use std::collections::BTreeSet;

use bus::{Arrival, BusError, Outgoing};

use super::fixture::{Fixture, Seat, together, values};

pub(crate) fn a_lone_member_gets_every_partition(on: &impl Fixture) {
    let mut owner = on.join(&on.name("g"), &on.topic(5));
    owner.until_owned(5);
    assert!(owner.seen.iter().all(|arrival| matches!(arrival, Arrival::Assigned(_))), "{:?}", owner.seen);
}

/// A member that comes when all partitions are taken has joined too, and not before the group has said so.
pub(crate) fn a_member_knows_when_the_group_has_decided_for_the_first_time(on: &impl Fixture) {
    let (group, topic) = (on.name("g"), on.topic(1));
    let mut one = on.join(&group, &topic);
    assert!(!one.member.has_joined(), "it was not polled");
    one.until("its share", |seat| seat.member.has_joined());
    assert_eq!(one.owned.len(), 1, "what is its own was assigned before it has joined");
    let mut two = on.join(&group, &topic);
    together(&mut [&mut one, &mut two], "both", |seats| seats.iter().all(|seat| seat.member.has_joined()));
    assert_eq!(one.owned.len() + two.owned.len(), 1);
}

pub(crate) fn a_group_has_the_members_that_joined_and_did_not_leave(on: &impl Fixture) {
    let (group, topic) = (on.name("g"), on.topic(2));
    let members = || on.bus().members(&group).expect("an answer");
    assert_eq!(members(), 0, "nobody ever joined");
    let mut one = on.join(&group, &topic);
    one.until_owned(2);
    assert_eq!(members(), 1);
    let mut two = on.join(&group, &topic);
    together(&mut [&mut one, &mut two], "one each", |seats| seats.iter().all(|seat| seat.owned.len() == 1));
    assert_eq!(members(), 2);
    one.member.leave().expect("it may go");
    two.member.leave().expect("it may go");
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
    owner.linger();
    assert_eq!(owner.records(), []);
    owner.member.start(1, 0).expect("a start");
    assert_eq!(values(&owner.until_records(1)), ["other"]);
    owner.linger();
    assert_eq!(owner.records().len(), 1, "the other partition was not started");
    owner.member.start(0, 0).expect("a start");
    assert_eq!(values(&owner.until_records(3))[1..], ["a", "b"]);
}

pub(crate) fn a_partition_starts_where_it_is_told_to(on: &impl Fixture) {
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

/// Clean-up has taken the beginning. Whoever gets the partition starts at what is left, at once and each time.
pub(crate) fn a_partition_whose_beginning_was_deleted_starts_at_what_is_left(on: &impl Fixture) {
    let (topic, group) = (on.topic(1), on.name("g"));
    on.append(&topic, &["a", "b", "c", "d"]);
    on.delete_records(&topic, 0, 2);
    for _ in 0..5 {
        let mut owner = on.join(&group, &topic);
        owner.until_owned(1);
        owner.member.start(0, 2).expect("a start");
        assert_eq!(values(&owner.until_records(2)), ["c", "d"]);
        owner.member.leave().expect("a goodbye");
    }
}

pub(crate) fn a_partition_can_be_moved_back_to_its_beginning_again_and_again(on: &impl Fixture) {
    let topic = on.topic(1);
    let numbers: Vec<String> = (0..500).map(|i| i.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    on.append(&topic, &numbers);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    for from in [0, 400, 0, 250, 0, 0, 499] {
        owner.member.start(0, from).expect("a start");
        owner.seen.clear();
        // Some of what was fetched is still on its way when it is moved again.
        let some = (500 - usize::try_from(from).expect("small")).min(120);
        let records = owner.until_records(some);
        assert_eq!(
            values(&records)[..some],
            numbers[numbers.len() - (500 - usize::try_from(from).expect("small"))..][..some]
        );
    }
}

pub(crate) fn a_new_member_gets_its_share_and_nothing_else_moves(on: &impl Fixture) {
    let (topic, group) = (on.topic(6), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.until_owned(6);
    first.seen.clear();
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "three each", |seats| seats.iter().all(|seat| seat.owned.len() == 3));
    let moved: usize = asked(&first.seen);
    assert_eq!(moved, 3, "{:?}", first.seen);
    assert!(first.owned.is_disjoint(&second.owned));

    let (kept, had) = (first.owned.clone(), second.owned.clone());
    let mut third = on.join(&group, &topic);
    together(&mut [&mut first, &mut second, &mut third], "two each", |seats| {
        seats.iter().all(|seat| seat.owned.len() == 2)
    });
    assert!(first.owned.is_subset(&kept) && second.owned.is_subset(&had), "what stays, stays where it was");
    assert_eq!(asked(&third.seen), 0);
}

/// As processes share the lanes of a stage: two to eight, and sixteen lanes.
pub(crate) fn up_to_eight_members_share_and_who_comes_or_goes_moves_only_what_it_must(on: &impl Fixture) {
    const PARTITIONS: usize = 16;
    let (topic, group) = (on.topic(16), on.name("g"));
    let mut seats: Vec<Seat> = Vec::new();
    let share = |seats: &mut Vec<Seat>| {
        let each = PARTITIONS / seats.len();
        together(&mut seats.iter_mut().collect::<Vec<_>>(), "an even share each", |seats| {
            let shares = || seats.iter().map(|seat| seat.owned.len());
            shares().all(|share| share == each || share == each + 1) && shares().sum::<usize>() == PARTITIONS
        });
        let all: BTreeSet<u32> = seats.iter().flat_map(|seat| seat.owned.clone()).collect();
        assert_eq!(all.len(), PARTITIONS, "each has one owner");
    };
    for _ in 0..8 {
        let before: Vec<BTreeSet<u32>> = seats.iter().map(|seat| seat.owned.clone()).collect();
        seats.push(on.join(&group, &topic));
        share(&mut seats);
        let stays = |(seat, before): (&Seat, &BTreeSet<u32>)| seat.owned.is_subset(before);
        assert!(seats.iter().zip(&before).all(stays), "of those that were there nobody gets anything");
    }
    while seats.len() > 1 {
        let gone = seats.swap_remove(seats.len() / 2);
        let before: Vec<BTreeSet<u32>> = seats.iter().map(|seat| seat.owned.clone()).collect();
        gone.member.leave().expect("it leaves");
        share(&mut seats);
        let stays = |(seat, before): (&Seat, &BTreeSet<u32>)| seat.owned.is_superset(before);
        assert!(seats.iter().zip(&before).all(stays), "of those that stay nobody gives anything up");
    }
}

fn asked(seen: &[Arrival]) -> usize {
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
    first.releases = false;
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "a partition asked back", |seats| !seats[0].asked.is_empty());
    second.linger();
    assert!(second.owned.is_empty(), "it is not given away before it is released");
    let moving = *first.asked.first().expect("one was asked for");
    let last = vec![Outgoing::keyed(&out, "k", "last words")];
    first.member.commit(&first.at(moving, 0, last)).expect("the owner's last commit");
    first.release();
    together(&mut [&mut first, &mut second], "the partition at its new owner", |seats| {
        seats[1].owned.contains(&moving)
    });
    let left = second.member.take_over(moving).expect("a takeover").committed.expect("an offset");
    assert_eq!(left.note, format!("v1 {} 0 open", first.name));
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["last words"]);
    let late = first.member.commit(&first.at(moving, 0, vec![]));
    assert!(matches!(late, Err(bus::CommitError::Fenced(_))), "{late:?}");
}

/// A lane that moved on is no reason to write what others decided with it: all of a batch or nothing.
pub(crate) fn a_commit_that_names_a_partition_too_many_is_fenced_as_a_whole(on: &impl Fixture) {
    let (topic, out, group) = (on.topic(2), on.topic(1), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.until_owned(2);
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "one each", |seats| seats.iter().all(|seat| seat.owned.len() == 1));
    let kept = *first.owned.first().expect("it has one");
    let moved = *second.owned.first().expect("it has the other");
    let mut both = first.at(kept, 0, vec![Outgoing::keyed(&out, "k", "of both")]);
    both.positions.extend(first.at(moved, 0, vec![]).positions);
    let fenced = first.member.commit(&both);
    assert!(matches!(fenced, Err(bus::CommitError::Fenced(_))), "{fenced:?}");
    first.turn(std::time::Duration::ZERO);
    first.member.commit(&first.at(kept, 0, vec![Outgoing::keyed(&out, "k", "of one")])).expect("it is still its own");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["of one"], "nothing of the other batch is to be seen");
}

pub(crate) fn no_record_arrives_after_revoking(on: &impl Fixture) {
    let (topic, group) = (on.topic(2), on.name("g"));
    let mut first = on.join(&group, &topic);
    first.starts = true;
    first.releases = false;
    first.until_owned(2);
    let mut second = on.join(&group, &topic);
    together(&mut [&mut first, &mut second], "a partition asked back", |seats| !seats[0].asked.is_empty());
    let moving = *first.asked.first().expect("one was asked for");
    let both = [Outgoing::keyed(&topic, "k", "0").to(0), Outgoing::keyed(&topic, "k", "1").to(1)];
    on.bus().writer("w").and_then(|mut writer| writer.append(&both)).expect("an append");
    first.linger();
    assert!(first.records().iter().all(|record| record.partition != moving), "{:?}", first.seen);
    first.release();
    second.starts = true;
    together(&mut [&mut first, &mut second], "a record at each owner", |seats| {
        seats.iter().all(|seat| seat.records().len() == 1)
    });
    assert_eq!((first.records()[0].partition, second.records()[0].partition), (1 - moving, moving));
}

pub(crate) fn partitions_of_one_who_leaves_go_to_the_others(on: &impl Fixture) {
    let (topic, group) = (on.topic(4), on.name("g"));
    let (mut first, mut second) = (on.join(&group, &topic), on.join(&group, &topic));
    together(&mut [&mut first, &mut second], "two each", |seats| seats.iter().all(|seat| seat.owned.len() == 2));
    first.member.leave().expect("a leave");
    let before = on.bus().clock().mono();
    second.until_owned(4);
    assert!(on.bus().clock().mono().since(before) < on.session(), "they do not wait for the end of a session");
}

pub(crate) fn members_share_the_records_and_lose_none(on: &impl Fixture) {
    let (topic, group) = (on.topic(4), on.name("g"));
    let numbers: Vec<Outgoing> = (0..200).map(|i| Outgoing::keyed(&topic, format!("k{i}"), i.to_string())).collect();
    let mut writer = on.bus().writer("w").expect("a writer");
    writer.append(&numbers[..100]).expect("an append");
    let (mut first, mut second) = (on.join(&group, &topic), on.join(&group, &topic));
    for seat in [&mut first, &mut second] {
        seat.starts = true;
    }
    together(&mut [&mut first, &mut second], "two each", |seats| seats.iter().all(|seat| seat.owned.len() == 2));
    writer.append(&numbers[100..]).expect("an append");
    let all = |seats: &[&mut super::fixture::Seat]| {
        let seen = seats.iter().flat_map(|seat| seat.records()).map(|record| record.value);
        seen.collect::<std::collections::BTreeSet<_>>().len() == 200
    };
    together(&mut [&mut first, &mut second], "every record", all);
}

pub(crate) fn what_is_not_owned_cannot_be_started_or_taken_over(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut owner = on.join(&on.name("g"), &topic);
    assert_eq!(owner.member.start(7, 0), Err(BusError::NotOwned(7)));
    assert_eq!(owner.member.take_over(7), Err(BusError::NotOwned(7)));
    let fenced = owner.member.commit(&owner.at(7, 0, vec![]));
    assert!(matches!(fenced, Err(bus::CommitError::Fenced(_))), "{fenced:?}");
    owner.until_owned(1);
    assert_eq!(owner.member.release(&[0, 7]), Ok(()), "nobody asked for them");
    assert_eq!(owner.member.take_over(0).map(|left| left.low), Ok(0));
}

/// A member with no room for records stays in the group and hears what it decides; the records come when there is room again.
pub(crate) fn a_poll_for_no_records_brings_the_decisions_of_the_group(on: &impl Fixture) {
    let (topic, group) = (on.topic(2), on.name("g"));
    let mut one = on.join(&group, &topic);
    one.until_owned(2);
    one.member.start(0, 0).expect("a start");
    one.member.start(1, 0).expect("a start");
    one.most = 0;
    on.append(&topic, &["a", "b", "c"]);
    let mut two = on.join(&group, &topic);
    together(&mut [&mut one, &mut two], "one each", |seats| seats.iter().all(|seat| seat.owned.len() == 1));
    one.linger();
    assert_eq!(one.records(), []);
    if one.owned.contains(&0) {
        one.most = 100;
        assert_eq!(values(&one.until_records(3)), ["a", "b", "c"]);
    } else {
        two.member.start(0, 0).expect("a start");
        assert_eq!(values(&two.until_records(3)), ["a", "b", "c"]);
    }
}

pub(crate) fn a_group_is_behind_by_what_it_has_not_committed(on: &impl Fixture) {
    let (topic, group) = (on.topic(2), on.name("g"));
    let backlog = || on.bus().backlog(&group, &topic).expect("an answer");
    assert_eq!(backlog(), [0, 0], "nothing was written");
    on.append(&topic, &["a", "b", "c", "d"]);
    assert_eq!(backlog(), [4, 0], "nobody ever joined");
    let mut owner = on.join(&group, &topic);
    owner.until_owned(2);
    owner.member.commit(&owner.at(0, 3, vec![])).expect("a commit");
    owner.until("the commit to be counted", |_| backlog() == [1, 0]);
    on.append(&topic, &["e"]);
    assert_eq!(backlog(), [2, 0]);
    assert!(on.bus().backlog(&group, &on.name("nothing")).is_err());
}
