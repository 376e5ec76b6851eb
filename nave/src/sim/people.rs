//! People and programs that tell operations something: at any moment, also twice, also those that are over or that nobody knows.
//! A cancel or an abort that was taken is taken again when it comes again, and says the same.

use std::collections::{BTreeMap, BTreeSet};

use northbound::{CommandTicket, Order};
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;
use wire::OperationId;
use wire::answer::Answer;
use wire::command::{Command, Outcome};

use super::clients::words;
use super::dice::Dice;
use super::process::Front;
use super::weather::Weather;

/// Above the numbers of requests.
const COMMANDS: u128 = 1 << 100;

/// What was told, and is not answered yet.
pub(super) struct People {
    told: u128,
    waiting: Vec<Telling>,
    /// Cancels and aborts that were taken.
    taken: BTreeSet<(OperationId, &'static str)>,
    /// The outcomes of operations, as people were told.
    answers: BTreeMap<OperationId, Answer>,
    dice: Dice,
}

struct Telling {
    who: String,
    said: Said,
    /// It was taken before it was said.
    again: bool,
    ticket: CommandTicket,
}

/// What somebody said.
#[derive(Clone)]
pub(super) struct Said {
    operation: OperationId,
    workflow: String,
    key: String,
    command: Command,
    nobodys: bool,
}

impl Said {
    pub(super) fn word(&self) -> Word<'_> {
        let Self { operation, workflow, key, command, nobodys } = self;
        Word { operation, workflow, key, command, nobodys: *nobodys }
    }
}

/// What is told, and of which operation.
pub(super) struct Word<'a> {
    pub(super) operation: &'a OperationId,
    pub(super) workflow: &'a str,
    pub(super) key: &'a str,
    pub(super) command: &'a Command,
    /// True where no client ever asked for the operation.
    pub(super) nobodys: bool,
}

impl People {
    pub(super) fn new(dice: Dice) -> Self {
        Self { told: 0, waiting: Vec::new(), taken: BTreeSet::new(), answers: BTreeMap::new(), dice }
    }

    /// Somebody tells an operation something, by way of a northbound.
    pub(super) fn tell(&mut self, word: &Word<'_>, front: &Front, weather: &Weather) {
        self.told += 1;
        let Word { operation, workflow, key, command, nobodys } = *word;
        let who = format!("person-{}", self.told);
        let http_id = Uuid::from_u128(COMMANDS + self.told);
        let order = Order { operation, workflow, key, command, correlation: None, http_id };
        let sent = front.gateway.command(&order).and_then(|ticket| {
            drop(front.handle.order(&ticket)?);
            Ok(ticket)
        });
        let name = command.as_str();
        match sent {
            Ok(ticket) => {
                weather.say(&who, || format!("** says `{name}` to {operation}"));
                let (operation, command) = (operation.clone(), command.clone());
                let again = self.taken.contains(&(operation.clone(), name));
                let said = Said { operation, workflow: workflow.to_owned(), key: key.to_owned(), command, nobodys };
                self.waiting.push(Telling { who, said, again, ticket });
            }
            Err(problem) => weather.say(&who, || format!("is turned away: {problem}")),
        }
    }

    /// They hear what became of it: once, and nothing of an operation that nobody asked for. What some of them say once more.
    pub(super) fn listen(&mut self, weather: &Weather) -> Result<Vec<Said>, String> {
        let Self { waiting, taken, answers, dice, .. } = self;
        let (mut broken, mut again) = (Ok(()), Vec::new());
        waiting.retain_mut(|telling| {
            let Telling { who, said, ticket, .. } = telling;
            let Said { operation, command, nobodys, .. } = &*said;
            let name = command.as_str();
            match ticket.outcome.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => {}
                Ok(Err(problem)) => weather.say(who, || format!("is told that nobody knows: {problem}")),
                Ok(Ok(Outcome::Refused(problem))) => {
                    weather.say(who, || format!("is refused: {problem}"));
                    if telling.again {
                        broken = Err(format!("`{name}` of {operation} was taken, and then refused: {problem}"));
                    }
                }
                Ok(Ok(Outcome::Taken(view))) => {
                    weather.say(who, || format!("is told that it is taken: {}", view.state));
                    if *nobodys {
                        broken = Err(format!("`{name}` to an operation that nobody asked for was taken"));
                    }
                    if let Some(answer) = view.answer.filter(Answer::is_outcome) {
                        let before = answers.entry(operation.clone()).or_insert_with(|| answer.clone());
                        if *before != answer {
                            let (before, after) = (words(before), words(&answer));
                            broken = Err(format!("of {operation} people were told {before}; and {after}"));
                        }
                    }
                    if matches!(command, Command::Cancel | Command::Abort)
                        && taken.insert((operation.clone(), name))
                        && dice.chance(500)
                    {
                        again.push(said.clone());
                    }
                }
            }
            false
        });
        broken.map(|()| again)
    }

    /// People were told the same outcomes as clients.
    pub(super) fn were_told_the_same(&self, outcomes: &BTreeMap<OperationId, Answer>) -> Result<(), String> {
        let other = self.answers.iter().find(|(operation, answer)| outcomes.get(operation) != Some(answer));
        other.map_or(Ok(()), |(operation, answer)| {
            let (told, outcome) = (words(answer), outcomes.get(operation).map(words));
            Err(format!("of {operation} people were told {told}; its outcome is {outcome:?}"))
        })
    }
}
