//! What people and programs outside tell an operation: [`wire::command`].

use coordinator::Deadline;
use serde_json::json;
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::{Code, OperationId, Problem, WallTime};

use super::perform::arm;
use super::{HubEffect, HubTable, Running};
use crate::cause::Cause;
use crate::machine::Workflows;
use crate::names;
use crate::operation::{Parked, Standing};
use crate::workflow::Event;

/// A command as it came from the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct HubCommand {
    /// The operation that it is for.
    pub operation: OperationId,
    /// This one command.
    pub cause: Cause,
    /// What is told.
    pub command: Command,
}

impl<W: Workflows> HubTable<W> {
    /// A command came. Who gave it is told what became of it, once.
    pub fn command(&mut self, at: WallTime, command: HubCommand, effects: &mut Vec<HubEffect>) {
        let HubCommand { operation, cause, command } = command;
        let word = command.as_str();
        let done = match self.live.slot_of(&operation) {
            None => self.told_again(&operation, &command),
            Some(slot) => {
                let done = match command {
                    Command::Signal { name, body } => self.signal(slot, &operation, name, body, at, effects),
                    Command::Cancel => self.cancel(slot, &operation, at, effects),
                    Command::Resume => self.resume(slot, &operation, at, effects),
                    Command::Abort => self.abort(slot, &operation, at, effects),
                };
                self.recount(slot);
                done
            }
        };
        self.admit_waiting(at, effects);
        let outcome = match done.and_then(|()| self.stands(&operation, effects)) {
            Ok(view) => Outcome::Taken(Box::new(view)),
            Err(problem) => Outcome::Refused(problem),
        };
        effects.push(HubEffect::Count(match outcome {
            Outcome::Taken(_) => names::COMMANDS_TAKEN,
            Outcome::Refused(_) => names::COMMANDS_REFUSED,
        }));
        let line = format!("{word}: {}", if matches!(outcome, Outcome::Taken(_)) { "taken" } else { "refused" });
        effects.push(HubEffect::Log(topology::Level::Info, operation.clone(), line));
        effects.push(HubEffect::Told { operation, cause, outcome });
    }

    /// A command for an operation that is over: taken where it took the same one before.
    fn told_again(&self, operation: &OperationId, command: &Command) -> Result<(), Problem> {
        let took = self.finished.get(operation).is_some_and(|past| match command {
            Command::Cancel => past.cancelled,
            Command::Abort => past.aborted,
            Command::Signal { .. } | Command::Resume => false,
        });
        if took { Ok(()) } else { Err(self.not_now(operation, command.as_str(), "")) }
    }

    /// How an operation stands after a command.
    fn stands(&self, operation: &OperationId, effects: &[HubEffect]) -> Result<Operation, Problem> {
        if let Some(running) = self.live.of(operation) {
            return Ok(running.view(None));
        }
        if let Some(past) = self.finished.get(operation) {
            return Ok(past.view.clone());
        }
        // It has ended just now, and is not remembered: there are no places, or the next operations took them at once.
        let ended = effects.iter().rev().find_map(|effect| match effect {
            HubEffect::Answer { view, .. } | HubEffect::Over(view) if view.operation == *operation => Some(view),
            _of_another => None,
        });
        ended.map(|view| Operation::clone(view)).ok_or_else(|| self.not_now(operation, "", ""))
    }

    /// Why an operation takes no such command.
    fn not_now(&self, operation: &OperationId, command: &str, why: &str) -> Problem {
        if self.live.of(operation).is_some() {
            Problem::new(Code::NotNow, format!("{operation} does not take `{command}`: {why}"))
        } else if self.finished.get(operation).is_some() {
            Problem::new(Code::NotNow, format!("{operation} does not take `{command}`: it is over"))
        } else {
            Problem::new(Code::UnknownOperation, format!("{operation} is not known, or was forgotten"))
        }
    }

    fn signal(
        &mut self,
        slot: u64,
        operation: &OperationId,
        name: String,
        body: serde_json::Value,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) -> Result<(), Problem> {
        let running = self.live.get(slot).filter(|running| running.standing == Standing::Running);
        let Some(awaited) = running.and_then(|running| running.signal).map(|awaited| awaited.signal) else {
            return Err(self.not_now(operation, "signal", "it waits for nobody"));
        };
        if awaited != name {
            let shown: String = name.chars().take(80).collect();
            return Err(Problem::field("signal", &format!("`{shown}`"), &format!("`{awaited}`, which it waits for")));
        }
        self.try_drive(slot, Event::Signal { name, body }, at, effects)
            .map_err(|_| self.not_now(operation, "signal", &format!("it does not accept `{awaited}` with this body")))
    }

