//! Many random histories with restarts and crashes, compared with what should be there.

use std::collections::BTreeMap;

use bus::{Bus, Cleanup, Embedded, EmbeddedOptions, Outgoing, Sync, TopicSpec};

use super::fixture::{Home, all, at, left, owner};

/// A linear congruential generator: Knuth's.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Text that is hard to compress.
    fn text(&mut self, length: u64) -> String {
        (0..length).map(|_| char::from(u8::try_from(33 + self.below(90)).expect("a letter"))).collect()
    }
}

/// What should be there.
#[derive(Default)]
struct Model {
    /// The records of the topic that is kept, in order, and of the one that only the group needs.
    kept: Vec<String>,
    passing: Vec<String>,
    /// The compacted topic.
    view: BTreeMap<String, String>,
    next: u64,
    snapshot: u64,
}

impl Model {
    /// One commit to all three topics.
    fn step(&mut self, bus: &Embedded, dice: &mut Dice) {
        let mut records = Vec::new();
        for _ in 0..=dice.below(12) {
            let length = 1 + dice.below(900);
            let (text, key) = (dice.text(length), format!("k{}", dice.below(40)));
            match dice.below(4) {
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
        if dice.below(3) == 0 {
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
            assert!(view.insert(key, value).is_none(), "{what}: one record for each key");
        }
        view.retain(|_, value| !value.is_empty());
        assert_eq!(view, self.view, "{what}");
        let committed = left(bus, "g", "passing").committed;
        assert_eq!(committed.map_or(0, |left| left.next), self.next, "{what}");
    }
}

#[test]
fn what_is_there_is_what_was_committed_over_restarts_crashes_and_cleaning_up() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let mut home = Home::new();
        home.disk.sync = Sync::Never;
        home.options = EmbeddedOptions { keep_bytes: Some(30_000), ..EmbeddedOptions::default() };
        // Files that are copied while they are cleaned up are no picture of a crash, so each history has one or the other;
        // both at once are for the test that kills.
        let crashes = seed % 2 == 1;
        if !crashes {
            home.disk.file_bytes = 32 << 10 << dice.below(3);
        }
        let mut bus = home.open();
        bus.ensure_topic(&TopicSpec::log("kept", 1)).expect("a topic");
        bus.ensure_topic(&TopicSpec::log("passing", 1)).expect("a topic");
        bus.ensure_topic(&TopicSpec::log("view", 1).cleaned(Cleanup::Compact)).expect("a topic");
        drop(owner(&bus, "keeper", "kept"));
        let mut model = Model::default();
        for step in 0..900 {
            model.step(&bus, &mut dice);
            let chance = dice.below(120);
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
