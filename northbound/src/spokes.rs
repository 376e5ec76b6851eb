//! Which spokes live, as their heartbeats say: the rule is that of [`wire::alive`], as for lanes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus::{Clock, Record};
use serde::Serialize;
use wire::WallTime;
use wire::alive::{Heard, Instances};
use wire::answer::ServiceShown;

use crate::metrics;

/// The services of all topologies, and who serves them.
#[derive(Debug, Default)]
pub struct Spokes(Mutex<BTreeMap<String, Instances>>);

/// A service and its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub service: String,
    /// True where an instance is up; none where it is not judged, since it sent no heartbeats, which is allowed.
    pub up: Option<bool>,
    /// Those that sent a heartbeat, by name.
    pub instances: Vec<Instance>,
    /// How the worker of each lane judges it, once it has something to say: what becomes of calls goes by this.
    pub workers: Vec<ServiceShown>,
}

/// An instance of a spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its name.
    pub instance: String,
    /// True where it is up.
    pub up: bool,
    /// When its last heartbeat was sent, in milliseconds since 1970.
    pub heard: WallTime,
    /// Within how many milliseconds of it the next one comes.
    pub every_ms: u64,
}

/// The monotonic clock in milliseconds: heartbeats are judged on it, as by lanes.
fn ms(clock: &dyn Clock) -> u64 {
    clock.mono().0 / 1_000_000
}

impl Spokes {
    /// Takes a heartbeat of `service`; `is_fresh` where it is heard as soon as it was sent. One that cannot be read is counted and passed over.
    pub fn on_record(&self, service: &str, record: &Record, is_fresh: bool, clock: &dyn Clock) {
        // A fresh one is new whatever the time of day is at the broker.
        let age_ms = if is_fresh { 0 } else { clock.wall().ms_since(record.time) };
        if let Err(why) = self.take(service, record, ms(clock), age_ms) {
            tracing::warn!(service, offset = record.offset, why, "a heartbeat cannot be read");
            metrics::unreadable();
        }
    }

    fn take(&self, service: &str, record: &Record, now_ms: u64, age_ms: u64) -> Result<(), String> {
        let mut services = self.lock();
        let instances = services.entry(service.to_owned()).or_default();
        instances.take(record.headers.head(), record.key.as_deref(), &record.value, now_ms, age_ms)
    }

    /// How the instances of a service stand now.
    pub fn service(&self, service: &str, clock: &dyn Clock) -> Service {
        let (now, wall) = (ms(clock), clock.wall());
        let services = self.lock();
        let Some(known) = services.get(service) else {
            return Service { service: service.to_owned(), up: None, instances: Vec::new(), workers: Vec::new() };
        };
        let instance = |(name, heard): (&str, &Heard)| Instance {
            instance: name.to_owned(),
            up: heard.is_up(now),
            heard: WallTime(wall.0.saturating_add_signed(heard.at_ms.saturating_sub_unsigned(now))),
            every_ms: heard.every_ms,
        };
        let instances = known.all().map(instance).collect();
        Service { service: service.to_owned(), up: known.up(now), instances, workers: Vec::new() }
    }

    /// Nothing is known of these services any more, but for those that `used` names.
    pub(crate) fn keep(&self, used: impl Fn(&str) -> bool) {
        self.lock().retain(|service, _| used(service));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instances>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
