//! Owners that crash, fall silent, or come back after losing their partitions.

use std::time::Duration;

use bus::{Arrival, CommitError, Outgoing};

use super::fixture::{Fixture, TestMember, together, values};

/// Creates a group with a topic of one partition, its owner, and an output topic. The owner has
/// committed the first of three records with one output.
fn owner_at_work(on: &impl Fixture) -> (String, String, String, TestMember) {
    let (topic, out, group) = (on.topic(1), on.topic(1), on.name("g"));
    on.append(&topic, &["a", "b", "c"]);
    let mut owner = on.join(&group, &topic);
    owner.until_owned(1);
    owner.resume(0);
    let first = owner.until_records(1).remove(0);
    let output = vec![Outgoing::keyed(&out, "k", "for a")];
    owner.member.commit(&owner.at(0, first.offset + 1, output)).expect("a commit");
    (topic, out, group, owner)
}

pub(crate) fn a_takeover_of_a_dropped_member_starts_at_its_last_commit(on: &impl Fixture) {
    let (topic, out, group, owner) = owner_at_work(on);
    let name = owner.name.clone();
    drop(owner);
    let mut next = on.join(&group, &topic);
    next.until_owned(1);
    let left = next.member.take_over(0).expect("a takeover").committed.expect("an offset");
    assert_eq!((left.next, left.metadata), (1, format!("v1 {name} 0 1 open")));
    next.resume(0);
    assert_eq!(values(&next.until_records(2)), ["b", "c"]);
    next.member.commit(&next.at(0, 3, vec![Outgoing::keyed(&out, "k", "for b and c")])).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "for b and c"]);
}

/// Returns an output topic, a silent owner that lost its partition, and the new owner.
fn zombie(on: &impl Fixture) -> (String, TestMember, TestMember) {
    let (topic, out, group, zombie) = owner_at_work(on);
    let mut next = on.join(&group, &topic);
    next.until_owned(1);
    assert_eq!(next.resume(0), 1);
    (out, zombie, next)
}

fn assert_fenced(zombie: &mut TestMember, next: u64, records: Vec<Outgoing>) {
    let before = zombie.clock.mono();
    let fenced = zombie.member.commit(&zombie.at(0, next, records));
    assert!(zombie.clock.mono().since(before) < Duration::from_secs(5), "fencing took too long");
    assert!(matches!(fenced, Err(CommitError::Fenced(_))), "{fenced:?}");
}

pub(crate) fn a_silent_owner_loses_its_partitions_and_is_fenced(on: &impl Fixture) {
    let (out, mut zombie, mut next) = zombie(on);
    assert_fenced(&mut zombie, 3, vec![Outgoing::keyed(&out, "k", "of a zombie")]);
    assert_fenced(&mut zombie, 3, vec![Outgoing::keyed(&out, "k", "of a stubborn zombie")]);
    next.member.commit(&next.at(0, 2, vec![Outgoing::keyed(&out, "k", "for b")])).expect("the new owner's commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "for b"], "no record of the fenced owner is visible");
    assert_eq!(next.member.take_over(0).expect("a takeover").committed.map(|left| left.next), Some(2));
}

pub(crate) fn a_commit_that_moves_nothing_is_fenced_too(on: &impl Fixture) {
    let (out, mut zombie, next) = zombie(on);
    assert_fenced(&mut zombie, 1, vec![Outgoing::keyed(&out, "k", "of a zombie")]);
    assert_fenced(&mut zombie, 1, vec![]);
    drop((zombie, next));
    on.append(&out, &["later"]);
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "later"]);
}

pub(crate) fn a_member_learns_that_its_partitions_are_lost_and_rejoins(on: &impl Fixture) {
    let (_, mut zombie, mut next) = zombie(on);
    zombie.seen.clear();
    together(&mut [&mut zombie, &mut next], "the loss", |members| members[0].owned.is_empty());
    assert!(zombie.seen.contains(&Arrival::Lost(vec![0])), "{:?}", zombie.seen);
    next.member.leave().expect("a leave");
    zombie.until_owned(1);
    assert_eq!(zombie.resume(0), 1);
    zombie.seen.clear();
    assert_eq!(values(&zombie.until_records(2)), ["b", "c"]);
    zombie.member.commit(&zombie.at(0, 3, vec![])).expect("an owner again");
}

pub(crate) fn a_new_instance_of_a_member_continues_at_the_last_commit(on: &impl Fixture) {
    let (topic, out, group, owner) = owner_at_work(on);
    let name = owner.name.clone();
    drop(owner);
    let mut again = on.join_as(&group, &topic, &name);
    again.until_owned(1);
    assert_eq!(again.resume(0), 1);
    assert_eq!(values(&again.until_records(2)), ["b", "c"]);
    again.member.commit(&again.at(0, 3, vec![Outgoing::keyed(&out, "k", "the rest")])).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["for a", "the rest"]);
}
