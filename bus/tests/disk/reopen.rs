//! Committed data is there after a restart.

use std::process::Command;
use std::thread;

use bus::{Bounds, Bus, Cleanup, Headers, Outgoing, TopicSpec};

use super::fixture::{Home, all, append, at, left, numbers, owner, topic_state};

#[test]
fn a_restart_keeps_records_offsets_gaps_times_and_metadata() {
    let home = Home::new();
    let bus = home.open();
    for (topic, partitions) in [("in", 1), ("out", 3)] {
        bus.ensure_topic(&TopicSpec::log(topic, partitions)).expect("a topic");
    }
    append(&bus, "in", 0..3);
    let mut member = owner(&bus, "g", "in");
    let headers: Headers = [("ce_id", "7"), ("größe", "ü")].into_iter().collect();
    for round in 0..5_u64 {
        home.clock.advance_ms(10);
        let records = (0..7).map(|i| Outgoing {
            headers: headers.clone(),
            key: (i % 3 > 0).then(|| format!("k{i}").into()),
            ..Outgoing::keyed("out", "", vec![b'x'; 10 * usize::try_from(round + i).expect("small")])
        });
        member.commit(&at(round, 0, records.collect())).expect("a commit");
    }
    let before = (topic_state(&bus, "in"), topic_state(&bus, "out"), member.take_over(0).expect("a takeover"));
    assert_eq!(before.2.committed.as_ref().map(|left| left.next), Some(4));
    drop((member, bus));
    for _ in 0..3 {
        let bus = home.open();
        assert_eq!((topic_state(&bus, "in"), topic_state(&bus, "out"), left(&bus, "g", "in")), before);
    }
    let bus = home.open();
    append(&bus, "in", 3..5);
    assert_eq!(numbers(&all(&bus, "in", 0)), [0, 1, 2, 3, 4], "it continues at the end");
}

#[test]
fn a_restart_keeps_the_positions_of_named_followers() {
    let home = Home::new();
    let bus = home.open();
    for topic in ["in", "out"] {
        bus.ensure_topic(&TopicSpec::log(topic, 2)).expect("a topic");
    }
    append(&bus, "out", 0..5);
    for (name, positions) in [("sql", [(0, 1), (1, 0)].as_slice()), ("verifier", &[(0, 2)]), ("gone", &[(0, 1)])] {
        bus.save_positions(name, "out", positions).expect("a save");
    }
    bus.save_positions("sql", "out", &[(0, 3)]).expect("a save");
    bus.forget_name("gone", "out").expect("a topic");
    drop(bus);
    for _ in 0..2 {
        let bus = home.open();
        let saved = |name: &str, topic: &str| [0, 1].map(|partition| bus.saved_position(name, topic, partition));
        assert_eq!(saved("sql", "out"), [Ok(Some(3)), Ok(Some(0))]);
        assert_eq!(saved("verifier", "out"), [Ok(Some(2)), Ok(None)]);
        assert_eq!([saved("gone", "out"), saved("sql", "in")], [[Ok(None), Ok(None)], [Ok(None), Ok(None)]]);
    }
}

#[test]
fn a_concurrently_spawned_process_does_not_keep_the_directory_lock() {
    let home = Home::new();
    thread::scope(|scope| {
        // A child process holds a copy of every open file, including locks, until it executes
        // another program.
        scope.spawn(|| (0..300).for_each(|_| assert!(Command::new("true").status().expect("a program").success())));
        for _ in 0..100 {
            drop(home.open());
        }
    });
}

#[test]
fn a_compacted_topic_has_one_record_per_key_after_a_restart() {
    let home = Home::new();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("view", 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    let mut writer = bus.writer("w").expect("a writer");
    for i in 0..100 {
        writer.append(&[Outgoing::keyed("view", format!("k{}", i % 7), i.to_string())]).expect("an append");
    }
    writer.append(&[Outgoing::keyed("view", "k3", "")]).expect("a deletion");
    writer.append(&[Outgoing::keyed("view", "end", "1000")]).expect("an append");
    let before = topic_state(&bus, "view");
    assert_eq!(numbers(&all(&bus, "view", 0)), [93, 95, 96, 97, 98, 99, 1000], "k3 is deleted");
    drop((writer, bus));
    let bus = home.open();
    append(&bus, "view", 2000..2001);
    let mut found = numbers(&all(&bus, "view", 0));
    assert_eq!(found.pop(), Some(2000));
    assert_eq!(found, [93, 95, 96, 97, 98, 99, 1000]);
    assert_eq!(bus.bounds("view", 0), Ok(Bounds { low: 0, end: 103 }));
    assert_ne!(topic_state(&bus, "view"), before);
}

#[test]
fn watermarks_survive_even_if_everything_was_deleted() {
    let home = Home::new();
    let bus = home.open();
    for topic in ["some", "every"] {
        bus.ensure_topic(&TopicSpec::log(topic, 1)).expect("a topic");
        append(&bus, topic, 0..10);
        append(&bus, topic, 10..20);
    }
    bus.delete_records("some", 0, 13).expect("a deletion");
    bus.delete_records("every", 0, 20).expect("a deletion");
    drop(bus);
    for _ in 0..2 {
        let bus = home.open();
        assert_eq!(bus.bounds("some", 0), Ok(Bounds { low: 13, end: 20 }));
        assert_eq!(bus.bounds("every", 0), Ok(Bounds { low: 20, end: 20 }));
        assert_eq!(numbers(&all(&bus, "some", 0)), [13, 14, 15, 16, 17, 18, 19]);
    }
    let bus = home.open();
    append(&bus, "every", 20..21);
    drop(bus);
    let bus = home.open();
    assert_eq!(all(&bus, "every", 0)[0].offset, 20);
}

#[test]
fn a_topic_keeps_its_settings_over_a_restart() {
    let home = Home::new();
    let made = home.open().ensure_topic(&TopicSpec::log("t", 2)).expect("a topic");
    let bus = home.open();
    assert_eq!(bus.ensure_topic(&TopicSpec::log("t", 2)), Ok(made));
    assert!(bus.ensure_topic(&TopicSpec::log("t", 3)).is_err());
    assert!(bus.ensure_topic(&TopicSpec::log("t", 2).with_cleanup(Cleanup::Compact)).is_err());
}

#[test]
fn a_directory_belongs_to_one_process() {
    let home = Home::new();
    let bus = home.open();
    let refused = home.try_open().expect_err("it is in use").to_string();
    let dir = home.disk.dir.display();
    assert_eq!(refused, format!("the bus rejected the request: the data directory {dir} is in use by another process"));
    let reader = bus.reader().expect("a reader");
    drop(bus);
    assert!(home.try_open().is_err(), "a reader keeps the bus open");
    drop(reader);
    home.open();
}

#[test]
fn two_stores_of_one_process_are_not_mixed_up() {
    let (one, two) = (Home::new(), Home::new());
    let buses = [(one.open(), 0), (two.open(), 1_000)];
    for (bus, from) in &buses {
        bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
        append(bus, "t", from + 100..from + 200);
    }
    drop(buses);
    for (home, from) in [(&one, 0), (&two, 1_000), (&one, 0)] {
        assert_eq!(numbers(&all(&home.open(), "t", 0)), (from + 100..from + 200).collect::<Vec<_>>());
    }
}
