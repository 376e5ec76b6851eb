//! A stranger who writes into what is saved of a lane. Whoever takes the lane over next has to see it, and to say so.

use std::time::Duration;

use bus::{Bus, Outgoing, Record, Route};

use super::Run;

/// A record that a stranger wrote in the place of another.
#[derive(Debug)]
pub(super) struct Damage {
    topic: String,
    partition: u32,
    key: Vec<u8>,
    offset: u64,
}

impl Run<'_> {
    /// One record of a snapshot is deleted, spoilt, or is what it was before.
    pub(super) fn damage_a_snapshot(&mut self) {
        let stages = self.topology.stages();
        let stage = self.dice.pick(&stages).clone();
        let topic = self.names.snapshot(self.topology.name(), &stage.name);
        let partition = u32::try_from(self.dice.roll(stage.lanes.into())).unwrap_or(0);
        let records = self.saved(&topic, partition);
        if records.is_empty() {
            return;
        }
        let chosen = records[self.dice.index(records.len())].clone();
        let newest = records.iter().rev().find(|record| record.key == chosen.key).cloned();
        let Some(newest) = newest.filter(|newest| newest.key.is_some()) else { return };
        let (what, value, headers) = match self.dice.roll(3) {
            0 => ("deletes", Vec::new(), newest.headers.clone()),
            1 => ("spoils", [&newest.value[..], b" "].concat(), newest.headers.clone()),
            _ => ("brings back an older", chosen.value.to_vec(), chosen.headers.clone()),
        };
        if value[..] == newest.value[..] && headers == newest.headers {
            return;
        }
        let key = newest.key.unwrap_or_default();
        self.say("a stranger", || format!("** {what} record {} of {topic}/{partition}", String::from_utf8_lossy(&key)));
        let (to, value) = (Route::To(partition), value.into());
        self.write(&[Outgoing { topic: topic.as_str().into(), route: to, key: Some(key.clone()), headers, value }]);
        let offset = self.saved(&topic, partition).last().map_or(0, |record| record.offset);
        self.damage.push(Damage { topic, partition, key: key.to_vec(), offset });
    }

    /// True where what is saved of a lane may not be what its owner has saved: where the key was written since, it is whole again.
    pub(super) fn is_damaged(&self, stage: &str, lane: u32) -> bool {
        let topic = self.names.snapshot(self.topology.name(), stage);
        let mut own = self.damage.iter().filter(|damage| damage.topic == topic && damage.partition == lane).peekable();
        if own.peek().is_none() {
            return false;
        }
        let records = self.saved(&topic, lane);
        let last = |key: &[u8]| records.iter().rev().find(|record| record.key.as_deref() == Some(key));
        own.any(|damage| last(&damage.key).is_some_and(|record| record.offset == damage.offset))
    }

    /// Every record of a partition of a snapshot topic that is still there.
    fn saved(&self, topic: &str, partition: u32) -> Vec<Record> {
        let known = self.bus.topic(topic).expect("the bus answers");
        if known.is_none() {
            return Vec::new();
        }
        let low = self.bus.bounds(topic, partition).expect("it is there").low;
        let mut reader = self.bus.reader().expect("the bus answers");
        reader.assign(topic, partition, low).expect("it is there");
        let mut records = Vec::new();
        reader.poll(usize::MAX, Duration::ZERO, &mut records).expect("it is there");
        records
    }
}
