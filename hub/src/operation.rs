//! One operation, as its hub keeps it: its machine, its open step, what can be undone, its history.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::{DueTimes, Wait};
use wire::answer::{Answer, Entry, Operation, PendingCall, Step, Until};
use wire::call::{Call, CallCommand, CallEnd, CallOutcome};
use wire::{CallId, OperationId, WallTime};

use crate::machine::{AnyOf, Workflows};
use crate::word::Word;
use crate::workflow::{Barrier, CallFailure, CallSpec, Event, Mode, StepSpec, UndoSpec};

/// A history has at most this many entries: the first [`HISTORY_HEAD`] and the newest. An operation that goes on trying for
/// days shows how it began and where it is.
const HISTORY: usize = 256;
const HISTORY_HEAD: usize = 32;

/// At most so many requests of one operation are told apart: repeats beyond it are answered by the answer alone.
const CAUSES: usize = 8;

/// Where an operation stands with its hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It waits for its turn on its key.
    Queued,
    /// It works.
    Running,
    /// It broke a rule, and stands still.
    Parked(Parked),
    /// It is over.
    Ended,
}

/// What a parked operation has yet to handle, if it is to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// From the event that it broke the rule on. As many as one record brings.
    pub(crate) events: VecDeque<Event>,
    /// How calls ended meanwhile: one for each call of the open step, at most.
    pub(crate) ends: Vec<CallEnd>,
    /// The deadline that it had.
    pub(crate) timer: Option<ArmedTimer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallState {
    Waiting,
    Open,
    Done,
    Failed,
}

/// A call by its place in its operation, step and number. Its id has the operation's in it, a thousand times over where a step
/// has as many calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place(u32, u32);

impl Place {
    fn of(call: &CallId) -> Self {
        Self(call.step, call.n)
    }

    fn id(self, operation: &OperationId) -> CallId {
        CallId::new(operation.clone(), self.0, self.1)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenCall {
    spec: CallSpec,
    /// The calls that it undoes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    undoes: Vec<Place>,
    state: CallState,
}

/// A step that is open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenStep {
    number: u32,
    #[serde(with = "crate::word")]
    name: Word,
    mode: Mode,
    barrier: Barrier,
    /// True where it undoes; then its calls fail without ending it.
    undoing: bool,
    calls: Vec<OpenCall>,
}

impl OpenStep {
    /// How many answers it needs.
    fn needed(&self) -> usize {
        match self.barrier {
            Barrier::All => self.calls.len(),
            Barrier::First => 1.min(self.calls.len()),
            Barrier::Quorum(n) => self.calls.len().min(n as usize),
        }
    }

    fn count(&self, state: CallState) -> usize {
        self.calls.iter().filter(|call| call.state == state).count()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Compensation {
    call: Place,
    mode: Mode,
    tag: u32,
    #[serde(with = "crate::word")]
    service: Word,
    key: String,
    undo: UndoSpec,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    undone: bool,
    /// It is undone for the reason that it was never done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_sent: bool,
}

/// What an operation waits for by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArmedTimer {
    pub(crate) generation: u32,
    #[serde(with = "crate::word")]
    pub(crate) what: Word,
    pub(crate) after_ms: u64,
}

/// What an operation waits for somebody to say, and in words for what that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Awaited {
    #[serde(with = "crate::word")]
    pub(crate) signal: Word,
    #[serde(with = "crate::word")]
    pub(crate) what: Word,
}

/// A live operation. It is saved whole: what a field knows, later events depend on.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Running<W: Workflows> {
    pub(crate) id: OperationId,
    pub(crate) key: Arc<str>,
    /// A hash of the request, to tell a repeat from another request with its name.
    pub(crate) fingerprint: u64,
    /// `ce_id` of the requests that ask for it.
    pub(crate) causes: Vec<String>,
    pub(crate) machine: AnyOf<W>,
    pub(crate) standing: Standing,
    /// Its number in the lane: the key of its deadline.
    pub(crate) slot: u64,
    /// The client has no use for it after this.
    pub(crate) expires: Option<WallTime>,
    pub(crate) generation: u32,
    pub(crate) timer: Option<ArmedTimer>,
    pub(crate) signal: Option<Awaited>,
    pub(crate) answer: Option<Answer>,
    pub(crate) yields: bool,
    /// What the workflow itself noted last, for the log.
    pub(crate) noted: String,
    /// It was told that a newer operation wants its key.
    pub(crate) superseded: bool,
    /// One that made way for it left it something to do: it is begun, whatever its client wants.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherits: bool,
    steps: u32,
    open: Option<OpenStep>,
    compensations: Vec<Compensation>,
    /// Steps still to be undone, the next one last.
    undo_steps: Vec<u32>,
    #[serde(with = "crate::word")]
    undo_name: Word,
    history: Vec<Entry>,
    entries: u32,
}

