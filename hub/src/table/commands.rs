//! Commands from people and programs outside; see [`wire::command`].

use coordinator::Deadline;
use serde_json::json;
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::{Code, OperationId, Problem, WallTime};

use super::perform::arm;
use super::{HubEffect, HubTable, Running};
use crate::cause::Cause;
use crate::event::Event;
use crate::machine::Workflows;
use crate::names;
use crate::operation::{OperationStatus, Parked};

/// A command from the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct HubCommand {
    /// The operation that it is for.
    pub operation: OperationId,
    /// The command record itself.
    pub cause: Cause,
    /// The command.
    pub command: Command,
}

impl<W: Workflows> HubTable<W> {
    /// Handles a command and answers its sender once.
    pub fn command(&mut self, at: WallTime, command: HubCommand, effects: &mut Vec<HubEffect>) {
        let HubCommand { operation, cause, command } = command;
        let name = command.as_str();
        let result = match self.live.slot_of(&operation) {
            None => self.repeated_on_ended(&operation, &command),
            Some(slot) => {
                let result = match command {
                    Command::Signal { name, body } => self.signal(slot, &operation, name, body, at, effects),
                    Command::Cancel => self.cancel(slot, &operation, at, effects),
                    Command::Resume => self.resume(slot, &operation, at, effects),
                    Command::Abort => self.abort(slot, &operation, at, effects),
                };
                self.free_place(slot);
                result
            }
        };
        self.admit_waiting(at, effects);
        let outcome = match result.and_then(|()| self.view_after(&operation, effects)) {
            Ok(view) => Outcome::Taken(Box::new(view)),
            Err(problem) => Outcome::Refused(problem),
        };
        effects.push(HubEffect::Count(match outcome {
            Outcome::Taken(_) => names::COMMANDS_TAKEN,
            Outcome::Refused(_) => names::COMMANDS_REFUSED,
        }));
        let line = format!("{name}: {}", if matches!(outcome, Outcome::Taken(_)) { "taken" } else { "refused" });
        effects.push(HubEffect::Log(topology::Level::Info, operation.clone(), line));
        effects.push(HubEffect::CommandAnswer { operation, cause, outcome });
    }

    /// Accepts a command for an ended operation if the operation accepted the same command before.
    fn repeated_on_ended(&self, operation: &OperationId, command: &Command) -> Result<(), Problem> {
        let accepted = self.finished.get(operation).is_some_and(|past| match command {
            Command::Cancel => past.cancelled,
            Command::Abort => past.aborted,
            Command::Signal { .. } | Command::Resume => false,
        });
        if accepted { Ok(()) } else { Err(self.not_accepted(operation, command.as_str(), "")) }
    }

    /// Returns the view of an operation after a command.
    fn view_after(&self, operation: &OperationId, effects: &[HubEffect]) -> Result<Operation, Problem> {
        if let Some(running) = self.live.of(operation) {
            return Ok(running.view(None));
        }
        if let Some(past) = self.finished.get(operation) {
            return Ok(past.view.clone());
        }
        // The operation has just ended and is not remembered: the ring has no place, or later
        // operations have already taken it.
        let ended = effects.iter().rev().find_map(|effect| match effect {
            HubEffect::Answer { view, .. } | HubEffect::Ended(view) if view.operation == *operation => Some(view),
            _of_another => None,
        });
        ended.map(|view| Operation::clone(view)).ok_or_else(|| self.not_accepted(operation, "", ""))
    }

