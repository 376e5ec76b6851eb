//! Owners that crash, fall silent, or come back as ghosts.

use std::time::Duration;

use bus::{Arrival, CommitError, Outgoing};

use super::fixture::{Fixture, Seat, together, values};

/// A group with a topic of one partition, its owner, an output topic, and what the owner committed: the first of three
/// records, with one output.
fn owner_at_work(on: &impl Fixture) -> (String, String, String, Seat) {
    let (topic, out, group) = (on.topic(1), on.topic(1), on.name("g"));
    on.append(&topic, &["a", "b", "c"]);
    let mut owner = on.join(&group, &topic);
    owner.until_owned(1);
    owner.go_on(0);
    let first = owner.until_records(1).remove(0);
    let output = vec![Outgoing::keyed(&out, "k", "for a")];
    owner.member.commit(&owner.at(0, first.offset + 1, output)).expect("a commit");
    (topic, out, group, owner)
}

pub(crate) fn a_dropped_member_is_taken_over_where_it_last_committed(on: &impl Fixture) {
    let (topic, out, group, owner) = owner_at_work(on);
    let name = owner.name.clone();
    drop(owner);
    let mut next = on.join(&group, &topic);
    next.until_owned(1);
    let left = next.member.take_over(0).expect("a takeover").committed.expect("an offset");
    assert_eq!((left.next, left.note), (1, format!("v1 {name} 0 open")));
    next.go_on(0);
    assert_eq!(values(&next.until_records(2)), ["b", "c"]);
    next.member.commit(&next.at(0, 3, vec![Outgoing::keyed(&out, "k", "for b and c")])).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "for b and c"]);
}

/// The owner falls silent until another one has its partition.
fn ghost(on: &impl Fixture) -> (String, Seat, Seat) {
    let (topic, out, group, ghost) = owner_at_work(on);
    let mut next = on.join(&group, &topic);
    next.until_owned(1);
    assert_eq!(next.go_on(0), 1);
    (out, ghost, next)
}

fn assert_fenced(ghost: &mut Seat, next: u64, records: Vec<Outgoing>) {
    let before = ghost.clock.mono();
    let fenced = ghost.member.commit(&ghost.at(0, next, records));
    assert!(ghost.clock.mono().since(before) < Duration::from_secs(5), "a ghost is not kept waiting");
    assert!(matches!(fenced, Err(CommitError::Fenced(_))), "{fenced:?}");
}

pub(crate) fn a_silent_owner_loses_its_partitions_and_is_fenced(on: &impl Fixture) {
    let (out, mut ghost, mut next) = ghost(on);
    assert_fenced(&mut ghost, 3, vec![Outgoing::keyed(&out, "k", "of a ghost")]);
    assert_fenced(&mut ghost, 3, vec![Outgoing::keyed(&out, "k", "of a stubborn ghost")]);
    next.member.commit(&next.at(0, 2, vec![Outgoing::keyed(&out, "k", "for b")])).expect("the new owner's commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "for b"], "nothing of the ghost is to be seen");
    assert_eq!(next.member.take_over(0).expect("a takeover").committed.map(|left| left.next), Some(2));
}

pub(crate) fn a_commit_that_moves_nothing_is_fenced_all_the_same(on: &impl Fixture) {
    let (out, mut ghost, next) = ghost(on);
    assert_fenced(&mut ghost, 1, vec![Outgoing::keyed(&out, "k", "of a ghost")]);
    assert_fenced(&mut ghost, 1, vec![]);
    drop((ghost, next));
    on.append(&out, &["later"]);
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "later"]);
}

pub(crate) fn one_who_lost_its_partitions_hears_of_it_and_comes_back(on: &impl Fixture) {
    let (_, mut ghost, mut next) = ghost(on);
    ghost.seen.clear();
    together(&mut [&mut ghost, &mut next], "the loss", |seats| seats[0].owned.is_empty());
    assert!(ghost.seen.contains(&Arrival::Lost(vec![0])), "{:?}", ghost.seen);
    next.member.leave().expect("a leave");
    ghost.until_owned(1);
    assert_eq!(ghost.go_on(0), 1);
    ghost.seen.clear();
    assert_eq!(values(&ghost.until_records(2)), ["b", "c"]);
    ghost.member.commit(&ghost.at(0, 3, vec![])).expect("an owner again");
}

pub(crate) fn a_new_instance_of_a_member_goes_on_where_the_old_one_ended(on: &impl Fixture) {
    let (topic, out, group, owner) = owner_at_work(on);
    let name = owner.name.clone();
    drop(owner);
    let mut again = on.join_as(&group, &topic, &name);
    again.until_owned(1);
    assert_eq!(again.go_on(0), 1);
    assert_eq!(values(&again.until_records(2)), ["b", "c"]);
    again.member.commit(&again.at(0, 3, vec![Outgoing::keyed(&out, "k", "the rest")])).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "the rest"]);
}
