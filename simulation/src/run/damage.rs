//! A foreign client damages snapshots of lanes. The next owner of the lane must detect and report
//! it.

use std::time::Duration;

use bus::{Bus, Outgoing, Record, Route};

use super::Run;

/// A snapshot record that a foreign client overwrote.
#[derive(Debug)]
pub(super) struct Damage {
    topic: String,
    partition: u32,
    key: Vec<u8>,
    offset: u64,
    /// True once an owner reported an unusable snapshot, or if no snapshot was valid at the time.
    reported: bool,
}

impl Run<'_> {
    /// Deletes or corrupts a record of a snapshot, or restores an older version of it.
    pub(super) fn damage_snapshot(&mut self) {
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
        let (action, value, headers) = match self.dice.roll(3) {
            0 => ("deletes", Vec::new(), newest.headers.clone()),
            1 => ("corrupts", self.corrupt(&newest.value), newest.headers.clone()),
            _ => ("restores an older version of", chosen.value.to_vec(), chosen.headers.clone()),
        };
        if value[..] == newest.value[..] && headers == newest.headers {
            return;
        }
        let reported = !self.is_valid(&topic, partition, &records);
        let key = newest.key.unwrap_or_default();
        self.say("a foreign client", || {
            format!("** {action} record {} of {topic}/{partition}", String::from_utf8_lossy(&key))
        });
        let (to, value) = (Route::To(partition), value.into());
        self.write(&[Outgoing { topic: topic.as_str().into(), route: to, key: Some(key.clone()), headers, value }]);
        let offset = self.saved(&topic, partition).last().map_or(0, |record| record.offset);
        self.damage.push(Damage { topic, partition, key: key.to_vec(), offset, reported });
    }

    /// Changes a digit: the record stays readable with another value. Adds a space if there is no
    /// digit.
    fn corrupt(&mut self, value: &[u8]) -> Vec<u8> {
        let digits: Vec<usize> = (0..value.len()).filter(|place| value[*place].is_ascii_digit()).collect();
        if digits.is_empty() {
            return [value, b" "].concat();
        }
        let place = *self.dice.pick(&digits);
        let mut corrupt = value.to_vec();
        corrupt[place] = if corrupt[place] == b'9' { b'8' } else { corrupt[place] + 1 };
        corrupt
    }

    /// An owner of one of these lanes reported an unusable snapshot. No snapshot is valid there
    /// until the next is saved.
    pub(super) fn mark_reported(&mut self, stage: &str, lanes: &[u32]) {
        let topic = self.names.snapshot(self.topology.name(), stage);
        for lane in lanes {
            let end = self.bus.bounds(&topic, *lane).map_or(0, |bounds| bounds.end);
            self.reported.insert((topic.clone(), *lane), end);
        }
        let own = self.damage.iter_mut().filter(|damage| damage.topic == topic && lanes.contains(&damage.partition));
        own.for_each(|damage| damage.reported = true);
    }

    /// True if an owner saved the lane since the last report of an unusable snapshot.
    fn is_valid(&self, topic: &str, partition: u32, records: &[Record]) -> bool {
        let since = self.reported.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        let is_foreign = |offset: u64| {
            let mut own = self.damage.iter().filter(|damage| damage.topic == topic && damage.partition == partition);
            own.any(|damage| damage.offset == offset)
        };
        let head = |record: &&Record| record.key.as_deref() == Some(b".lane") && record.offset >= since;
        records.iter().filter(head).any(|record| !is_foreign(record.offset))
    }

    /// True if all damage to the lane's snapshot was reported, or no snapshot was valid when it was
    /// done.
    pub(super) fn is_reported(&self, stage: &str, lane: u32) -> bool {
        let topic = self.names.snapshot(self.topology.name(), stage);
        self.damage
            .iter()
            .filter(|damage| damage.topic == topic && damage.partition == lane)
            .all(|damage| damage.reported)
    }

    /// True if the lane's snapshot may differ from what its owner saved. A key that was written
    /// again is valid again.
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

    /// Returns the remaining records of a partition of a snapshot topic.
    fn saved(&self, topic: &str, partition: u32) -> Vec<Record> {
        let topic_spec = self.bus.topic(topic).expect("the bus answers");
        if topic_spec.is_none() {
            return Vec::new();
        }
        let low = self.bus.bounds(topic, partition).expect("the topic exists").low;
        let mut reader = self.bus.reader().expect("the bus answers");
        reader.assign(topic, partition, low).expect("the topic exists");
        let mut records = Vec::new();
        reader.poll(usize::MAX, Duration::ZERO, &mut records).expect("the topic exists");
        records
    }
}
