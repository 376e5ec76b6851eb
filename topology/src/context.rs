//! The state that the components of a lane share while they run.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bus::Record;
use wire::{OperationId, WallTime};

use crate::counts::Label;
use crate::ledger::{Anchor, Ledger, Limits};
use crate::outbox::{Effects, Level, Line};
use crate::place::{LaneInfo, Place};

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
    pub(crate) fn push(&self, tuple: T, lane: &LaneContext) {
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
    /// Removes the tuples that the call has pushed, with their references. It has popped none: a
    /// component takes a tuple before its call.
    fn take_back(&self, call: u64, ledger: &RefCell<Ledger>);
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
    opened: usize,
    acked: usize,
    anchor: Anchor,
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

/// Anchors emitted tuples while it lives, also if the emitting code panics.
pub(crate) struct AnchorGuard<'a> {
    lane: &'a LaneContext,
    previous: Anchor,
    anchor: Anchor,
}

impl Drop for AnchorGuard<'_> {
    fn drop(&mut self) {
        self.lane.anchor.set(self.previous);
        self.lane.ledger.borrow_mut().release(self.anchor);
    }
}

/// Counts of the tuples of one component.
#[derive(Debug, Default)]
pub(crate) struct ComponentWork {
    pub(crate) executed: Cell<u64>,
    pub(crate) emitted: Cell<u64>,
    pub(crate) failed: Cell<u64>,
    /// The roots of a spout that were acked.
    pub(crate) acked: Cell<u64>,
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
    /// True if the current step has a record.
    has_record: Cell<bool>,
    /// True if `steps` contains the current step, or the step has a record.
    is_counted: Cell<bool>,
    /// The number of tuples sent on each edge to another stage.
    pub(crate) sent: RefCell<Vec<SentOn>>,
    /// The ack trees of the lane.
    pub(crate) ledger: RefCell<Ledger>,
    /// The anchor of the tuples that are emitted now.
    pub(crate) anchor: Cell<Anchor>,
    /// Milliseconds after which a spout asks to be called again.
    pub(crate) call_after_ms: Cell<Option<u64>>,
    /// The queues of the lane.
    queues: Vec<Rc<dyn AnyQueue>>,
    /// The work of each component since the last look.
    work: Vec<ComponentWork>,
    /// The number of the running call.
    call: Cell<u64>,
    /// The number of tuples that the running call emitted.
    pub(crate) emits: Cell<u64>,
    /// The actions of the running call, undone if it panics.
    emitted: RefCell<Vec<Emitted>>,
    /// The failures of this step: one entry per component and edge, or of a step without a record one for
    /// each tuple, and one for each record that a spout could not read.
    pub(crate) failures: RefCell<Vec<Failure>>,
}

impl LaneContext {
    /// Maximum number of failures of one step that are reported one by one: a row of a spout has 16
    /// tuples. Further ones are counted only, by place.
    const FAILURES: usize = 256;

    pub(crate) fn new(info: LaneInfo, queues: Vec<Rc<dyn AnyQueue>>, spouts: Vec<Option<Limits>>) -> Self {
        Self {
            info,
            queues,
            work: spouts.iter().map(|_| ComponentWork::default()).collect(),
            ledger: RefCell::new(Ledger::new(spouts)),
            anchor: Cell::new(Anchor::NONE),
            call_after_ms: Cell::new(None),
            call: Cell::new(0),
            emits: Cell::new(0),
            effects: RefCell::default(),
            ready: RefCell::default(),
            record_time: Cell::default(),
            sent_time: Cell::default(),
            random: Cell::new(0),
            offset: Cell::new(0),
            steps: Cell::new(0),
            has_record: Cell::new(false),
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
        let ledger = self.ledger.borrow();
        Savepoint {
            messages: effects.messages.len(),
            timers: effects.timers.len(),
            views: effects.views.len(),
            lines: effects.lines.len(),
            ready: self.ready.borrow().len(),
            opened: ledger.opened(),
            acked: ledger.acked(),
            anchor: self.anchor.get(),
        }
    }

    /// Anchors the tuples that are emitted while the guard lives. The guard takes over a reference of the
    /// anchor.
    pub(crate) fn anchored_to(&self, anchor: Anchor) -> AnchorGuard<'_> {
        AnchorGuard { lane: self, previous: self.anchor.replace(anchor), anchor }
    }

    /// Discards everything that the call since `savepoint` emitted and decided, and fails the held
    /// tuples that it acked.
    pub(crate) fn roll_back(&self, savepoint: &Savepoint, reason: &str) {
        self.emits.set(0);
        let call = self.call.get();
        self.queues.iter().for_each(|queue| queue.take_back(call, &self.ledger));
        let mut ledger = self.ledger.borrow_mut();
        ledger.forget_opened(savepoint.opened);
        ledger.fail_acked(savepoint.acked, reason);
        drop(ledger);
        self.anchor.set(savepoint.anchor);
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

    /// Fails tuples: their root, or if they have none, the step that they belong to, which goes to the
    /// dead-letter topic.
    pub(crate) fn fail(&self, place: Place, reason: impl Into<String>, tuples: usize) {
        if let Place::Component(component) = place {
            ComponentWork::add(&self.work(component).failed, tuples as u64);
        }
        let anchor = self.anchor.get();
        if !anchor.is_none() {
            return self.ledger.borrow_mut().fail(anchor, &place, &reason.into());
        }
        let mut failures = self.failures.borrow_mut();
        // A dead letter of a step with a record names the record. Without one, the reason is all that
        // tells one tuple from another.
        let merges = self.has_record.get() || failures.len() >= Self::FAILURES;
        let same = |failure: &&mut Failure| failure.place == place && failure.record.is_none();
        match failures.iter_mut().filter(|_| merges).find(same) {
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
        self.has_record.set(true);
        self.is_counted.set(true);
        self.record_time.set(time);
        self.sent_time.set(None);
        self.anchor.set(Anchor::NONE);
        self.emitted.borrow_mut().clear();
        self.random.set((u64::from(self.info.lane) << 48) ^ offset);
    }

    /// Starts a step of spouts.
    #[inline]
    pub(crate) fn begin_without_record(&self) {
        self.has_record.set(false);
        self.is_counted.set(false);
        self.sent_time.set(None);
        self.anchor.set(Anchor::NONE);
    }

    /// Returns a generation for the timers that this step arms. No other step of the lane has it, and
    /// a replay of the record gives the same one, whatever other components do. Two armings of one
    /// timer in a step may share it: nothing fires in between. Each timer that fires is a record, so
    /// 2^20 steps of spouts that arm one timer between two records do not happen, and an offset of
    /// 2^44 is never reached.
    pub(crate) fn generation(&self) -> u64 {
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
