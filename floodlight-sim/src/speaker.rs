//! The pure core: how a speaker handles a command. It has no clock, thread or channel.
//!
//! A command passes these checks in this order. The first one that applies decides:
//!
//! | check | result |
//! |---|---|
//! | the client requested a fault (`error: IN_FL`) | neither executes nor answers |
//! | an injected fault applies | as the fault says; see [`crate::fault`] |
//! | an undo names calls | marks them as undone, and continues |
//! | the call was undone or refused before | refusal `undone` |
//! | the call was executed before | the same reply, from memory |
//! | `ce_expirytime` has passed | refusal `expired` |
//! | the switch declines | refusal `meter_taken` |
//! | none of these | executes, remembers the reply unless it is a read, and answers |
//!
//! All checks except the first two happen at execution, which a fault may delay. If a repeat
//! arrives while the first attempt is delayed, the one that executes first determines the reply of
//! both.
//!
//! A refusal is final. The caller of a refused call does not undo it, so a repeat must not execute
//! it, and the fault `error` does not apply to an executed call. A failure is not remembered: a
//! repeat passes all checks again.

use bus::MonoTime;
use flow_messages::client::InjectedFault;
use flow_messages::speaker::{Action, Refusal, Reply, SwitchId};
use wire::{CallId, Kind, WallTime};

use crate::audit::Audit;
use crate::delay::{DelayQueue, Due, MAX_DELAYED};
use crate::fault::FaultTarget;
use crate::faults::Faults;
use crate::flaw::Flaw;
use crate::memory::Memory;
use crate::request::Unreadable;
use crate::switch::Switches;
use crate::tables::{Change, Tables};
use crate::{Answer, AuditEntry, Body, CommandOutcome, FaultKind, Request, metrics};

/// The switches, memory, faults and audit log of one speaker.
#[derive(Debug, Default)]
pub struct Speaker {
    tables: Tables,
    faults: Faults,
    audit: Audit,
    waiting: DelayQueue,
    crash: Option<Crash>,
}

/// A pending crash by fault injection. The owner of the speaker has to carry it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// True: send all pending answers first.
    pub answered: bool,
}

impl Speaker {
    /// Handles a command. `now` is the base of delays; `wall` is compared with `ce_expirytime`.
    pub fn on(&mut self, now: MonoTime, wall: WallTime, request: Request) -> Vec<Answer> {
        if request.command.error == Some(InjectedFault::InSwitch) {
            self.record(wall, &request, CommandOutcome::Struck { fault: "requested" });
            return Vec::new();
        }
        let answers = match self.find_fault(&request) {
            None => vec![self.carry_out(wall, request)],
            Some(fault) => {
                metrics::struck(fault.as_str());
                self.record(wall, &request, CommandOutcome::Struck { fault: fault.as_str() });
                self.apply_fault(now, wall, request, fault)
            }
        };
        self.with_released(answers)
    }

    /// Returns the answer to an unreadable message.
    ///
    /// A refusal is final, so its call is never executed, even if a readable attempt follows. If
    /// the call was executed already, there is no answer: the next readable attempt gets the reply.
    pub fn unreadable(&mut self, unreadable: Unreadable) -> Option<Answer> {
        let answer = unreadable.answer?;
        if let Some(call) = &answer.request.call {
            if self.tables.memory().reply(call).is_some() {
                return None;
            }
            self.tables.undo(call);
        }
        Some(answer)
    }

