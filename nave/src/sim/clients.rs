//! Clients: each wants one answer to its request, and repeats it under the same name, at another northbound, until it has one.
//! Some ask again after that, also after a refusal or a cancellation: what they are told again must be the same. And some ask for
//! something else under the same name, which is refused.

use bus::MonoTime;
use northbound::{Submission, Ticket, Told};
use serde_json::json;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;
use wire::answer::Answer;
use wire::{Code, OperationId};

use super::dice::Dice;
use super::process::Front;
use super::scenario::Ask;
use super::weather::Weather;

/// A client first waits this long for its answer, in milliseconds, before it asks again.
const PATIENCE_MS: u64 = 10_000;
/// The tag of the dice by which clients ask for something else under their name.
const CHANGES: u64 = 6;
/// So many northbounds there are.
pub(super) const NORTHBOUNDS: usize = 2;

pub(super) struct Client {
    name: String,
    pub(super) ask: Ask,
    pub(super) operation: Option<OperationId>,
    /// The northbound that it talks to.
    at: usize,
    state: State,
    pub(super) answer: Option<Answer>,
    /// Its workflow found no room. That is no answer, and the client asks no more.
    pub(super) refused: Option<Code>,
    /// How often it asks again after it has its answer.
    repeats: u64,
    /// It asks for something else under its name in the end.
    changes: Change,
    /// It has no use for an answer that comes later than so.
    expires: bool,
    /// It waits this long for its answer, in milliseconds, before it asks again.
    patience_ms: u64,
    /// It waits twice as long each time.
    patient: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Never,
    Later,
    /// From here on it asks for something else.
    Now,
}

enum State {
    /// It sends at this time.
    Idle(MonoTime),
    Waiting(Box<Ticket>, MonoTime),
    Content,
}

pub(super) struct Clients {
    pub(super) all: Vec<Client>,
    dice: Dice,
    requests: u128,
    /// Operations may park.
    parks: bool,
}

impl Clients {
    pub(super) fn new(asks: Vec<Ask>, parks: bool, mut dice: Dice) -> Self {
        let mut changes = dice.tagged(CHANGES);
        let mut client = |(number, ask)| Client {
            name: format!("client-{number}"),
            ask,
            operation: None,
            at: dice.index(NORTHBOUNDS),
            // Many at once, or one after the other.
            state: State::Idle(MonoTime::default().plus_ms(dice.between(0, 2) * dice.between(0, 8_000))),
            answer: None,
            refused: None,
            repeats: dice.roll(3),
            changes: if changes.chance(200) { Change::Later } else { Change::Never },
            expires: dice.chance(200),
            patience_ms: PATIENCE_MS,
            patient: false,
        };
        let all = (1..).zip(asks).map(&mut client).collect();
        Self { all, dice, requests: 0, parks }
    }

    /// When the next of them does something by itself.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let due = |client: &Client| match client.state {
            State::Idle(at) | State::Waiting(_, at) => Some(at),
            State::Content => None,
        };
        self.all.iter().filter_map(due).min()
    }

    pub(super) fn are_content(&self) -> bool {
        self.all.iter().all(|client| matches!(client.state, State::Content))
    }

    /// From here on a client waits twice as long each time: an operation may wait for days, and as long as clients ask again
    /// there is no rest.
    pub(super) fn become_patient(&mut self) {
        self.all.iter_mut().for_each(|client| client.patient = true);
    }

    /// True where a client asks for this operation.
    pub(super) fn ask_for(&self, operation: &OperationId) -> bool {
        self.all.iter().any(|client| client.operation.as_ref() == Some(operation))
    }

    /// A line for each that still wants something.
    pub(super) fn waiting(&self) -> Vec<String> {
        let waits = self.all.iter().filter(|client| !matches!(client.state, State::Content));
        waits.map(|client| format!("{} waits for an answer to {}", client.name, client.ask)).collect()
    }

    /// A northbound died, and those who talked to it know no more.
    pub(super) fn cut(&mut self, north: usize, now: MonoTime) {
        for client in self.all.iter_mut().filter(|client| client.at == north) {
            if matches!(client.state, State::Waiting(..)) {
                client.turn_away(now, self.dice.between(0, 300));
            }
        }
    }

    /// Each hears what it was told, and asks where it is time. True where one of them did something.
    pub(super) fn step(
        &mut self,
        now: MonoTime,
        fronts: &[Option<&Front>; NORTHBOUNDS],
        weather: &Weather,
    ) -> Result<bool, String> {
        let mut worked = false;
        for client in &mut self.all {
            match &mut client.state {
                State::Content => continue,
                State::Waiting(ticket, until) => {
                    let told = match ticket.answer.try_recv() {
                        Err(TryRecvError::Empty) if now < *until => continue,
                        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
                        Ok(told) => Some(told),
                    };
                    client.hear(told, now, self.parks, &mut self.dice, weather)?;
                }
                State::Idle(at) if *at > now => continue,
                State::Idle(_) => {
                    self.requests += 1;
                    client.send(fronts, now, Uuid::from_u128(self.requests), &mut self.dice, weather)?;
                }
            }
            worked = true;
        }
        Ok(worked)
    }
}

impl Client {
    fn grow_patient(&mut self) {
        if self.patient {
            self.patience_ms = self.patience_ms.saturating_mul(2);
        }
    }

