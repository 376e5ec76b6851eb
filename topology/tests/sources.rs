//! The ready-made sources and the sink: nothing is lost or repeated by a crash.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "tests share what they collect")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bus::{
    Bus, BusError, Cleanup, Clock, CommitFault, FaultScript, FaultyBus, Outgoing, Record, Start, TopicFault, TopicSpec,
};
use topology::testing::Lanes;
use topology::{KafkaSink, KafkaSource, SendError, Topology, channel};
use wire::{Envelope, Kind};

const PARTITIONS: u32 = 3;

/// Doubles the numbers of a topic in two lanes and writes them to another one.
fn doubling(source: impl Into<KafkaSource<u64>>) -> Topology {
    let t = Topology::named("doubling");
    t.kafka_source("numbers", source)
        .lanes(2)
        .map("double", |number| number * 2)
        .kafka_sink("doubles", KafkaSink::topic("doubles").key(|number: &u64| number % 10));
    t.build().unwrap()
}

/// Lanes with both topics.
fn lanes(topology: Topology, seed: u64) -> Lanes {
    let lanes = Lanes::of(topology, seed);
    for topic in ["numbers", "doubles"] {
        lanes.embedded.ensure_topic(&TopicSpec::log(topic, PARTITIONS)).unwrap();
    }
    lanes
}

/// Writes numbers round-robin to the partitions.
fn write(lanes: &Lanes, numbers: std::ops::Range<u32>) {
    let record = |n: u32| Outgoing::keyed("numbers", "", n.to_string()).to(n % PARTITIONS);
    lanes.write(&numbers.map(record).collect::<Vec<_>>());
}

/// The written doubles by key, in the order of their partition.
fn doubles(lanes: &Lanes) -> BTreeMap<String, Vec<u64>> {
    let mut doubles: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in lanes.records("doubles") {
        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
        doubles.entry(key).or_default().push(serde_json::from_slice(&record.value).unwrap());
    }
    for of_key in doubles.values_mut() {
        of_key.sort_unstable();
    }
    doubles
}

fn expected(numbers: std::ops::Range<u32>) -> BTreeMap<String, Vec<u64>> {
    let mut doubles: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for double in numbers.map(|n| u64::from(n) * 2) {
        doubles.entry((double % 10).to_string()).or_default().push(double);
    }
    doubles
}

#[test]
fn a_crash_at_any_point_neither_loses_nor_repeats_a_record_of_a_topic() {
    for polls in 0..50 {
        let mut lanes = lanes(doubling("numbers"), polls % 2);
        write(&lanes, 0..60);
        lanes.join();
        lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
        lanes.kill("numbers");
        lanes.start("numbers");
        lanes.run_ms(1_000);
        write(&lanes, 60..100);
        assert!(lanes.run_ms(60_000), "no work is left ({polls} polls)");
        assert_eq!(doubles(&lanes), expected(0..100), "{polls} polls");
    }
}

#[test]
fn a_source_continues_at_its_position_and_not_at_its_start() {
    let mut lanes = lanes(doubling(KafkaSource::topic("numbers").starts(Start::End)), 0);
    write(&lanes, 0..10);
    lanes.join();
    lanes.run_ms(1_000);
    lanes.kill("numbers");
    // No process runs, and none has read a record before.
    write(&lanes, 10..20);
    lanes.start("numbers");
    assert!(lanes.run_ms(60_000), "no work is left");
    assert_eq!(doubles(&lanes), expected(10..20));
}

#[test]
fn a_record_that_cannot_be_decoded_goes_to_the_dead_letter_topic() {
    let mut lanes = lanes(doubling("numbers"), 0);
    lanes.join();
    lanes.write(&[
        Outgoing::keyed("numbers", "k", "7").to(0),
        Outgoing::keyed("numbers", "k", "seven").to(0),
        Outgoing::keyed("numbers", "k", "").to(0),
        Outgoing::keyed("numbers", "k", "8").to(0),
    ]);
    assert!(lanes.run_ms(60_000), "no work is left");
    assert_eq!(doubles(&lanes), expected(7..9));
    let letters = lanes.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0].1;
    assert_eq!(
        (&letter["topic"], &letter["offset"], &letter["place"]),
        (&"numbers".into(), &1.into(), &"numbers".into())
    );
    assert_eq!((&letter["record"], &letter["reason"]), (&"seven".into(), &"expected value at line 1 column 1".into()));
}