    /// Applies a fault to a command.
    fn apply_fault(&mut self, now: MonoTime, wall: WallTime, request: Request, fault: FaultKind) -> Vec<Answer> {
        match fault {
            FaultKind::Silence => Vec::new(),
            FaultKind::Mute => {
                self.carry_out(wall, request);
                Vec::new()
            }
            FaultKind::DelayReply { ms } => {
                let answer = self.carry_out(wall, request);
                self.waiting.send_at(now.plus_ms(ms), answer);
                Vec::new()
            }
            FaultKind::DelayExecution { ms } => {
                self.waiting.execute_at(now.plus_ms(ms), request);
                Vec::new()
            }
            // An executed call gets its reply: its caller would not undo a refused one.
            FaultKind::Error { .. } if self.tables.memory().reply(call_of(&request)).is_some() => {
                vec![self.carry_out(wall, request)]
            }
            FaultKind::Error { code, retry } => {
                let refusal = Refusal { error: code, detail: "error by fault injection".into() };
                if !retry {
                    self.refuse_permanently(&request);
                }
                let body = if retry { Body::Failure(refusal) } else { Body::Refusal(refusal) };
                vec![Answer { key: request.key, request: request.envelope, body, flaw: None }]
            }
            FaultKind::Duplicate => {
                let answer = self.carry_out(wall, request);
                vec![answer.clone(), answer]
            }
            FaultKind::Reorder { hold } => {
                let answer = self.carry_out(wall, request);
                self.waiting.hold(now, hold, answer);
                Vec::new()
            }
            FaultKind::WrongKey { what } => self.carry_out_with(wall, request, Flaw::WrongKey(what)),
            FaultKind::Corrupt { what } => self.carry_out_with(wall, request, Flaw::Corrupt(what)),
            FaultKind::Oversized { bytes } => self.carry_out_with(wall, request, Flaw::Oversized(bytes)),
            FaultKind::Lie => vec![self.check_and_run(wall, request, pretend)],
            FaultKind::Crash { answered, .. } => {
                self.crash = Some(Crash { answered });
                vec![self.carry_out(wall, request)]
            }
        }
    }

    /// Executes commands and returns answers that are due at `now`, in the order of their times.
    pub fn due(&mut self, now: MonoTime, wall: WallTime) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(due) = self.waiting.due(now) {
            let answer = match due {
                Due::Execute(request) => self.carry_out(wall, *request),
                Due::Send(answer) => *answer,
            };
            answers.extend(self.with_released(vec![answer]));
        }
        answers
    }

    /// The time at which the next delayed command or answer is due.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.waiting.next()
    }

    /// The number of delayed commands and answers.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The pending crash, if any, since the last [`Speaker::restarted`].
    pub fn crash(&self) -> Option<Crash> {
        self.crash
    }

    /// Requests a crash now, like the fault `crash`.
    pub fn crash_now(&mut self, answered: bool) {
        self.crash.get_or_insert(Crash { answered });
    }

    /// Takes the changes to the tables since the last call, in order; empty without a store.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.tables.take_changes()
    }

    /// Puts changes back that could not be stored: the next call returns them first.
    pub fn put_back(&mut self, changes: Vec<Change>) {
        self.tables.put_back(changes);
    }

    /// The memory.
    pub fn memory(&self) -> &Memory {
        self.tables.memory()
    }

    /// Replaces the tables.
    #[must_use]
    pub fn with_tables(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    /// Models the restart of the process: delayed commands and answers are lost; rules, memory,
    /// faults and audit log stay.
    pub fn restarted(&mut self) {
        self.waiting.clear();
        self.crash = None;
    }

    /// The rule tables.
    pub fn switches(&self) -> &Switches {
        self.tables.switches()
    }

    /// The injected faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The injected faults, for changes.
    pub fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Appends the held answers that these answers release.
    fn with_released(&mut self, mut answers: Vec<Answer>) -> Vec<Answer> {
        let released = self.waiting.sent(answers.len());
        answers.extend(released);
        answers
    }

    /// Returns the fault that applies to this command, if any.
    fn find_fault(&mut self, request: &Request) -> Option<FaultKind> {
        let action = &request.command.action;
        if let Action::Install { rule } = action {
            self.tables.name(rule);
        }
        let named = self.tables.memory().named(action.switch(), cookie_of(action));
        let command = FaultTarget {
            switch: action.switch(),
            command: action.name(),
            rule: named.map(|named| named.number),
            flow: named.map(|named| &*named.flow),
            attempt: request.envelope.attempt.unwrap_or(1),
            call: call_of(request),
        };
        self.faults.strike(&command, self.waiting.len() < MAX_DELAYED)
    }

    /// Executes a command, or refuses it.
    fn carry_out(&mut self, wall: WallTime, request: Request) -> Answer {
        self.check_and_run(wall, request, execute)
    }

    /// Executes a command and adds a flaw to the answer.
    fn carry_out_with(&mut self, wall: WallTime, request: Request, flaw: Flaw) -> Vec<Answer> {
        vec![Answer { flaw: Some(flaw), ..self.carry_out(wall, request) }]
    }

    /// Applies the checks to a command. If none applies, runs `act`.
    fn check_and_run(&mut self, wall: WallTime, request: Request, act: Act) -> Answer {
        for call in &request.envelope.undoes {
            if request.envelope.kind == Kind::Undo {
                self.tables.undo(call);
            }
        }
        let call = call_of(&request);
        let (outcome, body) = if self.tables.memory().is_undone(call) {
            refused("undone", format!("call {call} was undone or refused before"))
        } else if let Some(reply) = self.tables.memory().reply(call) {
            (Some(CommandOutcome::Remembered), Body::Reply(reply.clone()))
        } else if let Some(expires) = request.envelope.expires.filter(|expires| *expires < wall) {
            refused("expired", format!("call {call} expired at {expires}; it is {wall}"))
        } else {
            act(&mut self.tables, call, &request.command.action)
        };
        if matches!(body, Body::Refusal(_)) {
            self.refuse_permanently(&request);
        }
        if let Some(outcome) = outcome {
            self.record(wall, &request, outcome);
        }
        Answer { key: request.key, request: request.envelope, body, flaw: None }
    }

    /// Marks a refused call as undone. Its caller does not undo it, so a repeat must not execute
    /// it: a worker that takes over from a crashed one sends the call again.
    fn refuse_permanently(&mut self, request: &Request) {
        self.tables.undo(call_of(request));
    }

    /// Adds the outcome of a command to the audit log.
    fn record(&mut self, wall: WallTime, request: &Request, outcome: CommandOutcome) {
        let action = &request.command.action;
        let named = self.tables.memory().named(action.switch(), cookie_of(action));
        metrics::command(action.name(), &outcome);
        self.audit.add(AuditEntry {
            seq: 0,
            at: wall,
            switch: SwitchId::clone(action.switch()),
            command: action.name(),
            cookie: cookie_of(action),
            flow: named.map(|named| named.flow.clone()),
            rule: named.map(|named| named.number),
            call: call_of(request).clone(),
            attempt: request.envelope.attempt.unwrap_or(1),
            outcome,
        });
    }
}

