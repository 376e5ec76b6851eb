//! Followers: where they begin, how far they have read, and what was deleted before they read it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bus::{BusError, Cleanup, Follower, Gap, IfGone, Outgoing, Record, Start, TopicSpec};
use wire::WallTime;

use super::fixture::{Fixture, PATIENCE_MS, read, values};

/// An empty fetch takes 0.1 s; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until there are `count` records.
fn follow(on: &impl Fixture, follower: &mut Follower, count: usize) -> Vec<Record> {
    let (clock, mut records) = (on.bus().clock(), Vec::new());
    let end = clock.mono().plus_ms(PATIENCE_MS);
    while records.len() < count {
        assert!(clock.mono() < end, "no {count} records in time: {records:?}");
        let gap = follower.poll(count - records.len(), Duration::from_millis(50), &mut records).expect("a poll");
        assert_eq!(gap, None);
    }
    records
}

/// Reads partitions to their current ends. Returns the records.
fn catch_up(on: &impl Fixture, follower: &mut Follower, topic: &str, partitions: u32) -> Vec<Record> {
    let mut records = Vec::new();
    let gap = follower.catch_up(on.bus(), topic, 0..partitions, PATIENCE, |record| {
        records.push(record);
        ControlFlow::Continue(())
    });
    assert_eq!(gap, Ok(None), "the end is reached");
    records
}

pub(crate) fn a_follower_begins_at_the_given_start(on: &impl Fixture) {
    let topic = on.topic(1);
    on.append(&topic, &["a", "b", "c", "d"]);
    on.delete_records(&topic, 0, 1);
    let starts = [
        (Start::Low, 1),
        (Start::Last(2), 2),
        (Start::Last(99), 1),
        (Start::Offset(3), 3),
        (Start::Offset(4), 4),
        (Start::End, 4),
    ];
    let (mut moved, mut all) = (Follower::default(), vec!["a", "b", "c", "d"]);
    for (start, from) in starts {
        let mut follower = Follower::new(IfGone::Fail);
        let bounds = follower.follow(on.bus(), &topic, 0, start).expect("bounds");
        assert_eq!((bounds.low, follower.position(&topic, 0)), (1, Some(from)), "{start:?}");
        assert_eq!(values(&catch_up(on, &mut follower, &topic, 1)), all[usize::try_from(from).expect("small")..]);
        moved.follow(on.bus(), &topic, 0, start).expect("it can be moved");
        assert_eq!(moved.position(&topic, 0), Some(from), "{start:?}");
    }
    on.append(&topic, &["e"]);
    all.push("e");
    assert_eq!(values(&follow(on, &mut moved, 1)), ["e"], "it follows from its last start");
    let past = moved.follow(on.bus(), &topic, 0, Start::Offset(9));
    assert!(matches!(past, Err(BusError::Refused(_))), "{past:?}");
}

pub(crate) fn a_follower_begins_at_a_time(on: &impl Fixture) {
    let topic = on.topic(2);
    let (clock, mut reader) = (on.bus().clock(), on.bus().reader().expect("a reader"));
    reader.assign(&topic, 0, 0).expect("an offset");
    let mut times = Vec::new();
    for value in ["a", "b", "c", "d"] {
        on.append(&topic, &[value, value]);
        let records = read(&*clock, &mut *reader, 2);
        times.push(records[0].time);
        // The next record gets a later time.
        while clock.wall() <= records[1].time {
            reader.poll(1, Duration::from_millis(1), &mut Vec::new()).expect("a poll");
        }
    }
    let rest = |partition: u32, time: WallTime| {
        let mut follower = Follower::default();
        follower.follow(on.bus(), &topic, partition, Start::Time(time)).expect("bounds");
        let mut records = Vec::new();
        let gap = follower.catch_up(on.bus(), &topic, [partition], PATIENCE, |record| {
            records.push(record);
            ControlFlow::Continue(())
        });
        assert_eq!(gap, Ok(None));
        records.len()
    };
    assert_eq!([times[0], times[1], times[3]].map(|time| rest(0, time)), [8, 6, 2]);
    assert_eq!([WallTime(0), clock.wall().plus_ms(60_000)].map(|time| rest(0, time)), [8, 0]);
    assert_eq!(rest(0, times[0].plus_ms(1)), 6);
    assert_eq!(rest(1, times[0]), 0, "the partition is empty");
    on.delete_records(&topic, 0, 4);
    assert_eq!([times[0], times[3]].map(|time| rest(0, time)), [4, 2]);
}

