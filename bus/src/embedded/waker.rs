//! Wake-ups of members and readers. Each is woken individually, and only by relevant events.

use std::thread::Thread;

/// The thread that polled a member or reader last, if that poll found nothing. The bus lock
/// protects it: the thread registers under the lock under which it found nothing, so it misses no
/// event.
#[derive(Debug, Default)]
pub(super) struct Waker(Option<Thread>);

impl Waker {
    /// Lets the next event unpark the calling thread. An event before the thread parks is kept as
    /// its token: parking then returns at once.
    pub(super) fn register(&mut self) {
        self.0 = Some(std::thread::current());
    }

    /// Unparks the registered thread, once; costs nothing if there is none.
    pub(super) fn wake(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.unpark();
        }
    }
}
