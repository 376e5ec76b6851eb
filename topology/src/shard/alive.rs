//! Which spokes live, as the shell sees it: heartbeats come in, and only a change goes to each lane, as a record of its inbox. The rule is that
//! of [`wire::alive`].

use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, Reader, Record};
use wire::Kind;
use wire::alive::{Heartbeat, Instances};

/// Between two looks at the topics of heartbeats, in milliseconds: a fifth of a common beat.
const LOOK_MS: u64 = 100;
/// Maximum number of heartbeats per look; more wait for the next.
const TAKEN: usize = 256;

/// The services that a stage watches.
pub(super) struct Alive {
    reader: Option<Box<dyn Reader>>,
    services: Vec<Service>,
    /// When the services are judged.
    now: MonoTime,
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
    instances: Instances,
}

impl Service {
    fn take(&mut self, record: &Record, clock: &dyn Clock) {
        if record.value.is_empty() {
            if let Some(Ok(instance)) = record.key.as_deref().map(std::str::from_utf8) {
                self.instances.forget(instance);
            }
            return;
        }
        let is_heartbeat = record.headers.head().is_ok_and(|head| head.kind == Kind::Heartbeat);
        let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&record.value) else { return };
        if is_heartbeat {
            let age_ms = if record.offset >= self.fresh { 0 } else { clock.wall().ms_since(record.time) };
            self.instances.hear(&heartbeat, ms(clock.mono()), age_ms);
        }
    }
}

fn ms(time: MonoTime) -> u64 {
    time.0 / 1_000_000
}

impl Alive {
    /// Watches these services, each with the topic of its heartbeats.
    pub(super) fn watch(bus: &dyn Bus, services: Vec<(String, String)>) -> Result<Self, BusError> {
        let (now, look) = (MonoTime::default(), MonoTime::default());
        let mut alive = Self { reader: None, services: Vec::new(), now, look, behind: None, records: Vec::new() };
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
            alive.services.push(Service { name, topic, fresh: bounds.end, instances: Instances::default() });
        }
        Ok(alive)
    }

    /// Reads what came, at most every [`LOOK_MS`], and judges the services now.
    pub(super) fn look(&mut self, clock: &dyn Clock) -> Result<(), BusError> {
        let now = clock.mono();
        self.now = now;
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
        match read {
            // Heartbeats that were deleted before they were read are old; the next ones are read.
            Err(BusError::Gone { topic, partition, low, .. }) => {
                self.behind = Some((topic, partition, low));
                Ok(())
            }
            read => read,
        }
    }

    /// The services that are judged, and whether they are up.
    pub(super) fn known(&self) -> impl Iterator<Item = (&str, bool)> {
        let now = ms(self.now);
        self.services.iter().filter_map(move |service| Some((service.name.as_str(), service.instances.up(now)?)))
    }

    /// When the next instance goes down, or the first time after it that somebody looks.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let now = ms(self.now);
        let down = self.services.iter().filter_map(|service| service.instances.next_down_ms(now)).min()?;
        Some(MonoTime::default().plus_ms(down).max(self.look))
    }
}