pub(crate) fn a_follower_can_tell_old_records_from_new_ones(on: &impl Fixture) {
    let (topic, empty) = (on.topic(1), on.topic(1));
    on.append(&topic, &["a", "b"]);
    let mut follower = Follower::default();
    follower.follow(on.bus(), &topic, 0, Start::Low).expect("bounds");
    assert!(!follower.has_caught_up(&topic, 0));
    on.append(&topic, &["c"]);
    let records = follow(on, &mut follower, 3);
    assert_eq!(records.iter().map(|record| follower.is_new(record)).collect::<Vec<_>>(), [false, false, true]);
    assert!(follower.has_caught_up(&topic, 0) && !follower.has_caught_up(&empty, 0));
    follower.follow(on.bus(), &empty, 0, Start::Low).expect("bounds");
    assert!(follower.has_caught_up(&empty, 0), "it holds nothing");
}

pub(crate) fn an_unfollowed_topic_is_not_read(on: &impl Fixture) {
    let (topic, other) = (on.topic(2), on.topic(1));
    let mut follower = Follower::default();
    let mut none = Vec::new();
    assert_eq!(follower.poll(1, Duration::from_millis(1), &mut none), Ok(None), "nothing is followed");
    for (topic, partition) in [(&topic, 0), (&topic, 1), (&other, 0)] {
        follower.follow(on.bus(), topic, partition, Start::Low).expect("bounds");
    }
    follower.unfollow(&other, 0).expect("an answer");
    follower.unfollow(&other, 3).expect("it is not followed");
    on.append(&other, &["x"]);
    on.append(&topic, &["a", "b"]);
    assert_eq!(values(&follow(on, &mut follower, 1)), ["a"]);
    follower.unfollow_topic(&topic).expect("an answer");
    assert_eq!([follower.position(&topic, 0), follower.position(&topic, 1)], [None, None]);
    follower.poll(100, Duration::from_millis(300), &mut none).expect("a poll");
    assert_eq!(none, []);
    follower.follow(on.bus(), &other, 0, Start::Low).expect("bounds");
    assert_eq!(values(&follow(on, &mut follower, 1)), ["x"]);
}

pub(crate) fn a_deleted_start_is_skipped_or_refused(on: &impl Fixture) {
    let topic = on.topic(1);
    on.append(&topic, &["a", "b", "c"]);
    on.delete_records(&topic, 0, 2);
    let mut strict = Follower::new(IfGone::Fail);
    let gone = BusError::Gone { topic: topic.clone(), partition: 0, requested: 1, low: 2 };
    assert_eq!(strict.follow(on.bus(), &topic, 0, Start::Offset(1)), Err(gone));
    assert_eq!(strict.position(&topic, 0), None);
    let mut follower = Follower::new(IfGone::Skip);
    follower.follow(on.bus(), &topic, 0, Start::Offset(1)).expect("bounds");
    let gap = Gap { topic: topic.clone(), partition: 0, requested: 1, low: 2 };
    assert_eq!(follower.poll(10, Duration::ZERO, &mut Vec::new()), Ok(Some(gap)));
    assert_eq!(follower.position(&topic, 0), Some(2));
    assert_eq!(values(&catch_up(on, &mut follower, &topic, 1)), ["c"]);
}

