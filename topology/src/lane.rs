//! A single-threaded, deterministic executor of all components of a stage: it turns a record into
//! effects.

mod dead_letters;
mod receive;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use bus::{Bus, MonoTime, Record};
use bytes::Bytes;
use wire::graph::ComponentKind;
use wire::{EnvelopeRef, WallTime};

use self::dead_letters::DeadTuples;
use crate::context::LaneContext;
use crate::input::Unreadable;
use crate::ledger::Outcome;
use crate::names;
use crate::node::Node;
use crate::outbox::Effects;
use crate::place::{LaneInfo, Place, SourceContext};
use crate::settings::Settings;
use crate::snapshot::{Change, Saver, Stored};
use crate::tracked::Failed;
use crate::views::{DueTimes, View};
use crate::waits::Waits;
use crate::wiring::Decode;

/// A component in its lane.
pub(crate) struct LaneNode {
    pub(crate) name: Arc<str>,
    /// Its number in the topology: a hash of its name, the same in every build.
    pub(crate) number: u16,
    pub(crate) kind: ComponentKind,
    pub(crate) node: Box<dyn Node>,
}

/// A lane. `step` is a pure function of state and record; the state is that of the components.
pub struct Lane {
    context: Rc<LaneContext>,
    nodes: Vec<LaneNode>,
    /// The nodes of the spouts that do not read the inbox.
    spouts: Vec<u16>,
    /// The schema versions of the components that save their state.
    saved: BTreeMap<Arc<str>, u32>,
    decoders: BTreeMap<String, Box<dyn Decode>>,
    dead: Arc<str>,
    settings: Settings,
    /// Numbers the dead letters of tuples that spouts emitted.
    rejected: u64,
}

impl Lane {
    /// Maximum number of executions per step. A step that needs more loops: it is cut, counted and
    /// reported, because a lane whose step never ends is stuck silently. A million is a hundred
    /// times the largest known step (a flow of 1,000 rules) and takes less than a second.
    pub const EXECUTIONS: usize = 1 << 20;

    /// Maximum number of calls of a spout in a row: the tuples of a row are in the processor's cache.
    const ROW: usize = 16;

    /// Maximum length in bytes of key and headers: ours take less than 1 KiB. Records that a step
    /// writes repeat its record's key and ids. A larger key could make a record that the bus
    /// rejects, and no commit would succeed.
    pub const HEAD_BYTES: usize = 16 << 10;

    /// Maximum length in bytes of the body of a forwarded request: with added headers a larger one
    /// might exceed the limit of the bus.
    pub const FORWARD_BYTES: usize = 512 << 10;

    pub(crate) fn new(
        context: Rc<LaneContext>,
        mut nodes: Vec<LaneNode>,
        decoders: BTreeMap<String, Box<dyn Decode>>,
        dead: Arc<str>,
        settings: &Settings,
    ) -> Self {
        for LaneNode { node, .. } in &mut nodes {
            node.prepare(&context.info);
            node.configure(settings);
        }
        let version = |LaneNode { name, node, .. }: &mut LaneNode| Some((Arc::clone(name), node.schema()?.version));
        let saved = nodes.iter_mut().filter_map(version).collect();
        let is_spout = |(_, lane_node): &(u16, &LaneNode)| lane_node.kind == ComponentKind::Spout;
        let spouts = (0..).zip(&nodes).filter(is_spout).map(|(number, _)| number).collect();
        Self { context, nodes, spouts, saved, decoders, dead, settings: settings.clone(), rejected: 0 }
    }

    /// Returns the position of the lane in the topology.
    pub fn info(&self) -> &LaneInfo {
        &self.context.info
    }

    /// Returns the name of the component with this number in the lane; timers and views use this
    /// number.
    pub fn component(&self, number: u16) -> &Arc<str> {
        &self.nodes[usize::from(number)].name
    }

    /// Returns the number of a component in the lane.
    pub fn number(&self, component: &str) -> Option<u16> {
        self.nodes
            .iter()
            .position(|lane_node| *lane_node.name == *component)
            .and_then(|number| u16::try_from(number).ok())
    }

