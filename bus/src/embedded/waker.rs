//! Where a member or a reader waits, and how it is woken: one at a time, and only by what concerns it.

use std::sync::{Mutex, MutexGuard};
use std::thread::Thread;
use std::time::Duration;

use super::State;

/// The bed of one who waits. It is kept under the lock of the bus, so no news can fall between looking for it and falling
/// asleep.
#[derive(Debug, Default)]
pub(super) struct Waker {
    /// The thread that waits.
    asleep: Option<Thread>,
}

impl Waker {
    /// True while the owner waits.
    pub(super) fn asleep(&self) -> bool {
        self.asleep.is_some()
    }

    /// Wakes the owner, where it waits. Costs nothing where it does not.
    pub(super) fn wake(&mut self) {
        if let Some(thread) = self.asleep.take() {
            thread.unpark();
        }
    }
}

/// Parks the thread on the waker that `find` finds, for at most `wait`. It may return early with no news: so a thread that is
/// told to stop can be unparked.
pub(super) fn nap(
    bus: &Mutex<State>,
    mut state: MutexGuard<'_, State>,
    wait: Duration,
    find: impl Fn(&mut State) -> Option<&mut Waker>,
) {
    let Some(waker) = find(&mut state) else { return };
    waker.asleep = Some(std::thread::current());
    drop(state);
    // A wake-up that comes before the thread parks is kept as its token: parking then returns at once.
    std::thread::park_timeout(wait);
    let mut state = bus.lock().expect("nobody panics while holding the bus");
    if let Some(waker) = find(&mut state) {
        waker.asleep = None;
    }
}
