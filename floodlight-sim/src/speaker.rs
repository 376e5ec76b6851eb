//! The pure core: what a speaker makes of a command. No clock, no thread, no channel.
//!
//! A command goes through these gates, in this order:
//!
//! | gate | what comes of it |
//! |---|---|
//! | the client's drill (`error: IN_FL`) | nothing is done and nothing is told |
//! | a fault | what the fault says; see [`crate::fault`] |
//! | an undo names calls | they are refused from now on |
//! | the call was undone, or refused before | refusal `undone` |
//! | the call was carried out before | the same reply, from memory; nothing is done |
//! | `ce_expirytime` has passed | refusal `expired` |
//! | the switch declines | refusal `meter_taken` |
//! | none of these | it is carried out, remembered unless it reads, and told |
//!
//! All but the first two are looked at when the command is carried out, which a fault may delay. A repeat that comes while
//! its first sending is still delayed is handled like the call itself: whichever of them is carried out first is
//! remembered, and the other one finds it there. A refusal is final: who is told that nothing was done undoes nothing, so the
//! call is not carried out when it comes again, and a fault that refuses lets a call pass that was carried out. A failure is not
//! remembered: a repeat is judged anew.

use bus::MonoTime;
use wire::flow::Drill;
use wire::speaker::{Action, Refusal, Reply, SwitchId};
use wire::{CallId, Kind, WallTime};

use crate::audit::Audit;
use crate::fault::Struck;
use crate::faults::Faults;
use crate::flaw::Flaw;
use crate::late::{Due, WAITING, Waiting};
use crate::memory::Memory;
use crate::request::Unreadable;
use crate::switch::Switches;
use crate::tables::{Change, Tables};
use crate::{Answer, Body, Deed, Entry, FaultKind, Request, metrics};

/// Switches, memory, faults and audit log of one speaker.
#[derive(Debug, Default)]
pub struct Speaker {
    tables: Tables,
    faults: Faults,
    audit: Audit,
    waiting: Waiting,
    crash: Option<Crash>,
}

/// A fault has struck that the speaker does not survive: whoever turns it sees to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// True: what was answered is told first.
    pub told: bool,
}

impl Speaker {
    /// Handles a command that has come. `now` counts delays, `wall` is compared with `ce_expirytime`.
    pub fn on(&mut self, now: MonoTime, wall: WallTime, request: Request) -> Vec<Answer> {
        if request.command.error == Some(Drill::InSwitch) {
            self.note(wall, &request, Deed::Struck { fault: "drill" });
            return Vec::new();
        }
        let answers = match self.strike(&request) {
            None => vec![self.carry_out(wall, request)],
            Some(fault) => {
                metrics::struck(fault.as_str());
                self.note(wall, &request, Deed::Struck { fault: fault.as_str() });
                self.struck(now, wall, request, fault)
            }
        };
        self.tell(answers)
    }

    /// What is said of a message that cannot be read. A refusal says that nothing was done, and nothing will be: the call that it
    /// names is not carried out ever after, though another message of it can be read. Where it was carried out already nothing is
    /// said: whoever asks once more is told what was.
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

    /// What comes of a command that a fault has struck.
    fn struck(&mut self, now: MonoTime, wall: WallTime, request: Request, fault: FaultKind) -> Vec<Answer> {
        match fault {
            FaultKind::Silence => Vec::new(),
            FaultKind::Mute => {
                self.carry_out(wall, request);
                Vec::new()
            }
            FaultKind::DelayReply { ms } => {
                let answer = self.carry_out(wall, request);
                self.waiting.tell(now.plus_ms(ms), answer);
                Vec::new()
            }
            FaultKind::DelayExecution { ms } => {
                self.waiting.carry_out(now.plus_ms(ms), request);
                Vec::new()
            }
            // Who is told that nothing was done believes it. What was done is told.
            FaultKind::Error { .. } if self.tables.memory().reply(call_of(&request)).is_some() => {
                vec![self.carry_out(wall, request)]
            }
            FaultKind::Error { code, retry } => {
                let refusal = Refusal { error: code, detail: "a fault was asked for".into() };
                if !retry {
                    self.refuse_ever_after(&request);
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
            FaultKind::Lie => vec![self.judge(wall, request, pretend)],
            FaultKind::Crash { told, .. } => {
                self.crash = Some(Crash { told });
                vec![self.carry_out(wall, request)]
            }
        }
    }

    /// Does what has waited until `now`, in the order of its times.
    pub fn due(&mut self, now: MonoTime, wall: WallTime) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(due) = self.waiting.due(now) {
            let answer = match due {
                Due::CarryOut(request) => self.carry_out(wall, *request),
                Due::Tell(answer) => *answer,
            };
            answers.extend(self.tell(vec![answer]));
        }
        answers
    }

    /// When the next thing that waits has its time.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.waiting.next()
    }

    /// How many commands and answers wait for their time.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The fault that it does not survive, where one has struck since the last [`Speaker::restarted`].
    pub fn crash(&self) -> Option<Crash> {
        self.crash
    }

    /// It dies of nothing that it was asked: the same as a fault of kind `crash`, now.
    pub fn crash_now(&mut self, told: bool) {
        self.crash.get_or_insert(Crash { told });
    }

