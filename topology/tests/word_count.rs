//! Word count over the bus: the smallest topology that changes lanes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "tests share what they collect")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use topology::Topology;
use topology::testing::Lanes;

/// All counts that the last bolt got, in order.
type Seen = Arc<Mutex<Vec<(String, u32)>>>;

const LINES: [&str; 3] = ["a rose is a rose", "is a rose", "so it goes"];

fn word_count(seen: &Seen) -> Topology {
    let seen = Arc::clone(seen);
    let t = Topology::named("word-count");
    t.items("sentences", || LINES.map(str::to_owned))
        .shuffle()
        .flat_map("split", |line| line.split_whitespace().map(str::to_owned).collect())
        .lanes(2)
        .fields(|word| word.as_str())
        .fold("count", 0_u32, |count, _word| *count += 1)
        .lanes(4)
        .global()
        .for_each("collect", move |count| seen.lock().unwrap().push(count));
    t.build().unwrap()
}

/// The counts of each word.
fn counts(seen: &Seen) -> BTreeMap<String, Vec<u32>> {
    let mut counts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (word, count) in seen.lock().unwrap().iter() {
        counts.entry(word.clone()).or_default().push(*count);
    }
    counts
}

fn expected() -> BTreeMap<String, Vec<u32>> {
    let counts: [(&str, u32); 6] = [("a", 3), ("goes", 1), ("is", 2), ("it", 1), ("rose", 3), ("so", 1)];
    counts.into_iter().map(|(word, count)| (word.to_owned(), (1..=count).collect())).collect()
}

/// With any order of polls.
#[test]
fn words_are_counted_in_order_and_global_sees_every_tuple_once() {
    for seed in 0..20 {
        let seen = Seen::default();
        let mut lanes = Lanes::of(word_count(&seen), seed);
        lanes.join();
        assert!(lanes.run_ms(1_000), "no work is left (seed {seed})");
        assert_eq!(counts(&seen), expected(), "seed {seed}");
    }
}

/// A closure sees tuples since the last snapshot again, but never a count that is wrong.
#[test]
fn a_crash_of_any_stage_at_any_point_loses_and_doubles_no_count() {
    for stage in ["sentences", "split", "count", "collect"] {
        for polls in 0..60 {
            let seen = Seen::default();
            let mut lanes = Lanes::of(word_count(&seen), polls);
            lanes.join();
            lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
            lanes.kill(stage);
            lanes.start(stage);
            assert!(lanes.run_ms(60_000), "no work is left ({stage} after {polls} polls)");
            let distinct = |counts: Vec<u32>| counts.into_iter().collect::<BTreeSet<u32>>().into_iter().collect();
            let seen: BTreeMap<String, Vec<u32>> =
                counts(&seen).into_iter().map(|(word, counts)| (word, distinct(counts))).collect();
            assert_eq!(seen, expected(), "{stage} after {polls} polls");
        }
    }
}
