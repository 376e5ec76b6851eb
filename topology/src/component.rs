//! What users write: spouts and bolts. Plain synchronous Rust, one caller at a time.
//!
//! A step is a pure function of its record: no clock, no thread, no environment, no chance but [`Emitter::random`]. A
//! component that keeps to it comes back after a crash exactly as it was, by reading its inbox again, or what it saved and the rest of the
//! inbox.

use std::sync::Arc;

use bus::{Record, TopicSpec};
use bytes::Bytes;
use wire::topics::Topics;
use wire::{Head, Texts, WallTime};

use crate::budget::Budget;
use crate::declare::Declarer;
use crate::emitter::Emitter;
use crate::settings::Settings;
use crate::snapshot::{Keeps, Saver, Stored};
use crate::waits::Wait;

/// Where a component lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneInfo {
    /// The topology's name.
    pub topology: Arc<str>,
    /// The stage's name.
    pub stage: Arc<str>,
    /// The stage's inbox.
    pub inbox: Arc<str>,
    /// What topics are called.
    pub names: Topics,
    /// This lane, from 0.
    pub lane: u32,
    /// How many lanes the stage has.
    pub lanes: u32,
}

impl LaneInfo {
    /// What the lane calls itself as `ce_source`.
    pub fn source(&self) -> String {
        format!("/nave/{}/{}/{}", self.topology, self.stage, self.lane)
    }

    /// The stage's egress: results for those outside.
    pub fn egress(&self) -> String {
        self.names.egress(&self.topology, &self.stage)
    }
}

/// Receives tuples and may emit some.
pub trait Bolt: 'static {
    /// What it receives. With several inputs: an enum, and `From` each of them.
    type In: 'static;
    /// What it emits on its main stream; `()` where it has none.
    type Out: 'static;

    /// What kind of views it has, if any: their `ce_subject`.
    const VIEWS: &'static str = "view";

    /// What becomes of its state when another owner takes its lane.
    const KEEPS: Keeps = Keeps::Everything;

    /// Says what else it has: side streams, deadlines. Called once, when the topology is declared.
    fn declare(_declarer: &mut Declarer<Self::In>)
    where
        Self: Sized,
    {
    }

    /// Topics outside of the topology that it writes to, for a stage with so many lanes: they are created with its own.
    fn topics(&self, _names: &Topics, _lanes: u32) -> Vec<TopicSpec> {
        Vec::new()
    }

    /// Services of which it wants to know whether they live: where they send heartbeats, a record of kind `nave.liveness` in
    /// the lane's inbox says so, with the service as its subject, whenever that changes.
    fn watches(&self) -> Vec<String> {
        Vec::new()
    }

    /// How long those who ask it may have to wait, and how long it waits for others, with these settings.
    fn budgets(&self, _settings: &Settings) -> Vec<Budget> {
        Vec::new()
    }

    /// Called once, before anything else, in each lane.
    fn prepare(&mut self, _lane: &LaneInfo) {}

    /// Called when an owner record brings settings, and before the first record with those of the build.
    fn configure(&mut self, _settings: &Settings) {}

    /// Handles one tuple. A panic fails this tuple alone.
    fn execute(&mut self, input: Self::In, out: &mut Emitter<Self::Out>);

    /// How things stand with `key`, for those outside; none deletes what was published. Called by the shell, after
    /// [`Emitter::changed`] with that key. It reads, and changes nothing.
    fn view(&self, _key: &str, _timers: &dyn DueTimes) -> Option<View> {
        None
    }

    /// For a component that keeps timers for others: its timer for `key` of the component with this number in the topology.
    fn timer_for(&self, _component: u16, _key: u64) -> Option<u64> {
        None
    }

    /// Saves what has changed since the last call, where it [`Keeps::Saved`]. Called between two records, and only then.
    fn save(&mut self, _saver: &mut Saver<'_>) {}

    /// Takes in the state of one key that was saved. Called after [`Bolt::prepare`] and [`Bolt::configure`], for each key that there is, in
    /// any order.
    ///
    /// # Errors
    /// Where it cannot be read: then the lane is not begun from this snapshot.
    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        Err(Unreadable(format!("nobody reads the saved state `{}`", stored.key())))
    }

    /// Every key was loaded. Gives the keys whose views may have been published.
    ///
    /// # Errors
    /// Where what was loaded does not fit together.
    fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        Ok(Vec::new())
    }

    /// A line for each operation that is not over. The next owner of the lane continues them.
    fn unfinished(&self) -> Vec<String> {
        Vec::new()
    }

    /// What waits in it, for those who look from outside whether all of it has an end; none where it does not say.
    fn waits(&self) -> Option<Vec<Wait>> {
        None
    }

    /// For a component that keeps timers: number and generation of those that it takes to be armed; none where it does not say.
    fn timers(&self) -> Option<Vec<(u64, u32)>> {
        None
    }

    /// Called last, when the lane ends in order.
    fn cleanup(&mut self) {}
}

