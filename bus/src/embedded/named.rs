//! Positions of named followers.

use wire::WallTime;

use super::EmbeddedOptions;
use super::state::{BusState, PartitionRef};
use crate::{BusError, follower};

impl BusState {
    /// Saves positions of a named follower.
    pub(super) fn save_positions(
        &mut self,
        name: &str,
        topic: &str,
        positions: &[(u32, u64)],
        now: WallTime,
        options: &EmbeddedOptions,
    ) -> Result<(), BusError> {
        let index = self.find(topic)?;
        follower::check_name(name, topic, self.topics[index].named.keys())?;
        let none = || vec![None; self.topics[index].partitions.len()];
        let mut saved = self.topics[index].named.get(name).cloned().unwrap_or_else(none);
        for (partition, next) in positions {
            let (_, partition) = self.place(topic, *partition)?;
            saved[usize::try_from(partition).expect("a partition is an index")] = Some(*next);
        }
        self.store_named(name, index, &saved)?;
        self.topics[index].named.insert(name.to_owned(), saved);
        for (partition, _) in positions {
            self.enforce_retention((index, *partition), now, options);
        }
        Ok(())
    }

    /// Returns the saved position of a named follower.
    pub(super) fn saved_position(&self, name: &str, (topic, partition): PartitionRef) -> Option<u64> {
        let index = usize::try_from(partition).expect("a partition is an index");
        self.topics[topic].named.get(name).and_then(|saved| saved[index])
    }

    /// Forgets a named follower. The disk keeps the name without positions.
    pub(super) fn forget_name(&mut self, name: &str, topic: &str) -> Result<(), BusError> {
        let index = self.find(topic)?;
        if self.topics[index].named.contains_key(name) {
            self.store_named(name, index, &[])?;
            self.topics[index].named.remove(name);
        }
        Ok(())
    }

    /// Returns the saved positions in a partition, each with the name of its follower. A follower
    /// that never followed the partition needs none of its records.
    pub(super) fn named(&self, (topic, partition): PartitionRef) -> impl Iterator<Item = (&str, u64)> {
        let index = usize::try_from(partition).expect("a partition is an index");
        self.topics[topic].named.iter().filter_map(move |(name, saved)| Some((name.as_str(), saved[index]?)))
    }

    /// Logs each named follower whose next record was deleted since the low watermark was `low`.
    pub(super) fn report_passed(&self, place: PartitionRef, low: u64) {
        let now = self.log_ref(place).bounds().low;
        for (follower, saved) in self.named(place).filter(|(_, saved)| (low..now).contains(saved)) {
            tracing::warn!(
                follower,
                topic = &*self.topics[place.0].name,
                partition = place.1,
                records = now - saved,
                "deleted records that a named follower has not read; it gets a gap, or an error, when it returns. \
                 If it will not return, forget its name"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing::field::{Field, Visit};
    use tracing::span::{self, Attributes, Id};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::super::tests::{fill, open};
    use super::*;
    use crate::{Bounds, Bus, Follower, Gap, IfGone, Outgoing, Start, TopicSpec};

    const DAY_MS: u64 = 24 * 3_600_000;

    /// The log lines of a test, as text.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.extend([field.name(), "=", &format!("{value:?}"), " "]);
        }
    }

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().expect("no test panics").push(line.0);
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// Kafka drops each position some days after its last save.
    #[test]
    fn a_running_follower_saves_unmoved_positions_once_a_day() {
        let (bus, clock) = open(EmbeddedOptions::default());
        bus.ensure_topic(&TopicSpec::log("out", 2)).expect("a topic");
        let mut follower = Follower::named("sql", IfGone::Fail);
        for partition in [0, 1] {
            follower.follow(&bus, "out", partition, Start::Low).expect("bounds");
        }
        let saved = || [0, 1].map(|partition| bus.saved_position("sql", "out", partition).expect("a topic"));
        bus.forget_name("sql", "out").expect("a topic");
        clock.advance_ms(DAY_MS - 1);
        bus.writer("w").and_then(|mut writer| writer.append(&[Outgoing::keyed("out", "k", "v").to(0)])).expect("room");
        follower.poll(10, Duration::ZERO, &mut Vec::new()).expect("a poll");
        follower.save(&bus).expect("a save");
        assert_eq!(saved(), [Some(1), None], "the other one has not moved");
        clock.advance_ms(1);
        follower.save(&bus).expect("a save");
        assert_eq!(saved(), [Some(1), Some(0)]);
    }

    #[test]
    fn a_name_holds_only_partitions_with_a_saved_position() {
        let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
        bus.ensure_topic(&TopicSpec::log("out", 2)).expect("a topic");
        let busy = wire::routing::lane_of(b"k", 2);
        bus.save_positions("sql", "out", &[(1 - busy, 0)]).expect("a save");
        fill(&bus, "out", 50);
        assert_eq!(bus.bounds("out", busy), Ok(Bounds { low: 43, end: 50 }), "7 records of 1,301 bytes fit");
        bus.trim("out", busy, 50).expect("a topic");
        assert_eq!(bus.bounds("out", busy), Ok(Bounds { low: 50, end: 50 }));
    }

    /// A named follower that stopped must not fill the memory.
    #[test]
    fn the_memory_limit_passes_a_saved_position_eventually() {
        let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
        bus.ensure_topic(&TopicSpec::log("out", 1)).expect("a topic");
        bus.save_positions("sql", "out", &[(0, 0)]).expect("a save");
        fill(&bus, "out", 61);
        assert_eq!(
            bus.bounds("out", 0),
            Ok(Bounds { low: 0, end: 61 }),
            "61 records of 1,301 bytes fit 8 times 10,000"
        );
        let warnings = Warnings::default();
        tracing::subscriber::with_default(warnings.clone(), || (0..13).for_each(|_| fill(&bus, "out", 3)));
        assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 39, end: 100 }));
        let lines = warnings.0.lock().expect("no test panics");
        let [line] = &lines[..] else { panic!("it warns once: {lines:?}") };
        for part in ["follower=\"sql\"", "topic=\"out\"", "partition=0", "records=3"] {
            assert!(line.contains(part), "{line}");
        }

        let mut follower = Follower::named("sql", IfGone::Skip);
        follower.follow(&bus, "out", 0, Start::End).expect("bounds");
        let gap = Gap { topic: "out".into(), partition: 0, requested: 0, low: 39 };
        let mut records = Vec::new();
        assert_eq!(follower.poll(100, Duration::ZERO, &mut records), Ok(Some(gap)));
        assert_eq!(follower.poll(100, Duration::ZERO, &mut records), Ok(None));
        assert_eq!(records.len(), 61);
        follower.save(&bus).expect("a save");
        assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 93, end: 100 }));
    }
}
