//! Simulated clients. Each needs one answer to its request and repeats the request with the same
//! key, at the other northbound, until it has one. Some repeat it later: the answer must be the
//! same, also after a refusal or a cancellation. Some then send another body with the same key,
//! which must be refused.

use bus::MonoTime;
use northbound::{RequestResult, Submission, Ticket};
use serde_json::json;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;
use wire::answer::Answer;
use wire::{Code, OperationId};

use super::dice::Dice;
use super::fault_schedule::FaultSchedule;
use super::process::Front;
use super::scenario::SimRequest;

/// First timeout of a client before it repeats its request, in milliseconds.
const FIRST_TIMEOUT_MS: u64 = 10_000;
/// Tag of the generator that chooses which clients send another body with their key.
const CHANGES: u64 = 6;
/// Number of northbounds.
pub(super) const NORTHBOUNDS: usize = 2;

pub(super) struct Client {
    name: String,
    pub(super) ask: SimRequest,
    pub(super) operation: Option<OperationId>,
    /// The index of the northbound that it uses.
    northbound: usize,
    state: ClientState,
    pub(super) answer: Option<Answer>,
    /// The workflow had no room. That is not an answer, and the client does not retry.
    pub(super) refused: Option<Code>,
    /// Number of repeats after the first answer.
    repeats: u64,
    /// Whether it finally sends another body with its key.
    change: BodyChange,
    /// Its requests expire after [`FIRST_TIMEOUT_MS`].
    expires: bool,
    /// Timeout before it repeats its request, in milliseconds.
    timeout_ms: u64,
    /// The timeout doubles each time.
    backs_off: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyChange {
    Never,
    Later,
    /// All further requests have another body.
    Now,
}

enum ClientState {
    /// It sends a request at this time.
    Idle(MonoTime),
    Waiting(Box<Ticket>, MonoTime),
    Done,
}

pub(super) struct Clients {
    pub(super) all: Vec<Client>,
    dice: Dice,
    requests: u128,
    /// Operations may park.
    parks: bool,
}

impl Clients {
    pub(super) fn new(asks: Vec<SimRequest>, parks: bool, mut dice: Dice) -> Self {
        let mut change = dice.tagged(CHANGES);
        let mut client = |(number, ask)| Client {
            name: format!("client-{number}"),
            ask,
            operation: None,
            northbound: dice.index(NORTHBOUNDS),
            // All at once, or one after the other.
            state: ClientState::Idle(MonoTime::default().plus_ms(dice.between(0, 2) * dice.between(0, 8_000))),
            answer: None,
            refused: None,
            repeats: dice.roll(3),
            change: if change.chance(200) { BodyChange::Later } else { BodyChange::Never },
            expires: dice.chance(200),
            timeout_ms: FIRST_TIMEOUT_MS,
            backs_off: false,
        };
        let all = (1..).zip(asks).map(&mut client).collect();
        Self { all, dice, requests: 0, parks }
    }

    /// The time of the next action of any client.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let due = |client: &Client| match client.state {
            ClientState::Idle(at) | ClientState::Waiting(_, at) => Some(at),
            ClientState::Done => None,
        };
        self.all.iter().filter_map(due).min()
    }

    pub(super) fn are_done(&self) -> bool {
        self.all.iter().all(|client| matches!(client.state, ClientState::Done))
    }

    /// Makes the timeouts of all clients double from now on. An operation may wait for days, and
    /// the system is never idle while clients repeat requests.
    pub(super) fn back_off(&mut self) {
        self.all.iter_mut().for_each(|client| client.backs_off = true);
    }

    /// True if a client requested this operation.
    pub(super) fn have_requested(&self, operation: &OperationId) -> bool {
        self.all.iter().any(|client| client.operation.as_ref() == Some(operation))
    }

    /// One line per client that has no answer yet.
    pub(super) fn waiting(&self) -> Vec<String> {
        let waits = self.all.iter().filter(|client| !matches!(client.state, ClientState::Done));
        waits.map(|client| format!("{} is waiting for the answer to {}", client.name, client.ask)).collect()
    }

    /// A northbound crashed: its clients lose their connections.
    pub(super) fn disconnect(&mut self, north: usize, now: MonoTime) {
        for client in self.all.iter_mut().filter(|client| client.northbound == north) {
            if matches!(client.state, ClientState::Waiting(..)) {
                client.retry_in(now, self.dice.between(0, 300));
            }
        }
    }

    /// Receives answers and sends due requests. Returns true if a client did something.
    pub(super) fn step(
        &mut self,
        now: MonoTime,
        fronts: &[Option<&Front>; NORTHBOUNDS],
        faults: &FaultSchedule,
    ) -> Result<bool, String> {
        let mut worked = false;
        for client in &mut self.all {
            match &mut client.state {
                ClientState::Done => continue,
                ClientState::Waiting(ticket, until) => {
                    let told = match ticket.answer.try_recv() {
                        Err(TryRecvError::Empty) if now < *until => continue,
                        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
                        Ok(told) => Some(told),
                    };
                    client.receive(told, now, self.parks, &mut self.dice, faults)?;
                }
                ClientState::Idle(at) if *at > now => continue,
                ClientState::Idle(_) => {
                    self.requests += 1;
                    client.send(fronts, now, Uuid::from_u128(self.requests), &mut self.dice, faults)?;
                }
            }
            worked = true;
        }
        Ok(worked)
    }
}

