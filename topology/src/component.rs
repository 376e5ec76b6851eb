//! The traits that users implement: spouts and bolts. Plain synchronous Rust with one caller at a
//! time.
//!
//! A step is a pure function of state and record: no clock, no threads, no environment, no
//! randomness except [`Emitter::random`]. So the saved state of a component is exact after a crash:
//! the lane loads the last snapshot and replays the rest of its inbox. This holds for decisions that
//! depend on saved state, records and positions of spouts alone: volatile fields start anew, and
//! calls of a [`Spout`] without a position are not replayed.

use std::sync::Arc;

use bus::TopicSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::EnvelopeRef;
use wire::topics::Topics;

use crate::budget::Budget;
use crate::declare::Declarer;
use crate::emitter::Emitter;
use crate::input::{Delivery, Rejected, Unreadable};
use crate::place::{ForeignTopic, LaneInfo, SourceContext};
use crate::settings::Settings;
use crate::snapshot::{Saver, StateSchema, Stored};
use crate::state::SavedState;
use crate::tracked::Failed;
use crate::views::{DueTimes, View};
use crate::waits::Wait;

/// Receives tuples and emits tuples.
///
/// Its fields are volatile: a new owner of the lane starts with a new instance. State that has to
/// survive lives in [`crate::StateValue`] and [`crate::StateMap`]; [`Bolt::state`] lists them.
pub trait Bolt: 'static {
    /// The input type. For several inputs, use an enum with a `From` implementation for each.
    type In: 'static;
    /// The tuples of its main stream; `()` if it has none.
    type Out: 'static;

    /// The schema version of its saved state. State of a newer version holds the lane. State of an
    /// older one is read as the present types, so give new fields a serde default, or convert it with
    /// [`SavedState::map_since`]. A state that cannot be read, or that [`Bolt::state`] no longer
    /// lists, holds the lane too.
    const STATE_VERSION: u32 = 1;

    /// Declares side streams and deadlines. Called once, when the topology is declared.
    fn declare(_declarer: &mut Declarer<Self::In>)
    where
        Self: Sized,
    {
    }

    /// Lists the saved containers, each under a fixed name. Every call must list the same ones.
    fn state(&mut self, _saved: &mut SavedState<'_>) {}

    /// Called once per lane, before any other method.
    fn prepare(&mut self, _lane: &LaneInfo) {}

    /// Called with the settings of the build before the first record, and when an owner record
    /// brings new settings.
    fn configure(&mut self, _settings: &Settings) {}

    /// Called when a new owner of the lane begins, the first one included, for example to arm the timer
    /// of a tick; arming an armed timer replaces it. It is a step of the inbox, at which a replay
    /// calls it too.
    fn start(&mut self, _out: &mut Emitter<Self::Out>) {}

    /// Handles one tuple. If it panics, only this tuple fails.
    fn execute(&mut self, input: Self::In, out: &mut Emitter<Self::Out>);

    /// Called when the timer that it armed with [`Emitter::after`] and this key is due. It is not called
    /// for a timer that was disarmed or armed again since.
    fn on_timer(&mut self, _key: u64, _out: &mut Emitter<Self::Out>) {}

    /// Called last, when the lane stops in an orderly way.
    fn cleanup(&mut self) {}
}

