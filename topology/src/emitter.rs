//! How a component acts: it emits tuples and decides effects.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use bus::Record;
use wire::{OperationId, WallTime};

use crate::counts::Label;
use crate::outbox::{Effects, Level, Line, Message, TimerEffect, ViewChange};
use crate::place::LaneInfo;

/// A named stream beside the main one. Declare it as a constant, so that emitter and reader use the
/// same name and type.
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
    /// Returns the side stream `name`.
    pub const fn named(name: &'static str) -> Self {
        Self { name, tuples: PhantomData }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// Sends tuples of one stream to one reader.
pub(crate) trait Sink<T> {
    fn push(&self, tuple: T, lane: &LaneContext);
}

/// All readers of one stream.
pub(crate) struct Port<T> {
    pub(crate) sinks: Vec<Box<dyn Sink<T>>>,
    /// Copies a tuple for all readers but the last. `None` if the type cannot be copied; the stream
    /// then has at most one reader.
    pub(crate) copy: Option<fn(&T) -> T>,
}

impl<T> Port<T> {
    #[inline]
    fn push(&self, tuple: T, lane: &LaneContext) {
        let Some((last, others)) = self.sinks.split_last() else { return };
        for sink in others {
            let copy = self.copy.expect("a stream with several readers has tuples that can be copied");
            sink.push(copy(&tuple), lane);
        }
        last.push(tuple, lane);
    }
}

/// A queue without its type.
pub(crate) trait AnyQueue: Any {
    /// Removes the tuples that the call has pushed. It has popped none: a component takes a tuple
    /// before its call.
    fn take_back(&self, call: u64);
}

/// The name of an edge to another stage, and the number of tuples sent on it.
pub(crate) type SentOn = (Arc<str>, Rc<Cell<u64>>);

/// An action of a call that is neither part of [`Effects`] nor a queued tuple, and can be undone.
pub(crate) enum Emitted {
    /// Used a number for a tuple to another stage.
    Sent(Rc<Cell<u64>>),
    /// Increased a counter.
    Counted(&'static str, Vec<Label>, u64),
}

/// The state at the start of a call: if the call panics, everything after it is discarded.
pub(crate) struct Savepoint {
    messages: usize,
    timers: usize,
    views: usize,
    lines: usize,
    ready: usize,
}

/// The component or edge that could not handle a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A component, by its number.
    Component(u16),
    /// An edge to another stage, by its name.
    Edge(Arc<str>),
}

/// The tuples of one step that failed in one place.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) place: Place,
    /// The reason of the first failure.
    pub(crate) reason: String,
    pub(crate) tuples: usize,
    /// The record that failed, if it is not that of the step.
    pub(crate) record: Option<Record>,
}

/// Counts of the tuples of one component.
#[derive(Debug, Default)]
pub(crate) struct ComponentWork {
    pub(crate) executed: Cell<u64>,
    pub(crate) emitted: Cell<u64>,
    pub(crate) failed: Cell<u64>,
}

impl ComponentWork {
    pub(crate) fn add(count: &Cell<u64>, by: u64) {
        count.set(count.get() + by);
    }
}

/// The state that all components of a lane share while they run.
pub(crate) struct LaneContext {
    pub(crate) info: LaneInfo,
    pub(crate) effects: RefCell<Effects>,
    /// Nodes with queued tuples, in the order in which their queues became non-empty.
    pub(crate) ready: RefCell<VecDeque<u16>>,
    /// The time of the current record.
    pub(crate) record_time: Cell<WallTime>,
    /// If the current record is a tuple of another stage: the time at which that stage sent it.
    pub(crate) sent_time: Cell<Option<WallTime>>,
    /// The PRNG state, seeded from the record.
    pub(crate) random: Cell<u64>,
    /// The offset of the current or last record.
    offset: Cell<u64>,
    /// The number of steps without a record that have armed a timer since then.
    steps: Cell<u64>,
    /// True if `steps` contains the current step, or the step has a record.
    is_counted: Cell<bool>,
    /// The number of tuples sent on each edge to another stage.
    pub(crate) sent: RefCell<Vec<SentOn>>,
    /// The queues of the lane.
    queues: Vec<Rc<dyn AnyQueue>>,
    /// The work of each component since the last look.
    work: Vec<ComponentWork>,
    /// The number of the running call.
    call: Cell<u64>,
    /// The number of tuples that the running call emitted.
    emits: Cell<u64>,
    /// The actions of the running call, undone if it panics.
    emitted: RefCell<Vec<Emitted>>,
    /// The failures of this step: at most one entry per component and edge, and one for each record
    /// that a spout could not read.
    failures: RefCell<Vec<Failure>>,
}