impl<W: Workflows> Running<W> {
    pub(crate) fn new(
        id: OperationId,
        key: &str,
        fingerprint: u64,
        cause: String,
        machine: AnyOf<W>,
        slot: u64,
    ) -> Self {
        Self {
            id,
            key: key.into(),
            fingerprint,
            causes: vec![cause],
            machine,
            standing: Standing::Queued,
            slot,
            expires: None,
            generation: 0,
            timer: None,
            signal: None,
            answer: None,
            yields: false,
            noted: String::new(),
            superseded: false,
            inherits: false,
            steps: 0,
            open: None,
            compensations: Vec::new(),
            undo_steps: Vec::new(),
            undo_name: "",
            history: Vec::new(),
            entries: 0,
        }
    }

    /// The key of its view.
    pub(crate) fn view_key(&self) -> Arc<str> {
        Arc::clone(self.id.shared())
    }

    pub(crate) fn asked_again(&mut self, cause: String) {
        if self.causes.len() < CAUSES && !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    pub(crate) fn note(&mut self, at: WallTime, what: impl Into<String>) {
        if self.history.len() >= HISTORY {
            self.history.remove(HISTORY_HEAD);
        }
        self.entries += 1;
        self.history.push(Entry { seq: self.entries, at, what: what.into() });
    }

    /// True where a call is open.
    pub(crate) fn has_open_calls(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.calls.iter().any(|call| call.state == CallState::Open))
    }

    /// What it waits for, for those who look from outside. One that is parked waits for a person; its turn is its table's to say.
    pub(crate) fn waits(&self) -> Wait {
        let mut wait = Wait { who: self.id.to_string(), deadline: None, calls: Vec::new(), others: Vec::new() };
        match self.standing {
            Standing::Queued | Standing::Ended => {}
            Standing::Parked(_) => wait.others.push("a person".to_owned()),
            Standing::Running => {
                wait.deadline = self.timer.as_ref().map(|timer| (self.slot, timer.generation));
                wait.others.extend(self.signal.map(|awaited| awaited.what.to_owned()));
                let open =
                    self.open.iter().flat_map(|open| (0..).zip(&open.calls).map(move |call| (open.number, call)));
                let open = open.filter(|(_, (_, call))| call.state == CallState::Open);
                wait.calls = open.map(|(number, (i, _))| call_id(&self.id, number, i).to_string()).collect();
            }
        }
        wait
    }

    /// True where this call is open.
    pub(crate) fn waits_for_call(&self, call: &CallId) -> bool {
        let i = call.n.checked_sub(1).and_then(|i| usize::try_from(i).ok());
        let open = self.open.as_ref().filter(|open| open.number == call.step);
        open.zip(i).and_then(|(open, i)| open.calls.get(i)).is_some_and(|call| call.state == CallState::Open)
    }

