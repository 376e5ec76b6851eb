//! Torn tails and flipped bits.

use std::fs::{self, OpenOptions};

use bus::{Bus, DiskOptions, Outgoing, Sync, TopicSpec};

use super::fixture::{Home, all, append, at, left, named, numbers, owner};

/// Creates a bus whose last batch writes to two topics and moves a position. Returns the log size
/// before and after that batch.
fn with_a_last_batch() -> (Home, u64, u64) {
    let mut home = Home::new();
    home.disk = home.disk.synced(Sync::Never);
    let bus = home.open();
    for topic in ["in", "out"] {
        bus.ensure_topic(&TopicSpec::log(topic, 2)).expect("a topic");
        append(&bus, topic, 0..10);
    }
    let mut member = owner(&bus, "g", "in");
    member.commit(&at(5, 0, vec![])).expect("a commit");
    let written = |home: &Home| {
        // Allocated space that is not written yet is zero.
        let bytes = fs::read(home.log()).expect("a log");
        bytes.iter().rposition(|byte| *byte != 0).expect("something") as u64 + 1
    };
    let before = written(&home);
    let records = (10..14).map(|i| Outgoing::keyed("out", i.to_string(), i.to_string()).to(0));
    let more = [Outgoing::keyed("in", "10", "10").to(0), Outgoing::keyed("out", "x", "0").to(1)];
    member.commit(&at(10, 0, records.chain(more).collect())).expect("a commit");
    let after = written(&home);
    assert!(before < after);
    let crashed = home.copy();
    (crashed, before, after)
}

#[test]
fn a_batch_that_is_torn_anywhere_is_dropped_completely() {
    let (home, before, after) = with_a_last_batch();
    // Every byte of the batch, and some before it, which remove the previous batch too.
    for length in before - 5..=after {
        let home = home.copy();
        let log = OpenOptions::new().write(true).open(home.log()).expect("a log");
        log.set_len(length).expect("a cut");
        let bus = home.open();
        let whole = length == after;
        let next = left(&bus, "g", "in").committed.map(|left| left.next);
        let found = ["in", "out"].map(|topic| numbers(&all(&bus, topic, 0)).len());
        match next {
            Some(10) => assert_eq!((whole, found, all(&bus, "out", 1).len()), (true, [11, 14], 1)),
            Some(5) | None => {
                assert_eq!((whole, found, all(&bus, "out", 1).len()), (false, [10, 10], 0), "at {length}");
                assert_eq!(next.is_some(), length >= before, "at {length}");
            }
            other => panic!("{other:?} at {length}"),
        }
        append(&bus, "out", 20..21);
        drop(bus);
        assert_eq!(numbers(&all(&home.open(), "out", 0)).last(), Some(&20), "it continues after a torn tail");
    }
}

#[test]
fn a_missing_end_of_synced_data_is_detected() {
    let (home, _, after) = with_a_last_batch();
    drop(home.open());
    let log = OpenOptions::new().write(true).open(home.log()).expect("a log");
    log.set_len(after - 1).expect("a cut");
    let refused = home.try_open().expect_err("a synced batch is missing").to_string();
    assert!(refused.contains(&format!("{} is damaged from byte {} on", home.log().display(), after - 1)), "{refused}");
}

/// Flips one bit of a file.
fn flip(path: &std::path::Path, at: u64) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[usize::try_from(at).expect("small")] ^= 0x10;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn a_flipped_bit_in_synced_data_is_detected_and_located() {
    let home = Home::new();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    for i in 0..20 {
        append(&bus, "t", i * 10..(i + 1) * 10);
    }
    drop(bus);
    let length = fs::metadata(home.log()).expect("a log").len();
    let mut found = 0;
    for place in (0..length).step_by(61) {
        let home = home.copy();
        flip(&home.log(), place);
        match home.try_open() {
            Ok(bus) => {
                // The store's own header has unused bytes.
                assert_eq!(numbers(&all(&bus, "t", 0)), (0..200).collect::<Vec<_>>(), "at {place}");
                assert!(place < 64, "at {place}");
            }
            Err(refused) => {
                let refused = refused.to_string();
                assert!(refused.contains(".raftlog") && refused.contains(" byte "), "at {place}: {refused}");
                found += 1;
            }
        }
    }
    assert!(found > 50, "{found} of {length} bytes");
}

#[test]
fn a_flipped_bit_in_an_older_file_is_located_when_it_is_read() {
    let mut home = Home::new();
    home.disk = DiskOptions { file_bytes: 64 << 10, ..home.disk.synced(Sync::Never) };
    home.options.keep_bytes = Some(10_000);
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    drop(owner(&bus, "g", "t"));
    let mut writer = bus.writer("w").expect("a writer");
    for i in 0..1_500_u64 {
        // Incompressible.
        let noise: Vec<u8> = (0..1_000_u64).map(|j| (i * 31 + j * j * 7_919 + i * j).to_le_bytes()[1]).collect();
        writer.append(&[Outgoing::keyed("t", "k", noise)]).expect("an append");
    }
    drop((writer, bus));
    let logs: Vec<_> = home.files().into_iter().filter(|path| !named(path, ".txt") && !named(path, ".lock")).collect();
    assert!(logs.len() > 4, "{logs:?}");
    let mut found = 0;
    for path in logs.iter().filter(|path| named(path, ".raftlog") || named(path, ".rewrite")) {
        let copy = home.copy();
        let path = copy.disk.dir.join(path.file_name().expect("a name"));
        let length = fs::metadata(&path).expect("a file").len();
        if length < 10_000 {
            continue;
        }
        flip(&path, length / 2);
        let refused = copy.try_open().and_then(|bus| {
            let mut reader = bus.reader()?;
            reader.assign("t", 0, 0)?;
            let mut out = Vec::new();
            while out.len() < 1_500 {
                let before = out.len();
                reader.poll(100, std::time::Duration::ZERO, &mut out)?;
                assert!(out.len() > before, "the read ended early");
            }
            Ok(())
        });
        if let Err(refused) = refused {
            let refused = refused.to_string();
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(refused.contains(&*name) && refused.contains("byte"), "{name}: {refused}");
            found += 1;
        }
    }
    assert!(found > 0, "no read reached a damaged file");
}

#[test]
fn a_missing_file_is_detected() {
    let mut home = Home::new();
    home.disk.file_bytes = 4 << 10;
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    for i in 0..20 {
        append(&bus, "t", i * 50..(i + 1) * 50);
    }
    drop(bus);
    let logs: Vec<_> = home.files().into_iter().filter(|path| named(path, ".raftlog")).collect();
    assert!(logs.len() > 3, "{logs:?}");
    for missing in [0, 1, logs.len() - 1] {
        let home = home.copy();
        fs::remove_file(home.disk.dir.join(logs[missing].file_name().expect("a name"))).expect("a file");
        let refused = home.try_open().expect_err("a file is missing").to_string();
        assert!(refused.contains("miss"), "{refused}");
    }
}
