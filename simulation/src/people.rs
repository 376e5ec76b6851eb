//! Simulated people and programs that send commands to operations: at any time, repeatedly, and
//! also to operations that are over or unknown. A repeated cancel or abort that was accepted must
//! be accepted again with the same outcome.

use std::collections::{BTreeMap, BTreeSet};

use northbound::{CommandTicket, OperationCommand};
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;
use wire::OperationId;
use wire::answer::Answer;
use wire::command::{Command, Outcome};

use super::clients::describe;
use super::dice::Dice;
use super::fault_schedule::FaultSchedule;
use super::process::Front;

/// Offset of command numbers: above all request numbers.
const COMMANDS: u128 = 1 << 100;

/// The commands that were sent and have no outcome yet.
pub(super) struct People {
    sent: u128,
    waiting: Vec<PendingCommand>,
    /// Accepted cancels and aborts.
    accepted: BTreeSet<(OperationId, &'static str)>,
    /// The outcomes of operations, as reported to people.
    answers: BTreeMap<OperationId, Answer>,
    dice: Dice,
}

struct PendingCommand {
    who: String,
    command_sent: SentCommand,
    /// The same command was accepted before.
    again: bool,
    ticket: CommandTicket,
}

/// A command that was sent.
#[derive(Clone)]
pub(super) struct SentCommand {
    operation: OperationId,
    workflow: String,
    key: String,
    command: Command,
    is_unknown: bool,
}

impl SentCommand {
    pub(super) fn spec(&self) -> CommandSpec<'_> {
        let Self { operation, workflow, key, command, is_unknown } = self;
        CommandSpec { operation, workflow, key, command, is_unknown: *is_unknown }
    }
}

/// A command and its operation.
pub(super) struct CommandSpec<'a> {
    pub(super) operation: &'a OperationId,
    pub(super) workflow: &'a str,
    pub(super) key: &'a str,
    pub(super) command: &'a Command,
    /// True if no client requested the operation.
    pub(super) is_unknown: bool,
}

impl People {
    pub(super) fn new(dice: Dice) -> Self {
        Self { sent: 0, waiting: Vec::new(), accepted: BTreeSet::new(), answers: BTreeMap::new(), dice }
    }

    /// Sends a command through a northbound.
    pub(super) fn send(&mut self, spec: &CommandSpec<'_>, front: &Front, faults: &FaultSchedule) {
        self.sent += 1;
        let CommandSpec { operation, workflow, key, command, is_unknown } = *spec;
        let who = format!("person-{}", self.sent);
        let http_id = Uuid::from_u128(COMMANDS + self.sent);
        let order = OperationCommand { operation, workflow, key, command, correlation: None, http_id };
        let sent = front.gateway.command(&order).and_then(|ticket| {
            drop(front.handle.send_command(&ticket)?);
            Ok(ticket)
        });
        let name = command.as_str();
        match sent {
            Ok(ticket) => {
                faults.say(&who, || format!("** sends `{name}` to {operation}"));
                let (operation, command) = (operation.clone(), command.clone());
                let again = self.accepted.contains(&(operation.clone(), name));
                let command_sent =
                    SentCommand { operation, workflow: workflow.to_owned(), key: key.to_owned(), command, is_unknown };
                self.waiting.push(PendingCommand { who, command_sent, again, ticket });
            }
            Err(problem) => faults.say(&who, || format!("is rejected: {problem}")),
        }
    }

    /// Receives the outcomes of commands and checks them. Returns the commands to repeat.
    pub(super) fn receive(&mut self, faults: &FaultSchedule) -> Result<Vec<SentCommand>, String> {
        let Self { waiting, accepted, answers, dice, .. } = self;
        let (mut result, mut again) = (Ok(()), Vec::new());
        waiting.retain_mut(|pending| {
            let PendingCommand { who, command_sent, ticket, .. } = pending;
            let SentCommand { operation, command, is_unknown, .. } = &*command_sent;
            let name = command.as_str();
            match ticket.outcome.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => {}
                Ok(Err(problem)) => faults.say(who, || format!("gets no outcome: {problem}")),
                Ok(Ok(Outcome::Refused(problem))) => {
                    faults.say(who, || format!("is refused: {problem}"));
                    if pending.again {
                        result = Err(format!(
                            "`{name}` of {operation} was accepted first and refused when repeated: {problem}"
                        ));
                    }
                }
                Ok(Ok(Outcome::Taken(view))) => {
                    faults.say(who, || format!("is accepted: {}", view.state));
                    if *is_unknown {
                        result = Err(format!("`{name}` to an operation that no client requested was accepted"));
                    }
                    if let Some(answer) = view.answer.filter(Answer::is_outcome) {
                        let before = answers.entry(operation.clone()).or_insert_with(|| answer.clone());
                        if *before != answer {
                            let (before, after) = (describe(before), describe(&answer));
                            result = Err(format!("people got two outcomes of {operation}: {before}; then {after}"));
                        }
                    }
                    if matches!(command, Command::Cancel | Command::Abort)
                        && accepted.insert((operation.clone(), name))
                        && dice.chance(500)
                    {
                        again.push(command_sent.clone());
                    }
                }
            }
            false
        });
        result.map(|()| again)
    }

    /// Checks that people got the same outcomes as clients.
    pub(super) fn check_outcomes(&self, outcomes: &BTreeMap<OperationId, Answer>) -> Result<(), String> {
        let other = self.answers.iter().find(|(operation, answer)| outcomes.get(operation) != Some(answer));
        other.map_or(Ok(()), |(operation, answer)| {
            let (told, outcome) = (describe(answer), outcomes.get(operation).map(describe));
            Err(format!("people got the outcome {told} of {operation}, but its outcome is {outcome:?}"))
        })
    }
}