    /// True where this step is open.
    pub(crate) fn is_at(&self, step: u32) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == step)
    }

    /// True where it is answered and lets a newer operation take its key, and was not told of one yet.
    pub(crate) fn can_be_superseded(&self) -> bool {
        self.yields && self.answer.is_some() && !self.superseded
    }

    // ---- steps --------------------------------------------------------------------------------------------------------

    /// Abandons what is open.
    pub(crate) fn close_step(&mut self, send: &mut impl FnMut(CallCommand)) {
        let Some(open) = self.open.take() else { return };
        for (i, call) in open.calls.iter().enumerate() {
            if call.state == CallState::Open {
                send(CallCommand::Abandon(call_id(&self.id, open.number, i)));
            }
        }
    }

    pub(crate) fn open_step(
        &mut self,
        at: WallTime,
        step: StepSpec,
        send: &mut impl FnMut(CallCommand),
    ) -> Option<Event> {
        let calls = step.calls.into_iter().map(|spec| OpenCall { spec, undoes: Vec::new(), state: CallState::Waiting });
        self.open(at, step.name, step.mode, step.barrier, calls.collect(), send);
        self.barrier()
    }

    fn open(
        &mut self,
        at: WallTime,
        name: &'static str,
        mode: Mode,
        barrier: Barrier,
        calls: Vec<OpenCall>,
        send: &mut impl FnMut(CallCommand),
    ) {
        self.steps += 1;
        let count = calls.len();
        self.note(at, format!("step {}, {name}: {count} {}", self.steps, if count == 1 { "call" } else { "calls" }));
        self.open = Some(OpenStep { number: self.steps, name, mode, barrier, undoing: false, calls });
        let first = if mode == Mode::OneByOne { count.min(1) } else { count };
        (0..first).for_each(|i| self.send_call(i, send));
    }

    fn send_call(&mut self, i: usize, send: &mut impl FnMut(CallCommand)) {
        let Some(open) = &mut self.open else { return };
        let id = call_id(&self.id, open.number, i);
        let call = &mut open.calls[i];
        call.state = CallState::Open;
        let spec = &mut call.spec;
        if let Some(undo) = spec.undo.take() {
            self.compensations.push(Compensation {
                call: Place::of(&id),
                mode: open.mode,
                tag: spec.tag,
                service: spec.service,
                key: spec.key.clone(),
                undo,
                undone: false,
                never_sent: false,
            });
        }
        send(CallCommand::Start(Call {
            id,
            service: spec.service.into(),
            key: spec.key.clone(),
            what: spec.what.clone(),
            body: std::mem::take(&mut spec.body),
            undoes: call.undoes.iter().map(|place| place.id(&self.id)).collect(),
            lane: 0,
            within_ms: spec.within_ms,
            swallow: spec.swallow,
        }));
    }

    /// A call ended: the events that come of it; none where nobody waits for it.
    pub(crate) fn call_ended(
        &mut self,
        at: WallTime,
        end: CallEnd,
        send: &mut impl FnMut(CallCommand),
    ) -> Option<Vec<Event>> {
        if self.open.as_ref().is_none_or(|open| open.number != end.id.step) {
            return self.never_sent(at, &end, send);
        }
        let open = self.open.as_mut()?;
        let i = usize::try_from(end.id.n.checked_sub(1)?).ok()?;
        let call = open.calls.get_mut(i).filter(|call| call.state == CallState::Open)?;
        let tag = call.spec.tag;
        let (undoing, mode) = (open.undoing, open.mode);
        let mut events = Vec::new();
        match end.outcome {
            CallOutcome::Replied(body) => {
                call.state = CallState::Done;
                if undoing {
                    let undone = call.undoes.clone();
                    self.compensations.iter_mut().filter(|c| undone.contains(&c.call)).for_each(|c| c.undone = true);
                } else {
                    events.push(Event::Replied { tag, body });
                }
                if mode == Mode::OneByOne {
                    self.send_next(send);
                }
            }
            outcome @ (CallOutcome::Refused(_) | CallOutcome::TimedOut) => {
                call.state = CallState::Failed;
                let what = call.spec.what.clone();
                let failure = CallFailure { tag, what, outcome, attempts: end.attempts };
                self.note(at, describe(&failure));
                if undoing {
                    if mode == Mode::OneByOne {
                        self.send_next(send);
                    }
                } else {
                    // What was refused at the first sending was certainly not done.
                    let not_done = match failure.outcome {
                        CallOutcome::Refused(_) => failure.attempts <= 1,
                        CallOutcome::TimedOut | CallOutcome::Replied(_) => failure.attempts == 0,
                    };
                    if not_done {
                        self.compensations.retain(|done| done.undo.always || done.call != Place::of(&end.id));
                    }
                    if self.can_still_pass() {
                        if mode == Mode::OneByOne {
                            self.send_next(send);
                        }
                        return Some(events);
                    }
                    self.close_step(send);
                    events.push(Event::Failed(failure));
                    return Some(events);
                }
            }
        }
        if undoing {
            events.extend(self.undo_barrier(at, send));
        } else {
            events.extend(self.barrier());
        }
        Some(events)
    }

    /// A call of a step that is over was never sent, as its worker says now: it need not be undone, and is not.
    fn never_sent(&mut self, at: WallTime, end: &CallEnd, send: &mut impl FnMut(CallCommand)) -> Option<Vec<Event>> {
        if end.attempts > 0 || matches!(end.outcome, CallOutcome::Replied(_)) {
            return None;
        }
        let place = Place::of(&end.id);
        let matches = |done: &&mut Compensation| done.call == place && !done.undone && !done.undo.always;
        let done = self.compensations.iter_mut().find(matches)?;
        (done.undone, done.never_sent) = (true, true);
        let Some(open) = self.open.as_mut().filter(|open| open.undoing) else { return Some(Vec::new()) };
        let (number, undo) = (open.number, open.calls.iter().position(|call| call.undoes.contains(&place)));
        if let Some((i, call)) = undo.and_then(|i| Some((i, open.calls.get_mut(i)?))) {
            if call.state == CallState::Open {
                send(CallCommand::Abandon(call_id(&self.id, number, i)));
            }
            call.state = CallState::Done;
            if open.mode == Mode::OneByOne && open.count(CallState::Open) == 0 {
                self.send_next(send);
            }
        }
        Some(self.undo_barrier(at, send).into_iter().collect())
    }

    fn send_next(&mut self, send: &mut impl FnMut(CallCommand)) {
        let waiting = |open: &OpenStep| open.calls.iter().position(|call| call.state == CallState::Waiting);
        if let Some(i) = self.open.as_ref().and_then(waiting) {
            self.send_call(i, send);
        }
    }

    /// The event of a step that has the answers it needs.
    pub(crate) fn barrier(&self) -> Option<Event> {
        let open = self.open.as_ref()?;
        let passed = open.count(CallState::Done) >= open.needed();
        passed.then_some(if open.barrier == Barrier::All { Event::AllReplied } else { Event::Enough })
    }

    /// True where the open step can still get the answers it needs.
    fn can_still_pass(&self) -> bool {
        let can = |open: &OpenStep| open.calls.len() - open.count(CallState::Failed) >= open.needed();
        self.open.as_ref().is_some_and(can)
    }

    // ---- undoing ------------------------------------------------------------------------------------------------------

    /// The call with this tag has nothing to be undone.
    pub(crate) fn keep(&mut self, tag: u32) {
        self.compensations.retain(|compensation| compensation.tag != tag);
    }

    /// The call with this tag has to be undone once more.
    pub(crate) fn undo_again(&mut self, tag: u32) {
        self.compensations.iter_mut().filter(|compensation| compensation.tag == tag).for_each(|c| c.undone = false);
    }

    /// Begins to undo; the event that ends it, where there is nothing to undo.
    pub(crate) fn begin_undo(
        &mut self,
        at: WallTime,
        name: &'static str,
        send: &mut impl FnMut(CallCommand),
    ) -> Option<Event> {
        let open = self.compensations.iter().filter(|compensation| !compensation.undone);
        self.undo_steps = open.map(|compensation| compensation.call.0).collect();
        self.undo_steps.dedup();
        self.undo_name = name;
        self.undo_next_step(at, send)
    }

    fn undo_next_step(&mut self, at: WallTime, send: &mut impl FnMut(CallCommand)) -> Option<Event> {
        let Some(step) = self.undo_steps.pop() else { return Some(self.undo_outcome()) };
        let open = self.compensations.iter().rev().filter(|c| c.call.0 == step && !c.undone);
        let calls: Vec<OpenCall> = open
            .map(|compensation| OpenCall {
                spec: CallSpec {
                    tag: compensation.tag,
                    service: compensation.service,
                    key: compensation.key.clone(),
                    what: compensation.undo.what.clone(),
                    body: compensation.undo.body.clone(),
                    within_ms: compensation.undo.within_ms,
                    undo: None,
                    swallow: false,
                },
                undoes: vec![compensation.call],
                state: CallState::Waiting,
            })
            .collect();
        let mode = self.compensations.iter().find(|c| c.call.0 == step).map_or(Mode::AtOnce, |c| c.mode);
        self.open(at, self.undo_name, mode, Barrier::All, calls, send);
        if let Some(open) = &mut self.open {
            open.undoing = true;
        }
        None
    }

    fn undo_barrier(&mut self, at: WallTime, send: &mut impl FnMut(CallCommand)) -> Option<Event> {
        let open = self.open.as_ref()?;
        if open.calls.iter().any(|call| matches!(call.state, CallState::Open | CallState::Waiting)) {
            return None;
        }
        self.open = None;
        self.undo_next_step(at, send)
    }

    fn undo_outcome(&self) -> Event {
        let left: Vec<u32> = self.compensations.iter().filter(|c| !c.undone).map(|c| c.tag).collect();
        if !left.is_empty() {
            return Event::UndoStuck { left };
        }
        Event::Undone { never_sent: self.compensations.iter().filter(|c| c.never_sent).map(|c| c.tag).collect() }
    }

    /// The deadline has passed: the event that comes of it.
    pub(crate) fn timed_out(&mut self, send: &mut impl FnMut(CallCommand)) -> Event {
        let undoing = self.open.as_ref().is_some_and(|open| open.undoing);
        self.close_step(send);
        self.undo_steps.clear();
        if undoing { self.undo_outcome() } else { Event::TimedOut }
    }

    // ---- saved states -------------------------------------------------------------------------------------------------

    /// Why it cannot be what a hub has saved; none where it can.
    pub(crate) fn misfit(&self) -> Option<String> {
        // No operation counts so far; with one that would, the next step would have no number.
        let end = u32::MAX / 2;
        if [self.generation, self.steps, self.entries].into_iter().any(|count| count > end) {
            return Some(format!("a count is beyond {end}"));
        }
        if self.history.len() > HISTORY || self.history.last().map_or(0, |entry| entry.seq) != self.entries {
            return Some("its history does not end with its last entry".into());
        }
        if self.causes.is_empty() || self.causes.len() > CAUSES {
            return Some(format!("{} requests asked for it", self.causes.len()));
        }
        let parked = if let Standing::Parked(parked) = &self.standing { Some(parked) } else { None };
        let timers = [self.timer.as_ref(), parked.and_then(|parked| parked.timer.as_ref())];
        if timers.into_iter().flatten().any(|timer| timer.generation != self.generation) {
            return Some("its deadline is not its last".into());
        }
        if self.open.as_ref().is_some_and(|open| open.number != self.steps) {
            return Some("its open step is not its last".into());
        }
        let undone = self.open.iter().flat_map(|open| &open.calls).flat_map(|call| &call.undoes);
        let mut calls = self.compensations.iter().map(|done| &done.call).chain(undone);
        if let Some(Place(step, n)) = calls.find(|Place(step, n)| *step > self.steps || *step == 0 || *n == 0) {
            return Some(format!("it has made no call {step}/{n}"));
        }
        if let Some(end) = parked.and_then(|parked| parked.ends.iter().find(|end| !self.waits_for_call(&end.id))) {
            return Some(format!("it does not wait for call {}", end.id));
        }
        let idle = self.timer.is_none() && self.signal.is_none() && !self.has_open_calls();
        let fresh = idle && self.open.is_none() && self.answer.is_none() && self.steps == 0;
        match self.standing {
            Standing::Queued if !fresh => Some("it waits for its turn, and has begun".into()),
            Standing::Running if idle => Some("it waits for nothing".into()),
            Standing::Parked(_) if self.answer.is_none() => Some("it is parked, and its client was not told".into()),
            Standing::Parked(_) if self.timer.is_some() => Some("it is parked, and has a deadline".into()),
            Standing::Ended => Some("it is over".into()),
            Standing::Queued | Standing::Running | Standing::Parked(_) => None,
        }
    }

    // ---- views --------------------------------------------------------------------------------------------------------

    /// The state's name, as it is shown.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.standing {
            Standing::Queued => "queued",
            Standing::Parked(_) => "parked",
            Standing::Running | Standing::Ended => self.machine.0.state(),
        }
    }

    /// True where it works and is not answered.
    pub(crate) fn is_active(&self) -> bool {
        self.standing == Standing::Running && self.answer.is_none()
    }

    pub(crate) fn view(&self, timers: Option<(&dyn DueTimes, u64)>) -> Operation {
        let live = self.standing != Standing::Ended;
        let step = self.open.as_ref().map(|open| Step {
            number: open.number,
            name: open.name.to_owned(),
            calls: count(open.calls.len()),
            done: count(open.count(CallState::Done)),
            pending: self.pending(open),
        });
        let at = timers.and_then(|(timers, timer)| timers.due(timer));
        let person = self.signal.map(|awaited| Until { what: awaited.what.to_owned(), at });
        let until = person.or_else(|| self.timer.as_ref().map(|timer| Until { what: timer.what.to_owned(), at }));
        Operation {
            operation: self.id.clone(),
            key: self.key.to_string(),
            workflow: self.machine.0.workflow().to_owned(),
            state: self.state_name().to_owned(),
            live,
            step: step.filter(|_| live),
            until,
            signal: self.signal.map(|awaited| awaited.signal.to_owned()),
            history: self.history.clone(),
            answer: self.answer.clone(),
        }
    }

    fn pending(&self, open: &OpenStep) -> Vec<PendingCall> {
        let pending = open.calls.iter().enumerate().filter(|(_, call)| call.state == CallState::Open);
        pending
            .take(Step::SHOWN)
            .map(|(i, call)| PendingCall {
                call: call_id(&self.id, open.number, i),
                what: call.spec.what.clone(),
                service: call.spec.service.to_owned(),
                conversation: None,
            })
            .collect()
    }
}

fn call_id(operation: &OperationId, step: u32, i: usize) -> CallId {
    CallId::new(operation.clone(), step, count(i) + 1)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a step has fewer than 2^32 calls")
}

fn describe(failure: &CallFailure) -> String {
    let sent = match failure.attempts {
        0 => "never sent".to_owned(),
        1 => "sent once".to_owned(),
        n => format!("sent {n} times"),
    };
    match &failure.outcome {
        CallOutcome::Refused(reason) => format!("{}: refused ({reason}), {sent}", failure.what),
        CallOutcome::TimedOut | CallOutcome::Replied(_) => format!("{}: no answer in time, {sent}", failure.what),
    }
}