/// The client on Kafka has fetched some 10,000 records before they are deleted.
pub(crate) fn records_deleted_while_followed_are_skipped_or_refused(on: &impl Fixture) {
    const LOW: u64 = 30_000;
    let topic = on.topic(1);
    let (mut skipping, mut strict) = (Follower::new(IfGone::Skip), Follower::new(IfGone::Fail));
    for follower in [&mut skipping, &mut strict] {
        follower.follow(on.bus(), &topic, 0, Start::Low).expect("bounds");
    }
    let mut writer = on.bus().writer("w").expect("a writer");
    for _ in 0..4 {
        writer.append(&vec![Outgoing::keyed(&topic, "k", vec![0; 100]); 10_000]).expect("an append");
    }
    on.delete_records(&topic, 0, LOW);

    let mut offsets = Vec::new();
    let take = |record: Record, offsets: &mut Vec<u64>| {
        offsets.push(record.offset);
        ControlFlow::Continue(())
    };
    let gap = skipping.catch_up(on.bus(), &topic, [0], PATIENCE, |record| take(record, &mut offsets));
    let requested = u64::try_from(offsets.len()).expect("small");
    assert_eq!(gap, Ok(Some(Gap { topic: topic.clone(), partition: 0, requested, low: LOW })));
    assert_eq!(skipping.position(&topic, 0), Some(LOW));
    let gap = skipping.catch_up(on.bus(), &topic, [0], PATIENCE, |record| take(record, &mut offsets));
    assert_eq!(gap, Ok(None));
    assert!(offsets.iter().copied().eq((0..requested).chain(LOW..40_000)), "each other record is read once, in order");

    let mut offsets = Vec::new();
    let mut fails =
        |offsets: &mut Vec<u64>| strict.catch_up(on.bus(), &topic, [0], PATIENCE, |record| take(record, offsets));
    let failed = fails(&mut offsets);
    let requested = u64::try_from(offsets.len()).expect("small");
    let gone = Err(BusError::Gone { topic: topic.clone(), partition: 0, requested, low: LOW });
    assert_eq!([&failed, &fails(&mut offsets)], [&gone, &gone], "it stays an error");
    assert!(offsets.iter().copied().eq(0..requested));

    let other = on.topic(1);
    strict.follow(on.bus(), &other, 0, Start::Low).expect("bounds");
    on.append(&other, &["x"]);
    let (clock, mut records) = (on.bus().clock(), Vec::new());
    let end = clock.mono().plus_ms(PATIENCE_MS);
    while records.is_empty() {
        assert!(clock.mono() < end, "the failing partition hides the other topic");
        assert_eq!(strict.poll(10, Duration::from_millis(50), &mut records).map(drop), gone.clone().map(drop));
    }
    assert_eq!(values(&records), ["x"]);
}

pub(crate) fn catching_up_stops_early_after_a_break(on: &impl Fixture) {
    let topic = on.topic(1);
    on.append(&topic, &["a", "b", "c"]);
    let mut follower = Follower::default();
    follower.follow(on.bus(), &topic, 0, Start::Low).expect("bounds");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let before = seen.len();
        let gap = follower.catch_up(on.bus(), &topic, [0], PATIENCE, |record| {
            seen.push(record);
            ControlFlow::Break(())
        });
        assert_eq!(gap, Ok(None));
        assert!(seen.len() > before, "it stops after records, and continues with the next ones");
    }
    assert_eq!(values(&seen), ["a", "b", "c"]);
}

/// Reads a topic to its current end. Returns the values by key.
fn read_to_end(on: &impl Fixture, topic: &str, partitions: u32) -> BTreeMap<String, String> {
    let mut follower = Follower::default();
    for partition in 0..partitions {
        follower.follow(on.bus(), topic, partition, Start::Low).expect("bounds");
    }
    let mut last = BTreeMap::new();
    for record in catch_up(on, &mut follower, topic, partitions) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let key = text(record.key.as_deref().expect("a key"));
        if record.value.is_empty() {
            last.remove(&key)
        } else {
            last.insert(key, text(&record.value))
        };
    }
    assert!((0..partitions).all(|partition| follower.has_caught_up(topic, partition)));
    last
}

/// Compaction eventually removes the deletion. Then no record is left at the offset before the end,
/// or in the whole topic.
pub(crate) fn a_topic_is_read_to_its_end_when_the_last_record_was_deleted(on: &impl Fixture) {
    let topic = on.name("t");
    on.bus().ensure_topic(&TopicSpec::log(&topic, 2).with_cleanup(Cleanup::Compact)).expect("a topic");
    assert_eq!(read_to_end(on, &topic, 2), BTreeMap::new(), "it is empty");
    let mut writer = on.bus().writer("w").expect("a writer");
    let records = ["a", "", "b", "", ""].map(|value| Outgoing::keyed(&topic, "k", value).to(0));
    writer.append(&records).expect("an append");
    assert_eq!(read_to_end(on, &topic, 2), BTreeMap::new());
    writer.append(&[Outgoing::keyed(&topic, "other", "c").to(1)]).expect("an append");
    let other = BTreeMap::from([("other".to_owned(), "c".to_owned())]);
    assert_eq!(read_to_end(on, &topic, 2), other);
}

