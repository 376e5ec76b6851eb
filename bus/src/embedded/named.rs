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

    /// Returns the position of each named follower of a partition; 0 if it has none.
    pub(super) fn named(&self, (topic, partition): PartitionRef) -> impl Iterator<Item = u64> {
        let index = usize::try_from(partition).expect("a partition is an index");
        self.topics[topic].named.values().map(move |saved| saved[index].unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::open;
    use super::*;
    use crate::{Bus, Follower, IfGone, Outgoing, Start, TopicSpec};

    const DAY_MS: u64 = 24 * 3_600_000;

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
}
