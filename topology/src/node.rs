//! Type-erased components, as a lane runs them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use wire::EnvelopeRef;

use crate::context::{AnyQueue, LaneContext};
use crate::emitter::Emitter;
use crate::input::{Delivery, Rejected, Unreadable};
use crate::place::{LaneInfo, Place, SourceContext};
use crate::settings::Settings;
use crate::snapshot::{Saver, StateSchema, Stored};
use crate::tracked::Failed;
use crate::views::{DueTimes, View};
use crate::waits::Wait;
use crate::wiring::Wired;

/// The place of a component in its lane, and the sinks of its streams.
pub(crate) struct NodeContext {
    pub(crate) component: u16,
    pub(crate) lane: Rc<LaneContext>,
    pub(crate) queue: Rc<dyn AnyQueue>,
    /// A `Wired<Out>` for each reader of the main stream.
    pub(crate) main: Vec<Box<dyn Any>>,
    /// A `Port` for each side stream.
    pub(crate) sides: Vec<(&'static str, Box<dyn Any>)>,
}

impl NodeContext {
    pub(crate) fn emitter<T: 'static>(self) -> Emitter<T> {
        Emitter { lane: self.lane, component: self.component, main: Wired::port(self.main), sides: self.sides }
    }
}

/// A component without its types.
pub(crate) trait Node {
    fn prepare(&mut self, lane: &LaneInfo);
    /// Opens a spout, before its first call.
    fn open(&mut self, _source: &SourceContext) {}
    fn configure(&mut self, settings: &Settings);
    /// Starts a bolt: an owner has taken the lane over.
    fn start(&mut self) {}
    /// Handles at most `most` tuples of its queue; returns how many.
    fn run(&mut self, most: usize) -> usize;
    /// Handles the timeout of its timer `key`.
    fn on_timer(&mut self, _key: u64) {}
    /// Fails all tuples of its queue. Returns true if there were any.
    fn discard(&mut self, _reason: &str) -> bool {
        false
    }
    fn accepts(&self, _envelope: &EnvelopeRef<'_>) -> bool {
        false
    }
    fn receive(&mut self, _delivery: &Delivery<'_>) -> Result<(), Unreadable> {
        Ok(())
    }
    fn reject(&mut self, _rejected: &Rejected<'_>) -> bool {
        false
    }
    /// Calls a spout once; returns false if it has no more now or is no spout.
    fn next(&mut self) -> bool {
        false
    }
    /// Tells a spout that its root was acked, or why it failed.
    fn settle(&mut self, _id: u64, _failure: Option<Failed>) {}
    fn view(&self, _key: &str, _timers: &dyn DueTimes) -> Option<View> {
        None
    }
    fn view_subject(&self) -> &'static str {
        "view"
    }
    fn timer_for(&self, _component: u16, _key: u64) -> Option<u64> {
        None
    }
    /// Returns the schema of its saved state; `None` if nothing is saved.
    fn schema(&mut self) -> Option<StateSchema> {
        None
    }
    /// Saves the changes since the last call.
    ///
    /// # Errors
    /// The message of a panic.
    fn save(&mut self, _saver: &mut Saver<'_>) -> Result<(), String> {
        Ok(())
    }
    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        Err(Unreadable(format!("no component reads the saved state `{}`", stored.key())))
    }
    fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        Ok(Vec::new())
    }
    fn unfinished(&self) -> Vec<String> {
        Vec::new()
    }
    fn waits(&self) -> Option<Vec<Wait>> {
        None
    }
    fn cleanup(&mut self);
}

/// Runs a component's code. If it panics, counts the panic and discards everything that this call
/// emitted and decided. Changes to fields of the component stay.
///
/// # Errors
/// The message of the panic.
#[inline]
pub(crate) fn guarded<R>(lane: &LaneContext, code: impl FnOnce() -> R) -> Result<R, String> {
    let savepoint = lane.savepoint();
    let outcome = catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let reason = format!("it panicked: {}", panic_text(panic.as_ref()));
        lane.roll_back(&savepoint, &reason);
        lane.count(crate::names::PANICS, Vec::new(), 1);
        reason
    });
    lane.ledger.borrow_mut().release_acked();
    outcome
}

/// Runs a call of a component and counts what it emitted. A panic fails its tuple.
#[inline]
pub(crate) fn called<R>(lane: &LaneContext, component: u16, code: impl FnOnce() -> R) -> Option<R> {
    match guarded(lane, code) {
        Ok(result) => {
            lane.count_emits(component);
            Some(result)
        }
        Err(panic) => {
            lane.fail(Place::Component(component), panic, 1);
            None
        }
    }
}

/// Returns the message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