/// On Kafka a transaction marker takes the last offset, and no reader ever sees it.
pub(crate) fn a_topic_is_read_to_its_end_when_a_commit_marker_is_last(on: &impl Fixture) {
    let topic = on.name("t");
    on.bus().ensure_topic(&TopicSpec::log(&topic, 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    let mut owner = on.join(&on.name("g"), &on.topic(1));
    owner.until_owned(1);
    owner.resume(0);
    let mut witness = on.bus().reader().expect("a reader");
    witness.assign(&topic, 0, 0).expect("an offset");
    let mut long = Follower::default();
    long.follow(on.bus(), &topic, 0, Start::Low).expect("bounds");
    for value in ["a", "b", ""] {
        owner.member.commit(&owner.at(0, 0, vec![Outgoing::keyed(&topic, "k", value)])).expect("a commit");
        // On Kafka a record becomes visible some milliseconds after the commit.
        read(&*on.bus().clock(), &mut *witness, 1);
        let expected = (!value.is_empty()).then(|| ("k".to_owned(), value.to_owned()));
        assert_eq!(read_to_end(on, &topic, 1), expected.into_iter().collect());
        assert_eq!(values(&catch_up(on, &mut long, &topic, 1)), [value], "also by a follower of long standing");
    }
}

/// A partition that is not followed is never read.
pub(crate) fn an_end_that_is_not_reached_is_an_error(on: &impl Fixture) {
    let topic = on.topic(2);
    on.append(&topic, &["a"]);
    let mut follower = Follower::default();
    follower.follow(on.bus(), &topic, 1, Start::Low).expect("bounds");
    let take = |record| panic!("it is not followed: {record:?}");
    let failed = follower.catch_up(on.bus(), &topic, [1, 0], Duration::from_millis(300), take);
    let Err(BusError::Unavailable(why)) = failed else { panic!("{failed:?}") };
    assert!(why.contains(&topic) && why.contains("offset 0 of 1"), "{why}");
}

/// Each record of the busy partition causes the next one, so that no poll is empty.
pub(crate) fn a_busy_partition_does_not_hide_a_stalled_one(on: &impl Fixture) {
    let topic = on.topic(2);
    on.append(&topic, &["never followed"]);
    let mut follower = Follower::default();
    follower.follow(on.bus(), &topic, 1, Start::Low).expect("bounds");
    let mut writer = on.bus().writer("w").expect("a writer");
    let mut append = || writer.append(&[Outgoing::keyed(&topic, "k", "v").to(1)]).expect("an append");
    append();
    let (clock, mut busy) = (on.bus().clock(), 0);
    let end = clock.mono().plus_ms(PATIENCE_MS);
    let failed = follower.catch_up(on.bus(), &topic, [0], Duration::from_millis(300), |_| {
        append();
        busy += 1;
        if clock.mono() < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert!(matches!(failed, Err(BusError::Unavailable(_))), "{failed:?} after {busy} records");
    assert!(busy > 1, "the partition was busy");
}

/// On Kafka the reader passes a marker at the end only if the follower assigns the partition again.
pub(crate) fn a_commit_marker_is_passed_while_another_partition_is_busy(on: &impl Fixture) {
    let topic = on.topic(2);
    let mut owner = on.join(&on.name("g"), &on.topic(1));
    owner.until_owned(1);
    owner.resume(0);
    let mut follower = Follower::default();
    for partition in [0, 1] {
        follower.follow(on.bus(), &topic, partition, Start::Low).expect("bounds");
    }
    let record = |partition| Outgoing::keyed(&topic, "k", "v").to(partition);
    owner.member.commit(&owner.at(0, 0, vec![record(0)])).expect("a commit");
    // On Kafka the record becomes visible some milliseconds after the commit.
    on.read(&topic, 0, 0, 1);
    let mut writer = on.bus().writer("w").expect("a writer");
    let mut append = || writer.append(&[record(1)]).expect("an append");
    append();
    let clock = on.bus().clock();
    let end = clock.mono().plus_ms(PATIENCE_MS);
    let reached = follower.catch_up(on.bus(), &topic, [0], PATIENCE, |record| {
        if record.partition == 1 {
            append();
        }
        if clock.mono() < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!((reached, follower.position(&topic, 0)), (Ok(None), Some(2)));
}
