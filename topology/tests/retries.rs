//! A Kafka source with retries: failed records come again, in the order of their key, and none is lost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "tests share what they collect")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bus::{Bus, Outgoing, TopicSpec};
use topology::testing::Lanes;
use topology::{Bolt, Emitter, KafkaSource, Retries, Topology};

const RETRIES: Retries = Retries { max: 3, first_ms: 100, max_ms: 1_000 };

/// The number of calls for each number so far; shared, so that a restart does not forget them.
type Calls = Arc<Mutex<BTreeMap<u64, u32>>>;

/// Fails each number as often as its last digit says.
struct Flaky(Calls);

impl Bolt for Flaky {
    type In = u64;
    type Out = u64;

    fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
        let mut calls = self.0.lock().unwrap();
        let call = calls.entry(number).or_default();
        *call += 1;
        if u64::from(*call) <= number % 10 {
            return out.fail(format!("call {call} of {number}"));
        }
        out.emit(number);
    }
}

fn lanes(retries: Retries, partitions: u32) -> Lanes {
    let t = Topology::named("retries");
    let calls = Calls::default();
    let numbers = t.kafka_source("numbers", KafkaSource::<u64>::topic("numbers").retries(retries));
    t.bolt("flaky", move || Flaky(Arc::clone(&calls))).reads(numbers.local()).kafka_sink("out", "out");
    let lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.embedded.ensure_topic(&TopicSpec::log("numbers", partitions)).unwrap();
    lanes.embedded.ensure_topic(&TopicSpec::log("out", 1)).unwrap();
    lanes
}

fn write(lanes: &Lanes, partition: u32, key: &'static str, numbers: impl IntoIterator<Item = u64>) {
    let record = |number: u64| {
        let record = Outgoing::keyed("numbers", key, number.to_string()).to(partition);
        if key.is_empty() { Outgoing { key: None, ..record } } else { record }
    };
    lanes.write(&numbers.into_iter().map(record).collect::<Vec<_>>());
}

fn results(lanes: &Lanes) -> Vec<u64> {
    lanes.records("out").iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

#[test]
fn a_failed_record_is_retried_with_a_growing_delay_in_the_order_of_its_key() {
    let mut lanes = lanes(RETRIES, 1);
    write(&lanes, 0, "a", [12, 20]);
    write(&lanes, 0, "b", [30, 40]);
    lanes.join();
    lanes.run_ms(50);
    assert_eq!(results(&lanes), [30, 40], "the other key does not wait");
    lanes.run_ms(200);
    assert_eq!(results(&lanes), [30, 40], "the second retry comes 200 ms after the first");
    lanes.run_ms(100);
    assert_eq!((results(&lanes), lanes.dead_letters()), (vec![30, 40, 12, 20], Vec::new()));
}

#[test]
fn a_record_that_fails_too_often_becomes_a_dead_letter_and_the_next_one_follows() {
    let mut lanes = lanes(RETRIES, 1);
    write(&lanes, 0, "a", [19, 20]);
    lanes.join();
    assert!(lanes.run_ms(10_000), "no work is left");
    assert_eq!((results(&lanes), lanes.pending_roots()), (vec![20], 0));
    let letters = lanes.dead_letters();
    let [(key, letter)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(
        (key.as_deref(), &letter["topic"], &letter["offset"], &letter["place"]),
        (Some("a"), &"numbers".into(), &0.into(), &"flaky".into())
    );
    assert_eq!(letter["reason"], "call 4 of 19; it failed 4 times");
}

/// Partition 0 has only records that fail, many more than the source keeps of one partition.
#[test]
fn a_partition_whose_records_wait_does_not_block_the_others() {
    let mut lanes = lanes(Retries { max: 1, first_ms: 3_600_000, max_ms: 3_600_000 }, 2);
    write(&lanes, 0, "", (0..3_000).map(|n| n * 10 + 9));
    write(&lanes, 1, "", (0..100).map(|n| n * 10));
    lanes.join();
    lanes.run_ms(1_000);
    assert_eq!(results(&lanes), (0..100).map(|n| n * 10).collect::<Vec<_>>());
    assert_eq!(lanes.dead_letters(), []);
    lanes.run_ms(24 * 3_600_000);
    assert_eq!(lanes.dead_letters().len(), 3_000, "the partition continues");
}

#[test]
fn a_crash_at_any_point_loses_no_record_and_keeps_the_order_of_a_key() {
    for polls in 0..80 {
        let mut lanes = lanes(RETRIES, 2);
        for (partition, key, first) in [(0, "a", 100), (0, "b", 200), (1, "c", 300)] {
            write(&lanes, partition, key, (0..4).map(|n| first + 11 * n));
        }
        lanes.join();
        lanes.run_polls(&mut [], polls);
        lanes.kill("numbers");
        lanes.start("numbers");
        assert!(lanes.run_ms(60_000), "no work is left ({polls} polls)");
        assert_eq!((lanes.dead_letters(), lanes.pending_roots()), (Vec::new(), 0), "{polls} polls");
        for first in [100, 200, 300] {
            let mut of_key: Vec<u64> =
                results(&lanes).into_iter().filter(|number| (first..first + 100).contains(number)).collect();
            // A restart repeats a suffix.
            of_key.dedup();
            let last_start = of_key.iter().rposition(|number| *number == first).unwrap();
            assert!(of_key[last_start..].is_sorted(), "{polls} polls: {of_key:?}");
            of_key.sort_unstable();
            of_key.dedup();
            assert_eq!(of_key, (0..4).map(|n| first + 11 * n).collect::<Vec<_>>(), "{polls} polls");
        }
    }
}
