//! How a component acts: it emits tuples and decides effects.

use std::any::Any;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use bus::Record;
use wire::{OperationId, WallTime};

use crate::context::{ComponentWork, Failure, LaneContext, Port};
use crate::counts::Label;
use crate::ledger::Anchor;
use crate::outbox::{Level, Message, TimerEffect, ViewChange};
use crate::place::{LaneInfo, Place};
use crate::tracked::{Anchored, Failed, Tuple};

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

    /// For spouts with [`crate::Spout::TRACKS`]: what `emit` emits is one root, and everything that bolts
    /// emit for it belongs to it. [`crate::Spout::ack`] or [`crate::Spout::fail`] is called once for it,
    /// with `id`.
    ///
    /// A tuple that leaves the lane over a topic is done with its commit: the log keeps it.
    ///
    /// # Panics
    /// If the component does not track its tuples.
    pub fn track(&mut self, id: u64, emit: impl FnOnce(&mut Self)) {
        let root = {
            let mut ledger = self.lane.ledger.borrow_mut();
            assert!(ledger.tracks(self.component), "the spout tracks tuples without `Spout::TRACKS`");
            let root = ledger.open(self.component, id);
            ledger.retain(root);
            root
        };
        let lane = Rc::clone(&self.lane);
        let _anchored = lane.anchored_to(root);
        emit(self);
    }

    /// Holds the tuple of this call: its root is acked only after the returned [`Tuple`]. A tuple without
    /// a root, for example one that came over a topic, can be held too, but a takeover loses it: keep it
    /// in saved state.
    pub fn hold<I>(&self, input: I) -> Tuple<I> {
        Tuple::new(input, self.component, &self.lane)
    }

    /// Emits a tuple on the main stream that belongs to the roots of all `anchors`, instead of that of
    /// this call.
    pub fn emit_anchored(&mut self, anchors: &[&dyn Anchored], tuple: T) {
        let anchors: Vec<Anchor> = anchors.iter().map(|tuple| tuple.anchor()).collect();
        let lane = Rc::clone(&self.lane);
        let joined = lane.ledger.borrow_mut().join(&anchors);
        let _anchored = lane.anchored_to(joined);
        self.emit(tuple);
    }

    /// For spouts: calls [`crate::Spout::next`] again `ms` milliseconds after this call at the latest,
    /// also if nothing arrives meanwhile.
    pub fn call_after(&mut self, ms: u64) {
        let asked_ms = &self.lane.call_after_ms;
        asked_ms.set(Some(asked_ms.get().map_or(ms, |asked| asked.min(ms))));
    }

    /// For spouts: writes the failed root to the dead-letter topic.
    pub fn dead_letter(&mut self, failed: &Failed) {
        let Failed { at, reason, .. } = failed.clone();
        self.lane.failures.borrow_mut().push(Failure { place: at, reason, tuples: 1, record: None });
    }

    /// Writes the record of a failed root to the dead-letter topic.
    pub(crate) fn dead_record(&mut self, record: &Record, Failed { at, reason, .. }: Failed) {
        let record = Some(record.clone());
        self.lane.failures.borrow_mut().push(Failure { place: at, reason, tuples: 1, record });
    }

    /// Fails the current tuple, with this component and the reason: its root, or if it has none, the tuple
    /// goes to the dead-letter topic. The tuples that were emitted for it stay.
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
    /// replaced. A timer survives a takeover.
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
