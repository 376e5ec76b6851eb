//! Which spokes live, as the shell sees it: heartbeats come in, and only a change goes to each lane, as a record of its inbox.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, Reader, Record};
use wire::WallTime;
use wire::alive::Heartbeat;

/// An instance is gone when so many heartbeats are missing: one may be late, and one lost.
const MISSED: u64 = 3;
/// A heartbeat that was sent longer ago than this when a process starts says nothing: who sent it may have been replaced by one
/// that sends none. Ten minutes are longer than a restart takes.
const FORGOTTEN_MS: u64 = 600_000;
/// Between two looks at the topics of heartbeats, in milliseconds: a fifth of a common beat.
const LOOK_MS: u64 = 100;
/// So many heartbeats are read at one look; more wait for the next.
const TAKEN: usize = 256;
/// So many instances of one service are told apart; beyond it the one that was not heard for longest goes.
const INSTANCES: usize = 1_024;

/// The services that a stage watches.
pub(super) struct Alive {
    reader: Option<Box<dyn Reader>>,
    services: Vec<Service>,
    look: MonoTime,
    /// Where what was to be read next was deleted: topic, partition, and what is left.
    behind: Option<(String, u32, u64)>,
    records: Vec<Record>,
}

struct Service {
    name: String,
    topic: String,
    /// From this offset on heartbeats are as new as their reading.
    fresh: u64,
    /// Until when each instance is believed to live.
    until: BTreeMap<String, MonoTime>,
    /// False: it never sent one, and is judged by its answers.
    heard: bool,
}

impl Service {
    fn take(&mut self, record: &Record, clock: &dyn Clock) {
        let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&record.value) else { return };
        let age_ms = if record.offset >= self.fresh { 0 } else { age_ms(record.time, clock.wall()) };
        if age_ms > FORGOTTEN_MS {
            return;
        }
        self.heard = true;
        if heartbeat.bye {
            self.until.remove(&heartbeat.instance);
            return;
        }
        let left_ms = heartbeat.every_ms.saturating_mul(MISSED).saturating_sub(age_ms);
        self.until.insert(heartbeat.instance, clock.mono().plus_ms(left_ms));
        if self.until.len() > INSTANCES {
            let oldest = self.until.iter().min_by_key(|(_, until)| **until).map(|(instance, _)| instance.clone());
            oldest.and_then(|oldest| self.until.remove(&oldest));
        }
    }

    /// Whether it lives; none where it never said.
    fn up(&self) -> Option<bool> {
        self.heard.then_some(!self.until.is_empty())
    }
}

fn age_ms(sent: WallTime, now: WallTime) -> u64 {
    now.ms_since(sent)
}

impl Alive {
    /// Watches these services, each with the topic of its heartbeats.
    pub(super) fn watch(bus: &dyn Bus, services: Vec<(String, String)>) -> Result<Self, BusError> {
        let mut alive =
            Self { reader: None, services: Vec::new(), look: MonoTime::default(), behind: None, records: Vec::new() };
        for (name, topic) in services {
            // Without the topic there are no heartbeats: the spoke is judged by its answers.
            if bus.topic(&topic)?.is_none() {
                continue;
            }
            let bounds = bus.bounds(&topic, 0)?;
            let reader = match &mut alive.reader {
                Some(reader) => reader,
                none => none.insert(bus.reader()?),
            };
            reader.assign(&topic, 0, bounds.low)?;
            alive.services.push(Service { name, topic, fresh: bounds.end, until: BTreeMap::new(), heard: false });
        }
        Ok(alive)
    }

    /// Reads what came, at most every [`LOOK_MS`], and forgets who was not heard.
    pub(super) fn look(&mut self, clock: &dyn Clock) -> Result<(), BusError> {
        let now = clock.mono();
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if now < self.look {
            return Ok(());
        }
        self.look = now.plus_ms(LOOK_MS);
        if let Some((topic, partition, low)) = &mut self.behind {
            match reader.assign(topic, *partition, *low) {
                Ok(()) => self.behind = None,
                // More was deleted meanwhile.
                Err(BusError::Gone { low: next, .. }) => *low = next,
                Err(error) => return Err(error),
            }
        }
        let read = reader.poll(TAKEN, Duration::ZERO, &mut self.records);
        for record in self.records.drain(..) {
            if let Some(service) = self.services.iter_mut().find(|service| *service.topic == *record.topic) {
                service.take(&record, clock);
            }
        }
        for service in &mut self.services {
            service.until.retain(|_, until| *until > now);
        }
        match read {
            // Heartbeats that were deleted before they were read are old; the next ones are read.
            Err(BusError::Gone { topic, partition, low, .. }) => {
                self.behind = Some((topic, partition, low));
                Ok(())
            }
            read => read,
        }
    }

    /// The services of which something is known, and whether they live.
    pub(super) fn known(&self) -> impl Iterator<Item = (&str, bool)> {
        self.services.iter().filter_map(|service| Some((service.name.as_str(), service.up()?)))
    }

    /// When the next instance is missed, or the first time after it that somebody looks.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let missed = self.services.iter().flat_map(|service| service.until.values()).min().copied();
        missed.map(|missed| missed.max(self.look))
    }
}