    fn turn_away(&mut self, now: MonoTime, pause_ms: u64) {
        self.at = (self.at + 1) % NORTHBOUNDS;
        self.state = State::Idle(now.plus_ms(pause_ms));
    }

    fn send(
        &mut self,
        fronts: &[Option<&Front>; NORTHBOUNDS],
        now: MonoTime,
        http_id: Uuid,
        dice: &mut Dice,
        weather: &Weather,
    ) -> Result<(), String> {
        let pause_ms = dice.between(50, 500);
        let Some(front) = fronts[self.at] else {
            self.turn_away(now, pause_ms);
            return Ok(());
        };
        let Ask { workflow, key, request } = &self.ask;
        let expires = self.expires.then(|| front.clock.wall().plus_ms(PATIENCE_MS));
        let request = if self.changes == Change::Now { json!({ "else": request }) } else { request.clone() };
        let submission = Submission {
            idempotency_key: Some(&self.name),
            expires,
            ..Submission::new(workflow, key, request, http_id)
        };
        let sent = front.gateway.submit(submission).and_then(|ticket| {
            let written = front.handle.send(&ticket)?;
            drop(written);
            Ok(ticket)
        });
        match sent {
            Ok(ticket) => {
                weather
                    .say(&self.name, || format!("asks northbound-{}: {} as {}", self.at, self.ask, ticket.operation));
                let operation = self.operation.get_or_insert_with(|| ticket.operation.clone());
                if *operation != ticket.operation {
                    let (name, other) = (&self.name, &ticket.operation);
                    return Err(format!("{name} asked for {operation}, and its repeat was taken for {other}"));
                }
                self.state = State::Waiting(Box::new(ticket), now.plus_ms(self.patience_ms));
            }
            Err(problem) => {
                weather.say(&self.name, || format!("is turned away by northbound-{}: {problem}", self.at));
                self.turn_away(now, pause_ms);
            }
        }
        Ok(())
    }

    /// It was told something, or waited long enough.
    fn hear(
        &mut self,
        told: Option<Told>,
        now: MonoTime,
        parks: bool,
        dice: &mut Dice,
        weather: &Weather,
    ) -> Result<(), String> {
        let pause_ms = dice.between(50, 500);
        let answer = match told {
            None => {
                weather.say(&self.name, || "waits no longer, and asks again".to_owned());
                self.grow_patient();
                self.turn_away(now, pause_ms);
                return Ok(());
            }
            Some(Err(problem)) => {
                weather.say(&self.name, || format!("is told that nobody knows: {problem}"));
                self.turn_away(now, pause_ms);
                return Ok(());
            }
            Some(Ok(operation)) => operation.answer.ok_or_else(|| format!("{}: an answer without one", self.name))?,
        };
        match answer {
            Answer::Refused(problem) if problem.code == Code::KeyReused && self.changes == Change::Now => {
                weather.say(&self.name, || format!("is refused, as it has to be: {problem}"));
                self.state = State::Content;
            }
            answer if self.changes == Change::Now => {
                let (name, ask, told) = (&self.name, &self.ask, words(&answer));
                return Err(format!("{name} had its answer to {ask}, asked for something else, and was told: {told}"));
            }
            Answer::Refused(problem) if problem.code == Code::Parked && parks => {
                weather.say(&self.name, || format!("is refused: {problem}"));
                self.turn_away(now, pause_ms);
            }
            Answer::Refused(problem) if problem.code.is_temporary() && self.answer.is_none() => {
                weather.say(&self.name, || format!("is refused: {problem}"));
                match problem.code {
                    // There is room again once others have ended.
                    Code::Busy | Code::QueueFull => {
                        self.grow_patient();
                        self.turn_away(now, if self.patient { self.patience_ms } else { pause_ms });
                    }
                    // A workflow may have no room for ever.
                    code => {
                        self.refused = Some(code);
                        self.state = State::Content;
                    }
                }
            }
            answer if !answer.is_outcome() => {
                let (name, ask, told) = (&self.name, &self.ask, words(&answer));
                let before =
                    self.answer.as_ref().map_or_else(String::new, |before| format!("{}; then ", words(before)));
                return Err(format!("{name} asked {ask} and was told: {before}{told}"));
            }
            answer => {
                weather.say(&self.name, || format!("is told: {}", words(&answer)));
                if let Some(before) = self.answer.replace(answer.clone())
                    && before != answer
                {
                    let (before, after) = (words(&before), words(&answer));
                    return Err(format!("{} was told twice about {}: {before}; then {after}", self.name, self.ask));
                }
                if self.repeats > 0 {
                    self.repeats -= 1;
                    self.turn_away(now, dice.roll(3) * dice.roll(3_000));
                } else if self.changes == Change::Later {
                    self.changes = Change::Now;
                    self.turn_away(now, pause_ms);
                } else {
                    self.state = State::Content;
                }
            }
        }
        Ok(())
    }
}

/// An answer in words.
pub(super) fn words(answer: &Answer) -> String {
    match answer {
        Answer::Done(body) => format!("done {body}"),
        Answer::Failed(body) => format!("failed {body}"),
        Answer::Refused(problem) => format!("refused {problem}"),
    }
}
