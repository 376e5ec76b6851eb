//! Heartbeats of spokes. They are judged by the rule of [`wire::alive`], as in lanes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus::{Clock, Record};
use serde::Serialize;
use wire::WallTime;
use wire::alive::{Instances, LastHeartbeat};
use wire::answer::ServiceView;

use crate::metrics;

/// The services of all topologies and their instances.
#[derive(Debug, Default)]
pub struct Spokes(Mutex<BTreeMap<String, Instances>>);

/// A service and its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub service: String,
    /// True if an instance is up; none without a verdict: heartbeats are optional.
    pub up: Option<bool>,
    /// The instances that sent a heartbeat, by name.
    pub instances: Vec<Instance>,
    /// The verdicts of the workers of all lanes that have published one; they decide about calls.
    pub workers: Vec<ServiceView>,
}

/// An instance of a spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its name.
    pub instance: String,
    /// True if it is up.
    pub up: bool,
    /// Time of its last heartbeat, in milliseconds since 1970.
    pub heard: WallTime,
    /// Maximum time until its next heartbeat, in milliseconds.
    pub every_ms: u64,
}

/// The monotonic clock in milliseconds, which heartbeats are judged by.
fn ms(clock: &dyn Clock) -> u64 {
    clock.mono().0 / 1_000_000
}

impl Spokes {
    /// Reads a heartbeat of `service`; `is_fresh` if it is read when it is sent. Counts and skips
    /// unreadable ones.
    pub fn on_record(&self, service: &str, record: &Record, is_fresh: bool, clock: &dyn Clock) {
        // The age of a fresh heartbeat does not depend on the clock of the broker.
        let age_ms = if is_fresh { 0 } else { clock.wall().ms_since(record.time) };
        if let Err(why) = self.take(service, record, ms(clock), age_ms) {
            tracing::warn!(service, offset = record.offset, why, "cannot read a heartbeat");
            metrics::unreadable();
        }
    }

    fn take(&self, service: &str, record: &Record, now_ms: u64, age_ms: u64) -> Result<(), String> {
        let mut services = self.lock();
        let instances = services.entry(service.to_owned()).or_default();
        instances.read(record.headers.head(), record.key.as_deref(), &record.value, now_ms, age_ms)
    }

    /// The state of a service and its instances.
    pub fn service(&self, service: &str, clock: &dyn Clock) -> Service {
        let (now, wall) = (ms(clock), clock.wall());
        let services = self.lock();
        let Some(known) = services.get(service) else {
            return Service { service: service.to_owned(), up: None, instances: Vec::new(), workers: Vec::new() };
        };
        let instance = |(name, heard): (&str, &LastHeartbeat)| Instance {
            instance: name.to_owned(),
            up: heard.is_up(now),
            heard: WallTime(wall.0.saturating_add_signed(heard.at_ms.saturating_sub_unsigned(now))),
            every_ms: heard.every_ms,
        };
        let instances = known.all().map(instance).collect();
        Service { service: service.to_owned(), up: known.up(now), instances, workers: Vec::new() }
    }

    /// Drops the services for which `used` is false.
    pub(crate) fn keep(&self, used: impl Fn(&str) -> bool) {
        self.lock().retain(|service, _| used(service));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instances>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
