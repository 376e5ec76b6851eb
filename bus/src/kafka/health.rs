//! Appends that wait for a broker, for those who ask how the bus does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::{BusHealth, MonoTime};

/// A healthy broker makes a record durable within milliseconds. A step or a commit of a lane may take as long before `/readyz` names it.
const SLOW: Duration = Duration::from_secs(1);

/// The writers of a bus.
#[derive(Default)]
pub(super) struct Health {
    retries: AtomicU64,
    /// Writers that were dropped are removed when another is added.
    writers: Mutex<Vec<Weak<Appending>>>,
}

/// The append that one writer is making.
pub(super) struct Appending {
    name: String,
    /// When it began, and how often it was tried again. None between two appends.
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

    /// Counts an append that is tried again.
    pub(super) fn retries(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counter, and a line for each append that takes long.
    pub(super) fn now(&self, now: MonoTime) -> BusHealth {
        let writers: Vec<_> = lock(&self.writers).iter().filter_map(Weak::upgrade).collect();
        let waiting = writers.iter().filter_map(|writer| writer.line(now)).collect();
        BusHealth { appends_retried: self.retries.load(Ordering::Relaxed), waiting }
    }
}

impl Appending {
    /// Records that an append begins, or is tried again.
    pub(super) fn begins(&self, now: MonoTime) {
        let mut state = lock(&self.state);
        *state = Some(state.map_or((now, 0), |(since, retries)| (since, retries + 1)));
    }

    /// Records that the append succeeded or failed.
    pub(super) fn ends(&self) {
        *lock(&self.state) = None;
    }

    fn line(&self, now: MonoTime) -> Option<String> {
        let (since, retries) = (*lock(&self.state))?;
        let took = now.since(since);
        let again = if retries == 0 { String::new() } else { format!(", retries: {retries}") };
        (took >= SLOW || retries > 0).then(|| {
            format!("writer `{}`: an append has waited for Kafka for {:.1} s{again}", self.name, took.as_secs_f64())
        })
    }
}

/// The values behind these locks are whole at all times: a panic elsewhere cannot have broken them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_that_takes_long_or_is_retried_is_said_until_it_is_over() {
        let (health, at) = (Health::default(), |ms| MonoTime::default().plus_ms(ms));
        let (writer, other) = (health.writer("w"), health.writer("other"));
        writer.begins(at(0));
        other.begins(at(900));
        assert_eq!(health.now(at(999)), BusHealth::default());
        assert_eq!(health.now(at(1_500)).waiting, ["writer `w`: an append has waited for Kafka for 1.5 s"]);
        writer.begins(at(10_000));
        health.retries();
        other.ends();
        let waiting = vec!["writer `w`: an append has waited for Kafka for 10.0 s, retries: 1".to_owned()];
        assert_eq!(health.now(at(10_000)), BusHealth { appends_retried: 1, waiting });
        drop(writer);
        assert_eq!(health.now(at(20_000)), BusHealth { appends_retried: 1, waiting: Vec::new() });
    }
}