impl Client {
    fn double_timeout(&mut self) {
        if self.backs_off {
            self.timeout_ms = self.timeout_ms.saturating_mul(2);
        }
    }

    fn retry_in(&mut self, now: MonoTime, delay_ms: u64) {
        self.northbound = (self.northbound + 1) % NORTHBOUNDS;
        self.state = ClientState::Idle(now.plus_ms(delay_ms));
    }

    fn send(
        &mut self,
        fronts: &[Option<&Front>; NORTHBOUNDS],
        now: MonoTime,
        http_id: Uuid,
        dice: &mut Dice,
        faults: &FaultSchedule,
    ) -> Result<(), String> {
        let delay_ms = dice.between(50, 500);
        let Some(front) = fronts[self.northbound] else {
            self.retry_in(now, delay_ms);
            return Ok(());
        };
        let SimRequest { workflow, key, request } = &self.ask;
        let expires = self.expires.then(|| front.clock.wall().plus_ms(FIRST_TIMEOUT_MS));
        let request = if self.change == BodyChange::Now { json!({ "else": request }) } else { request.clone() };
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
                faults.say(&self.name, || {
                    format!("sends to northbound-{}: {} as operation {}", self.northbound, self.ask, ticket.operation)
                });
                let operation = self.operation.get_or_insert_with(|| ticket.operation.clone());
                if *operation != ticket.operation {
                    let (name, other) = (&self.name, &ticket.operation);
                    return Err(format!("{name} requested {operation}, but its repeat became {other}"));
                }
                self.state = ClientState::Waiting(Box::new(ticket), now.plus_ms(self.timeout_ms));
            }
            Err(problem) => {
                faults.say(&self.name, || format!("is rejected by northbound-{}: {problem}", self.northbound));
                self.retry_in(now, delay_ms);
            }
        }
        Ok(())
    }

    /// Handles an answer, or a timeout if `answer` is `None`.
    fn receive(
        &mut self,
        answer: Option<RequestResult>,
        now: MonoTime,
        parks: bool,
        dice: &mut Dice,
        faults: &FaultSchedule,
    ) -> Result<(), String> {
        let delay_ms = dice.between(50, 500);
        let answer = match answer {
            None => {
                faults.say(&self.name, || "timed out; will retry".to_owned());
                self.double_timeout();
                self.retry_in(now, delay_ms);
                return Ok(());
            }
            Some(Err(problem)) => {
                faults.say(&self.name, || format!("gets no outcome: {problem}"));
                self.retry_in(now, delay_ms);
                return Ok(());
            }
            Some(Ok(operation)) => {
                operation.answer.ok_or_else(|| format!("{}: the reply to the request has no answer", self.name))?
            }
        };
        match answer {
            Answer::Refused(problem) if problem.code == Code::KeyReused && self.change == BodyChange::Now => {
                faults.say(&self.name, || format!("is refused, as expected: {problem}"));
                self.state = ClientState::Done;
            }
            answer if self.change == BodyChange::Now => {
                let (name, ask, told) = (&self.name, &self.ask, describe(&answer));
                return Err(format!("{name} reused the key of {ask} with another body and was answered: {told}"));
            }
            Answer::Refused(problem) if problem.code == Code::Parked && parks => {
                faults.say(&self.name, || format!("is refused: {problem}"));
                self.retry_in(now, delay_ms);
            }
            Answer::Refused(problem) if problem.code.is_temporary() && self.answer.is_none() => {
                faults.say(&self.name, || format!("is refused: {problem}"));
                if [Code::Busy, Code::QueueFull].contains(&problem.code) {
                    // There is room again when other operations end.
                    self.double_timeout();
                    self.retry_in(now, if self.backs_off { self.timeout_ms } else { delay_ms });
                } else {
                    // A workflow may never have room.
                    self.refused = Some(problem.code);
                    self.state = ClientState::Done;
                }
            }
            answer if !answer.is_outcome() => {
                let (name, ask, told) = (&self.name, &self.ask, describe(&answer));
                let before =
                    self.answer.as_ref().map_or_else(String::new, |before| format!("{}; then ", describe(before)));
                return Err(format!("{name} requested {ask} and was answered: {before}{told}"));
            }
            answer => {
                faults.say(&self.name, || format!("is answered: {}", describe(&answer)));
                if let Some(before) = self.answer.replace(answer.clone())
                    && before != answer
                {
                    let (before, after) = (describe(&before), describe(&answer));
                    return Err(format!("{} got two answers to {}: {before}; then {after}", self.name, self.ask));
                }
                if self.repeats > 0 {
                    self.repeats -= 1;
                    self.retry_in(now, dice.roll(3) * dice.roll(3_000));
                } else if self.change == BodyChange::Later {
                    self.change = BodyChange::Now;
                    self.retry_in(now, delay_ms);
                } else {
                    self.state = ClientState::Done;
                }
            }
        }
        Ok(())
    }
}

/// Describes an answer.
pub(super) fn describe(answer: &Answer) -> String {
    match answer {
        Answer::Done(body) => format!("done {body}"),
        Answer::Failed(body) => format!("failed {body}"),
        Answer::Refused(problem) => format!("refused {problem}"),
    }
}