#[test]
fn a_decoder_that_panics_loses_its_record_alone() {
    let decode = |record: &Record| {
        assert!(record.value != "5", "poison");
        Ok(serde_json::from_slice(&record.value).ok())
    };
    let mut lanes = lanes(doubling(KafkaSource::decoded("numbers", decode)), 0);
    write(&lanes, 0..20);
    lanes.join();
    lanes.run_ms(10_000);
    lanes.kill("numbers");
    lanes.start("numbers");
    lanes.run_ms(10_000);
    let mut expected = expected(0..20);
    expected.get_mut("0").unwrap().retain(|double| *double != 10);
    assert_eq!(doubles(&lanes), expected);
    let letters = lanes.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (&letters[0].1["record"], &letters[0].1["reason"]),
        (&"5".into(), &"its decoder panicked: poison".into())
    );
}

/// A shard calls the spouts of another lane first each time.
#[test]
fn no_lane_of_a_shard_starves_another_one() {
    let t = Topology::named("doubling");
    t.kafka_source::<u64>("numbers", "numbers").lanes(3).kafka_sink("doubles", "doubles");
    let mut lanes = lanes(t.build().unwrap(), 0);
    lanes.join();
    lanes.run_ms(1_000);
    write(&lanes, 0..60_000);
    lanes.run_polls(&mut [], 6);
    let mut counts = [0; 3];
    for record in lanes.records("doubles") {
        let number: u32 = serde_json::from_slice(&record.value).unwrap();
        counts[usize::try_from(number % PARTITIONS).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| *count > 1_000), "{counts:?}");
}

#[test]
fn a_source_waits_for_its_topic() {
    let topology = doubling("numbers");
    let mut lanes = Lanes::of(topology, 0);
    lanes.embedded.ensure_topic(&TopicSpec::log("doubles", 1)).unwrap();
    lanes.join();
    lanes.run_ms(1_000);
    lanes.embedded.ensure_topic(&TopicSpec::log("numbers", PARTITIONS)).unwrap();
    write(&lanes, 0..10);
    lanes.run_ms(20_000);
    assert!(lanes.run_ms(60_000), "no work is left");
    assert_eq!(doubles(&lanes), expected(0..10));
}

#[test]
fn a_source_begins_in_another_topic_as_configured() {
    let mut lanes = lanes(doubling("numbers"), 0);
    lanes.embedded.ensure_topic(&TopicSpec::log("others", PARTITIONS)).unwrap();
    let other = |n: u32| Outgoing::keyed("others", "", n.to_string()).to(n % PARTITIONS);
    write(&lanes, 0..10);
    lanes.write(&(100..140).map(other).collect::<Vec<_>>());
    lanes.join();
    lanes.run_ms(1_000);
    lanes.kill("numbers");
    lanes.topology = doubling(KafkaSource::topic("others").starts(Start::End));
    lanes.start("numbers");
    lanes.run_ms(1_000);
    lanes.write(&(10..20).map(other).collect::<Vec<_>>());
    lanes.run_ms(10_000);
    assert_eq!(doubles(&lanes), expected(0..20));
}

/// Numbers of a topic that was created again after ten of them were read: as a bus that gives it
/// another id, and as one that does not and whose topic is shorter.
#[test]
fn a_topic_that_was_created_again_is_read_from_its_beginning() {
    for (fault, restarts) in
        [(TopicFault::Recreated, false), (TopicFault::Recreated, true), (TopicFault::RecreatedWithSameId, true)]
    {
        let script = Arc::new(FaultScript::default());
        let mut lanes = faulty_lanes(&script);
        write(&lanes, 0..10);
        lanes.join();
        lanes.run_ms(1_000);
        assert_eq!(doubles(&lanes), expected(0..10));
        script.topic("numbers", fault.clone());
        if restarts {
            lanes.kill("numbers");
            lanes.start("numbers");
        }
        // A source looks for changes of its topic every ten seconds.
        for _ in 0..2 {
            lanes.run_ms(10_000);
        }
        let mut twice = expected(0..10);
        for of_key in twice.values_mut() {
            *of_key = of_key.iter().flat_map(|double| [*double; 2]).collect();
        }
        assert_eq!(doubles(&lanes), twice, "{fault:?}, restarted: {restarts}");
    }
}

#[test]
fn a_table_has_the_deletions_of_its_topic() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&seen);
    let t = Topology::named("table");
    t.kafka_source("rows", KafkaSource::table("rows"))
        .for_each("collect", move |row: (String, Option<u64>)| collected.lock().unwrap().push(row));
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.embedded.ensure_topic(&TopicSpec::log("rows", 1)).unwrap();
    lanes.write(&[("a", "1"), ("b", "2"), ("a", "")].map(|(key, value)| Outgoing::keyed("rows", key, value)));
    lanes.join();
    lanes.run_ms(1_000);
    assert_eq!(*seen.lock().unwrap(), [("a".into(), Some(1)), ("b".into(), Some(2)), ("a".into(), None)]);
}