    /// What was changed in its tables since the last time, in order; empty where nobody keeps it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.tables.take_changes()
    }

    /// These were taken and could not be kept: they come first the next time.
    pub fn give_back(&mut self, changes: Vec<Change>) {
        self.tables.give_back(changes);
    }

    /// What is remembered.
    pub fn memory(&self) -> &Memory {
        self.tables.memory()
    }

    /// The same speaker with these tables.
    #[must_use]
    pub fn with_tables(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    /// A new process in place of one that died: what waited is gone; rules, memory, faults and audit log are there.
    pub fn restarted(&mut self) {
        self.waiting.clear();
        self.crash = None;
    }

    /// The rule tables.
    pub fn switches(&self) -> &Switches {
        self.tables.switches()
    }

    /// The faults that stand.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The faults, to be changed.
    pub fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// What was done.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// These are told, and behind them what was held back for them.
    fn tell(&mut self, mut answers: Vec<Answer>) -> Vec<Answer> {
        let free = self.waiting.told(answers.len());
        answers.extend(free);
        answers
    }

    /// The fault that strikes this command, if one does.
    fn strike(&mut self, request: &Request) -> Option<FaultKind> {
        let action = &request.command.action;
        if let Action::Install { rule } = action {
            self.tables.name(rule);
        }
        let named = self.tables.memory().named(action.switch(), cookie_of(action));
        let command = Struck {
            switch: action.switch(),
            command: action.word(),
            rule: named.map(|named| named.number),
            flow: named.map(|named| &*named.flow),
            attempt: request.envelope.attempt.unwrap_or(1),
            call: call_of(request),
        };
        self.faults.strike(&command, self.waiting.len() < WAITING)
    }

    /// Carries a command out, or says why not.
    fn carry_out(&mut self, wall: WallTime, request: Request) -> Answer {
        self.judge(wall, request, execute)
    }

    /// The same, and the answer is spoilt.
    fn carry_out_with(&mut self, wall: WallTime, request: Request, flaw: Flaw) -> Vec<Answer> {
        vec![Answer { flaw: Some(flaw), ..self.carry_out(wall, request) }]
    }

    /// Lets a command through the gates; where none of them holds it, `act` does it.
    fn judge(&mut self, wall: WallTime, request: Request, act: Act) -> Answer {
        for call in &request.envelope.undoes {
            if request.envelope.kind == Kind::Undo {
                self.tables.undo(call);
            }
        }
        let call = call_of(&request);
        let (deed, body) = if self.tables.memory().is_undone(call) {
            refused("undone", format!("call {call} was undone, or refused before"))
        } else if let Some(reply) = self.tables.memory().reply(call) {
            (Some(Deed::Remembered), Body::Reply(reply.clone()))
        } else if let Some(expires) = request.envelope.expires.filter(|expires| *expires < wall) {
            refused("expired", format!("call {call} was of no use after {expires}; it is {wall}"))
        } else {
            act(&mut self.tables, call, &request.command.action)
        };
        if matches!(body, Body::Refusal(_)) {
            self.refuse_ever_after(&request);
        }
        if let Some(deed) = deed {
            self.note(wall, &request, deed);
        }
        Answer { key: request.key, request: request.envelope, body, flaw: None }
    }

    /// Who was told that nothing was done does not undo it: so what is refused once is not carried out when the same call comes
    /// again, as it does where its worker died and another one sends it anew.
    fn refuse_ever_after(&mut self, request: &Request) {
        self.tables.undo(call_of(request));
    }

    /// Writes down what came of a command.
    fn note(&mut self, wall: WallTime, request: &Request, deed: Deed) {
        let action = &request.command.action;
        let named = self.tables.memory().named(action.switch(), cookie_of(action));
        metrics::command(action.word(), &deed);
        self.audit.add(Entry {
            seq: 0,
            at: wall,
            switch: SwitchId::clone(action.switch()),
            command: action.word(),
            cookie: cookie_of(action),
            flow: named.map(|named| named.flow.clone()),
            rule: named.map(|named| named.number),
            call: call_of(request).clone(),
            attempt: request.envelope.attempt.unwrap_or(1),
            deed,
        });
    }
}

/// What is done with a command that no gate holds: its line in the audit log, where it has one, and what is said.
type Act = fn(&mut Tables, &CallId, &Action) -> (Option<Deed>, Body);

/// Does what is asked. What changes a table is remembered; a read must see the present, so it is not.
fn execute(tables: &mut Tables, call: &CallId, action: &Action) -> (Option<Deed>, Body) {
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
    (Some(Deed::Executed { existed }), Body::Reply(reply))
}

/// Lies: says what a switch without a fault would say, remembers it, and changes no table.
fn pretend(tables: &mut Tables, call: &CallId, action: &Action) -> (Option<Deed>, Body) {
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

fn read(switches: &Switches, switch: &SwitchId, cookie: u64) -> (Option<Deed>, Body) {
    let rule = switches.read(switch, cookie).cloned();
    (Some(Deed::Executed { existed: rule.is_some() }), Body::Reply(Reply::Found { rule }))
}

fn refused(error: &'static str, detail: String) -> (Option<Deed>, Body) {
    (Some(Deed::Refused { error }), Body::Refusal(Refusal { error: error.into(), detail }))
}

fn call_of(request: &Request) -> &CallId {
    request.envelope.call.as_ref().expect("a request without a call id is not read")
}

fn cookie_of(action: &Action) -> u64 {
    match action {
        Action::Install { rule } => rule.cookie,
        Action::Read { cookie, .. } | Action::Remove { cookie, .. } => *cookie,
    }
}
