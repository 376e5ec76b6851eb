//! The open step of an operation: its calls and the events that their ends cause.

use wire::WallTime;
use wire::call::{Call, CallCommand, CallEnd, CallOutcome};

use super::{CallPosition, CallState, Compensation, OpenCall, OpenStep, Running, call_id};
use crate::event::{CallFailure, Event};
use crate::machine::Workflows;
use crate::step::{Barrier, CallOrder, StepSpec};

impl<W: Workflows> Running<W> {
    /// Abandons the open calls and closes the step.
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
        self.open(at, step.name, step.order, step.barrier, calls.collect(), send);
        self.barrier()
    }

    pub(super) fn open(
        &mut self,
        at: WallTime,
        name: &'static str,
        mode: CallOrder,
        barrier: Barrier,
        calls: Vec<OpenCall>,
        send: &mut impl FnMut(CallCommand),
    ) {
        self.steps += 1;
        let count = calls.len();
        self.note(at, format!("step {}, {name}: {count} {}", self.steps, if count == 1 { "call" } else { "calls" }));
        self.open = Some(OpenStep { number: self.steps, name, mode, barrier, undoing: false, calls });
        let first = if mode == CallOrder::OneByOne { count.min(1) } else { count };
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
                call: CallPosition::of(&id),
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
            undoes: call.undoes.iter().map(|position| position.id(&self.id)).collect(),
            lane: 0,
            correlation: self.causes.first().and_then(|first| first.correlation.clone()),
            within_ms: spec.within_ms,
            until: None,
        }));
    }

    /// Handles the end of a call. Returns the events it causes, or `None` if the operation does not
    /// wait for this call.
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
        let checked = match end.outcome {
            CallOutcome::Replied(body) => {
                self.machine.0.check_reply(call.spec.service, tag, undoing, body).map_err(CallOutcome::Misread)
            }
            outcome @ (CallOutcome::Refused(_) | CallOutcome::Misread(_) | CallOutcome::TimedOut) => Err(outcome),
        };
        match checked {
            Ok(reply) => {
                call.state = CallState::Done;
                if undoing {
                    let undone = call.undoes.clone();
                    self.compensations.iter_mut().filter(|c| undone.contains(&c.call)).for_each(|c| c.undone = true);
                } else {
                    events.push(Event::Replied { tag, reply });
                }
                if mode == CallOrder::OneByOne {
                    self.send_next(send);
                }
            }
            Err(outcome) => {
                call.state = CallState::Failed;
                let what = call.spec.what.clone();
                let failure = CallFailure { tag, what, outcome, attempts: end.attempts };
                self.note(at, failure.to_string());
                if undoing {
                    if mode == CallOrder::OneByOne {
                        self.send_next(send);
                    }
                } else {
                    // A call that was refused at its first attempt was certainly not carried out.
                    let not_done = match failure.outcome {
                        CallOutcome::Refused(_) => failure.attempts <= 1,
                        CallOutcome::Misread(_) | CallOutcome::TimedOut | CallOutcome::Replied(_) => {
                            failure.attempts == 0
                        }
                    };
                    if not_done {
                        self.compensations.retain(|done| done.undo.always || done.call != CallPosition::of(&end.id));
                    }
                    if self.can_still_pass() {
                        if mode == CallOrder::OneByOne {
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

    /// Handles the report that a call of a closed step was never sent. Its compensation is then not
    /// needed, and is abandoned if it is open.
    fn never_sent(&mut self, at: WallTime, end: &CallEnd, send: &mut impl FnMut(CallCommand)) -> Option<Vec<Event>> {
        if end.attempts > 0 || matches!(end.outcome, CallOutcome::Replied(_)) {
            return None;
        }
        let position = CallPosition::of(&end.id);
        let matches = |done: &&mut Compensation| done.call == position && !done.undone && !done.undo.always;
        let done = self.compensations.iter_mut().find(matches)?;
        (done.undone, done.never_sent) = (true, true);
        let Some(open) = self.open.as_mut().filter(|open| open.undoing) else { return Some(Vec::new()) };
        let (number, undo) = (open.number, open.calls.iter().position(|call| call.undoes.contains(&position)));
        if let Some((i, call)) = undo.and_then(|i| Some((i, open.calls.get_mut(i)?))) {
            if call.state == CallState::Open {
                send(CallCommand::Abandon(call_id(&self.id, number, i)));
            }
            call.state = CallState::Done;
            if open.mode == CallOrder::OneByOne && open.count(CallState::Open) == 0 {
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

    /// Returns the event of the open step if it has the replies it needs.
    pub(crate) fn barrier(&self) -> Option<Event> {
        let open = self.open.as_ref()?;
        let passed = open.count(CallState::Done) >= open.needed();
        passed.then_some(if open.barrier == Barrier::All { Event::AllReplied } else { Event::Enough })
    }

    /// True if the open step can still get the replies it needs.
    fn can_still_pass(&self) -> bool {
        let can = |open: &OpenStep| open.calls.len() - open.count(CallState::Failed) >= open.needed();
        self.open.as_ref().is_some_and(can)
    }
}
