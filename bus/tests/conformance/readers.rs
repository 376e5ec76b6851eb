//! Readers outside all groups, and deletion of old records.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{BusError, Cleanup, Outgoing, TopicSpec};

use super::fixture::{Fixture, read, values};

pub(crate) fn a_reader_follows_several_partitions_in_order(on: &impl Fixture) {
    let (one, two) = (on.topic(2), on.topic(1));
    let record = |i: u32| match i % 3 {
        0 => Outgoing::keyed(&one, "k", i.to_string()).to(0),
        1 => Outgoing::keyed(&one, "k", i.to_string()).to(1),
        _ => Outgoing::keyed(&two, "k", i.to_string()),
    };
    let mut reader = on.bus().reader().expect("a reader");
    for (topic, partition) in [(&one, 0), (&one, 1), (&two, 0)] {
        reader.assign(topic, partition, 0).expect("an offset");
    }
    let mut writer = on.bus().writer("w").expect("a writer");
    let mut found: BTreeMap<(String, u32), Vec<u32>> = BTreeMap::new();
    for batch in 0..3 {
        writer.append(&(batch * 30..(batch + 1) * 30).map(record).collect::<Vec<_>>()).expect("an append");
        for record in read(&*on.bus().clock(), &mut *reader, 30) {
            let number = values(std::slice::from_ref(&record))[0].parse().expect("a number");
            found.entry((record.topic.to_string(), record.partition)).or_default().push(number);
        }
    }
    let expected: BTreeMap<_, Vec<u32>> = [((one.clone(), 0), 0), ((one, 1), 1), ((two, 0), 2)]
        .into_iter()
        .map(|(place, rest)| (place, (0..90).filter(|i| i % 3 == rest).collect()))
        .collect();
    assert_eq!(found, expected);
}

pub(crate) fn a_reader_starts_in_the_middle_and_can_be_moved(on: &impl Fixture) {
    let (topic, other) = (on.topic(1), on.topic(1));
    on.append(&topic, &["a", "b", "c"]);
    let mut reader = on.bus().reader().expect("a reader");
    let clock = on.bus().clock();
    reader.assign(&topic, 0, 1).expect("an offset");
    reader.assign(&other, 0, 0).expect("an offset");
    assert_eq!(values(&read(&*clock, &mut *reader, 2)), ["b", "c"]);
    for from in [0, 2, 0, 1] {
        reader.assign(&topic, 0, from).expect("an offset");
        let rest = ["a", "b", "c"].split_at(usize::try_from(from).expect("small")).1;
        assert_eq!(values(&read(&*clock, &mut *reader, rest.len())), rest);
    }
    on.append(&other, &["x"]);
    assert_eq!(values(&read(&*clock, &mut *reader, 1)), ["x"], "the other topic is still read");
}

pub(crate) fn a_reader_waits_for_records(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut reader = on.bus().reader().expect("a reader");
    reader.assign(&topic, 0, 0).expect("an offset");
    let mut out = Vec::new();
    reader.poll(10, Duration::from_millis(20), &mut out).expect("a poll");
    assert_eq!(out, []);
    on.append(&topic, &["a"]);
    assert_eq!(values(&read(&*on.bus().clock(), &mut *reader, 1)), ["a"]);
}

