//! Tuples that a bolt keeps beyond its call, and the failures that a tracking spout receives.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::context::LaneContext;
use crate::ledger::Anchor;
use crate::place::Place;

/// A tuple that a bolt holds, made by [`crate::Emitter::hold`]: its root is acked only after it.
///
/// [`Tuple::ack`] ends the hold; if its call panics, the root fails. A tuple that is dropped without an
/// ack fails its root: it cannot leak. Held tuples are volatile, as the fields of a bolt are: a takeover
/// forgets them, and the spout emits them again if its position is behind them.
pub struct Tuple<T> {
    value: T,
    held: Hold,
}

/// The reference of a held tuple. Separate from the value, so that the value can be moved out.
struct Hold {
    lane: Rc<LaneContext>,
    component: u16,
    anchor: Anchor,
    /// True once the tuple was acked or failed.
    is_done: bool,
}

impl<T> Tuple<T> {
    pub(crate) fn new(value: T, component: u16, lane: &Rc<LaneContext>) -> Self {
        let anchor = lane.anchor.get();
        lane.ledger.borrow_mut().hold(anchor, component);
        Self { value, held: Hold { lane: Rc::clone(lane), component, anchor, is_done: false } }
    }

    /// Acks the tuple and returns its value.
    pub fn ack(self) -> T {
        let Self { value, mut held } = self;
        held.is_done = true;
        held.lane.ledger.borrow_mut().ack_held(held.anchor, held.component);
        value
    }

    /// Fails the tuple, and with it its root.
    pub fn fail(self, reason: &str) {
        let Self { mut held, .. } = self;
        held.fail(reason);
    }

    /// Moves the deadline of its root to `timeout_ms` milliseconds from now. No effect if the root has
    /// none.
    pub fn extend(&self, timeout_ms: u64) {
        self.held.lane.ledger.borrow_mut().extend(self.held.anchor, timeout_ms);
    }
}

impl Hold {
    fn fail(&mut self, reason: &str) {
        self.is_done = true;
        let mut ledger = self.lane.ledger.borrow_mut();
        ledger.fail(self.anchor, &Place::Component(self.component), reason);
        ledger.release(self.anchor);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if std::thread::panicking() && self.anchor == self.lane.anchor.get() {
            // The lane fails the tuple with the message of the panic.
            self.lane.ledger.borrow_mut().release(self.anchor);
        } else {
            self.fail("a held tuple was dropped without an ack");
        }
    }
}

impl<T> Deref for Tuple<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Tuple<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

mod sealed {
    pub trait Anchored {
        fn anchor(&self) -> crate::ledger::Anchor;
    }
}

/// A [`Tuple`] of any type, as an anchor of [`crate::Emitter::emit_anchored`].
pub trait Anchored: sealed::Anchored {}

impl<T> sealed::Anchored for Tuple<T> {
    fn anchor(&self) -> Anchor {
        self.held.anchor
    }
}

impl<T> Anchored for Tuple<T> {}

/// The failure of a root, for [`crate::Spout::fail`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The component or edge that could not handle a tuple of the root.
    pub place: Arc<str>,
    /// The reason: the text of [`crate::Emitter::fail`], a panic, or a deadline.
    pub reason: String,
    pub(crate) at: Place,
}