/// A bolt of the framework, such as hub, worker and coordinator: a [`Bolt`] that also publishes
/// views, checks time budgets, watches services, keeps timers for others, and saves its state key
/// by key.
///
/// Every [`Bolt`] is one. Implement this trait instead only for what [`Bolt`] lacks.
pub trait SystemBolt: 'static {
    /// The input type.
    type In: 'static;
    /// The tuples of its main stream; `()` if it has none.
    type Out: 'static;

    /// The `ce_subject` of its views.
    const VIEWS: &'static str = "view";

    /// Declares side streams, deadlines and workflows. Called once, when the topology is declared.
    fn declare(_declarer: &mut Declarer<Self::In>)
    where
        Self: Sized,
    {
    }

    /// Topics outside the topology that it writes to, for a stage with `lanes` lanes. They are
    /// created together with the topology's own topics.
    fn topics(&self, _names: &Topics, _lanes: u32) -> Vec<TopicSpec> {
        Vec::new()
    }

    /// Topics that it writes to and others create. The stage does not start while one is missing.
    fn foreign_topics(&self) -> Vec<ForeignTopic> {
        Vec::new()
    }

    /// Services whose liveness it needs. If the service sends heartbeats, each change of its
    /// liveness arrives as an inbox record of kind `nave.liveness` with the service as its subject.
    fn watches(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns how long its callers may have to wait, and how long it waits for others, with these
    /// settings.
    fn budgets(&self, _settings: &Settings) -> Vec<Budget> {
        Vec::new()
    }

    /// See [`Bolt::prepare`].
    fn prepare(&mut self, _lane: &LaneInfo) {}

    /// See [`Bolt::configure`].
    fn configure(&mut self, _settings: &Settings) {}

    /// See [`Bolt::start`].
    fn start(&mut self, _out: &mut Emitter<Self::Out>) {}

    /// See [`Bolt::execute`].
    fn execute(&mut self, input: Self::In, out: &mut Emitter<Self::Out>);

    /// See [`Bolt::on_timer`].
    fn on_timer(&mut self, _key: u64, _out: &mut Emitter<Self::Out>) {}

    /// Returns the current view of `key`; `None` deletes the published view. The shell calls it
    /// after [`Emitter::changed`] with that key.
    fn view(&self, _key: &str, _timers: &dyn DueTimes) -> Option<View> {
        None
    }

    /// For a component that keeps timers for others: returns its timer for `key` of `component`,
    /// the component's number in the topology.
    fn timer_for(&self, _component: u16, _key: u64) -> Option<u64> {
        None
    }

    /// Returns the schema of its saved state; `None` if nothing is saved.
    fn schema(&mut self) -> Option<StateSchema>;

    /// Saves the changes since the last call. Called between two records.
    fn save(&mut self, _saver: &mut Saver<'_>) {}

    /// Loads the saved state of one key. Called for each saved key, in any order, after
    /// [`SystemBolt::prepare`] and [`SystemBolt::configure`].
    ///
    /// # Errors
    /// If the state cannot be read. The lane does not start from this snapshot then.
    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        Err(Unreadable(format!("no component reads the saved state `{}`", stored.key())))
    }

    /// Called after all keys were loaded. Returns the keys whose views may be published.
    ///
    /// # Errors
    /// If the loaded state is inconsistent.
    fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        Ok(Vec::new())
    }

    /// Returns a line for each unfinished operation. The next owner of the lane continues them.
    fn unfinished(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns everything that waits in it, for checks from outside that each wait ends; `None` if
    /// it does not report waits.
    fn waits(&self) -> Option<Vec<Wait>> {
        None
    }

    /// See [`Bolt::cleanup`].
    fn cleanup(&mut self) {}
}

impl<B: Bolt> SystemBolt for B {
    type In = B::In;
    type Out = B::Out;

    fn declare(declarer: &mut Declarer<B::In>) {
        B::declare(declarer);
    }

    fn prepare(&mut self, lane: &LaneInfo) {
        Bolt::prepare(self, lane);
    }

    fn configure(&mut self, settings: &Settings) {
        Bolt::configure(self, settings);
    }

    fn start(&mut self, out: &mut Emitter<B::Out>) {
        Bolt::start(self, out);
    }

    fn execute(&mut self, input: B::In, out: &mut Emitter<B::Out>) {
        Bolt::execute(self, input, out);
    }

    fn on_timer(&mut self, key: u64, out: &mut Emitter<B::Out>) {
        Bolt::on_timer(self, key, out);
    }