#[test]
fn a_stage_does_not_start_without_the_topic_of_its_sink() {
    let mut lanes = Lanes::of(doubling("numbers"), 0);
    let refused = BusError::Refused(
        "NAVE-0064: stage `numbers` of topology `doubling` writes to topic `doubles`, which does not exist; create it, \
         with the partitions and the retention that its readers need, and start the stage again"
            .into(),
    );
    assert_eq!(lanes.join_stage("numbers"), Err(refused));
    lanes.embedded.ensure_topic(&TopicSpec::log("doubles", PARTITIONS)).unwrap();
    lanes.join();
}

#[test]
fn a_stage_does_not_start_if_a_compacted_topic_gets_records_without_keys() {
    let t = Topology::named("copy");
    t.kafka_source::<u64>("numbers", "numbers").kafka_sink("copies", "copies");
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.embedded.ensure_topic(&TopicSpec::log("copies", 1).with_cleanup(Cleanup::Compact)).unwrap();
    let refused = lanes.join_stage("numbers");
    assert!(matches!(&refused, Err(BusError::Refused(why)) if why.starts_with("NAVE-0032: ")), "{refused:?}");
}

/// Lanes with both topics, on a bus with injected faults.
fn faulty_lanes(script: &Arc<FaultScript>) -> Lanes {
    let faults = Arc::clone(script);
    let lanes = Lanes::on(doubling("numbers"), 0, |bus| Arc::new(FaultyBus::new(Arc::new(bus), faults)));
    for topic in ["numbers", "doubles"] {
        lanes.embedded.ensure_topic(&TopicSpec::log(topic, PARTITIONS)).unwrap();
    }
    lanes
}

#[test]
fn a_deleted_topic_of_a_sink_holds_the_lanes_until_it_exists_again() {
    let script = Arc::new(FaultScript::default());
    let mut lanes = faulty_lanes(&script);
    lanes.join();
    lanes.run_ms(1_000);
    script.topic("doubles", TopicFault::Deleted);
    script.commit(CommitFault::Fails(BusError::NoTopic("doubles".into())));
    write(&lanes, 0..10);
    lanes.run_ms(100_000);
    assert_eq!(lanes.count("nave_lane_commits_retried_total"), 1, "a look for the topic is no attempt");
    let waiting: Vec<String> = lanes.status.waiting(lanes.clock.mono()).into_iter().map(|(_, line)| line).collect();
    let why = "NAVE-0064: a topic that the stage writes to does not exist, see the log";
    assert_eq!(waiting, [0, 1].map(|lane| format!("numbers lane {lane}: held at offset 1; {why}")));
    script.topic("doubles", TopicFault::None);
    lanes.run_ms(2_000);
    assert_eq!((doubles(&lanes), lanes.status.waiting(lanes.clock.mono())), (expected(0..10), Vec::new()));
}

#[test]
fn posted_tuples_are_emitted_once_across_a_crash_and_others_are_dead_letters() {
    for polls in 0..30 {
        let t = Topology::named("doubling");
        t.http_source::<u64>("numbers").map("double", |number| number * 2).kafka_sink("doubles", "doubles");
        let mut lanes = lanes(t.build().unwrap(), polls % 2);
        let inbox = lanes.inbox("numbers");
        let posted = |n: usize, source: &str, body: &str| {
            let mut envelope = Envelope::new(Kind::Tuple, n.to_string(), "/client");
            envelope.subject = Some(source.to_owned());
            Outgoing::keyed(inbox.as_str(), "", body.to_owned()).with(&envelope).to(0)
        };
        let bodies = [("numbers", "1"), ("numbers", "\"one\""), ("others", "2"), ("numbers", "3")];
        lanes.write(&(0..).zip(bodies).map(|(n, (source, body))| posted(n, source, body)).collect::<Vec<_>>());
        lanes.join();
        lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
        lanes.kill("numbers");
        lanes.start("numbers");
        assert!(lanes.run_ms(60_000), "no work is left ({polls} polls)");
        let mut doubles: Vec<u64> =
            lanes.records("doubles").iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
        doubles.sort_unstable();
        assert_eq!(doubles, [2, 6], "{polls} polls");
        let reasons: Vec<String> =
            lanes.dead_letters().iter().map(|(_, letter)| letter["reason"].to_string()).collect();
        assert!(reasons.len() == 2 && reasons[0].contains("invalid type"), "{reasons:?}");
        assert!(reasons[1].contains("no source for clients of the name `others`"), "{reasons:?}");
    }
}

