//! Health of the writers: appends that wait for a broker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::{BusHealth, MonoTime};

/// An append is reported after this time. A healthy broker makes a record durable within
/// milliseconds. Same limit as for lane steps and commits in `/readyz`.
const SLOW: Duration = Duration::from_secs(1);

/// The writers of a bus.
#[derive(Default)]
pub(super) struct Health {
    retries: AtomicU64,
    /// Dropped writers are removed when another one is added.
    writers: Mutex<Vec<Weak<Appending>>>,
}

/// The current append of one writer.
pub(super) struct Appending {
    name: String,
    /// Start and number of retries; `None` between appends.
    state: Mutex<Option<(MonoTime, u32)>>,
}

impl Health {
    /// Adds a writer.
    pub(super) fn writer(&self, name: &str) -> Arc<Appending> {
        let writer = Arc::new(Appending { name: name.into(), state: Mutex::default() });
        let mut writers = lock(&self.writers);
        writers.retain(|writer| writer.strong_count() > 0);
        writers.push(Arc::downgrade(&writer));
        writer
    }

    /// Counts a retry of an append.
    pub(super) fn retries(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the retry counter, and a line of text for each slow append.
    pub(super) fn now(&self, now: MonoTime) -> BusHealth {
        let writers: Vec<_> = lock(&self.writers).iter().filter_map(Weak::upgrade).collect();
        let waiting = writers.iter().filter_map(|writer| writer.line(now)).collect();
        BusHealth { appends_retried: self.retries.load(Ordering::Relaxed), waiting }
    }
}

impl Appending {
    /// Records the start or a retry of an append.
    pub(super) fn begins(&self, now: MonoTime) {
        let mut state = lock(&self.state);
        *state = Some(state.map_or((now, 0), |(since, retries)| (since, retries + 1)));
    }

    /// Records the end of the append, successful or not.
    pub(super) fn ends(&self) {
        *lock(&self.state) = None;
    }

    fn line(&self, now: MonoTime) -> Option<String> {
        let (since, retries) = (*lock(&self.state))?;
        let took = now.since(since);
        let again = if retries == 0 { String::new() } else { format!(", retries: {retries}") };
        (took >= SLOW || retries > 0).then(|| {
            format!(
                "writer `{}`: an append has been waiting for Kafka for {:.1} s{again}",
                self.name,
                took.as_secs_f64()
            )
        })
    }
}

/// These values are consistent at all times, so a poisoned lock is harmless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_or_retried_append_is_reported_until_it_ends() {
        let (health, at) = (Health::default(), |ms| MonoTime::default().plus_ms(ms));
        let (writer, other) = (health.writer("w"), health.writer("other"));
        writer.begins(at(0));
        other.begins(at(900));
        assert_eq!(health.now(at(999)), BusHealth::default());
        assert_eq!(health.now(at(1_500)).waiting, ["writer `w`: an append has been waiting for Kafka for 1.5 s"]);
        writer.begins(at(10_000));
        health.retries();
        other.ends();
        let waiting = vec!["writer `w`: an append has been waiting for Kafka for 10.0 s, retries: 1".to_owned()];
        assert_eq!(health.now(at(10_000)), BusHealth { appends_retried: 1, waiting });
        drop(writer);
        assert_eq!(health.now(at(20_000)), BusHealth { appends_retried: 1, waiting: Vec::new() });
    }
}
