//! A commit happens whole, or not at all.

use std::time::Duration;

use bus::{Batch, BusError, CommitError, Committed, Outgoing, Position, Takeover};

use super::fixture::{Fixture, PATIENCE_MS, read, values};

pub(crate) fn outputs_are_seen_only_after_their_commit_and_all_of_them(on: &impl Fixture) {
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
        let told = matches!(
            refused,
            Err(CommitError::Failed(BusError::TooLarge { .. } | BusError::NoTopic(_) | BusError::NoPartition { .. }))
        );
        assert!(told, "{refused:?}");
    }
    assert_eq!(owner.member.take_over(0).expect("a takeover").committed, None, "the position did not move");
    owner.member.commit(&owner.at(0, 2, vec![Outgoing::keyed(&out, "k", "fine")])).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["fine"]);
}

pub(crate) fn a_position_and_its_note_are_what_the_next_owner_finds(on: &impl Fixture) {
    let (inbox, group) = (on.topic(2), on.name("g"));
    on.append(&inbox, &["a", "b", "c"]);
    let mut first = on.join(&group, &inbox);
    first.until_owned(2);
    assert_eq!(first.member.take_over(0), Ok(Takeover { committed: None, low: 0, end: 3 }));
    for (next, note) in [(1, "v1 first 0 open"), (3, "v1 first 2 released")] {
        let position = Position { partition: 0, next, note: note.into() };
        first.member.commit(&Batch { records: vec![], positions: vec![position] }).expect("a commit");
        let committed = Some(Committed { next, note: note.into() });
        assert_eq!(first.member.take_over(0).expect("a takeover").committed, committed);
    }
    first.member.leave().expect("a leave");
    let mut second = on.join(&group, &inbox);
    second.until_owned(2);
    let left = second.member.take_over(0).expect("a takeover");
    let note = left.committed.as_ref().and_then(Committed::parsed).expect("a note");
    assert!(note.released && note.snapshot == 2 && note.transactional_id == "first");
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

pub(crate) fn an_empty_commit_is_nothing(on: &impl Fixture) {
    let mut owner = on.join(&on.name("g"), &on.topic(1));
    assert_eq!(owner.member.commit(&Batch::default()), Ok(()));
}

pub(crate) fn commits_leave_gaps_that_a_reader_passes(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    owner.go_on(0);
    for value in ["a", "b", "c"] {
        owner.member.commit(&owner.at(0, 0, vec![Outgoing::keyed(&topic, "k", value)])).expect("a commit");
    }
    let records = owner.until_records(3);
    assert_eq!(values(&records), ["a", "b", "c"]);
    assert!(records.windows(2).all(|pair| pair[0].offset + 1 < pair[1].offset), "a commit takes an offset of its own");
    let read = on.read(&topic, 0, records[0].offset + 1, 2);
    assert_eq!(values(&read), ["b", "c"], "the offset after a record need not have one");
    assert!(on.bus().bounds(&topic, 0).expect("bounds").end > records[2].offset);
}

pub(crate) fn positions_that_nobody_waits_for_are_committed_in_the_end(on: &impl Fixture) {
    let inbox = on.topic(2);
    on.append(&inbox, &["a", "b", "c"]);
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(2);
    let behind = |partition, next| Position { partition, next, note: "v1 first 2 open".into() };
    owner.member.commit_behind(&[]).expect("nothing to commit");
    owner.member.commit_behind(&[behind(0, 1)]).expect("a commit");
    owner.member.commit_behind(&[behind(0, 2), behind(1, 0)]).expect("a commit");
    let committed = Some(Committed { next: 2, note: "v1 first 2 open".into() });
    let end = on.bus().clock().mono().plus_ms(PATIENCE_MS);
    while owner.member.take_over(0).expect("a takeover").committed != committed {
        assert!(on.bus().clock().mono() < end, "it is never committed");
        owner.turn(Duration::from_millis(20));
    }
    assert_eq!(owner.member.take_over(1).expect("a takeover").committed.map(|committed| committed.next), Some(0));
    let refused = owner.member.commit_behind(&[behind(7, 1)]);
    assert!(matches!(refused, Err(CommitError::Fenced(_))), "{refused:?}");
}

pub(crate) fn a_note_that_is_too_long_is_refused(on: &impl Fixture) {
    let (inbox, out) = (on.topic(1), on.topic(1));
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(1);
    let noted = |length| Batch {
        records: vec![Outgoing::keyed(&out, "k", format!("{length}"))],
        positions: vec![Position { partition: 0, next: 0, note: "x".repeat(length).into() }],
    };
    let refused = owner.member.commit(&noted(4097));
    assert!(matches!(refused, Err(CommitError::Failed(BusError::Refused(_)))), "{refused:?}");
    owner.member.commit(&noted(4096)).expect("a commit");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["4096"]);
}
