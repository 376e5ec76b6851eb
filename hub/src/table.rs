//! All operations of a lane: pure. Requests, ends of calls and deadlines go in; effects come out as
//! data.
//!
//! Late, duplicate and unknown inputs are ordinary events: they are counted and have no other
//! effect.

mod commands;
mod finished;
mod live;
mod perform;
mod requests;
mod saved;
mod settings;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coordinator::{Deadline, TimedOut};
use topology::{LaneInfo, Level, Settings};
use wire::answer::{Answer, Operation, Resource};
use wire::call::{CallCommand, CallEnd};
use wire::command::Outcome;
use wire::{Code, OperationId, Problem, WallTime};

pub use self::commands::HubCommand;
use self::finished::{FinishedOperation, FinishedRing};
use self::live::LiveOperations;
use self::perform::{answer_all, perform};
use self::saved::SavedTable;
pub(crate) use self::saved::VERSION;
pub use self::settings::HubSettings;
use crate::cause::Cause;
use crate::event::Event;
use crate::fx::Decided;
use crate::machine::Workflows;
use crate::names;
use crate::operation::{OperationStatus, Parked, Running};
use crate::workflow::Illegal;

/// A request from the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct HubRequest {
    /// The requested operation.
    pub operation: OperationId,
    /// True if it carries an idempotency key, which its repeats share.
    pub has_key: bool,
    /// The request record itself.
    pub cause: Cause,
    /// The key of the resource that the request concerns.
    pub key: String,
    /// `ce_expirytime`: after it the client no longer waits for the answer.
    pub expires: Option<WallTime>,
    /// Workflow and request body, or why the body cannot be read.
    pub body: Result<wire::request::Request, String>,
}

/// A request or command that cannot be handled, but whose sender can be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct HubRejected {
    /// The operation that it names, or the one that its repeats would name.
    pub operation: OperationId,
    /// True for a command.
    pub is_command: bool,
    /// The record itself.
    pub cause: Cause,
    /// The key of the resource that it concerns.
    pub key: String,
    /// The fault, with the name of the header.
    pub reason: String,
}