impl LaneContext {
    pub(crate) fn new(info: LaneInfo, queues: Vec<Rc<dyn AnyQueue>>, components: usize) -> Self {
        Self {
            info,
            queues,
            work: (0..components).map(|_| ComponentWork::default()).collect(),
            call: Cell::new(0),
            emits: Cell::new(0),
            effects: RefCell::default(),
            ready: RefCell::default(),
            record_time: Cell::default(),
            sent_time: Cell::default(),
            random: Cell::new(0),
            offset: Cell::new(0),
            steps: Cell::new(0),
            is_counted: Cell::new(true),
            sent: RefCell::default(),
            emitted: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Starts a call of a component.
    #[inline]
    pub(crate) fn savepoint(&self) -> Savepoint {
        self.call.set(self.call.get() + 1);
        self.emits.set(0);
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
        self.emits.set(0);
        let call = self.call.get();
        self.queues.iter().for_each(|queue| queue.take_back(call));
        for emitted in self.emitted.borrow_mut().drain(..).rev() {
            match emitted {
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

    /// Returns the work of a component.
    pub(crate) fn work(&self, component: u16) -> &ComponentWork {
        &self.work[usize::from(component)]
    }

    /// Counts the tuples that the last call of a component emitted. Not called for a call that
    /// panicked.
    #[inline]
    pub(crate) fn count_emits(&self, component: u16) {
        ComponentWork::add(&self.work(component).emitted, self.emits.get());
    }

    /// True if the last call emitted a tuple.
    pub(crate) fn has_emitted(&self) -> bool {
        self.emits.get() > 0
    }

    /// Returns the number of the running call.
    #[inline]
    pub(crate) fn call(&self) -> u64 {
        self.call.get()
    }

    /// True if tuples have failed since the last [`LaneContext::take_failures`].
    #[inline]
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.borrow().is_empty()
    }

    /// Records an action of the running call outside of the effects.
    pub(crate) fn emitted(&self, emitted: Emitted) {
        self.emitted.borrow_mut().push(emitted);
    }

    /// Records failed tuples: the step that they belong to goes to the dead-letter topic.
    pub(crate) fn fail(&self, place: Place, reason: impl Into<String>, tuples: usize) {
        if let Place::Component(component) = place {
            ComponentWork::add(&self.work(component).failed, tuples as u64);
        }
        let mut failures = self.failures.borrow_mut();
        match failures.iter_mut().find(|failure| failure.place == place && failure.record.is_none()) {
            Some(failure) => failure.tuples += tuples,
            None => failures.push(Failure { place, reason: reason.into(), tuples, record: None }),
        }
    }

    /// Returns and clears the failures since the last call.
    pub(crate) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.failures.borrow_mut())
    }

    /// Returns the counter of tuples of an edge to another stage.
    pub(crate) fn count_of(&self, edge: &Arc<str>) -> Rc<Cell<u64>> {
        let count = Rc::new(Cell::new(0));
        self.sent.borrow_mut().push((Arc::clone(edge), Rc::clone(&count)));
        count
    }

    /// Starts a step: sets time and PRNG seed from the record.
    pub(crate) fn begin(&self, offset: u64, time: WallTime) {
        self.offset.set(offset);
        self.steps.set(0);
        self.is_counted.set(true);
        self.record_time.set(time);
        self.sent_time.set(None);
        self.emitted.borrow_mut().clear();
        self.random.set((u64::from(self.info.lane) << 48) ^ offset);
    }

    /// Starts a step of spouts.
    #[inline]
    pub(crate) fn begin_without_record(&self) {
        self.is_counted.set(false);
        self.sent_time.set(None);
    }

    /// Returns a generation for the timers that this step arms. No other step of the lane has it, and
    /// a replay of the record gives the same one, whatever other components do. Two armings of one
    /// timer in a step may share it: nothing fires in between. Each timer that fires is a record, so
    /// 2^20 steps of spouts that arm one timer between two records do not happen, and an offset of
    /// 2^44 is never reached.
    fn generation(&self) -> u64 {
        if !self.is_counted.replace(true) {
            self.steps.set(self.steps.get() + 1);
        }
        (self.offset.get() << 20) | (self.steps.get() & ((1 << 20) - 1))
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

/// Emits tuples and decides effects for a component. `T` is the type of its main stream.
pub struct Emitter<T> {
    pub(crate) lane: Rc<LaneContext>,
    pub(crate) component: u16,
    pub(crate) main: Port<T>,
    pub(crate) sides: Vec<(&'static str, Box<dyn Any>)>,
}

impl<T: 'static> Emitter<T> {
    /// Emits a tuple on the main stream.
    #[inline]
    pub fn emit(&mut self, tuple: T) {
        ComponentWork::add(&self.lane.emits, 1);
        self.main.push(tuple, &self.lane);
    }

    /// Emits a tuple on a side stream.
    ///
    /// # Panics
    /// If the component did not declare the stream with this type. Its first test finds such a bug.
    pub fn side<S: 'static>(&mut self, side: Side<S>, tuple: S) {
        let found = self.sides.iter().find(|(name, _)| *name == side.name);
        let port = found.and_then(|(_, port)| port.downcast_ref::<Port<S>>());
        ComponentWork::add(&self.lane.emits, 1);
        port.unwrap_or_else(|| panic!("side stream `{}` is not declared", side.name)).push(tuple, &self.lane);
    }

    /// Fails the current tuple: writes it to the dead-letter topic, with this component and the
    /// reason. The tuples that were emitted for it stay.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.lane.fail(Place::Component(self.component), reason, 1);
    }

    /// For spouts that read records: writes a record that cannot be read to the dead-letter topic.
    pub fn fail_record(&mut self, record: &Record, reason: impl Into<String>) {
        ComponentWork::add(&self.lane.work(self.component).failed, 1);
        let (place, record) = (Place::Component(self.component), Some(record.clone()));
        self.lane.failures.borrow_mut().push(Failure { place, reason: reason.into(), tuples: 1, record });
    }

    /// Writes a record in the commit of this step.
    pub fn publish(&mut self, message: Message) {
        self.lane.effects.borrow_mut().messages.push(message);
    }

    /// For bolts: calls [`crate::Bolt::on_timer`] with `key`, `after_ms` milliseconds after the commit
    /// of this step. Each component has its own keys. A timer that is armed with this key is
    /// replaced. A timer survives a takeover, unless a tuple of a spout without a position armed it less
    /// than a snapshot interval before a crash.
    pub fn after(&mut self, key: u64, after_ms: u64) {
        self.arm(key, self.lane.generation(), after_ms);
    }

    /// Arms a timer with a generation that the component chooses: another one each time, derived from
    /// saved state, so that a replay chooses the same. The timeout comes `after_ms` milliseconds
    /// after the commit of this step, as a record of kind `nave.timeout` in the lane's own inbox with
    /// the component's name as its subject. Arming an armed timer replaces it.
    pub fn arm(&mut self, timer: u64, generation: u64, after_ms: u64) {
        self.timer(TimerEffect::Arm { timer, generation, after_ms });
    }

    /// Disarms a timer. A timeout that is already in the inbox has no effect then.
    pub fn disarm(&mut self, timer: u64) {
        self.timer(TimerEffect::Disarm { timer });
    }

    fn timer(&mut self, effect: TimerEffect) {
        self.lane.effects.borrow_mut().timers.push((self.component, effect));
    }

    /// Marks the view of `key` as changed. The shard calls [`crate::SystemBolt::view`] later.
    pub fn changed(&mut self, key: &Arc<str>) {
        self.view_change(key, false);
    }

    /// Marks the view of `key` as closed. The published view is deleted in the same commit.
    pub fn closed(&mut self, key: &Arc<str>) {
        self.view_change(key, true);
    }

    fn view_change(&mut self, key: &Arc<str>, last: bool) {
        let change = ViewChange { component: self.component, key: Arc::clone(key), last };
        let mut effects = self.lane.effects.borrow_mut();
        // A step often changes one key several times.
        if effects.views.last() != Some(&change) {
            effects.views.push(change);
        }
    }

    /// Increments a counter by one. Replays are not counted.
    pub fn count(&mut self, name: &'static str) {
        self.count_by(name, 1);
    }

    /// Increments a counter by `by`. Replays are not counted.
    pub fn count_by(&mut self, name: &'static str, by: u64) {
        self.lane.count(name, Vec::new(), by);
    }

    /// Increments a counter with labels by one. Their values must be few: each combination is a time
    /// series.
    pub fn count_labelled(&mut self, name: &'static str, labels: Vec<Label>) {
        self.lane.count(name, labels, 1);
    }

    /// Writes a log line after the commit of the step. Replays write none.
    pub fn log(&mut self, level: Level, operation: Option<&OperationId>, text: impl Into<Cow<'static, str>>) {
        self.lane.line(level, operation, text.into());
    }

    /// Returns a pseudo-random number that is the same in each replay. The seed is derived from the
    /// current record.
    pub fn random(&mut self) -> u64 {
        let mut state = self.lane.random.get();
        let number = wire::hash::splitmix64(&mut state);
        self.lane.random.set(state);
        number
    }

    /// Returns when the bus appended the current record. It is part of the log, so it is the same
    /// in each replay; it is not a clock.
    pub fn record_time(&self) -> WallTime {
        self.lane.record_time.get()
    }

    /// Returns when another stage sent the current tuple, on that stage's clock; `None` if the
    /// tuple began in this lane. It is part of the log.
    pub fn sent_time(&self) -> Option<WallTime> {
        self.lane.sent_time.get()
    }

    /// Returns the lane of this component.
    pub fn lane(&self) -> &LaneInfo {
        &self.lane.info
    }
}
