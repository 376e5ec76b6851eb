//! Watchers of operations.
//!
//! A watcher is notified of a change and reads the newest view itself, so nothing queues up. For an
//! operation without watchers, a change costs one lookup in a table that is mostly empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::watch;
use wire::{Code, OperationId, Problem};

/// The watchers, up to a limit.
#[derive(Debug)]
pub struct Watchers {
    most: usize,
    watching: AtomicUsize,
    by_operation: DashMap<OperationId, watch::Sender<u64>>,
}

/// A watcher of one operation. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Watcher {
    watchers: Arc<Watchers>,
    operation: OperationId,
    changes: Option<watch::Receiver<u64>>,
}

impl Watchers {
    /// At most `most` watchers.
    pub fn with_limit(most: usize) -> Self {
        Self { most, watching: AtomicUsize::new(0), by_operation: DashMap::new() }
    }

    /// Number of watchers.
    pub fn watching(&self) -> usize {
        self.watching.load(Ordering::Acquire)
    }

    /// Adds a watcher.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if the limit is reached.
    pub fn watch(self: &Arc<Self>, operation: &OperationId) -> Result<Watcher, Problem> {
        let most = self.most;
        let took = self
            .watching
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |watching| (watching < most).then_some(watching + 1));
        if took.is_err() {
            return Err(Problem::new(
                Code::Overloaded,
                format!(
                    "the limit of {most} watchers is reached; GET /v1/operations/{operation} returns the current state"
                ),
            ));
        }
        let changes = self.by_operation.entry(operation.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe();
        Ok(Watcher { watchers: Arc::clone(self), operation: operation.clone(), changes: Some(changes) })
    }

    /// Notifies the watchers of a changed operation.
    pub(crate) fn touch(&self, operation: &OperationId) {
        if self.watching() == 0 {
            return;
        }
        if let Some(sender) = self.by_operation.get(operation) {
            sender.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }
}

impl Watcher {
    /// Waits for the next change since the last wait.
    pub async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            // The sender stays in the table while there are watchers.
            drop(changes.changed().await);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Dropped first, so that the last watcher sees no other receiver.
        self.changes = None;
        self.watchers.by_operation.remove_if(&self.operation, |_, sender| sender.receiver_count() == 0);
        self.watchers.watching.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watchers_are_limited_notified_once_per_wait_and_leave_no_trace() {
        let watchers = Arc::new(Watchers::with_limit(2));
        let [seen, unseen] = ["seen", "unseen"].map(|id| OperationId::new(id).unwrap());
        let mut first = watchers.watch(&seen).unwrap();
        let second = watchers.watch(&seen).unwrap();
        assert_eq!(watchers.watch(&unseen).unwrap_err().code, Code::Overloaded);
        for _ in 0..1_000 {
            watchers.touch(&seen);
            watchers.touch(&unseen);
        }
        first.changed().await;
        let more = tokio::time::timeout(std::time::Duration::ZERO, first.changed()).await;
        assert!(more.is_err(), "a thousand changes are one notification");
        drop((first, second));
        assert_eq!((watchers.watching(), watchers.by_operation.len()), (0, 0));
        assert!(watchers.watch(&unseen).is_ok());
    }
}
