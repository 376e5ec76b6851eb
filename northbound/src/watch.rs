//! Who watches which operation.
//!
//! A watcher is told that something changed, and looks for itself: between two looks the newest wins, and nothing queues up.
//! For an operation that nobody watches, a change costs one look into a table that is empty most of the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::watch;
use wire::{Code, OperationId, Problem};

/// Those who watch, up to a bound.
#[derive(Debug)]
pub struct Watchers {
    most: usize,
    watching: AtomicUsize,
    by_operation: DashMap<OperationId, watch::Sender<u64>>,
}

/// One who watches an operation. Dropping it ends that.
#[derive(Debug)]
pub struct Watcher {
    watchers: Arc<Watchers>,
    operation: OperationId,
    changes: Option<watch::Receiver<u64>>,
}

impl Watchers {
    /// At most so many.
    pub fn at_most(most: usize) -> Self {
        Self { most, watching: AtomicUsize::new(0), by_operation: DashMap::new() }
    }

    /// How many watch now.
    pub fn watching(&self) -> usize {
        self.watching.load(Ordering::Acquire)
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where as many watch as may.
    pub fn watch(self: &Arc<Self>, operation: &OperationId) -> Result<Watcher, Problem> {
        let most = self.most;
        let took = self
            .watching
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |watching| (watching < most).then_some(watching + 1));
        if took.is_err() {
            return Err(Problem::new(
                Code::Overloaded,
                format!("{most} clients watch operations already; GET /v1/operations/{operation} shows it once"),
            ));
        }
        let changes = self.by_operation.entry(operation.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe();
        Ok(Watcher { watchers: Arc::clone(self), operation: operation.clone(), changes: Some(changes) })
    }

    /// Something about an operation changed.
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
    /// Waits for the next change after the last one that was waited for.
    pub async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            // The sender stays in the table for as long as somebody watches.
            drop(changes.changed().await);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Given up first, so that the last one sees that nobody is left.
        self.changes = None;
        self.watchers.by_operation.remove_if(&self.operation, |_, sender| sender.receiver_count() == 0);
        self.watchers.watching.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watchers_are_bounded_hear_the_newest_and_leave_nothing_behind() {
        let watchers = Arc::new(Watchers::at_most(2));
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
        assert!(more.is_err(), "a thousand changes are one");
        drop((first, second));
        assert_eq!((watchers.watching(), watchers.by_operation.len()), (0, 0));
        assert!(watchers.watch(&unseen).is_ok());
    }
}
