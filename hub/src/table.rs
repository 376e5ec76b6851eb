//! All operations of a lane: pure. Requests, ends of calls and deadlines go in; effects come out as data.
//!
//! What is late, doubled or unknown is an ordinary event: counted, and without effect.

mod commands;
mod finished;
mod live;
mod perform;
mod requests;
mod saved;
mod settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coordinator::{Deadline, TimedOut};
use topology::{DueTimes, LaneInfo, Level, Settings, Wait};
use wire::answer::{Answer, Operation, Queue, Resource};
use wire::call::{CallCommand, CallEnd};
use wire::command::Outcome;
use wire::{Code, OperationId, Problem, WallTime};

pub use self::commands::HubCommand;
use self::finished::{Finished, Past};
use self::live::Live;
use self::perform::{perform, tell};
use self::saved::SavedTable;
pub(crate) use self::saved::VERSION;
pub use self::settings::HubSettings;
use crate::cause::Cause;
use crate::machine::Workflows;
use crate::names;
use crate::operation::{Parked, Running, Standing};
use crate::workflow::{Decided, Event, Illegal};

/// A request as it came from the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct HubRequest {
    /// The operation that it asks for.
    pub operation: OperationId,
    /// True where it has an idempotency key: its repeats have the same.
    pub has_key: bool,
    /// This one request.
    pub cause: Cause,
    /// The thing it is about.
    pub key: String,
    /// `ce_expirytime`: the client has no use for the answer after this.
    pub expires: Option<WallTime>,
    /// The workflow and what it is asked, or why the body cannot be read.
    pub body: Result<wire::request::Request, String>,
}

/// A request or a command that cannot be handled, and whose sender can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct HubRejected {
    /// The operation that it names, or that its repeats would have.
    pub operation: OperationId,
    /// True for a command.
    pub is_command: bool,
    /// This one request or command.
    pub cause: Cause,
    /// The thing it is about.
    pub key: String,
    /// Why, with the header at fault.
    pub reason: String,
}

/// What a hub decides.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEffect {
    /// Tell the workers.
    Call(CallCommand),
    /// Tell the coordinator.
    Deadline(Deadline),
    /// Answer one request. Each of them gets its own answer: another one with the same key may be refused.
    Answer {
        /// How the operation stands, with the answer.
        view: Box<Operation>,
        /// The request.
        cause: Cause,
    },
    /// An operation that was answered before, and went on, is over: tell those who look. Nobody is answered again.
    Over(Box<Operation>),
    /// Tell who gave a command what became of it.
    Told {
        /// The operation that it was for.
        operation: OperationId,
        /// The command.
        cause: Cause,
        /// What became of it.
        outcome: Outcome,
    },
    /// Show a thing to those outside.
    Show(Resource),
    /// The view of an operation has changed.
    Changed(Arc<str>),
    /// The view of an operation has changed for the last time.
    Closed(Arc<str>),
    /// A counter grows.
    Count(&'static str),
    /// A line for the log.
    Log(Level, OperationId, String),
}

/// Whose turn it is on a key, by their numbers.
#[derive(Debug, Default)]
struct Turns {
    active: Option<u64>,
    waiting: VecDeque<u64>,
}

/// The operations of one lane.
pub struct HubTable<W: Workflows> {
    lane: W::Lane,
    settings: HubSettings,
    live: Live<W>,
    next_slot: u64,
    turns: BTreeMap<Arc<str>, Turns>,
    /// Those that work and are not answered.
    active: BTreeSet<u64>,
    /// Those whose turn on their key has come, and that wait for a place among the active. Bounded by `live`.
    admission: VecDeque<u64>,
    finished: Finished,
    /// What is saved of the table itself.
    saved: Option<SavedTable>,
}

impl<W: Workflows> Default for HubTable<W> {
    fn default() -> Self {
        let settings = HubSettings::default();
        Self {
            lane: W::Lane::default(),
            live: Live::default(),
            next_slot: 0,
            turns: BTreeMap::new(),
            active: BTreeSet::new(),
            admission: VecDeque::new(),
            finished: Finished::of(settings.remembered),
            saved: None,
            settings,
        }
    }
}

