//! A commit happens completely or not at all.

use std::time::Duration;

use bus::{Batch, BusError, CommitError, Committed, Outgoing, Position, Takeover};

use super::fixture::{Fixture, PATIENCE_MS, read, values};

pub(crate) fn outputs_are_visible_only_after_their_commit_and_completely(on: &impl Fixture) {
    let (inbox, one, two) = (on.topic(1), on.topic(1), on.topic(2));
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(1);
    let mut reader = on.bus().reader().expect("a reader");
    for (topic, partition) in [(&one, 0), (&two, 0), (&two, 1)] {
        reader.assign(topic, partition, 0).expect("an offset");
    }
    let mut nothing = Vec::new();
    reader.poll(10, Duration::from_millis(50), &mut nothing).expect("a poll");
    assert_eq!(nothing, []);
    let outputs = vec![
        Outgoing::keyed(&one, "k", "1"),
        Outgoing::keyed(&two, "k", "2").to(0),
        Outgoing::keyed(&two, "k", "3").to(1),
        Outgoing::keyed(&one, "k", "4"),
    ];
    owner.member.commit(&owner.at(0, 0, outputs)).expect("a commit");
    let mut records = read(&*on.bus().clock(), &mut *reader, 4);
    records.sort_by(|a, b| a.value.cmp(&b.value));
    assert_eq!(values(&records), ["1", "2", "3", "4"]);
}

pub(crate) fn a_commit_with_one_bad_record_writes_nothing(on: &impl Fixture) {
    let (inbox, out) = (on.topic(1), on.topic(1));
    on.append(&inbox, &["a", "b"]);
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(1);
    let good = || Outgoing::keyed(&out, "k", "good");
    let unknown = on.name("t");
    let bad = [
        Outgoing::keyed(&out, "k", vec![b'x'; 2 << 20]),
        Outgoing::keyed(&unknown, "k", "v"),
        Outgoing::keyed(&out, "k", "v").to(1),
    ];
    for bad in bad {
        let refused = owner.member.commit(&owner.at(0, 1, vec![good(), bad, good()]));
        let failed = matches!(
            refused,
            Err(CommitError::Failed(BusError::TooLarge { .. } | BusError::NoTopic(_) | BusError::NoPartition { .. }))
        );
        assert!(failed, "{refused:?}");
    }
    assert_eq!(owner.member.take_over(0).expect("a takeover").committed, None, "the position did not move");
    owner.member.commit(&owner.at(0, 2, vec![Outgoing::keyed(&out, "k", "fine")])).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["fine"]);
}

pub(crate) fn the_next_owner_finds_the_position_and_its_metadata(on: &impl Fixture) {
    let (inbox, group) = (on.topic(2), on.name("g"));
    on.append(&inbox, &["a", "b", "c"]);
    let mut first = on.join(&group, &inbox);
    first.until_owned(2);
    assert_eq!(first.member.take_over(0), Ok(Takeover { committed: None, low: 0, end: 3 }));
    for (next, metadata) in [(1, "v1 first 0 1 open"), (3, "v1 first 2 2 released")] {
        let position = Position { partition: 0, next, metadata: metadata.into() };
        first.member.commit(&Batch { records: vec![], positions: vec![position] }).expect("a commit");
        let committed = Some(Committed { next, metadata: metadata.into() });
        assert_eq!(first.member.take_over(0).expect("a takeover").committed, committed);
    }
    first.member.leave().expect("a leave");
    let mut second = on.join(&group, &inbox);
    second.until_owned(2);
    let left = second.member.take_over(0).expect("a takeover");
    let metadata = left.committed.as_ref().and_then(Committed::parsed).expect("offset metadata");
    assert!(metadata.released && metadata.snapshot == 2 && metadata.transactional_id == "first");
    assert_eq!(left.committed.expect("an offset").next, 3);
    assert_eq!(second.member.take_over(1), Ok(Takeover { committed: None, low: 0, end: 0 }));
}

pub(crate) fn a_commit_without_positions_writes_its_records(on: &impl Fixture) {
    let (inbox, out) = (on.topic(1), on.topic(1));
    let mut owner = on.join(&on.name("g"), &inbox);
    let records = vec![Outgoing::keyed(&out, "k", "a"), Outgoing::keyed(&out, "k", "b")];
    owner.member.commit(&Batch { records, positions: vec![] }).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 2)), ["a", "b"]);
    owner.until_owned(1);
    assert_eq!(owner.member.take_over(0).expect("a takeover").committed, None);
}

pub(crate) fn an_empty_commit_has_no_effect(on: &impl Fixture) {
    let mut owner = on.join(&on.name("g"), &on.topic(1));
    assert_eq!(owner.member.commit(&Batch::default()), Ok(()));
}

pub(crate) fn readers_skip_the_offset_gaps_that_commits_leave(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    owner.resume(0);
    for value in ["a", "b", "c"] {
        owner.member.commit(&owner.at(0, 0, vec![Outgoing::keyed(&topic, "k", value)])).expect("a commit");
    }
    let records = owner.until_records(3);
    assert_eq!(values(&records), ["a", "b", "c"]);
    assert!(records.windows(2).all(|pair| pair[0].offset + 1 < pair[1].offset), "a commit uses one more offset");
    let read = on.read(&topic, 0, records[0].offset + 1, 2);
    assert_eq!(values(&read), ["b", "c"], "the offset after a record has no record");
    assert!(on.bus().bounds(&topic, 0).expect("bounds").end > records[2].offset);
}

pub(crate) fn asynchronous_commits_take_effect_eventually(on: &impl Fixture) {
    let inbox = on.topic(2);
    on.append(&inbox, &["a", "b", "c"]);
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(2);
    let behind = |partition, next| Position { partition, next, metadata: "v1 first 2 1 open".into() };
    owner.member.commit_async(&[]).expect("nothing to commit");
    owner.member.commit_async(&[behind(0, 1)]).expect("a commit");
    owner.member.commit_async(&[behind(0, 2), behind(1, 0)]).expect("a commit");
    let committed = Some(Committed { next: 2, metadata: "v1 first 2 1 open".into() });
    let end = on.bus().clock().mono().plus_ms(PATIENCE_MS);
    while owner.member.take_over(0).expect("a takeover").committed != committed {
        assert!(on.bus().clock().mono() < end, "never committed");
        owner.poll_once(Duration::from_millis(20));
    }
    assert_eq!(owner.member.take_over(1).expect("a takeover").committed.map(|committed| committed.next), Some(0));
    let refused = owner.member.commit_async(&[behind(7, 1)]);
    assert!(matches!(refused, Err(CommitError::Fenced(_))), "{refused:?}");
}

pub(crate) fn too_long_offset_metadata_is_refused(on: &impl Fixture) {
    let (inbox, out) = (on.topic(1), on.topic(1));
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(1);
    let with_metadata = |length| Batch {
        records: vec![Outgoing::keyed(&out, "k", format!("{length}"))],
        positions: vec![Position { partition: 0, next: 0, metadata: "x".repeat(length).into() }],
    };
    let refused = owner.member.commit(&with_metadata(4097));
    assert!(matches!(refused, Err(CommitError::Failed(BusError::Refused(_)))), "{refused:?}");
    owner.member.commit(&with_metadata(4096)).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["4096"]);
}
