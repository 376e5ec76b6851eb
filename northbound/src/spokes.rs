//! Which spokes live, as their heartbeats say.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus::Record;
use serde::Serialize;
use wire::alive::Heartbeat;
use wire::{Kind, WallTime};

use crate::metrics;

/// So many instances of a service are known; beyond it the one that was silent longest is forgotten. More than a service has,
/// and few enough to be read.
const INSTANCES: usize = 1_000;

/// An instance is called down so long after its next heartbeat was due: what the bus may take to bring it.
const GRACE_MS: u64 = 1_000;

/// The services of all topologies, and who serves them.
#[derive(Debug, Default)]
pub struct Spokes(Mutex<BTreeMap<String, BTreeMap<String, Heard>>>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: WallTime,
    every_ms: u64,
    bye: bool,
}

/// A service and its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub service: String,
    /// True where an instance lives; none where no heartbeat ever came, which is allowed.
    pub up: Option<bool>,
    /// Those that sent a heartbeat, by name.
    pub instances: Vec<Instance>,
}

/// An instance of a spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its name.
    pub instance: String,
    /// True where its next heartbeat is not overdue, and it did not say goodbye.
    pub up: bool,
    /// When its last heartbeat came, in milliseconds since 1970.
    pub heard: WallTime,
    /// Within how many milliseconds of it the next one comes.
    pub every_ms: u64,
}

impl Spokes {
    /// Takes a heartbeat of `service`. One that cannot be read is counted and passed over.
    pub fn on_record(&self, service: &str, record: &Record) {
        if let Err(why) = self.take(service, record) {
            tracing::warn!(service, offset = record.offset, why, "a heartbeat cannot be read");
            metrics::unreadable();
        }
    }

    fn take(&self, service: &str, record: &Record) -> Result<(), String> {
        let mut services = self.lock();
        let instances = services.entry(service.to_owned()).or_default();
        if record.value.is_empty() {
            let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            instances.remove(key.ok_or("it names nobody")?);
            return Ok(());
        }
        let envelope = record.headers.envelope().map_err(|error| error.to_string())?;
        if envelope.kind != Kind::Heartbeat {
            return Err(format!("{} is no heartbeat", envelope.kind));
        }
        let beat: Heartbeat = serde_json::from_slice(&record.value).map_err(|error| error.to_string())?;
        instances.insert(beat.instance, Heard { at: record.time, every_ms: beat.every_ms, bye: beat.bye });
        if instances.len() > INSTANCES {
            let oldest = instances.iter().min_by_key(|(_, heard)| heard.at).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| instances.remove(&oldest));
        }
        Ok(())
    }

    /// How the instances of a service stand at `now`.
    pub fn service(&self, service: &str, now: WallTime) -> Service {
        let services = self.lock();
        let instance = |(name, heard): (&String, &Heard)| Instance {
            instance: name.clone(),
            up: !heard.bye && now <= heard.at.plus_ms(heard.every_ms.saturating_add(GRACE_MS)),
            heard: heard.at,
            every_ms: heard.every_ms,
        };
        let instances: Vec<Instance> = services.get(service).into_iter().flatten().map(instance).collect();
        let up = (!instances.is_empty()).then(|| instances.iter().any(|instance| instance.up));
        Service { service: service.to_owned(), up, instances }
    }

    /// Nothing is known of these services any more, but for those that `used` names.
    pub(crate) fn keep(&self, used: impl Fn(&str) -> bool) {
        self.lock().retain(|service, _| used(service));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Heard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