    fn schema(&mut self) -> Option<StateSchema> {
        let mut parts = Vec::new();
        self.state(&mut SavedState::listing(&mut parts));
        (!parts.is_empty()).then_some(StateSchema { version: B::STATE_VERSION, parts })
    }

    fn save(&mut self, saver: &mut Saver<'_>) {
        self.state(&mut SavedState::saving(saver));
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let mut loading = SavedState::loading(stored);
        self.state(&mut loading);
        loading.loaded()
    }

    fn cleanup(&mut self) {
        Bolt::cleanup(self);
    }
}

/// A source of tuples that do not come from the stage's inbox.
///
/// The engine saves its position together with the tuples that it emitted. A restarted or replacement
/// process continues there, so an exactly-once stage neither loses nor repeats a tuple, and state
/// that the tuples change within the lane is exact.
///
/// A spout whose position is `()` has nothing to continue from: each new owner of the lane starts a
/// new instance, and tuples that were not committed before a crash are lost.
pub trait Spout: 'static {
    /// The tuples of its main stream.
    type Out: 'static;
    /// The state that it continues from, for example an offset or the number of tuples emitted. It starts
    /// with the default. Keep it small: each commit of its tuples writes it, in a snapshot of the lane.
    type Position: Default + Serialize + DeserializeOwned + 'static;

    /// True if it calls [`Emitter::track`]: it learns what becomes of its tuples, and may emit them
    /// again.
    const TRACKS: bool = false;

    /// Declares side streams.
    fn declare(_declarer: &mut Declarer<()>)
    where
        Self: Sized,
    {
    }

    /// Called before the first [`Spout::next`] of a lane that runs: later if the topology is inactive.
    fn open(&mut self, _source: &SourceContext) {}

    /// Called with the settings of the build before the first record, and when an owner record
    /// brings new settings.
    fn configure(&mut self, _settings: &Settings) {}

    /// Emits what follows `position` and moves it, past one tuple at a time: if it panics, or what it
    /// emitted fails, that is discarded, and the position stays moved. Returns false if there is
    /// nothing more now.
    fn next(&mut self, position: &mut Self::Position, out: &mut Emitter<Self::Out>) -> bool;

    /// Called when all tuples of its root `id` are done, see [`Emitter::track`], and after the commit
    /// of what they caused. A spout that replays what was not acked moves its position here.
    fn ack(&mut self, _id: u64, _position: &mut Self::Position) {}

    /// Called when its root `id` has failed: a component failed one of its tuples or panicked, a held
    /// tuple was dropped, or the deadline has passed. The default writes a dead letter; a spout may emit
    /// the tuples again instead. It learns of failures at most every millisecond.
    fn fail(&mut self, _id: u64, failed: &Failed, _position: &mut Self::Position, out: &mut Emitter<Self::Out>) {
        out.dead_letter(failed);
    }

    /// Called last, when the lane stops in an orderly way.
    fn close(&mut self) {}
}

/// A source that makes tuples of the records of the stage's inbox. The lane is then a pure function
/// of its inbox.
///
/// It keeps no state between records: a bolt keeps state.
pub trait InboxSpout: 'static {
    /// The tuples of its main stream.
    type Out: 'static;

    /// Called once per lane, before any other method.
    fn prepare(&mut self, _lane: &LaneInfo) {}

    /// True for records that this spout handles. The first spout that accepts a record gets it.
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool;

    /// Makes tuples of a record.
    ///
    /// # Errors
    /// If the body cannot be read. The record goes to the dead-letter topic with the reason, and
    /// the lane continues.
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<Self::Out>) -> Result<(), Unreadable>;

    /// Called for a record that cannot be handled: its headers cannot be read, no spout accepts it,
    /// or [`InboxSpout::receive`] returned an error and emitted nothing. The first spout that knows
    /// the sender emits a rejection and returns true.
    fn reject(&mut self, _rejected: &Rejected<'_>, _out: &mut Emitter<Self::Out>) -> bool {
        false
    }
}