impl<W: Workflows> HubTable<W> {
    /// Takes settings.
    pub fn configure(&mut self, settings: &Settings, info: &LaneInfo) {
        self.settings = settings.of("hub").unwrap_or_default();
        self.finished.resize(self.settings.remembered);
        W::configure(&mut self.lane, settings, info);
    }

    /// What its operations share.
    pub fn lane(&self) -> &W::Lane {
        &self.lane
    }

    // ---- inputs -------------------------------------------------------------------------------------------------------

    /// A call ended.
    pub fn call_ended(&mut self, at: WallTime, end: CallEnd, effects: &mut Vec<HubEffect>) {
        let slot = self.live.slot_of(&end.id.operation);
        let waits = |running: &Running<W>| running.waits_for_call(&end.id);
        if let Some(running) = slot.and_then(|slot| self.live.get_mut_where(slot, waits))
            && let Standing::Parked(parked) = &mut running.standing
        {
            if parked.ends.iter().all(|known| known.id != end.id) {
                parked.ends.push(end);
            }
            return;
        }
        let call = end.id.clone();
        let works = |running: &Running<W>| running.standing == Standing::Running;
        let running = slot.and_then(|slot| self.live.get_mut_where(slot, works));
        let mut send = |command| effects.push(HubEffect::Call(command));
        match slot.zip(running.and_then(|running| running.call_ended(at, end, &mut send))) {
            None => {
                let line = format!("call {call} ended, and nobody waits for it");
                effects.push(HubEffect::Count(names::LATE_ENDS));
                effects.push(HubEffect::Log(Level::Debug, call.operation, line));
            }
            Some((slot, events)) => {
                for event in events {
                    // What the first of them decided may have ended the step that the next one is about.
                    let over = matches!(event, Event::AllReplied | Event::Enough)
                        && !self.live.get(slot).is_some_and(|running| running.is_at(call.step));
                    if !over {
                        self.drive(slot, event, at, effects);
                    }
                }
                self.check(slot, at, effects);
            }
        }
        self.admit_waiting(at, effects);
    }

