//! Type-erased components, as a lane runs them.

use std::any::{Any, TypeId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use wire::EnvelopeRef;

use crate::component::{DueTimes, InboxSpout, SourceContext, Spout, StateSchema, SystemBolt, View};
use crate::emitter::{ComponentWork, Emitter, LaneContext, Place};
use crate::input::{Delivery, Rejected, Unreadable};
use crate::place::LaneInfo;
use crate::settings::Settings;
use crate::snapshot::{Saver, Stored};
use crate::state::{SavedState, StateValue};
use crate::waits::Wait;
use crate::wiring::{AnyQueue, Queue, Wired, typed};

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
    fn emitter<T: 'static>(self) -> Emitter<T> {
        Emitter { lane: self.lane, component: self.component, main: Wired::port(self.main), sides: self.sides }
    }
}

/// A component without its types.
pub(crate) trait Node {
    fn prepare(&mut self, lane: &LaneInfo);
    /// Opens a spout: its lane begins to run.
    fn open(&mut self, _source: &SourceContext) {}
    fn configure(&mut self, settings: &Settings);
    /// Starts a bolt: an owner has taken the lane over.
    fn start(&mut self) {}
    /// Handles at most `most` tuples of its queue; returns how many.
    fn run(&mut self, most: usize) -> usize;
    /// Handles the timeout of its timer `key`.
    fn on_timer(&mut self, _key: u64) {}
    /// Empties its queue; returns the number of dropped tuples.
    fn discard(&mut self) -> usize {
        0
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
    /// Calls a spout once; returns false if it emitted nothing or is no spout.
    fn next(&mut self) -> bool {
        false
    }
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
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        lane.roll_back(&savepoint);
        lane.count(crate::names::PANICS, Vec::new(), 1);
        format!("it panicked: {}", panic_text(panic.as_ref()))
    })
}

/// Runs a call of a component and counts what it emitted. A panic fails its tuple.
#[inline]
fn called<R>(lane: &LaneContext, component: u16, code: impl FnOnce() -> R) -> Option<R> {
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

pub(crate) struct BoltNode<B: SystemBolt> {
    bolt: B,
    queue: Rc<Queue<B::In>>,
    out: Emitter<B::Out>,
}

impl<B: SystemBolt> BoltNode<B> {
    pub(crate) fn new(bolt: B, context: NodeContext) -> Self {
        Self { bolt, queue: typed(&context.queue), out: context.emitter() }
    }
}

impl<B: SystemBolt> Node for BoltNode<B> {
    fn prepare(&mut self, lane: &LaneInfo) {
        self.bolt.prepare(lane);
    }

    fn configure(&mut self, settings: &Settings) {
        self.bolt.configure(settings);
    }

    fn run(&mut self, most: usize) -> usize {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        let mut done = 0;
        while done < most
            && let Some(input) = self.queue.pop()
        {
            called(&lane, component, || self.bolt.execute(input, &mut self.out));
            done += 1;
        }
        ComponentWork::add(&lane.work(component).executed, done as u64);
        done
    }

    fn start(&mut self) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.bolt.start(&mut self.out));
    }

    fn on_timer(&mut self, key: u64) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.bolt.on_timer(key, &mut self.out));
    }

    fn discard(&mut self) -> usize {
        self.queue.discard()
    }

    fn view(&self, key: &str, timers: &dyn DueTimes) -> Option<View> {
        self.bolt.view(key, timers)
    }

    fn view_subject(&self) -> &'static str {
        B::VIEWS
    }

    fn timer_for(&self, component: u16, key: u64) -> Option<u64> {
        self.bolt.timer_for(component, key)
    }

    fn schema(&mut self) -> Option<StateSchema> {
        self.bolt.schema()
    }

    fn save(&mut self, saver: &mut Saver<'_>) -> Result<(), String> {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.bolt.save(saver))
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.bolt.load(stored)).unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.bolt.loaded()).unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn unfinished(&self) -> Vec<String> {
        self.bolt.unfinished()
    }

    fn waits(&self) -> Option<Vec<Wait>> {
        self.bolt.waits()
    }

    fn cleanup(&mut self) {
        self.bolt.cleanup();
    }
}

pub(crate) struct SpoutNode<S: Spout> {
    spout: S,
    position: StateValue<S::Position>,
    out: Emitter<S::Out>,
}

impl<S: Spout> SpoutNode<S> {
    pub(crate) fn new(spout: S, context: NodeContext) -> Self {
        Self { spout, position: StateValue::default(), out: context.emitter() }
    }

    /// The name of the saved position.
    const POSITION: &'static str = "position";

    /// Returns the schema of the saved position; `None` if the position is `()`.
    pub(crate) fn schema() -> Option<StateSchema> {
        let has_position = TypeId::of::<S::Position>() != TypeId::of::<()>();
        has_position.then(|| StateSchema { version: 1, parts: vec![Self::POSITION] })
    }
}

impl<S: Spout> Node for SpoutNode<S> {
    fn prepare(&mut self, _lane: &LaneInfo) {}

    fn open(&mut self, source: &SourceContext) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.spout.open(source));
    }

    fn configure(&mut self, settings: &Settings) {
        self.spout.configure(settings);
    }

    fn run(&mut self, _most: usize) -> usize {
        0
    }

    fn next(&mut self) -> bool {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.spout.next(&mut self.position, &mut self.out)).unwrap_or_default()
    }

    fn schema(&mut self) -> Option<StateSchema> {
        Self::schema()
    }

    fn save(&mut self, saver: &mut Saver<'_>) -> Result<(), String> {
        let lane = Rc::clone(&self.out.lane);
        let position = &mut self.position;
        guarded(&lane, || {
            if Self::schema().is_some() {
                SavedState::saving(saver).value(Self::POSITION, position);
            }
        })
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        let position = &mut self.position;
        let loaded = guarded(&lane, || {
            let mut loading = SavedState::loading(stored);
            loading.value(Self::POSITION, position);
            loading.loaded()
        });
        loaded.unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn waits(&self) -> Option<Vec<Wait>> {
        Some(Vec::new())
    }

    fn cleanup(&mut self) {
        self.spout.close();
    }
}

pub(crate) struct InboxNode<S: InboxSpout> {
    spout: S,
    out: Emitter<S::Out>,
}

impl<S: InboxSpout> InboxNode<S> {
    pub(crate) fn new(spout: S, context: NodeContext) -> Self {
        Self { spout, out: context.emitter() }
    }
}

impl<S: InboxSpout> Node for InboxNode<S> {
    fn prepare(&mut self, lane: &LaneInfo) {
        self.spout.prepare(lane);
    }

    fn configure(&mut self, _settings: &Settings) {}

    fn run(&mut self, _most: usize) -> usize {
        0
    }

    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        self.spout.accepts(envelope)
    }

    fn reject(&mut self, rejected: &Rejected<'_>) -> bool {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.spout.reject(rejected, &mut self.out)).unwrap_or_default()
    }

    fn receive(&mut self, delivery: &Delivery<'_>) -> Result<(), Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        let received = guarded(&lane, || self.spout.receive(delivery, &mut self.out));
        if received.is_ok() {
            lane.count_emits(self.out.component);
        }
        received.unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn cleanup(&mut self) {}
}
