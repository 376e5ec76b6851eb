//! Where a member or a reader waits, and how it is woken: one at a time, and only by what concerns it.

use std::sync::{Arc, Condvar, MutexGuard};
use std::time::Duration;

use super::State;

/// The bed of one who waits. It is kept under the lock of the bus, so no news can fall between looking for it and falling
/// asleep.
#[derive(Debug, Default)]
pub(super) struct Waker {
    condvar: Arc<Condvar>,
    asleep: bool,
}

impl Waker {
    /// True while the owner waits.
    pub(super) fn asleep(&self) -> bool {
        self.asleep
    }

    /// Wakes the owner, where it waits. Costs nothing where it does not.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.asleep) {
            self.condvar.notify_one();
        }
    }
}

/// Waits on the waker that `find` finds, at most `wait`. It may return early with no news.
pub(super) fn nap(
    mut state: MutexGuard<'_, State>,
    wait: Duration,
    find: impl Fn(&mut State) -> Option<&mut Waker>,
) -> MutexGuard<'_, State> {
    let Some(waker) = find(&mut state) else { return state };
    waker.asleep = true;
    let condvar = Arc::clone(&waker.condvar);
    let (mut state, _) = condvar.wait_timeout(state, wait).expect("nobody panics while holding the bus");
    if let Some(waker) = find(&mut state) {
        waker.asleep = false;
    }
    state
}