#[test]
fn several_lanes_share_the_items_of_an_iterator() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&seen);
    let t = Topology::named("items");
    t.items("items", || 0..10_u32).lanes(3).for_each("collect", move |item| collected.lock().unwrap().push(item));
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.join();
    assert!(lanes.run_ms(1_000), "no work is left");
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

/// Writes the lines of a file to the topic `lines`.
fn of_file(path: &Path) -> Topology {
    let t = Topology::named("lines");
    t.file_source("lines", path).kafka_sink("out", "lines");
    t.build().unwrap()
}

fn lines_of(path: &Path) -> Lanes {
    let lanes = Lanes::of(of_file(path), 0);
    lanes.embedded.ensure_topic(&TopicSpec::log("lines", 1)).unwrap();
    lanes
}

fn written(lanes: &Lanes) -> Vec<String> {
    lanes.records("lines").iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

#[test]
fn the_lines_of_a_file_are_read_once_across_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.txt");
    let append = |bytes: &[u8]| {
        OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(bytes).unwrap();
    };
    append(b"one\r\ntwo\nthr");
    let mut lanes = lines_of(&path);
    lanes.join();
    lanes.run_ms(1_000);
    assert_eq!(written(&lanes), ["one", "two"], "the end of the third line is not written yet");
    lanes.kill("lines");
    append(b"ee\n");
    lanes.start("lines");
    lanes.run_ms(1_000);
    assert_eq!(written(&lanes), ["one", "two", "three"]);
}

#[test]
fn a_line_is_emitted_when_its_end_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.txt");
    std::fs::write(&path, "").unwrap();
    let mut lanes = lines_of(&path);
    lanes.join();
    for part in ["on", "e", "\ntw", "o\nthree\n"] {
        OpenOptions::new().append(true).open(&path).unwrap().write_all(part.as_bytes()).unwrap();
        lanes.run_ms(1_000);
    }
    assert_eq!(written(&lanes), ["one", "two", "three"]);
}

#[test]
fn another_file_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| dir.path().join(name));
    std::fs::write(&paths[0], "one\n").unwrap();
    std::fs::write(&paths[1], "two\nthree\n").unwrap();
    let mut lanes = lines_of(&paths[0]);
    lanes.join();
    lanes.run_ms(1_000);
    lanes.kill("lines");
    lanes.topology = of_file(&paths[1]);
    lanes.start("lines");
    lanes.run_ms(1_000);
    assert_eq!(written(&lanes), ["one", "two", "three"]);
}

#[test]
fn a_line_that_cannot_be_read_goes_to_the_dead_letter_topic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.txt");
    let long = "x".repeat((1 << 20) + 1);
    std::fs::write(&path, [&b"one\n"[..], b"\xff\n", long.as_bytes(), b"\ntwo\n"].concat()).unwrap();
    let mut lanes = lines_of(&path);
    lanes.join();
    lanes.run_ms(1_000);
    assert_eq!(written(&lanes), ["one", "two"]);
    let reasons: Vec<String> = lanes.dead_letters().iter().map(|(_, letter)| letter["reason"].to_string()).collect();
    assert!(reasons[0].contains("the line at byte 4 of ") && reasons[0].contains("is not UTF-8"), "{reasons:?}");
    assert!(
        reasons[1].contains("the line at byte 6 of ") && reasons[1].contains("more than 1048576 bytes"),
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), 2);
}

/// A topology that writes what is sent on a channel to the topic `lines`.
fn sent_lines() -> (topology::ChannelSender<String>, Lanes) {
    let (lines, receiver) = channel(10);
    let t = Topology::named("sent");
    t.channel_source("lines", receiver).kafka_sink("out", "lines");
    let lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.embedded.ensure_topic(&TopicSpec::log("lines", 1)).unwrap();
    (lines, lanes)
}

#[test]
fn a_lane_that_is_taken_over_again_continues_to_read_its_channel() {
    let (lines, mut lanes) = sent_lines();
    lanes.join();
    lines.send("one".into()).unwrap();
    lanes.run_ms(1_000);
    lanes.expel("lines");
    lanes.run_ms(10_000);
    lines.send("two".into()).unwrap();
    lanes.run_ms(1_000);
    assert_eq!(written(&lanes), ["one", "two"]);
}

#[test]
fn the_channel_of_a_crashed_shard_is_closed() {
    let (lines, mut lanes) = sent_lines();
    lanes.join();
    lanes.run_ms(1_000);
    lanes.kill("lines");
    assert_eq!(lines.try_send("lost".into()), Err(SendError::Closed("lost".into())));
}
