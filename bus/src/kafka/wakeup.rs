//! Wake-ups of the thread that waits for a consumer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use rdkafka::consumer::{BaseConsumer, ConsumerContext};

/// The thread that polled a consumer last. It is unparked when the consumer's queue becomes
/// non-empty: by records, group decisions, errors, and also by statistics and log lines, because
/// the main queue of a consumer in a group is forwarded to this queue.
///
/// Only this transition is reported. So a poll that leaves a wake-up behind registers its thread
/// first, and then empties the queue.
#[derive(Default)]
pub(super) struct Wakeup {
    thread: Mutex<Option<Thread>>,
    handled: AtomicBool,
}

impl Wakeup {
    /// Lets the queue of `consumer` wake the registered thread.
    pub(super) fn attach<C: ConsumerContext>(self: &Arc<Self>, consumer: &mut BaseConsumer<C>) {
        let wakeup = Arc::clone(self);
        // Called with the lock of the queue held: must not poll.
        consumer.set_nonempty_callback(move || {
            if let Some(thread) = &*wakeup.thread() {
                thread.unpark();
            }
        });
    }

    /// Registers the calling thread.
    pub(super) fn register(&self) {
        *self.thread() = Some(thread::current());
    }

    /// A poll has handled an event: statistics, a log line, a group decision or the result of a
    /// commit.
    pub(super) fn has_handled(&self) {
        self.handled.store(true, Ordering::Relaxed);
    }

    /// Returns and clears whether a poll has handled an event. Such a poll of the crate returns
    /// nothing, as if the queue were empty.
    pub(super) fn take_handled(&self) -> bool {
        self.handled.swap(false, Ordering::Relaxed)
    }

    fn thread(&self) -> MutexGuard<'_, Option<Thread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