    /// Returns the current settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Handles one record of the inbox, including all tuples that follow from it in this lane.
    pub fn step(&mut self, record: &Record) {
        self.context.begin(record.offset, record.time);
        self.context.count(names::RECORDS, Vec::new(), 1);
        let head = envelope_of(record);
        if let Err(reason) = head.as_ref().map_err(Clone::clone).and_then(|head| self.receive(head, record)) {
            self.reject(record, &reason.0);
            self.send_to_dead_letters(&DeadTuples {
                record: Some(record),
                head: head.as_ref().ok(),
                place: None,
                reason: &reason.0,
                tuples: 1,
            });
        }
        self.run();
        self.reject_failures(Some(record), head.as_ref().ok());
    }

    /// Handles a timeout whose timer was disarmed or armed again since: counts it.
    pub fn skip_stale_timeout(&mut self, record: &Record) {
        self.context.begin(record.offset, record.time);
        self.context.count(names::RECORDS, Vec::new(), 1);
        self.context.count(names::TIMEOUTS_STALE, Vec::new(), 1);
    }

    /// Returns when another stage sent the tuple of the last step.
    pub(crate) fn sent_time(&self) -> Option<WallTime> {
        self.context.sent_time.get()
    }

    /// Calls the spouts that do not read the inbox, at most about `most` times, until none of them has
    /// more or the effects write a record. Each spout is called several times in a row, so that each
    /// component has several tuples to execute. Returns the number of calls that emitted or have more,
    /// and whether a spout has more: a spout may emit its last tuple and return false.
    pub fn call_spouts(&mut self, most: usize) -> (usize, bool) {
        let mut calls = 0;
        loop {
            self.context.begin_without_record();
            let mut more = false;
            for spout in &self.spouts {
                for _ in 0..Self::ROW {
                    let has_more = self.nodes[usize::from(*spout)].node.next();
                    calls += usize::from(has_more || self.context.has_emitted());
                    more |= has_more;
                    if !has_more || self.has_messages() {
                        break;
                    }
                }
            }
            self.run();
            self.context.ledger.borrow_mut().end_step();
            if self.context.has_failures() {
                self.reject_failures(None, None);
            }
            if !more || calls >= most || self.has_messages() {
                return (calls, more);
            }
        }
    }

    /// True if the effects write a record.
    fn has_messages(&self) -> bool {
        !self.context.effects.borrow().messages.is_empty()
    }

    /// Sets the time of the next step. It decides deadlines of roots alone.
    pub(crate) fn set_time(&mut self, now: MonoTime) {
        self.context.ledger.borrow_mut().begin_step(now);
    }

    /// Fails the roots whose deadlines have passed. Returns true if outcomes of roots wait for
    /// [`Lane::settle_roots`].
    pub(crate) fn expire(&mut self, now: MonoTime) -> bool {
        let mut ledger = self.context.ledger.borrow_mut();
        ledger.expire(now);
        ledger.has_outcomes()
    }

    /// True if a step has acked or failed roots.
    pub(crate) fn has_outcomes(&self) -> bool {
        self.context.ledger.borrow().has_outcomes()
    }

    /// Returns the number of roots whose spout was not told of an ack or a failure yet.
    pub(crate) fn pending_roots(&self) -> u32 {
        self.context.ledger.borrow().pending()
    }

    /// Returns and clears the milliseconds after which a spout asked to be called again.
    pub(crate) fn take_call_after_ms(&self) -> Option<u64> {
        self.context.call_after_ms.take()
    }

    /// Returns the earliest deadline of a root.
    pub(crate) fn next_deadline(&self) -> Option<MonoTime> {
        self.context.ledger.borrow().next_deadline()
    }

    /// Tells the spouts which of their roots were acked and which failed. Returns true if one failed.
    pub(crate) fn settle_roots(&mut self) -> bool {
        self.context.begin_without_record();
        let outcomes = self.context.ledger.borrow_mut().take_outcomes();
        let any_failed = outcomes.iter().any(|outcome| outcome.failure.is_some());
        for Outcome { spout, id, failure } in outcomes {
            let failed = failure.map(|failure| {
                let (at, reason) = *failure;
                Failed { place: self.name_of(&at), reason, at }
            });
            self.nodes[usize::from(spout)].node.settle(id, failed);
        }
        self.run();
        self.context.ledger.borrow_mut().end_step();
        self.reject_failures(None, None);
        any_failed
    }