/// A source of tuples that are read from somewhere else than the stage's inbox, or made up.
///
/// Its stage has no single order of inputs, so it is not replayed: a new owner starts the spout anew.
pub trait Spout: 'static {
    /// What it emits on its main stream.
    type Out: 'static;

    /// Says what else it has.
    fn declare(_declarer: &mut Declarer<()>)
    where
        Self: Sized,
    {
    }

    /// Called once, before anything else, in each lane.
    fn prepare(&mut self, _lane: &LaneInfo) {}

    /// Called when an owner record brings settings.
    fn configure(&mut self, _settings: &Settings) {}

    /// Emits what it has, a few tuples at the most; false where it has nothing now.
    fn next(&mut self, out: &mut Emitter<Self::Out>) -> bool;

    /// Called last, when the lane ends in order.
    fn cleanup(&mut self) {}
}

/// A source of tuples that are records of the stage's inbox. With it a lane is a pure function of its inbox.
///
/// It keeps nothing from one record to the next: what is to be remembered is a bolt's to keep.
pub trait InboxSpout: 'static {
    /// What it emits on its main stream.
    type Out: 'static;

    /// Called once, before anything else, in each lane.
    fn prepare(&mut self, _lane: &LaneInfo) {}

    /// True for records that are for this spout. The first that accepts gets it.
    fn accepts(&self, envelope: &Head<'_>) -> bool;

    /// Makes tuples of a record.
    ///
    /// # Errors
    /// Where the body cannot be read: the record goes to the dead letters with the reason, and the lane goes on.
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<Self::Out>) -> Result<(), Unreadable>;

    /// A record came that cannot be handled: its headers cannot be read, no spout accepts it, or the one that did said why not and
    /// emitted nothing. The first spout that knows whom to tell emits what is to be told, and says true.
    fn reject(&mut self, _rejected: &Rejected<'_>, _out: &mut Emitter<Self::Out>) -> bool {
        false
    }
}

/// A record of the inbox that cannot be handled.
#[derive(Debug)]
pub struct Rejected<'a> {
    /// The headers that can be read.
    pub texts: Texts<'a>,
    /// The record.
    pub record: &'a Record,
    /// Why, with the header at fault.
    pub reason: &'a str,
}

/// A record of the inbox whose headers have been read.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The headers.
    pub envelope: &'a Head<'a>,
    /// The record.
    pub record: &'a Record,
}

impl Delivery<'_> {
    /// Reads the body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Unreadable> {
        let cut = |error: serde_json::Error| error.to_string().chars().take(Unreadable::SHOWN).collect();
        serde_json::from_slice(&self.record.value).map_err(|error| Unreadable(cut(error)))
    }
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

impl Unreadable {
    /// A reason that quotes what it could not read is cut to so many characters: a body may be one text of a megabyte.
    pub const SHOWN: usize = 500;
}

/// How things stand with a key: the body of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View(pub Bytes);

/// When timers are due, for views. Lane code decides nothing by it.
pub trait DueTimes {
    /// When the timer that the component knows by `key` is due, on the owner's wall clock: its own, or one that another
    /// keeps for it.
    fn due(&self, key: u64) -> Option<WallTime>;
}
