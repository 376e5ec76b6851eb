//! Which spokes live, as the shell sees it: heartbeats come in, and only a change goes to each lane, as a record of its inbox. The rule is that
//! of [`wire::alive`].

use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, Reader, Record};
use wire::alive::Instances;

/// Between two looks at the topics of heartbeats, in milliseconds: a fifth of a common beat.
const LOOK_MS: u64 = 100;
/// Maximum number of heartbeats per look; more wait for the next.
const TAKEN: usize = 256;
/// Between two lines about heartbeats that cannot be read, in milliseconds: one who sends such sends them often.
const WARN_MS: u64 = 10_000;

/// The services that a stage watches.
pub(super) struct Alive {
    reader: Option<Box<dyn Reader>>,
    services: Vec<Service>,
    /// When the services are judged.
    now: MonoTime,
    look: MonoTime,
    /// Not before this is another heartbeat that cannot be read written to the log.
    warn: MonoTime,
    /// Where what was to be read next was deleted: topic, partition, and what is left.
    behind: Option<(String, u32, u64)>,
    records: Vec<Record>,
}

struct Service {
    name: String,
    topic: String,
    /// From this offset on heartbeats are as new as their reading.
    fresh: u64,
    /// True once what stood there before was read, and something did stand there or came: only then is there anything to say.
    known: bool,
    instances: Instances,
}

impl Service {
    fn take(&mut self, record: &Record, clock: &dyn Clock) -> Result<(), String> {
        let age_ms = if record.offset >= self.fresh { 0 } else { clock.wall().ms_since(record.time) };
        self.known |= record.offset + 1 >= self.fresh;
        let (head, key) = (record.headers.head(), record.key.as_deref());
        self.instances.take(head, key, &record.value, ms(clock.mono()), age_ms)
    }
}

fn ms(time: MonoTime) -> u64 {
    time.0 / 1_000_000
}

impl Alive {
    /// Watches these services, each with the topic of its heartbeats.
    pub(super) fn watch(bus: &dyn Bus, services: Vec<(String, String)>) -> Result<Self, BusError> {
        let start = MonoTime::default();
        let (known, records) = (Vec::new(), Vec::new());
        let mut alive =
            Self { reader: None, services: known, now: start, look: start, warn: start, behind: None, records };
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
            let (fresh, instances) = (bounds.end, Instances::default());
            alive.services.push(Service { name, topic, fresh, known: false, instances });
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
        if read.is_ok() && self.records.is_empty() {
            // The last heartbeats may have been deleted: then no record says that all of them were read.
            self.services.iter_mut().for_each(|service| service.known |= service.fresh > 0);
        }
        for record in self.records.drain(..) {
            let Some(service) = self.services.iter_mut().find(|service| *service.topic == *record.topic) else {
                continue;
            };
            if let Err(why) = service.take(&record, clock)
                && self.warn <= now
            {
                self.warn = now.plus_ms(WARN_MS);
                let (service, offset) = (&*service.name, record.offset);
                tracing::warn!(service, offset, why, "a heartbeat cannot be read");
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

    /// The services that ever sent heartbeats, and whether they are up; none where their answers decide.
    pub(super) fn known(&self) -> impl Iterator<Item = (&str, Option<bool>)> {
        let now = ms(self.now);
        let known = self.services.iter().filter(|service| service.known);
        known.map(move |service| (service.name.as_str(), service.instances.up(now)))
    }

    /// When the next instance goes down, or the first time after it that somebody looks.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let now = ms(self.now);
        let down = self.services.iter().filter_map(|service| service.instances.next_down_ms(now)).min()?;
        Some(MonoTime::default().plus_ms(down).max(self.look))
    }
}
