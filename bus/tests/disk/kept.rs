//! Retention on disk and in memory.

use bus::{Bounds, Bus, Cleanup, EmbeddedOptions, Headers, Outgoing, Sync, TopicSpec};

use super::fixture::{Home, all, at, named, numbers, owner};

/// A bus that keeps next to nothing in memory, with small files.
fn tight() -> Home {
    let mut home = Home::new();
    home.options = EmbeddedOptions { keep_bytes: Some(20_000), ..EmbeddedOptions::default() };
    home.disk.file_bytes = 256 << 10;
    home.disk.sync = Sync::Never;
    home
}

/// A record of 1,000 bytes that cannot be compressed.
fn record(topic: &str, key: String, i: u64) -> Outgoing {
    let mut seed = i + 1;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        // Knuth's multiplier.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_le_bytes()[7]
    })
    .take(980)
    .collect();
    let headers: Headers = [("noise", noise)].into_iter().collect();
    Outgoing { headers, ..Outgoing::keyed(topic, key, i.to_string()).to(0) }
}

/// Appends numbered records, 20 at a time.
fn fill(bus: &dyn Bus, topic: &str, numbers: std::ops::Range<u64>) {
    let mut writer = bus.writer("w").expect("a writer");
    let record = |i: u64| record(topic, format!("k{i}"), i);
    for from in numbers.clone().step_by(20) {
        writer.append(&(from..numbers.end.min(from + 20)).map(record).collect::<Vec<_>>()).expect("an append");
    }
}

#[test]
fn records_without_a_snapshot_are_read_back_from_disk() {
    let home = tight();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    let mut member = owner(&bus, "g", "in");
    for round in 0..20 {
        fill(&bus, "in", round * 100..(round + 1) * 100);
        member.commit(&at((round + 1) * 100, 0, vec![])).expect("a commit");
    }
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 0, end: 2_000 }));
    assert_eq!(numbers(&all(&bus, "in", 0)), (0..2_000).collect::<Vec<_>>());
    for from in [1, 19, 20, 777, 1_500, 1_999, 2_000] {
        member.start(0, from).expect("an offset");
        let mut out = Vec::new();
        member.poll(1, std::time::Duration::ZERO, &mut out).expect("a poll");
        let found: Vec<u64> = out
            .iter()
            .map(|arrival| match arrival {
                bus::Arrival::Record(record) => record.offset,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, if from < 2_000 { vec![from] } else { vec![] });
    }
    drop((member, bus));
    for _ in 0..2 {
        let bus = home.open();
        assert_eq!(numbers(&all(&bus, "in", 0)), (0..2_000).collect::<Vec<_>>());
    }
}

#[test]
fn records_covered_by_every_snapshot_are_deleted_from_disk() {
    let home = tight();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    let (mut one, mut two) = (owner(&bus, "one", "in"), owner(&bus, "two", "in"));
    fill(&bus, "in", 0..2_000);
    one.commit(&at(2_000, 2_000, vec![])).expect("a commit");
    assert_eq!(bus.bounds("in", 0).map(|bounds| bounds.low), Ok(0), "the other group has no snapshot");
    two.commit(&at(2_000, 1_200, vec![])).expect("a commit");
    let low = bus.bounds("in", 0).expect("bounds").low;
    assert!((900..=1_200).contains(&low), "a page is deleted as a whole: {low}");
    two.commit(&at(2_000, 2_000, vec![])).expect("a commit");
    let bounds = bus.bounds("in", 0).expect("bounds");
    assert!(bounds.low > 1_900, "records that fit the memory may stay: {bounds:?}");
    drop((one, two, bus));
    let bus = home.open();
    assert_eq!(bus.bounds("in", 0), Ok(bounds));
    assert_eq!(numbers(&all(&bus, "in", 0)), (bounds.low..2_000).collect::<Vec<_>>());
}