/// An effect of the hub's decision.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEffect {
    /// Sends a command to the workers.
    Call(CallCommand),
    /// Sends a command to the coordinator.
    Deadline(Deadline),
    /// Answers one request. Requests for the same operation get separate answers, since one with a
    /// reused key may be refused.
    Answer {
        /// The view of the operation, with the answer.
        view: Box<Operation>,
        /// The request that is answered.
        cause: Cause,
    },
    /// Publishes the last view of an operation that had been answered before it ended.
    Ended(Box<Operation>),
    /// Answers a command.
    CommandAnswer {
        /// The operation that the command is for.
        operation: OperationId,
        /// The command.
        cause: Cause,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Publishes a resource.
    Publish(Resource),
    /// The view of an operation has changed.
    Changed(Arc<str>),
    /// The view of an operation has changed for the last time.
    Closed(Arc<str>),
    /// Increments a counter.
    Count(&'static str),
    /// Writes a log line.
    Log(Level, OperationId, String),
}

/// The operations on one key, by slot.
#[derive(Debug, Default)]
struct KeyQueue {
    active: Option<u64>,
    waiting: VecDeque<u64>,
}

/// The operations of one lane.
pub struct HubTable<W: Workflows> {
    lane: W::Lane,
    settings: HubSettings,
    live: LiveOperations<W>,
    next_slot: u64,
    key_queues: BTreeMap<Arc<str>, KeyQueue>,
    /// The running operations that are not answered.
    active: BTreeSet<u64>,
    /// Operations that are first on their key and wait for a place among the active ones. Bounded
    /// by `live`.
    admission: VecDeque<u64>,
    finished: FinishedRing,
    /// The last saved state of the table itself.
    saved: Option<SavedTable>,
}

impl<W: Workflows> Default for HubTable<W> {
    fn default() -> Self {
        let settings = HubSettings::default();
        Self {
            lane: W::Lane::default(),
            live: LiveOperations::default(),
            next_slot: 0,
            key_queues: BTreeMap::new(),
            active: BTreeSet::new(),
            admission: VecDeque::new(),
            finished: FinishedRing::of(settings.remembered),
            saved: None,
            settings,
        }
    }
}

impl<W: Workflows> HubTable<W> {
    /// Applies settings.
    pub fn configure(&mut self, settings: &Settings, info: &LaneInfo) {
        self.settings = settings.of("hub").unwrap_or_default();
        self.finished.resize(self.settings.remembered);
        W::configure(&mut self.lane, settings, info);
    }

    /// Returns the state that its operations share.
    pub fn lane(&self) -> &W::Lane {
        &self.lane
    }

    // ---- inputs -------------------------------------------------------------------------------------------------------

    /// Handles the end of a call.
    pub fn call_ended(&mut self, at: WallTime, end: CallEnd, effects: &mut Vec<HubEffect>) {
        let slot = self.live.slot_of(&end.id.operation);
        let waits = |running: &Running<W>| running.waits_for_call(&end.id);
        if let Some(running) = slot.and_then(|slot| self.live.get_mut_where(slot, waits))
            && let OperationStatus::Parked(parked) = &mut running.standing
        {
            if parked.ends.iter().all(|other| other.id != end.id) {
                parked.ends.push(end);
            }
            return;
        }
        let call = end.id.clone();
        let works = |running: &Running<W>| running.standing == OperationStatus::Running;
        let running = slot.and_then(|slot| self.live.get_mut_where(slot, works));
        let mut send = |command| effects.push(HubEffect::Call(command));
        match slot.zip(running.and_then(|running| running.call_ended(at, end, &mut send))) {
            None => {
                let line = format!("discarded the late end of call {call}");
                effects.push(HubEffect::Count(names::LATE_ENDS));
                effects.push(HubEffect::Log(Level::Debug, call.operation, line));
            }
            Some((slot, events)) => {
                for event in events {
                    // The decision on an earlier event may have ended the step that this event is
                    // about.
                    let over = matches!(event, Event::AllReplied | Event::Enough)
                        && !self.live.get(slot).is_some_and(|running| running.is_at(call.step));
                    if !over {
                        self.drive(slot, event, at, effects);
                    }
                }
                self.park_if_stuck(slot, at, effects);
            }
        }
        self.admit_waiting(at, effects);
    }

    /// Handles a passed deadline.
    pub fn timed_out(&mut self, at: WallTime, timed_out: TimedOut, effects: &mut Vec<HubEffect>) {
        let slot = timed_out.key;
        let running = self.live.get_mut_where(slot, |running| {
            running.standing == OperationStatus::Running
                && running.timer.as_ref().is_some_and(|timer| timer.generation == timed_out.generation)
        });
        let Some(running) = running else {
            effects.push(HubEffect::Count(names::LATE_TIMEOUTS));
            return;
        };
        let what = running.timer.take().map_or("", |timer| timer.what);
        running.note(at, format!("deadline: {what}"));
        let event = running.timed_out(&mut |command| effects.push(HubEffect::Call(command)));
        self.drive(slot, event, at, effects);
        self.admit_waiting(at, effects);
    }

    // ---- queues --------------------------------------------------------------------------------------------------------

    /// Starts waiting operations while there are free places. An operation may end at once and free
    /// its place again.
    fn admit_waiting(&mut self, at: WallTime, effects: &mut Vec<HubEffect>) {
        while self.active.len() < self.settings.active
            && let Some(next) = self.admission.pop_front()
        {
            self.start(next, at, effects);
        }
    }

    /// Frees the place of an operation that has been answered or parked, or has ended.
    fn free_place(&mut self, slot: u64) {
        if !self.live.get(slot).is_some_and(Running::is_active) {
            self.active.remove(&slot);
        }
    }

    fn start(&mut self, slot: u64, at: WallTime, effects: &mut Vec<HubEffect>) {
        let Some(running) = self.live.get_mut(slot) else { return };
        running.standing = OperationStatus::Running;
        if let Some(expires) = running.expires.filter(|expires| *expires <= at) {
            let detail = format!(
                "the operation could start only at {at}, after its client's deadline at {expires}; nothing was done"
            );
            return self.end_before_turn(
                slot,
                OperationStatus::Refused,
                Problem::new(Code::TooLate, detail),
                at,
                effects,
            );
        }
        self.active.insert(slot);
        effects.push(HubEffect::Count(names::STARTED));
        let line = format!("{} `{}` starts", running.machine.0.workflow(), running.key);
        effects.push(HubEffect::Log(Level::Debug, running.id.clone(), line));
        self.drive(slot, Event::Requested, at, effects);
    }

    // ---- the machine --------------------------------------------------------------------------------------------------

    /// Gives an event to a workflow and carries out its decision, until no further event follows.
    /// An illegal event parks the operation.
    fn drive(&mut self, slot: u64, event: Event, at: WallTime, effects: &mut Vec<HubEffect>) {
        if let Err(event) = self.try_drive(slot, event, at, effects)
            && let Some(running) = self.live.get(slot)
        {
            let reason = format!("event `{}` cannot happen in state `{}`", event.name(), running.state_name());
            self.park(slot, VecDeque::from([event]), at, &reason, effects);
        }
        self.free_place(slot);
    }

    /// Like [`HubTable::drive`], but the workflow may refuse the first event. Then nothing has
    /// changed, and the event is returned.
    fn try_drive(&mut self, slot: u64, event: Event, at: WallTime, effects: &mut Vec<HubEffect>) -> Result<(), Event> {
        let mut events = VecDeque::from([event]);
        let mut first = true;
        while let Some(event) = events.pop_front() {
            let Some(running) = self.live.get_mut(slot) else { return Ok(()) };
            match &mut running.standing {
                OperationStatus::Running => {}
                OperationStatus::Parked(parked) => {
                    parked.events.push_back(event);
                    continue;
                }
                OperationStatus::Queued
                | OperationStatus::Ended
                | OperationStatus::Cancelled
                | OperationStatus::Refused
                | OperationStatus::Aborted => {
                    return Ok(());
                }
            }
            if event == Event::Enough {
                running.close_step(&mut |command| effects.push(HubEffect::Call(command)));
            }
            let (state, lane) = (running.machine.0.state(), &mut self.lane);
            let handled = catch_unwind(AssertUnwindSafe(|| running.machine.0.handle(&event, lane)));
            let decided = match handled {
                Ok(Ok(decided)) => decided,
                Ok(Err(Illegal)) if first => return Err(event),
                Ok(Err(Illegal)) => {
                    let reason = format!("event `{}` cannot happen in state `{state}`", event.name());
                    events.push_front(event);
                    self.park(slot, events, at, &reason, effects);
                    return Ok(());
                }
                Err(panic) => {
                    let text = topology::panic_text(panic.as_ref());
                    let reason = format!("it panicked on event `{}`: {text}", event.name());
                    events.push_front(event);
                    self.park(slot, events, at, &reason, effects);
                    return Ok(());
                }
            };
            first = false;
            if let Event::Signal { name, .. } = &event {
                running.note(at, format!("signal `{name}`"));
            }
            let next = running.machine.0.state();
            if next != state {
                running.note(at, format!("{state} -> {next} ({})", event.name()));
            }
            let ended = decided.end;
            let decided = Decided { answer: decided.answer.map(|answer| self.settings.fit(answer)), ..decided };
            events.extend(perform(running, decided, at, effects));
            if ended {
                self.end(slot, effects);
                return Ok(());
            }
        }
        self.park_if_stuck(slot, at, effects);
        self.supersede(slot, at, effects);
        Ok(())
    }

    /// Sends [`Event::Superseded`] once to an operation that yields its key, if another one waits
    /// for the key.
    fn supersede(&mut self, slot: u64, at: WallTime, effects: &mut Vec<HubEffect>) {
        let is_due = |running: &Running<W>| {
            running.can_be_superseded()
                && self.key_queues.get(&running.key).is_some_and(|queue| !queue.waiting.is_empty())
        };
        if let Some(running) = self.live.get_mut_where(slot, is_due) {
            running.superseded = true;
            self.drive(slot, Event::Superseded, at, effects);
        }
    }

    /// Parks an operation that waits for no call, timer or person, since nothing would ever
    /// continue it.
    fn park_if_stuck(&mut self, slot: u64, at: WallTime, effects: &mut Vec<HubEffect>) {
        let stuck = |running: &Running<W>| {
            running.standing == OperationStatus::Running
                && running.timer.is_none()
                && running.signal.is_none()
                && !running.has_open_calls()
        };
        if self.live.get(slot).is_some_and(stuck) {
            let events = VecDeque::from([Event::TimedOut]);
            self.park(slot, events, at, "it waits for no call, timer or person", effects);
        }
    }

    /// Parks an operation with its unhandled events until an operator resumes or aborts it. Its
    /// open calls continue; the worker bounds each of them.
    fn park(&mut self, slot: u64, events: VecDeque<Event>, at: WallTime, reason: &str, effects: &mut Vec<HubEffect>) {
        let Some(running) = self.live.get_mut(slot) else { return };
        running.note(at, format!("parked: {reason}"));
        running.standing = OperationStatus::Parked(Parked { events, ends: Vec::new(), timer: running.timer.take() });
        self.active.remove(&slot);
        effects.push(HubEffect::Deadline(Deadline::Cancel { key: running.slot }));
        effects.push(HubEffect::Count(names::PARKED));
        effects.push(HubEffect::Log(Level::Error, running.id.clone(), format!("parked: {reason}")));
        effects.push(HubEffect::Changed(running.view_key()));
        if running.answer.is_none() {
            answer_all(running, Answer::Refused(Problem::new(Code::Parked, reason)), effects);
        }
    }

    /// Ends an operation before it starts and answers its client.
    fn end_before_turn(
        &mut self,
        slot: u64,
        standing: OperationStatus,
        problem: Problem,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) {
        let Some(running) = self.live.get_mut(slot) else { return };
        running.standing = standing;
        running.note(at, format!("{} before its turn", running.state_name()));
        answer_all(running, self.settings.fit(Answer::Refused(problem)), effects);
        effects.push(HubEffect::Closed(running.view_key()));
        self.end(slot, effects);
    }

    /// Removes an ended operation, remembers its outcome, and starts the next one on its key.
    fn end(&mut self, slot: u64, effects: &mut Vec<HubEffect>) {
        let Some(running) = self.live.remove(slot) else { return };
        let was_active = self.active.remove(&slot);
        if running.answer.as_ref().is_some_and(Answer::is_outcome) {
            self.finished.push(FinishedOperation::of(&running));
        }
        let Some(queue) = self.key_queues.get_mut(&running.key) else { return };
        if queue.active != Some(slot) {
            // It was still waiting in the queue of its key.
            queue.waiting.retain(|waiting| *waiting != slot);
            return self.republish_queue(&running.key, effects);
        }
        if !was_active {
            self.admission.retain(|waiting| *waiting != slot);
        }
        queue.active = queue.waiting.pop_front();
        match queue.active {
            Some(next) => {
                self.admission.push_back(next);
                // The superseded operation left work to its successor, which runs even if its
                // client no longer waits.
                if running.superseded
                    && let Some(next) = self.live.get_mut(next)
                {
                    (next.expires, next.inherits) = (None, true);
                }
            }
            None => {
                self.key_queues.remove(&running.key);
            }
        }
        self.republish_queue(&running.key, effects);
    }

    /// Republishes the views of the operations that wait on a key, after one before them has left.
    /// There are at most `waiting_per_key`.
    fn republish_queue(&self, key: &str, effects: &mut Vec<HubEffect>) {
        let waiting = self.key_queues.get(key).into_iter().flat_map(|queue| queue.active.iter().chain(&queue.waiting));
        let waiting = waiting.filter_map(|slot| self.live.get(*slot));
        effects.extend(waiting.map(|running| HubEffect::Changed(running.view_key())));
    }
}
