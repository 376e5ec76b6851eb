//! Tracks the liveness of spokes by their heartbeats. Only changes go to the lanes, as inbox
//! records. [`wire::alive`] defines the rule.

use std::time::Duration;

use bus::{Bus, BusError, Clock, Follower, MonoTime, Record, Start};
use wire::alive::Instances;

/// Interval between two reads of heartbeats, in milliseconds: a fifth of the usual heartbeat
/// interval.
const LOOK_MS: u64 = 100;
/// Maximum number of heartbeats per read; more wait for the next one.
const TAKEN: usize = 256;
/// Minimum interval between two log lines about unreadable heartbeats, in milliseconds.
const WARN_MS: u64 = 10_000;

/// The liveness of the services that a stage watches.
#[derive(Default)]
pub(super) struct LivenessWatch {
    follower: Follower,
    services: Vec<Service>,
    /// The time at which services are judged.
    now: MonoTime,
    look: MonoTime,
    /// Earliest time of the next log line about an unreadable heartbeat.
    warn: MonoTime,
    records: Vec<Record>,
}

struct Service {
    name: String,
    topic: String,
    /// True if a heartbeat was ever sent.
    has_heartbeats: bool,
    /// True once the old heartbeats were read and at least one exists or arrived: only then is the
    /// liveness known.
    is_known: bool,
    instances: Instances,
}

fn ms(time: MonoTime) -> u64 {
    time.0 / 1_000_000
}

impl LivenessWatch {
    /// Watches these services, each with the topic of its heartbeats.
    pub(super) fn watch(bus: &dyn Bus, services: Vec<(String, String)>) -> Result<Self, BusError> {
        let mut alive = Self::default();
        for (name, topic) in services {
            // No topic, no heartbeats: the spoke's answers decide.
            if bus.topic(&topic)?.is_none() {
                continue;
            }
            let has_heartbeats = alive.follower.follow(bus, &topic, 0, Start::Low)?.end > 0;
            let instances = Instances::default();
            alive.services.push(Service { name, topic, has_heartbeats, is_known: false, instances });
        }
        Ok(alive)
    }

    /// Reads new heartbeats, at most every [`LOOK_MS`]. From now on [`LivenessWatch::liveness`]
    /// judges the services as of this call.
    pub(super) fn look(&mut self, clock: &dyn Clock) -> Result<(), BusError> {
        let now = clock.mono();
        self.now = now;
        if now < self.look || self.services.is_empty() {
            return Ok(());
        }
        self.look = now.plus_ms(LOOK_MS);
        // Deleted heartbeats are old; reading continues with the next ones.
        let read = self.follower.poll(TAKEN, Duration::ZERO, &mut self.records);
        for record in self.records.drain(..) {
            let Some(service) = self.services.iter_mut().find(|service| *service.topic == *record.topic) else {
                continue;
            };
            service.has_heartbeats = true;
            let age_ms = if self.follower.is_new(&record) { 0 } else { clock.wall().ms_since(record.time) };
            let (head, key) = (record.headers.head(), record.key.as_deref());
            if let Err(why) = service.instances.read(head, key, &record.value, ms(clock.mono()), age_ms)
                && self.warn <= now
            {
                self.warn = now.plus_ms(WARN_MS);
                let (service, offset) = (&*service.name, record.offset);
                tracing::warn!(service, offset, why, "cannot read a heartbeat");
            }
        }
        for service in &mut self.services {
            service.is_known |= service.has_heartbeats && self.follower.has_caught_up(&service.topic, 0);
        }
        read.map(drop)
    }

    /// Returns the services whose liveness is known, and whether each is up; `None` if its
    /// heartbeats give no verdict, so that its answers decide.
    pub(super) fn liveness(&self) -> impl Iterator<Item = (&str, Option<bool>)> {
        let now = ms(self.now);
        let known = self.services.iter().filter(|service| service.is_known);
        known.map(move |service| (service.name.as_str(), service.instances.up(now)))
    }

    /// Returns when the next instance goes down, but not before the next read.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let now = ms(self.now);
        let down = self.services.iter().filter_map(|service| service.instances.next_down_ms(now)).min()?;
        Some(MonoTime::default().plus_ms(down).max(self.look))
    }
}