/// Runs a command that passed all checks. Returns its outcome for the audit log, if any, and its
/// answer.
type Act = fn(&mut Tables, &CallId, &Action) -> (Option<CommandOutcome>, Body);

/// Executes a command. It remembers the reply to a change; a repeated read must see the present.
fn execute(tables: &mut Tables, call: &CallId, action: &Action) -> (Option<CommandOutcome>, Body) {
    let (existed, reply) = match action {
        Action::Install { rule } => match tables.install(rule) {
            Ok(existed) => (existed, Reply::Installed { existed }),
            Err(taken) => return refused("meter_taken", taken.to_string()),
        },
        Action::Read { switch, cookie } => return read(tables.switches(), switch, *cookie),
        Action::Remove { switch, cookie } => {
            let existed = tables.remove(switch, *cookie);
            (existed, Reply::Removed { existed })
        }
    };
    tables.keep(call, &reply);
    (Some(CommandOutcome::Executed { existed }), Body::Reply(reply))
}

/// Implements the fault `lie`: answers and remembers as [`execute`] would, and changes no table.
fn pretend(tables: &mut Tables, call: &CallId, action: &Action) -> (Option<CommandOutcome>, Body) {
    let reply = match action {
        Action::Install { rule } => {
            Reply::Installed { existed: tables.switches().read(&rule.switch, rule.cookie).is_some() }
        }
        Action::Read { switch, cookie } => return read(tables.switches(), switch, *cookie),
        Action::Remove { switch, cookie } => {
            Reply::Removed { existed: tables.switches().read(switch, *cookie).is_some() }
        }
    };
    tables.keep(call, &reply);
    (None, Body::Reply(reply))
}

fn read(switches: &Switches, switch: &SwitchId, cookie: u64) -> (Option<CommandOutcome>, Body) {
    let rule = switches.read(switch, cookie).cloned();
    (Some(CommandOutcome::Executed { existed: rule.is_some() }), Body::Reply(Reply::Found { rule }))
}

fn refused(error: &'static str, detail: String) -> (Option<CommandOutcome>, Body) {
    (Some(CommandOutcome::Refused { error }), Body::Refusal(Refusal { error: error.into(), detail }))
}

fn call_of(request: &Request) -> &CallId {
    request.envelope.call.as_ref().expect("`Request::read` requires a call id")
}

fn cookie_of(action: &Action) -> u64 {
    match action {
        Action::Install { rule } => rule.cookie,
        Action::Read { cookie, .. } | Action::Remove { cookie, .. } => *cookie,
    }
}