#[test]
fn uncommitted_records_survive_a_restart() {
    let home = tight();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    drop(owner(&bus, "g", "in"));
    drop(bus);
    let bus = home.open();
    fill(&bus, "in", 0..1_000);
    assert_eq!(numbers(&all(&bus, "in", 0)), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn expired_records_are_deleted_from_disk_too() {
    let home = tight();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("beats", 1).with_cleanup(Cleanup::DeleteAfterMs(1_000))).expect("a topic");
    fill(&bus, "beats", 0..1_000);
    assert_eq!(bus.bounds("beats", 0).map(|bounds| bounds.low), Ok(0), "the retention time has not passed");
    home.clock.advance_ms(600);
    fill(&bus, "beats", 1_000..2_000);
    home.clock.advance_ms(600);
    fill(&bus, "beats", 2_000..2_001);
    let low = bus.bounds("beats", 0).expect("bounds").low;
    assert!((700..=1_000).contains(&low), "a page is deleted with its last record: {low}");
    home.clock.advance_ms(1_001);
    fill(&bus, "beats", 2_001..2_002);
    assert_eq!(bus.bounds("beats", 0), Ok(Bounds { low: 2_001, end: 2_002 }));
    drop(bus);
    assert_eq!(numbers(&all(&home.open(), "beats", 0)), [2_001]);
}

#[test]
fn a_compacted_topic_does_not_grow_with_overwritten_records() {
    let home = tight();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("view", 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    let mut writer = bus.writer("w").expect("a writer");
    let view = |key: String, i: u64| record("view", key, i);
    writer.append(&(0..50).map(|i| view(format!("still-{i}"), i)).collect::<Vec<_>>()).expect("an append");
    for i in 0..20_000 {
        writer.append(&[view(format!("busy-{}", i % 10), i)]).expect("an append");
        if i % 100 == 0 {
            writer.append(&[view(format!("short-{i}"), i)]).expect("an append");
            writer.append(&[Outgoing::keyed("view", format!("short-{i}"), "")]).expect("a deletion");
        }
    }
    let expected: Vec<u64> = (0..50).chain(19_990..20_000).collect();
    assert_eq!(numbers(&all(&bus, "view", 0)), expected);
    drop((writer, bus));
    // Some 20 MB were written. The rest is the live records (twice), permitted garbage, and files
    // that are not full yet. The reopening below waits for the last clean-up.
    assert!(home.size() < 8 << 20, "{} bytes", home.size());
    for _ in 0..2 {
        assert_eq!(numbers(&all(&home.open(), "view", 0)), expected);
    }
}

#[test]
fn old_files_are_deleted_and_their_live_records_kept() {
    let home = tight();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("kept", 1)).expect("a topic");
    bus.ensure_topic(&TopicSpec::log("quiet", 1)).expect("a topic");
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    let (mut kept, mut member) = (owner(&bus, "k", "kept"), owner(&bus, "g", "in"));
    fill(&bus, "quiet", 0..100);
    for round in 0..50_u64 {
        fill(&bus, "in", round * 200..(round + 1) * 200);
        member.commit(&at((round + 1) * 200, (round + 1) * 200, vec![])).expect("a commit");
        fill(&bus, "kept", round * 10..(round + 1) * 10);
        kept.commit(&at((round + 1) * 10, 0, vec![])).expect("a commit");
    }
    let bounds = ["kept", "quiet", "in"].map(|topic| bus.bounds(topic, 0).expect("bounds"));
    drop((kept, member, bus));
    let first = home.files().into_iter().find(|path| named(path, ".raftlog")).expect("a log");
    assert!(!named(&first, "0000000000000001.raftlog"), "nothing was deleted: {}", first.display());
    for _ in 0..3 {
        let bus = home.open();
        assert_eq!(["kept", "quiet", "in"].map(|topic| bus.bounds(topic, 0).expect("bounds")), bounds);
        assert_eq!(numbers(&all(&bus, "kept", 0)), (0..500).collect::<Vec<_>>());
        assert_eq!(numbers(&all(&bus, "quiet", 0)), (0..100).collect::<Vec<_>>());
        assert_eq!(numbers(&all(&bus, "in", 0)), (bounds[2].low..10_000).collect::<Vec<_>>());
        fill(&bus, "in", 10_000..10_000);
    }
}