    /// Returns the name of a component or edge.
    fn name_of(&self, place: &Place) -> Arc<str> {
        match place {
            Place::Component(number) => Arc::clone(self.component(*number)),
            Place::Edge(name) => Arc::clone(name),
        }
    }

    /// Opens the spouts, before their first call.
    pub(crate) fn open(&mut self, bus: &Arc<dyn Bus>, shard: Weak<()>) {
        if self.has_spouts() {
            let source = SourceContext { lane: self.info().clone(), bus: Arc::clone(bus), shard };
            self.nodes.iter_mut().for_each(|lane_node| lane_node.node.open(&source));
        }
    }

    /// True if the lane has spouts whose positions it saves.
    pub fn has_positions(&self) -> bool {
        self.spouts.iter().any(|spout| self.saved.contains_key(&self.nodes[usize::from(*spout)].name))
    }

    /// True if the lane has spouts that do not read the inbox.
    pub fn has_spouts(&self) -> bool {
        !self.spouts.is_empty()
    }

    /// Returns the names of the components, in the order of [`Lane::take_work`].
    pub fn components(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.iter().map(|lane_node| &lane_node.name)
    }

    /// Returns and clears the numbers of tuples that each component has executed, emitted and
    /// failed, and of the roots that it has got acked.
    pub fn take_work(&self) -> impl Iterator<Item = [u64; 4]> {
        (0..).zip(&self.nodes).map(|(number, _)| {
            let work = self.context.work(number);
            [work.executed.take(), work.emitted.take(), work.failed.take(), work.acked.take()]
        })
    }

    /// Returns and clears the decisions since the last call.
    pub fn take_effects(&mut self) -> Effects {
        let late = self.context.ledger.borrow_mut().take_late();
        if late > 0 {
            self.context.count(names::ACKS_LATE, Vec::new(), late);
        }
        std::mem::take(&mut *self.context.effects.borrow_mut())
    }

    /// Returns the view of a component's key.
    pub fn view(&self, component: u16, key: &str, timers: &dyn DueTimes) -> Option<View> {
        self.nodes[usize::from(component)].node.view(key, timers)
    }

