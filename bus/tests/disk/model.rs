//! Random histories with restarts and crashes, compared with a model.

use std::collections::BTreeMap;

use bus::{Bus, Cleanup, Embedded, EmbeddedOptions, Outgoing, Sync, TopicSpec};

use super::fixture::{Home, all, at, left, owner};

/// A linear congruential generator: Knuth's.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Returns text that is hard to compress.
    fn text(&mut self, length: u64) -> String {
        (0..length).map(|_| char::from(u8::try_from(33 + self.below(90)).expect("a letter"))).collect()
    }
}

/// The expected state.
#[derive(Default)]
struct Model {
    /// The records of the topic that is kept, and of the topic that is trimmed to the group's
    /// snapshot.
    kept: Vec<String>,
    passing: Vec<String>,
    /// The compacted topic.
    view: BTreeMap<String, String>,
    next: u64,
    snapshot: u64,
}

impl Model {
    /// Commits one batch to all three topics.
    fn step(&mut self, bus: &Embedded, random: &mut Random) {
        let mut records = Vec::new();
        for _ in 0..=random.below(12) {
            let length = 1 + random.below(900);
            let (text, key) = (random.text(length), format!("k{}", random.below(40)));
            match random.below(4) {
                0 => {
                    records.push(Outgoing::keyed("kept", key, text.clone()));
                    self.kept.push(text);
                }
                1 => {
                    records.push(Outgoing::keyed("passing", key, text.clone()));
                    self.passing.push(text);
                }
                2 => {
                    records.push(Outgoing::keyed("view", key.clone(), text.clone()));
                    self.view.insert(key, text);
                }
                _ => {
                    records.push(Outgoing::keyed("view", key.clone(), ""));
                    self.view.remove(&key);
                }
            }
        }
        self.next += 1;
        if random.below(3) == 0 {
            self.snapshot = self.passing.len() as u64;
        }
        let mut member = owner(bus, "g", "passing");
        member.commit(&at(self.next, self.snapshot, records)).expect("a commit");
        member.leave().expect("a leave");
    }

    fn check(&self, bus: &Embedded, what: &str) {
        let text = |topic: &str| -> Vec<String> {
            let value = |record: &bus::Record| String::from_utf8(record.value.to_vec()).expect("text");
            all(bus, topic, 0).iter().map(value).collect()
        };
        assert_eq!(text("kept"), self.kept, "{what}");
        let bounds = bus.bounds("passing", 0).expect("bounds");
        assert_eq!(bounds.end, self.passing.len() as u64, "{what}");
        assert!(bounds.low <= self.snapshot, "{what}");
        assert_eq!(text("passing"), self.passing[usize::try_from(bounds.low).expect("small")..], "{what}");
        let mut view = BTreeMap::new();
        for record in all(bus, "view", 0) {
            let key = String::from_utf8(record.key.expect("a key").to_vec()).expect("text");
            let value = String::from_utf8(record.value.to_vec()).expect("text");
            assert!(view.insert(key, value).is_none(), "{what}: more than one record for a key");
        }
        view.retain(|_, value| !value.is_empty());
        assert_eq!(view, self.view, "{what}");
        let committed = left(bus, "g", "passing").committed;
        assert_eq!(committed.map_or(0, |left| left.next), self.next, "{what}");
    }
}

#[test]
fn committed_data_survives_restarts_crashes_and_clean_up() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut home = Home::new();
        home.disk.sync = Sync::Never;
        home.options = EmbeddedOptions { keep_bytes: Some(30_000), ..EmbeddedOptions::default() };
        // A copy taken during a clean-up does not represent a crash, so each history has only one
        // of the two. The test with kills covers both together.
        let crashes = seed % 2 == 1;
        if !crashes {
            home.disk.file_bytes = 32 << 10 << random.below(3);
        }
        let mut bus = home.open();
        bus.ensure_topic(&TopicSpec::log("kept", 1)).expect("a topic");
        bus.ensure_topic(&TopicSpec::log("passing", 1)).expect("a topic");
        bus.ensure_topic(&TopicSpec::log("view", 1).with_cleanup(Cleanup::Compact)).expect("a topic");
        drop(owner(&bus, "keeper", "kept"));
        let mut model = Model::default();
        for step in 0..900 {
            model.step(&bus, &mut random);
            let chance = random.below(120);
            if chance == 0 {
                drop(bus);
                bus = home.open();
            } else if chance == 1 && crashes {
                let crashed = home.copy();
                model.check(&crashed.open(), &format!("seed {seed}, step {step}, crashed"));
            } else if chance < 3 {
                model.check(&bus, &format!("seed {seed}, step {step}"));
            }
        }
        drop(bus);
        for _ in 0..2 {
            model.check(&home.open(), &format!("seed {seed}, at the end"));
        }
    }
}