/// Kafka's cleaner runs at any time, so this checks what holds before and after. The settings check
/// of the topic ensures that it is compacted soon.
pub(crate) fn a_compacted_topic_keeps_the_last_record_of_each_key(on: &impl Fixture) {
    let topic = on.name("t");
    on.bus().ensure_topic(&TopicSpec::log(&topic, 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    let record = |i: u32| Outgoing::keyed(&topic, format!("k{}", i % 7), i.to_string());
    let mut writer = on.bus().writer("w").expect("a writer");
    writer.append(&(0..700).map(record).collect::<Vec<_>>()).expect("an append");
    writer.append(&[Outgoing::keyed(&topic, "k0", "")]).expect("a deletion");
    writer.append(&[Outgoing::keyed(&topic, "end", "end")]).expect("an append");
    let refused = writer.append(&[Outgoing { key: None, ..Outgoing::keyed(&topic, "", "v") }]);
    assert!(matches!(refused, Err(BusError::Refused(_))), "a compacted topic needs keys: {refused:?}");
    let mut reader = on.bus().reader().expect("a reader");
    reader.assign(&topic, 0, 0).expect("an offset");
    let mut last = BTreeMap::new();
    while !last.contains_key(&b"end"[..]) {
        for record in read(&*on.bus().clock(), &mut *reader, 1) {
            let key = record.key.expect("a key").to_vec();
            if record.value.is_empty() {
                last.remove(&key)
            } else {
                last.insert(key, record.value.to_vec())
            };
        }
    }
    let expected = (694..700).chain(693..694).filter(|i| i % 7 != 0).map(|i| (format!("k{}", i % 7), i.to_string()));
    let expected = expected.chain([("end".to_owned(), "end".to_owned())]);
    assert_eq!(last, expected.map(|(key, value)| (key.into_bytes(), value.into_bytes())).collect());
}

pub(crate) fn an_unassigned_partition_is_not_read(on: &impl Fixture) {
    let (topic, other) = (on.topic(2), on.topic(1));
    let mut reader = on.bus().reader().expect("a reader");
    let clock = on.bus().clock();
    for (topic, partition) in [(&topic, 0), (&topic, 1), (&other, 0)] {
        reader.assign(topic, partition, 0).expect("an offset");
    }
    let to = |partition: u32, values: &[&str]| {
        let record = |value: &&str| Outgoing::keyed(&topic, "k", value.to_string()).to(partition);
        let records: Vec<_> = values.iter().map(record).collect();
        on.bus().writer("w").and_then(|mut writer| writer.append(&records)).expect("an append");
    };
    to(0, &["a", "b", "c"]);
    assert_eq!(values(&read(&*clock, &mut *reader, 1)), ["a"]);
    // The client on Kafka has fetched `b` and `c` already.
    reader.unassign(&topic, 0).expect("an answer");
    to(0, &["d"]);
    to(1, &["x"]);
    on.append(&other, &["y"]);
    let mut rest = read(&*clock, &mut *reader, 2);
    reader.poll(100, Duration::from_millis(300), &mut rest).expect("a poll");
    let mut rest = values(&rest);
    rest.sort_unstable();
    assert_eq!(rest, ["x", "y"]);
    assert_eq!([reader.position(&topic, 0), reader.position(&topic, 1)], [None, Some(1)]);
    for (topic, partition) in [(&*topic, 0), (&*topic, 7), ("nowhere", 0)] {
        reader.unassign(topic, partition).expect("it is not assigned");
    }
    reader.assign(&topic, 0, 1).expect("an offset");
    assert_eq!(values(&read(&*clock, &mut *reader, 3)), ["b", "c", "d"], "it is read again from there");
    for (topic, partition) in [(&topic, 0), (&topic, 1), (&other, 0)] {
        reader.unassign(topic, partition).expect("an answer");
    }
    on.append(&topic, &["e"]);
    let mut none = Vec::new();
    reader.poll(100, Duration::from_millis(300), &mut none).expect("a poll without partitions");
    assert_eq!(none, []);
}

pub(crate) fn reading_deleted_records_is_an_error(on: &impl Fixture) {
    let topic = on.topic(1);
    on.append(&topic, &["a", "b", "c"]);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    owner.member.commit(&owner.at(0, 1, vec![])).expect("a commit");
    on.delete_records(&topic, 0, 2);
    let gone = |requested| Err(BusError::Gone { topic: topic.clone(), partition: 0, requested, low: 2 });
    let left = owner.member.take_over(0).expect("a takeover");
    assert_eq!((left.committed.map(|left| left.next), left.low), (Some(1), 2));
    assert_eq!(owner.member.start(0, 1), gone(1));
    assert_eq!(on.bus().reader().expect("a reader").assign(&topic, 0, 0), gone(0));
    owner.member.start(0, 2).expect("a start");
    assert_eq!(values(&owner.until_records(1)), ["c"]);
}

/// The bus decides how much a trim deletes. It must not delete needed records, and must report
/// deleted ones.
pub(crate) fn needed_records_are_readable_after_a_trim(on: &impl Fixture) {
    let topic = on.topic(2);
    on.append(&topic, &["a", "b", "c", "d", "e"]);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(2);
    owner.member.commit(&owner.at(0, 3, vec![])).expect("a commit");
    for before in [2, 2, 1, 0] {
        on.bus().trim(&topic, 0, before).expect("a topic");
        let low = on.bus().bounds(&topic, 0).expect("a topic").low;
        assert!(low <= 2, "{low}");
        assert_eq!(values(&on.read(&topic, 0, 2, 3)), ["c", "d", "e"]);
        match on.bus().reader().expect("a reader").assign(&topic, 0, 1) {
            Ok(()) => assert!(low <= 1),
            Err(gone) => assert_eq!(gone, BusError::Gone { topic: topic.clone(), partition: 0, requested: 1, low: 2 }),
        }
    }
    on.bus().trim(&topic, 0, 99).expect("a topic");
    assert_eq!(values(&on.read(&topic, 0, 3, 2)), ["d", "e"], "uncommitted records stay");
    on.append(&topic, &["f"]);
    owner.member.start(0, 3).expect("a start");
    assert_eq!(values(&owner.until_records(3)), ["d", "e", "f"]);
}

pub(crate) fn an_offset_past_the_end_is_refused(on: &impl Fixture) {
    let topic = on.topic(1);
    on.append(&topic, &["a"]);
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    assert!(matches!(owner.member.start(0, 2), Err(BusError::Refused(_))));
    assert!(matches!(on.bus().reader().expect("a reader").assign(&topic, 0, 2), Err(BusError::Refused(_))));
    owner.member.start(0, 1).expect("the end itself is valid");
}
