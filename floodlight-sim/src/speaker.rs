//! The pure core: what a speaker makes of a command. No clock, no thread, no channel.
//!
//! A command goes through these gates, in this order:
//!
//! | gate | what comes of it |
//! |---|---|
//! | the client's drill (`error: IN_FL`) | nothing is done and nothing is told |
//! | a fault | what the fault says; see [`crate::fault`] |
//! | an undo names calls | they are refused from now on |
//! | the call was undone | refusal `undone` |
//! | the call was carried out before | the same reply, from memory; nothing is done |
//! | `ce_expirytime` has passed | refusal `expired` |
//! | the switch declines | refusal `meter_taken` |
//! | none of these | it is carried out, remembered unless it reads, and told |
//!
//! All but the first two are looked at when the command is carried out, which a fault may delay. A repeat that comes while
//! its first sending is still delayed is handled like the call itself: whichever of them is carried out first is
//! remembered, and the other one finds it there. A refusal is not remembered, since nothing was done: a repeat is judged
//! anew.

use std::collections::BTreeMap;

use bus::MonoTime;
use wire::flow::Drill;
use wire::speaker::{Action, Refusal, Reply, SwitchId};
use wire::{CallId, Kind, WallTime};

use crate::audit::Audit;
use crate::fault::{Faults, Struck};
use crate::memory::Memory;
use crate::switch::Switches;
use crate::{Answer, Body, Deed, Entry, FaultKind, Request, metrics};

/// So many commands and answers may wait for their time; a command that finds no room is not delayed. It is a hundred times
/// what a flow of ten rules can have open.
pub const WAITING: usize = 10_000;

/// Switches, memory, faults and audit log of one speaker.
#[derive(Debug, Default)]
pub struct Speaker {
    switches: Switches,
    memory: Memory,
    faults: Faults,
    audit: Audit,
    waiting: BTreeMap<(MonoTime, u64), Late>,
    sequence: u64,
}

/// What waits for its time.
#[derive(Debug)]
enum Late {
    CarryOut(Box<Request>),
    Tell(Vec<Answer>),
}

impl Speaker {
    /// Handles a command that has come. `now` counts delays, `wall` is compared with `ce_expirytime`.
    pub fn on(&mut self, now: MonoTime, wall: WallTime, request: Request) -> Vec<Answer> {
        if request.command.error == Some(Drill::InSwitch) {
            self.note(wall, &request, Deed::Struck { fault: "drill" });
            return Vec::new();
        }
        let Some(fault) = self.strike(&request) else {
            return vec![self.carry_out(wall, request)];
        };
        self.note(wall, &request, Deed::Struck { fault: fault.as_str() });
        match fault {
            FaultKind::Silence => Vec::new(),
            FaultKind::Mute => {
                self.carry_out(wall, request);
                Vec::new()
            }
            FaultKind::DelayReply { ms } => {
                let answer = self.carry_out(wall, request);
                self.wait(now.plus_ms(ms), Late::Tell(vec![answer]))
            }
            FaultKind::DelayExecution { ms } => self.wait(now.plus_ms(ms), Late::CarryOut(Box::new(request))),
            FaultKind::Error { code, retry } => {
                let refusal = Refusal { error: code, detail: "a fault was asked for".into() };
                let body = if retry { Body::Failure(refusal) } else { Body::Refusal(refusal) };
                vec![Answer { key: request.key, request: request.envelope, body }]
            }
            FaultKind::Duplicate => {
                let answer = self.carry_out(wall, request);
                vec![answer.clone(), answer]
            }
        }
    }

    /// Does what has waited until `now`, in the order of its times.
    pub fn due(&mut self, now: MonoTime, wall: WallTime) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            match first.remove() {
                Late::CarryOut(request) => answers.push(self.carry_out(wall, *request)),
                Late::Tell(late) => answers.extend(late),
            }
        }
        answers
    }

    /// When the next thing that waits has its time.
    pub fn next_due(&self) -> Option<MonoTime> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many commands and answers wait for their time.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The rule tables.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// The faults that stand.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// What was done.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    fn wait(&mut self, at: MonoTime, late: Late) -> Vec<Answer> {
        self.sequence += 1;
        self.waiting.insert((at, self.sequence), late);
        Vec::new()
    }

    /// The fault that strikes this command, if one does.
    fn strike(&mut self, request: &Request) -> Option<FaultKind> {
        let action = &request.command.action;
        if let Action::Install { rule } = action {
            self.memory.name(rule);
        }
        let named = self.memory.named(action.switch(), cookie_of(action));
        let command = Struck {
            switch: action.switch(),
            command: action.word(),
            rule: named.map(|named| named.number),
            flow: named.map(|named| named.flow.as_str()),
            attempt: request.envelope.attempt.unwrap_or(1),
            step: call_of(request).step,
        };
        self.faults.strike(&command, self.waiting.len() < WAITING)
    }

    /// Carries a command out, or says why not.
    fn carry_out(&mut self, wall: WallTime, request: Request) -> Answer {
        for call in &request.envelope.undoes {
            if request.envelope.kind == Kind::Undo {
                self.memory.undo(call.clone());
            }
        }
        let call = call_of(&request);
        let (deed, body) = if self.memory.is_undone(call) {
            refused("undone", format!("call {call} was undone"))
        } else if let Some(reply) = self.memory.reply(call) {
            (Deed::Remembered, Body::Reply(reply.clone()))
        } else if let Some(expires) = request.envelope.expires.filter(|expires| *expires < wall) {
            refused("expired", format!("call {call} was of no use after {expires}; it is {wall}"))
        } else {
            execute(&mut self.switches, &mut self.memory, call, &request.command.action)
        };
        self.note(wall, &request, deed);
        Answer { key: request.key, request: request.envelope, body }
    }

    /// Writes down what came of a command.
    fn note(&mut self, wall: WallTime, request: &Request, deed: Deed) {
        let action = &request.command.action;
        let named = self.memory.named(action.switch(), cookie_of(action));
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

/// Does what is asked. What changes a table is remembered; a read must see the present, so it is not.
fn execute(switches: &mut Switches, memory: &mut Memory, call: &CallId, action: &Action) -> (Deed, Body) {
    let (existed, reply) = match action {
        Action::Install { rule } => match switches.install(rule) {
            Ok(existed) => (existed, Reply::Installed { existed }),
            Err(taken) => return refused("meter_taken", taken.to_string()),
        },
        Action::Read { switch, cookie } => {
            let rule = switches.read(switch, *cookie).cloned();
            return (Deed::Executed { existed: rule.is_some() }, Body::Reply(Reply::Found { rule }));
        }
        Action::Remove { switch, cookie } => {
            let existed = switches.remove(switch, *cookie);
            (existed, Reply::Removed { existed })
        }
    };
    memory.keep(call.clone(), reply.clone());
    (Deed::Executed { existed }, Body::Reply(reply))
}

fn refused(error: &'static str, detail: String) -> (Deed, Body) {
    (Deed::Refused { error }, Body::Refusal(Refusal { error: error.into(), detail }))
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