    fn cancel(
        &mut self,
        slot: u64,
        operation: &OperationId,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) -> Result<(), Problem> {
        let Some(running) = self.live.get(slot) else {
            return Err(self.not_now(operation, "cancel", ""));
        };
        match &running.standing {
            // Cancelling twice is cancelling once.
            _any if running.cancelled => Ok(()),
            Standing::Running => {
                let state = running.state_name();
                // Before the event: where it ends the operation, that is remembered as well.
                self.set_cancelled(slot, true);
                self.try_drive(slot, Event::Cancelled, at, effects).map_err(|_| {
                    self.set_cancelled(slot, false);
                    self.not_now(operation, "cancel", &format!("it cannot in state `{state}`"))
                })
            }
            Standing::Queued if self.is_heir(slot) => {
                let why = "an operation before it ends early and leaves work to it; it can be cancelled once it runs";
                Err(self.not_now(operation, "cancel", why))
            }
            Standing::Queued => {
                self.set_cancelled(slot, true);
                let problem = Problem::new(Code::Cancelled, "it was cancelled before its turn; nothing was done");
                self.end_before_turn(slot, Standing::Cancelled, problem, at, effects);
                Ok(())
            }
            Standing::Parked(_) => {
                Err(self.not_now(operation, "cancel", "it is parked; `resume` lets it go on, `abort` ends it"))
            }
            Standing::Ended | Standing::Cancelled | Standing::Refused | Standing::Aborted => {
                Err(self.not_now(operation, "cancel", "it is over"))
            }
        }
    }

    fn set_cancelled(&mut self, slot: u64, cancelled: bool) {
        if let Some(running) = self.live.get_mut(slot) {
            running.cancelled = cancelled;
        }
    }

    /// True where one that makes way, or has, leaves it what it has to do, and there is nobody else to do it.
    fn is_heir(&self, slot: u64) -> bool {
        let Some(running) = self.live.get(slot) else { return false };
        let Some(turns) = self.turns.get(&running.key) else { return false };
        let active = turns.active.and_then(|active| self.live.get(active));
        let makes_way = active.is_some_and(|active| active.superseded);
        running.inherits || (makes_way && turns.active != Some(slot) && turns.waiting.len() == 1)
    }

    /// It goes on: its deadline runs anew, what it could not handle is tried again, then what came meanwhile.
    fn resume(
        &mut self,
        slot: u64,
        operation: &OperationId,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) -> Result<(), Problem> {
        let parked = self.take_parked(slot, operation, "resume")?;
        let Some(running) = self.live.get_mut(slot) else { return Ok(()) };
        running.standing = Standing::Running;
        running.note(at, "resumed");
        effects.push(HubEffect::Changed(running.view_key()));
        if let Some(timer) = parked.timer {
            arm(running, timer.what, timer.after_ms, effects);
        }
        let mut events = parked.events;
        while let Some(event) = events.pop_front() {
            // A barrier is a matter of what is open now.
            if !matches!(event, Event::AllReplied | Event::Enough) {
                self.drive(slot, event, at, effects);
            }
        }
        if let Some(event) = self.live.get(slot).and_then(Running::barrier) {
            self.drive(slot, event, at, effects);
        }
        for end in parked.ends {
            self.call_ended(at, end, effects);
        }
        self.check(slot, at, effects);
        Ok(())
    }

    fn abort(
        &mut self,
        slot: u64,
        operation: &OperationId,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) -> Result<(), Problem> {
        self.take_parked(slot, operation, "abort")?;
        let Some(running) = self.live.get_mut(slot) else { return Ok(()) };
        running.machine.0.aborted(&mut self.lane);
        running.close_step(&mut |command| effects.push(HubEffect::Call(command)));
        running.standing = Standing::Aborted;
        running.note(at, "ended by hand");
        // An answer given before it was parked stays its answer.
        if !running.answer.as_ref().is_some_and(Answer::is_outcome) {
            running.answer = Some(Answer::Failed(json!({
                "code": Code::Aborted, "message": Code::Aborted.title(), "operation": operation,
                "detail": "it was parked, and a person ended it; what it did stays done",
            })));
        }
        effects.push(HubEffect::Deadline(Deadline::Cancel { key: running.slot }));
        effects.push(HubEffect::Closed(running.view_key()));
        effects.push(HubEffect::Over(Box::new(running.view(None))));
        self.end(slot, effects);
        Ok(())
    }

    fn take_parked(&mut self, slot: u64, operation: &OperationId, command: &str) -> Result<Parked, Problem> {
        let parked = |running: &Running<W>| matches!(running.standing, Standing::Parked(_));
        match self.live.get_mut_where(slot, parked).map(|running| &mut running.standing) {
            Some(Standing::Parked(parked)) => Ok(std::mem::take(parked)),
            Some(_) | None => Err(self.not_now(operation, command, "it is not parked")),
        }
    }
}