    /// A deadline passed.
    pub fn timed_out(&mut self, at: WallTime, timed_out: TimedOut, effects: &mut Vec<HubEffect>) {
        let slot = timed_out.key;
        let running = self.live.get_mut_where(slot, |running| {
            running.standing == Standing::Running
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

    // ---- turns --------------------------------------------------------------------------------------------------------

    /// Lets operations begin whose turn has come, while there is a place. In a loop: one that ends at once lets the next begin.
    fn admit_waiting(&mut self, at: WallTime, effects: &mut Vec<HubEffect>) {
        while self.active.len() < self.settings.active
            && let Some(next) = self.admission.pop_front()
        {
            self.start(next, at, effects);
        }
    }

    /// An operation that was answered, or stands still, or is gone, leaves its place to another.
    fn recount(&mut self, slot: u64) {
        if !self.live.get(slot).is_some_and(Running::is_active) {
            self.active.remove(&slot);
        }
    }

    fn start(&mut self, slot: u64, at: WallTime, effects: &mut Vec<HubEffect>) {
        let Some(running) = self.live.get_mut(slot) else { return };
        running.standing = Standing::Running;
        if let Some(expires) = running.expires.filter(|expires| *expires <= at) {
            let detail = format!("its turn came at {at}, and its client waits until {expires} only; nothing was done");
            return self.end_before_turn(slot, Standing::Refused, Problem::new(Code::TooLate, detail), at, effects);
        }
        self.active.insert(slot);
        effects.push(HubEffect::Count(names::STARTED));
        let line = format!("{} `{}` begins", running.machine.0.workflow(), running.key);
        effects.push(HubEffect::Log(Level::Debug, running.id.clone(), line));
        self.drive(slot, Event::Requested, at, effects);
    }

    // ---- the machine --------------------------------------------------------------------------------------------------

    /// Gives an event to a workflow, and does what it decides, until nothing more comes of it. What it cannot handle parks it.
    fn drive(&mut self, slot: u64, event: Event, at: WallTime, effects: &mut Vec<HubEffect>) {
        if let Err(event) = self.try_drive(slot, event, at, effects)
            && let Some(running) = self.live.get(slot)
        {
            let reason = format!("event `{}` cannot happen in state `{}`", event.name(), running.state_name());
            self.park(slot, VecDeque::from([event]), at, &reason, effects);
        }
        self.recount(slot);
    }

    /// The same, but the first event may be refused: then nothing has happened, and it comes back.
    fn try_drive(&mut self, slot: u64, event: Event, at: WallTime, effects: &mut Vec<HubEffect>) -> Result<(), Event> {
        let mut events = VecDeque::from([event]);
        let mut first = true;
        while let Some(event) = events.pop_front() {
            let Some(running) = self.live.get_mut(slot) else { return Ok(()) };
            match &mut running.standing {
                Standing::Running => {}
                Standing::Parked(parked) => {
                    parked.events.push_back(event);
                    continue;
                }
                Standing::Queued | Standing::Ended | Standing::Cancelled | Standing::Refused | Standing::Aborted => {
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
        self.check(slot, at, effects);
        self.supersede(slot, at, effects);
        Ok(())
    }

    /// Tells an operation that yields its key of those that wait for it, once.
    fn supersede(&mut self, slot: u64, at: WallTime, effects: &mut Vec<HubEffect>) {
        let wanted = |running: &Running<W>| {
            running.can_be_superseded() && self.turns.get(&running.key).is_some_and(|turns| !turns.waiting.is_empty())
        };
        if let Some(running) = self.live.get_mut_where(slot, wanted) {
            running.superseded = true;
            self.drive(slot, Event::Superseded, at, effects);
        }
    }

    /// Parks an operation that waits for no call, no timer and no person: nothing would ever move it.
    fn check(&mut self, slot: u64, at: WallTime, effects: &mut Vec<HubEffect>) {
        let stuck = |running: &Running<W>| {
            running.standing == Standing::Running
                && running.timer.is_none()
                && running.signal.is_none()
                && !running.has_open_calls()
        };
        if self.live.get(slot).is_some_and(stuck) {
            let events = VecDeque::from([Event::TimedOut]);
            self.park(slot, events, at, "it waits for nothing: no call, no timer, no person", effects);
        }
    }

    /// An operation stands still, with what it has yet to handle, until a person takes it in hand. Its open calls go on: each
    /// has its own deadline with its worker.
    fn park(&mut self, slot: u64, events: VecDeque<Event>, at: WallTime, reason: &str, effects: &mut Vec<HubEffect>) {
        let Some(running) = self.live.get_mut(slot) else { return };
        running.note(at, format!("parked: {reason}"));
        running.standing = Standing::Parked(Parked { events, ends: Vec::new(), timer: running.timer.take() });
        self.active.remove(&slot);
        effects.push(HubEffect::Deadline(Deadline::Cancel { key: running.slot }));
        effects.push(HubEffect::Count(names::PARKED));
        effects.push(HubEffect::Log(Level::Error, running.id.clone(), format!("parked: {reason}")));
        effects.push(HubEffect::Changed(running.view_key()));
        if running.answer.is_none() {
            tell(running, Answer::Refused(Problem::new(Code::Parked, reason)), effects);
        }
    }

    /// Ends an operation before its turn: its client is told why.
    fn end_before_turn(
        &mut self,
        slot: u64,
        standing: Standing,
        problem: Problem,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) {
        let Some(running) = self.live.get_mut(slot) else { return };
        running.standing = standing;
        running.note(at, format!("{} before its turn", running.state_name()));
        tell(running, self.settings.fit(Answer::Refused(problem)), effects);
        effects.push(HubEffect::Closed(running.view_key()));
        self.end(slot, effects);
    }

    /// Removes an operation that is over, remembers its outcome, and gives the turn on its key to the next one.
    fn end(&mut self, slot: u64, effects: &mut Vec<HubEffect>) {
        let Some(running) = self.live.remove(slot) else { return };
        let worked = self.active.remove(&slot);
        if running.answer.as_ref().is_some_and(Answer::is_outcome) {
            self.finished.push(Past::of(&running));
        }
        let Some(turns) = self.turns.get_mut(&running.key) else { return };
        if turns.active != Some(slot) {
            // It was cancelled before its turn.
            turns.waiting.retain(|waiting| *waiting != slot);
            return self.moved_up(&running.key, effects);
        }
        if !worked {
            self.admission.retain(|waiting| *waiting != slot);
        }
        turns.active = turns.waiting.pop_front();
        match turns.active {
            Some(next) => {
                self.admission.push_back(next);
                // One that made way for it leaves it something to do: it is done though its client waits no longer.
                if running.superseded
                    && let Some(next) = self.live.get_mut(next)
                {
                    (next.expires, next.inherits) = (None, true);
                }
            }
            None => {
                self.turns.remove(&running.key);
            }
        }
        self.moved_up(&running.key, effects);
    }

    /// Publishes how the operations stand that wait on a key, after one before them has left. There are at most
    /// `waiting_per_key` of them.
    fn moved_up(&self, key: &str, effects: &mut Vec<HubEffect>) {
        let waiting = self.turns.get(key).into_iter().flat_map(|turns| turns.active.iter().chain(&turns.waiting));
        let waiting = waiting.filter_map(|slot| self.live.get(*slot));
        effects.extend(waiting.map(|running| HubEffect::Changed(running.view_key())));
    }

    // ---- views --------------------------------------------------------------------------------------------------------

    /// How an operation stands.
    pub fn view(&self, operation: &str, timers: &dyn DueTimes) -> Option<Operation> {
        let operation = OperationId::new(operation).ok()?;
        if let Some(running) = self.live.of(&operation) {
            let view = running.view(Some((timers, running.slot)));
            return Some(Operation { queue: self.queue(running), ..view });
        }
        self.finished.get(&operation).map(|finished| finished.view.clone())
    }

    /// Returns the place of an operation among those that are remembered; none where it lives, or was forgotten.
    pub fn place_of(&self, operation: &OperationId) -> Option<u64> {
        self.finished.place_of(operation)
    }

    /// Returns what an operation waits for that has not begun.
    fn queue(&self, running: &Running<W>) -> Option<Queue> {
        if running.standing != Standing::Queued {
            return None;
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let turns = self.turns.get(&running.key)?;
        if turns.active == Some(running.slot) {
            let ahead = self.admission.iter().position(|slot| *slot == running.slot)?;
            return Some(Queue { behind: None, ahead: number(ahead), limit: Some(number(self.settings.active)) });
        }
        let ahead = turns.waiting.iter().position(|slot| *slot == running.slot)? + 1;
        let behind = turns.active.and_then(|slot| self.live.get(slot)).map(|first| first.id.clone());
        Some(Queue { behind, ahead: number(ahead), limit: None })
    }

    /// Each operation that lives, with what it waits for.
    pub fn waits(&self) -> Vec<Wait> {
        let wait = |running: &Running<W>| {
            let mut wait = running.waits();
            if running.standing == Standing::Queued {
                let turns = self.turns.get(&running.key);
                let turn =
                    turns.filter(|turns| turns.active == Some(running.slot) || turns.waiting.contains(&running.slot));
                wait.others.extend(turn.map(|_| "its turn".to_owned()));
            }
            wait
        };
        self.live.iter().map(wait).collect()
    }

    /// A line for each operation that lives.
    pub fn unfinished(&self) -> Vec<String> {
        let line = |running: &Running<W>| {
            let (workflow, state) = (running.machine.0.workflow(), running.state_name());
            format!("{} {workflow} `{}`: {state}", running.id, running.key)
        };
        self.live.iter().map(line).collect()
    }
}
