//! Word count over the bus: the smallest topology that changes lanes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "tests share what they collect")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use topology::testing::Lanes;
use topology::{Bolt, Emitter, SavedState, Spout, StateMap, Topology};

struct Sentences(usize);

impl Spout for Sentences {
    type Out = String;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<String>) -> bool {
        const LINES: [&str; 3] = ["a rose is a rose", "is a rose", "so it goes"];
        let Some(line) = LINES.get(self.0) else { return false };
        self.0 += 1;
        out.emit((*line).to_owned());
        true
    }
}

struct Split;

impl Bolt for Split {
    type In = String;
    type Out = String;
    fn execute(&mut self, line: String, out: &mut Emitter<String>) {
        for word in line.split_whitespace() {
            out.emit(word.to_owned());
        }
    }
}

#[derive(Default)]
struct Count(StateMap<String, u32>);

impl Bolt for Count {
    type In = String;
    type Out = (String, u32);
    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.map("counts", &mut self.0);
    }
    fn execute(&mut self, word: String, out: &mut Emitter<(String, u32)>) {
        let count = self.0.get_or_default(&word);
        *count += 1;
        out.emit((word, *count));
    }
}

type Seen = Arc<Mutex<Vec<(String, u32)>>>;

struct Collect(Seen);

impl Bolt for Collect {
    type In = (String, u32);
    type Out = ();
    fn execute(&mut self, count: (String, u32), _: &mut Emitter<()>) {
        self.0.lock().unwrap().push(count);
    }
}

fn word_count(seen: &Seen) -> Topology {
    let seen = Arc::clone(seen);
    let t = Topology::named("word-count");
    let lines = t.spout("sentences", || Sentences(0));
    let words = t.bolt("split", || Split).lanes(2).reads(lines.shuffle());
    let counts = t.bolt("count", Count::default).lanes(4).reads(words.fields(Clone::clone));
    t.bolt("collect", move || Collect(Arc::clone(&seen))).reads(counts.global());
    t.build().unwrap()
}

/// With any order of polls.
#[test]
fn words_are_counted_in_order_and_global_sees_every_tuple_once() {
    for seed in 0..20 {
        let seen = Seen::default();
        let mut lanes = Lanes::of(word_count(&seen), seed);
        lanes.join();
        assert!(lanes.run_ms(1_000), "no work is left (seed {seed})");
        let mut counts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (word, count) in seen.lock().unwrap().iter() {
            counts.entry(word.clone()).or_default().push(*count);
        }
        let expected: [(&str, u32); 6] = [("a", 3), ("goes", 1), ("is", 2), ("it", 1), ("rose", 3), ("so", 1)];
        let expected = expected.map(|(word, count)| (word.to_owned(), (1..=count).collect::<Vec<_>>()));
        assert_eq!(counts, BTreeMap::from(expected), "seed {seed}");
    }
}
