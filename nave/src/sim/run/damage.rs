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
    /// True once somebody who took the lane over has counted a snapshot that cannot be used, or where none was in force.
    named: bool,
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
            1 => ("spoils", self.spoilt(&newest.value), newest.headers.clone()),
            _ => ("brings back an older", chosen.value.to_vec(), chosen.headers.clone()),
        };
        if value[..] == newest.value[..] && headers == newest.headers {
            return;
        }
        let named = !self.is_in_force(&topic, partition, &records);
        let key = newest.key.unwrap_or_default();
        self.say("a stranger", || format!("** {what} record {} of {topic}/{partition}", String::from_utf8_lossy(&key)));
        let (to, value) = (Route::To(partition), value.into());
        self.write(&[Outgoing { topic: topic.as_str().into(), route: to, key: Some(key.clone()), headers, value }]);
        let offset = self.saved(&topic, partition).last().map_or(0, |record| record.offset);
        self.damage.push(Damage { topic, partition, key: key.to_vec(), offset, named });
    }

    /// One of its digits is another: what can be read all the same, and says something else. Where there is none, a space is added.
    fn spoilt(&mut self, value: &[u8]) -> Vec<u8> {
        let digits: Vec<usize> = (0..value.len()).filter(|place| value[*place].is_ascii_digit()).collect();
        if digits.is_empty() {
            return [value, b" "].concat();
        }
        let place = *self.dice.pick(&digits);
        let mut spoilt = value.to_vec();
        spoilt[place] = if spoilt[place] == b'9' { b'8' } else { spoilt[place] + 1 };
        spoilt
    }

    /// Somebody has counted a snapshot that cannot be used: of one of these lanes. None is in force there until the next is saved.
    pub(super) fn damage_is_named(&mut self, stage: &str, lanes: &[u32]) {
        let topic = self.names.snapshot(self.topology.name(), stage);
        for lane in lanes {
            let end = self.bus.bounds(&topic, *lane).map_or(0, |bounds| bounds.end);
            self.named.insert((topic.clone(), *lane), end);
        }
        let own = self.damage.iter_mut().filter(|damage| damage.topic == topic && lanes.contains(&damage.partition));
        own.for_each(|damage| damage.named = true);
    }

    /// True where an owner has saved the lane since somebody counted that what was saved cannot be used.
    fn is_in_force(&self, topic: &str, partition: u32, records: &[Record]) -> bool {
        let since = self.named.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        let strangers = |offset: u64| {
            let mut own = self.damage.iter().filter(|damage| damage.topic == topic && damage.partition == partition);
            own.any(|damage| damage.offset == offset)
        };
        let head = |record: &&Record| record.key.as_deref() == Some(b".lane") && record.offset >= since;
        records.iter().filter(head).any(|record| !strangers(record.offset))
    }

    /// True where damage to what is saved of a lane was met, or was not there to be met: nobody has to name it.
    pub(super) fn is_named(&self, stage: &str, lane: u32) -> bool {
        let topic = self.names.snapshot(self.topology.name(), stage);
        self.damage.iter().filter(|damage| damage.topic == topic && damage.partition == lane).all(|damage| damage.named)
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
