//! Waiting of members and readers. Each is woken individually, and only by relevant events.

use std::sync::{Mutex, MutexGuard};
use std::thread::Thread;
use std::time::Duration;

use super::BusState;

/// The waker of one member or reader. The bus lock protects it, so no event can be missed between
/// the last look and the wait.
#[derive(Debug, Default)]
pub(super) struct Waker {
    /// The waiting thread.
    asleep: Option<Thread>,
}

impl Waker {
    /// True while the owner waits.
    pub(super) fn asleep(&self) -> bool {
        self.asleep.is_some()
    }

    /// Wakes the owner if it waits; costs nothing otherwise.
    pub(super) fn wake(&mut self) {
        if let Some(thread) = self.asleep.take() {
            thread.unpark();
        }
    }
}

/// Parks the thread on the waker that `find` returns, for at most `wait`. May return early without
/// an event, so that a thread can be unparked to stop it.
pub(super) fn park(
    bus: &Mutex<BusState>,
    mut state: MutexGuard<'_, BusState>,
    wait: Duration,
    find: impl Fn(&mut BusState) -> Option<&mut Waker>,
) {
    let Some(waker) = find(&mut state) else { return };
    waker.asleep = Some(std::thread::current());
    drop(state);
    // A wake-up before the thread parks is kept as its token: parking then returns at once.
    std::thread::park_timeout(wait);
    let mut state = bus.lock().expect("no thread panics while it holds the bus");
    if let Some(waker) = find(&mut state) {
        waker.asleep = None;
    }
}