    /// Returns the problem of a command that the operation does not accept.
    fn not_accepted(&self, operation: &OperationId, command: &str, why: &str) -> Problem {
        if self.live.of(operation).is_some() {
            Problem::new(Code::NotNow, format!("{operation} does not accept `{command}`: {why}"))
        } else if self.finished.get(operation).is_some() {
            Problem::new(Code::NotNow, format!("{operation} does not accept `{command}`: it has ended"))
        } else {
            Problem::new(
                Code::UnknownOperation,
                format!("{operation} is unknown, or its outcome is no longer remembered"),
            )
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
        let running = self.live.get(slot).filter(|running| running.standing == OperationStatus::Running);
        let Some(awaited) = running.and_then(|running| running.signal).map(|awaited| awaited.signal) else {
            return Err(self.not_accepted(operation, "signal", "it does not wait for a signal"));
        };
        if awaited != name {
            let start: String = name.chars().take(80).collect();
            return Err(Problem::field(
                "signal",
                &format!("`{start}`"),
                &format!("`{awaited}`, the signal it waits for"),
            ));
        }
        self.try_drive(slot, Event::Signal { name, body }, at, effects).map_err(|_| {
            self.not_accepted(operation, "signal", &format!("it does not accept `{awaited}` with this body"))
        })
    }

    fn cancel(
        &mut self,
        slot: u64,
        operation: &OperationId,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) -> Result<(), Problem> {
        let Some(running) = self.live.get(slot) else {
            return Err(self.not_accepted(operation, "cancel", ""));
        };
        match &running.standing {
            // A repeated cancel changes nothing.
            _any if running.cancelled => Ok(()),
            OperationStatus::Running => {
                let state = running.state_name();
                // Set before the event, so that it is remembered if the event ends the operation.
                self.set_cancelled(slot, true);
                self.try_drive(slot, Event::Cancelled, at, effects).map_err(|_| {
                    self.set_cancelled(slot, false);
                    self.not_accepted(operation, "cancel", &format!("it cannot be cancelled in state `{state}`"))
                })
            }
            OperationStatus::Queued if self.is_sole_successor(slot) => {
                let why =
                    "it must finish the work of an operation that ends early for it; cancel it once it is running";
                Err(self.not_accepted(operation, "cancel", why))
            }
            OperationStatus::Queued => {
                self.set_cancelled(slot, true);
                let problem = Problem::new(Code::Cancelled, "it was cancelled before its turn; nothing was done");
                self.end_before_turn(slot, OperationStatus::Cancelled, problem, at, effects);
                Ok(())
            }
            OperationStatus::Parked(_) => Err(self.not_accepted(
                operation,
                "cancel",
                "it is parked; use `resume` to continue it or `abort` to end it",
            )),
            OperationStatus::Ended
            | OperationStatus::Cancelled
            | OperationStatus::Refused
            | OperationStatus::Aborted => Err(self.not_accepted(operation, "cancel", "it has ended")),
        }
    }

    fn set_cancelled(&mut self, slot: u64, cancelled: bool) {
        if let Some(running) = self.live.get_mut(slot) {
            running.cancelled = cancelled;
        }
    }

    /// True if the operation is the only one that can finish the work of one that ends, or has
    /// ended, early for it.
    fn is_sole_successor(&self, slot: u64) -> bool {
        let Some(running) = self.live.get(slot) else { return false };
        let Some(queue) = self.key_queues.get(&running.key) else { return false };
        let active = queue.active.and_then(|active| self.live.get(active));
        let ends_early = active.is_some_and(|active| active.superseded);
        running.inherits || (ends_early && queue.active != Some(slot) && queue.waiting.len() == 1)
    }

    /// Resumes a parked operation: restarts its deadline, retries the event that parked it, then
    /// handles the calls that ended meanwhile.
    fn resume(
        &mut self,
        slot: u64,
        operation: &OperationId,
        at: WallTime,
        effects: &mut Vec<HubEffect>,
    ) -> Result<(), Problem> {
        let parked = self.take_parked(slot, operation, "resume")?;
        let Some(running) = self.live.get_mut(slot) else { return Ok(()) };
        running.standing = OperationStatus::Running;
        running.note(at, "resumed");
        effects.push(HubEffect::Changed(running.view_key()));
        if let Some(timer) = parked.timer {
            arm(running, timer.what, timer.after_ms, effects);
        }
        let mut events = parked.events;
        while let Some(event) = events.pop_front() {
            // Barriers depend on the calls that are open now, so they are evaluated again below.
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
        self.park_if_stuck(slot, at, effects);
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
        running.standing = OperationStatus::Aborted;
        running.note(at, "ended by hand");
        // An answer from before the parking stays the answer.
        if !running.answer.as_ref().is_some_and(Answer::is_outcome) {
            let detail = "an operator ended it while it was parked; its effects remain";
            let more = json!({"message": Code::Aborted.title(), "operation": operation});
            running.answer = Some(Answer::failed(Code::Aborted, detail, more));
        }
        effects.push(HubEffect::Deadline(Deadline::Cancel { key: running.slot }));
        effects.push(HubEffect::Closed(running.view_key()));
        effects.push(HubEffect::Ended(Box::new(running.view(None))));
        self.end(slot, effects);
        Ok(())
    }

    fn take_parked(&mut self, slot: u64, operation: &OperationId, command: &str) -> Result<Parked, Problem> {
        let parked = |running: &Running<W>| matches!(running.standing, OperationStatus::Parked(_));
        match self.live.get_mut_where(slot, parked).map(|running| &mut running.standing) {
            Some(OperationStatus::Parked(parked)) => Ok(std::mem::take(parked)),
            Some(_) | None => Err(self.not_accepted(operation, command, "it is not parked")),
        }
    }
}
