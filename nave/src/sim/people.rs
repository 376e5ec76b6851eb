//! People and programs that tell operations something: at any moment, also twice, also those that are over or that nobody knows.

use northbound::{CommandTicket, Order};
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;
use wire::OperationId;
use wire::command::{Command, Outcome};

use super::process::Front;
use super::weather::Weather;

/// Above the numbers of requests.
const COMMANDS: u128 = 1 << 100;

/// What was told, and is not answered yet.
#[derive(Default)]
pub(super) struct People {
    told: u128,
    waiting: Vec<Telling>,
}

struct Telling {
    who: String,
    command: &'static str,
    /// True where no client ever asked for the operation.
    nobodys: bool,
    ticket: CommandTicket,
}

/// What is told, and of which operation.
pub(super) struct Word<'a> {
    pub(super) operation: &'a OperationId,
    pub(super) workflow: &'a str,
    pub(super) key: &'a str,
    pub(super) command: &'a Command,
    pub(super) nobodys: bool,
}

impl People {
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
                self.waiting.push(Telling { who, command: name, nobodys, ticket });
            }
            Err(problem) => weather.say(&who, || format!("is turned away: {problem}")),
        }
    }

    /// They hear what became of it: once, and nothing of an operation that nobody asked for.
    pub(super) fn listen(&mut self, weather: &Weather) -> Result<(), String> {
        let mut broken = Ok(());
        self.waiting.retain_mut(|telling| {
            let Telling { who, command, nobodys, ticket } = telling;
            match ticket.outcome.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => {}
                Ok(Err(problem)) => weather.say(who, || format!("is told that nobody knows: {problem}")),
                Ok(Ok(Outcome::Refused(problem))) => weather.say(who, || format!("is refused: {problem}")),
                Ok(Ok(Outcome::Taken(view))) => {
                    weather.say(who, || format!("is told that it is taken: {}", view.state));
                    if *nobodys {
                        broken = Err(format!("`{command}` to an operation that nobody asked for was taken"));
                    }
                }
            }
            false
        });
        broken
    }
}
