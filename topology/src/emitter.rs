//! What a component does to the world: it emits tuples and decides effects.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use wire::{OperationId, WallTime};

use crate::component::LaneInfo;
use crate::counts::Label;
use crate::outbox::{Effects, Level, Line, Message, TimerEffect, ViewChange};

/// A named stream beside the main one. Declared as a constant, so that the one who emits and the one who reads speak of the
/// same thing, with the same type.
///
/// ```
/// use topology::Side;
/// const REJECTED: Side<String> = Side::named("rejected");
/// assert_eq!(REJECTED.name(), "rejected");
/// ```
pub struct Side<T> {
    name: &'static str,
    tuples: PhantomData<fn() -> T>,
}

impl<T> Clone for Side<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Side<T> {}

impl<T> Side<T> {
    /// The side stream `name`.
    pub const fn named(name: &'static str) -> Self {
        Self { name, tuples: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// Takes tuples of one stream towards one reader.
pub(crate) trait Sink<T> {
    fn push(&self, tuple: T, lane: &LaneContext);
}

/// All readers of one stream.
pub(crate) struct Port<T> {
    pub(crate) sinks: Vec<Box<dyn Sink<T>>>,
    /// Copies a tuple for all readers but the last; none where the type cannot, and then there is one reader at most.
    pub(crate) copy: Option<fn(&T) -> T>,
}

impl<T> Port<T> {
    fn push(&self, tuple: T, lane: &LaneContext) {
        let Some((last, others)) = self.sinks.split_last() else { return };
        for sink in others {
            let copy = self.copy.expect("a stream with several readers has tuples that can be copied");
            sink.push(copy(&tuple), lane);
        }
        last.push(tuple, lane);
    }
}

/// An edge to another stage, and how many tuples were sent on it.
pub(crate) type SentOn = (Arc<str>, Rc<Cell<u64>>);

/// A queue that can give back the tuple it took last.
pub(crate) trait TakeBack {
    fn take_back(&self);
}

impl<T> TakeBack for RefCell<VecDeque<T>> {
    fn take_back(&self) {
        drop(self.borrow_mut().pop_back());
    }
}

/// An action of a call outside of [`Effects`], which can be undone.
pub(crate) enum Emitted {
    /// Pushed a tuple onto a queue of the lane.
    Queued(Rc<dyn TakeBack>),
    /// Numbered a tuple for another stage.
    Sent(Rc<Cell<u64>>),
    /// Let a counter grow.
    Counted(&'static str, Vec<Label>, u64),
}

/// Where a call began: everything after it is discarded if the call panics.
pub(crate) struct Savepoint {
    messages: usize,
    timers: usize,
    views: usize,
    lines: usize,
    ready: usize,
}

/// Which part of a lane could not handle a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A component, by its number.
    Component(u16),
    /// An edge to another stage, by its name.
    Edge(Arc<str>),
}

/// Tuples of one step that could not be handled in one place.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) place: Place,
    /// Why the first of them could not.
    pub(crate) reason: String,
    pub(crate) tuples: usize,
}

/// What all components of a lane share while they run: what is ready, what was decided, what is being handled.
pub(crate) struct LaneContext {
    pub(crate) info: LaneInfo,
    pub(crate) effects: RefCell<Effects>,
    /// Nodes with something in their queue, in the order in which they got it.
    pub(crate) ready: RefCell<VecDeque<u16>>,
    /// The time of the record being handled.
    pub(crate) record_time: Cell<WallTime>,
    /// Where that is a tuple of another stage: when that sent it.
    pub(crate) sent_time: Cell<Option<WallTime>>,
    /// Seeded from the record.
    pub(crate) random: Cell<u64>,
    /// How many tuples were sent on each edge that leads to another stage.
    pub(crate) sent: RefCell<Vec<SentOn>>,
    /// The actions of the running call, to be undone if it panics.
    emitted: RefCell<Vec<Emitted>>,
    /// The failures of this step: at most one entry for each component and edge.
    failures: RefCell<Vec<Failure>>,
}

impl LaneContext {
    pub(crate) fn new(info: LaneInfo) -> Self {
        Self {
            info,
            effects: RefCell::default(),
            ready: RefCell::default(),
            record_time: Cell::default(),
            sent_time: Cell::default(),
            random: Cell::new(0),
            sent: RefCell::default(),
            emitted: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Begins a call of a component.
    pub(crate) fn savepoint(&self) -> Savepoint {
        self.emitted.borrow_mut().clear();
        let effects = self.effects.borrow();
        Savepoint {
            messages: effects.messages.len(),
            timers: effects.timers.len(),
            views: effects.views.len(),
            lines: effects.lines.len(),
            ready: self.ready.borrow().len(),
        }
    }

    /// Discards everything that the call since `savepoint` emitted and decided.
    pub(crate) fn roll_back(&self, savepoint: &Savepoint) {
        for emitted in self.emitted.borrow_mut().drain(..).rev() {
            match emitted {
                Emitted::Queued(queue) => queue.take_back(),
                Emitted::Sent(sent) => sent.set(sent.get() - 1),
                Emitted::Counted(name, labels, by) => self.effects.borrow_mut().counts.take_back(name, &labels, by),
            }
        }
        self.ready.borrow_mut().truncate(savepoint.ready);
        let mut effects = self.effects.borrow_mut();
        effects.messages.truncate(savepoint.messages);
        effects.timers.truncate(savepoint.timers);
        effects.views.truncate(savepoint.views);
        effects.lines.truncate(savepoint.lines);
    }

    /// Notes what the running call did outside of the effects.
    pub(crate) fn emitted(&self, emitted: Emitted) {
        self.emitted.borrow_mut().push(emitted);
    }

    /// Tuples could not be handled: the step that they belong to goes to the dead-letter topic.
    pub(crate) fn fail(&self, place: Place, reason: impl Into<String>, tuples: usize) {
        let mut failures = self.failures.borrow_mut();
        match failures.iter_mut().find(|failure| failure.place == place) {
            Some(failure) => failure.tuples += tuples,
            None => failures.push(Failure { place, reason: reason.into(), tuples }),
        }
    }

    /// Takes the failures since the last call.
    pub(crate) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.failures.borrow_mut())
    }

    /// What counts the tuples of an edge to another stage.
    pub(crate) fn count_of(&self, edge: &Arc<str>) -> Rc<Cell<u64>> {
        let count = Rc::new(Cell::new(0));
        self.sent.borrow_mut().push((Arc::clone(edge), Rc::clone(&count)));
        count
    }

    /// Begins a step: from here on, chance and time are the record's.
    pub(crate) fn begin(&self, offset: u64, time: WallTime) {
        self.record_time.set(time);
        self.sent_time.set(None);
        self.emitted.borrow_mut().clear();
        self.random.set((u64::from(self.info.lane) << 48) ^ offset);
    }

    pub(crate) fn count(&self, name: &'static str, labels: Vec<Label>, by: u64) {
        self.emitted(Emitted::Counted(name, labels.clone(), by));
        self.effects.borrow_mut().counts.add(name, labels, by);
    }

    pub(crate) fn line(&self, level: Level, operation: Option<&OperationId>, text: Cow<'static, str>) {
        let mut effects = self.effects.borrow_mut();
        if effects.lines.len() < Effects::LINES {
            effects.lines.push(Line { level, operation: operation.cloned(), text });
        }
    }
}

/// What a component emits with. `T` is the type of its main stream.
pub struct Emitter<T> {
    pub(crate) lane: Rc<LaneContext>,
    pub(crate) component: u16,
    pub(crate) main: Port<T>,
    pub(crate) sides: Vec<(&'static str, Box<dyn Any>)>,
}

impl<T: 'static> Emitter<T> {
    /// Emits a tuple on the main stream.
    pub fn emit(&mut self, tuple: T) {
        self.main.push(tuple, &self.lane);
    }

    /// Emits a tuple on a side stream.
    ///
    /// # Panics
    /// Where the component did not declare the stream, with this type: a fault of the component that its first test finds.
    pub fn side<S: 'static>(&mut self, side: Side<S>, tuple: S) {
        let found = self.sides.iter().find(|(name, _)| *name == side.name);
        let port = found.and_then(|(_, port)| port.downcast_ref::<Port<S>>());
        port.unwrap_or_else(|| panic!("side stream `{}` was not declared", side.name)).push(tuple, &self.lane);
    }

    /// Writes a record when the step is committed.
    pub fn publish(&mut self, message: Message) {
        self.lane.effects.borrow_mut().messages.push(message);
    }

    /// Lets a timeout come `after_ms` milliseconds after the commit of this step: a record of kind `nave.timeout` in the
    /// lane's own inbox, with the component's name as its subject. A timer that is armed is armed anew.
    pub fn arm(&mut self, timer: u64, generation: u32, after_ms: u64) {
        self.timer(TimerEffect::Arm { timer, generation, after_ms });
    }

    /// Forgets a timer. A timeout that is on its way comes all the same: its generation tells it.
    pub fn disarm(&mut self, timer: u64) {
        self.timer(TimerEffect::Disarm { timer });
    }

    fn timer(&mut self, effect: TimerEffect) {
        self.lane.effects.borrow_mut().timers.push((self.component, effect));
    }

    /// Says that the view of `key` has changed: the shell asks [`crate::Bolt::view`] for it in its own time.
    pub fn changed(&mut self, key: &Arc<str>) {
        self.view_change(key, false);
    }

    /// Says that there is nothing to see of `key` any more: what was published of it is deleted in the same commit.
    pub fn closed(&mut self, key: &Arc<str>) {
        self.view_change(key, true);
    }

    fn view_change(&mut self, key: &Arc<str>, last: bool) {
        let change = ViewChange { component: self.component, key: Arc::clone(key), last };
        let mut effects = self.lane.effects.borrow_mut();
        // One step often changes one key several times.
        if effects.views.last() != Some(&change) {
            effects.views.push(change);
        }
    }

    /// Adds one to a counter. Replays are not counted.
    pub fn count(&mut self, name: &'static str) {
        self.lane.count(name, Vec::new(), 1);
    }

    /// Adds one to a counter with labels. Their values must be few: each combination is a time series.
    pub fn count_labelled(&mut self, name: &'static str, labels: Vec<Label>) {
        self.lane.count(name, labels, 1);
    }

    /// Writes a line to the log, once the step is committed. Replays write none.
    pub fn log(&mut self, level: Level, operation: Option<&OperationId>, text: impl Into<Cow<'static, str>>) {
        self.lane.line(level, operation, text.into());
    }

    /// A number by chance, the same at each replay: seeded from the record that is being handled (`SplitMix64`, Steele,
    /// Lea, Flood 2014).
    pub fn random(&mut self) -> u64 {
        let state = self.lane.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.lane.random.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// When the bus appended the record that is being handled. Part of the log, so the same at each replay; not a clock.
    pub fn record_time(&self) -> WallTime {
        self.lane.record_time.get()
    }

    /// When the tuple of another stage that is being handled was sent, on that stage's clock; none where what is handled began in
    /// this lane. Part of the log too.
    pub fn sent_time(&self) -> Option<WallTime> {
        self.lane.sent_time.get()
    }

    /// Where this is.
    pub fn lane(&self) -> &LaneInfo {
        &self.lane.info
    }
}