    /// Returns the `ce_subject` of a component's views.
    pub(crate) fn view_subject(&self, component: u16) -> &'static str {
        self.nodes[usize::from(component)].node.view_subject()
    }

    /// Returns the timer that a component knows by `key`: its own timer, or one that another
    /// component keeps for it.
    pub(crate) fn timer_of(&self, component: u16, key: u64) -> (u16, u64) {
        let owner = self.nodes[usize::from(component)].number;
        let kept = (0..)
            .zip(&self.nodes)
            .find_map(|(keeper, lane_node)| Some((keeper, lane_node.node.timer_for(owner, key)?)));
        kept.unwrap_or((component, key))
    }

    /// Returns the schema versions of the components that save their state.
    pub fn saved(&self) -> &BTreeMap<Arc<str>, u32> {
        &self.saved
    }

    /// Returns the changes of the components' states since the last call. After an error some
    /// changes are lost, so the lane can no longer be saved.
    ///
    /// # Errors
    /// If a component panics, or its state cannot be serialized.
    pub fn save(&mut self) -> Result<Vec<Change>, Unreadable> {
        let (mut taken, mut fault) = (Vec::new(), None);
        for LaneNode { name, node, .. } in &mut self.nodes {
            node.save(&mut Saver::new(name, &mut taken, &mut fault))
                .map_err(|panic| Unreadable(format!("`{name}` cannot be saved: {panic}")))?;
        }
        match fault {
            None => Ok(taken),
            Some(fault) => Err(Unreadable(fault)),
        }
    }

    /// Returns the number of tuples sent on each edge to another stage. The ids and the round-robin
    /// targets of the next tuples follow from it.
    pub fn sent(&self) -> BTreeMap<Arc<str>, u64> {
        self.context.sent.borrow().iter().map(|(edge, count)| (Arc::clone(edge), count.get())).collect()
    }

    /// Restores the numbers of sent tuples.
    pub(crate) fn resume(&mut self, sent: &BTreeMap<Arc<str>, u64>) {
        for (edge, count) in &*self.context.sent.borrow() {
            count.set(sent.get(edge).copied().unwrap_or(0));
        }
    }

    /// Loads the saved state of one key. `versions` are the schema versions of the components.
    ///
    /// # Errors
    /// If it cannot be read. The lane is unusable then.
    pub fn load(&mut self, key: &str, versions: &BTreeMap<Arc<str>, u32>, state: &[u8]) -> Result<(), Unreadable> {
        let found = key.split_once('/').and_then(|(component, key)| {
            let lane_node = self.nodes.iter_mut().find(|lane_node| *lane_node.name == *component)?;
            Some((lane_node, versions.get(component)?, key))
        });
        let (lane_node, version, rest) =
            found.ok_or_else(|| Unreadable(format!("saved `{key}` belongs to no component")))?;
        lane_node.node.load(&Stored::new(rest, *version, state))
    }

    /// Finishes loading: all keys and the settings were restored. Returns the views that may be
    /// published.
    ///
    /// # Errors
    /// If the loaded state is inconsistent. The lane is unusable then.
    pub fn loaded(&mut self) -> Result<Vec<(u16, Arc<str>)>, Unreadable> {
        let mut views = Vec::new();
        for (number, LaneNode { name, node, .. }) in (0..).zip(&mut self.nodes) {
            let keys = node.loaded().map_err(|Unreadable(reason)| Unreadable(format!("`{name}`: {reason}")))?;
            views.extend(keys.into_iter().map(|key| (number, key)));
        }
        Ok(views)
    }

    /// Returns a line for each unfinished operation, and one for the pending roots.
    pub fn unfinished(&self) -> Vec<String> {
        let (LaneInfo { stage, lane, .. }, roots) = (self.info(), self.pending_roots());
        let pending = format!("{stage} lane {lane}: roots of spouts that are neither acked nor failed: {roots}");
        let operations = self.nodes.iter().flat_map(|lane_node| lane_node.node.unfinished());
        operations.chain((roots > 0).then_some(pending)).collect()
    }

    /// Returns the waits of the lane, as its components report them.
    pub fn waits(&self) -> Waits {
        let mut waits = Waits { complete: true, ..Waits::default() };
        for (number, LaneNode { name, node, .. }) in (0..).zip(&self.nodes) {
            let own = node.waits();
            waits.complete &= own.is_some() || !self.saved.contains_key(name);
            for wait in own.into_iter().flatten() {
                let timer = wait.deadline.map(|(key, generation)| {
                    let (keeper, timer) = self.timer_of(number, key);
                    (keeper, timer, u64::from(generation))
                });
                waits.all.push((Arc::clone(name), wait, timer));
            }
        }
        waits
    }

    /// Stops the lane in an orderly way.
    pub fn cleanup(&mut self) {
        for LaneNode { node, .. } in &mut self.nodes {
            node.cleanup();
        }
    }

    /// Runs components until all queues are empty.
    fn run(&mut self) {
        let mut left = Self::EXECUTIONS;
        loop {
            let Some(ready) = self.context.ready.borrow_mut().pop_front() else { return };
            let done = self.nodes[usize::from(ready)].node.run(left);
            if done == left {
                let reason = format!("the step executed {} tuples and was cut", Self::EXECUTIONS);
                if self.nodes[usize::from(ready)].node.discard(&reason) {
                    self.context.count(names::STEPS_CUT, Vec::new(), 1);
                }
            }
            left -= done;
        }
    }
}

fn head_bytes(record: &Record) -> usize {
    record.key.as_ref().map_or(0, Bytes::len) + record.headers.size()
}

/// Parses the headers of a record, if key and headers are not too large.
fn envelope_of(record: &Record) -> Result<EnvelopeRef<'_>, Unreadable> {
    let head = head_bytes(record);
    if head > Lane::HEAD_BYTES {
        return Err(Unreadable(format!("key and headers take {head} bytes; the limit is {}", Lane::HEAD_BYTES)));
    }
    record.headers.head().map_err(|error| Unreadable(error.to_string()))
}
