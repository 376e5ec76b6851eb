//! Random inputs for a worker's table.

use std::collections::BTreeMap;

use coordinator::{Deadline, TimedOut};
use proptest::prelude::*;
use wire::call::{Call, CallCommand};
use wire::{CallId, Kind, MessageId, OperationId};
use workers::{SpokeReply, WorkerEffect, WorkerSettings, WorkerTable};

/// An input, with numbers that select calls and timers.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Start(u32),
    Abandon(u32),
    Answer { kind: Kind, call: u32, of: u32, attempt: u32 },
    Fire(usize),
    StaleFire(u64, u32),
    Liveness(bool),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let calls = 1..12_u32;
    let kind = prop::sample::select(vec![Kind::Reply, Kind::Refusal, Kind::Failure]);
    let answer = (kind, calls.clone(), prop::option::weighted(0.1, calls.clone()), 0..5_u32);
    let answer =
        answer.prop_map(|(kind, call, of, attempt)| Step::Answer { kind, call, of: of.unwrap_or(call), attempt });
    prop_oneof![
        3 => calls.clone().prop_map(Step::Start),
        1 => calls.prop_map(Step::Abandon),
        4 => answer,
        3 => any::<prop::sample::Index>().prop_map(|i| Step::Fire(i.index(1 << 16))),
        1 => (0..12_u64, 0..6_u32).prop_map(|(slot, generation)| Step::StaleFire(slot, generation)),
        1 => prop::bool::weighted(0.7).prop_map(Step::Liveness),
    ]
}

/// The calls belong to three operations.
pub(crate) fn operation(n: u32) -> OperationId {
    OperationId::new(&format!("op-{}", n % 3)).expect("letters are allowed")
}

pub(crate) fn id(n: u32) -> CallId {
    CallId::new(operation(n), 1, n)
}

pub(crate) fn start(n: u32) -> CallCommand {
    CallCommand::Start(Call {
        id: id(n),
        service: "spoke".into(),
        key: format!("key-{}", n % 3),
        what: format!("do {n}"),
        body: "{}".into(),
        undoes: Vec::new(),
        lane: 0,
        correlation: None,
        within_ms: 1_000,
        until: None,
    })
}

pub(crate) const SHARE: u32 = 3;
pub(crate) const QUEUE: usize = 4;
pub(crate) const ATTEMPTS: u32 = 3;

pub(crate) fn settings() -> WorkerSettings {
    WorkerSettings { attempts: ATTEMPTS, in_flight: SHARE, queue: QUEUE, timeout_ms: 100, ..WorkerSettings::default() }
}

/// A table with its running deadlines: key and generation.
pub(crate) struct TestTable {
    pub(crate) table: WorkerTable,
    pub(crate) timers: BTreeMap<u64, u32>,
}

impl TestTable {
    pub(crate) fn new() -> Self {
        Self { table: WorkerTable::new(settings(), 1), timers: BTreeMap::new() }
    }

    pub(crate) fn on(&mut self, step: &Step) -> Vec<WorkerEffect> {
        let mut effects = Vec::new();
        match *step {
            Step::Start(n) => self.table.command(start(n), &mut effects),
            Step::Abandon(n) => self.table.command(CallCommand::Abandon(id(n)), &mut effects),
            Step::Answer { kind, call, of, attempt } => {
                let message = MessageId::new(id(of), "spoke", attempt);
                let reply = SpokeReply { kind, call: id(call), message, body: "{}".into() };
                self.table.answered(reply, 3, &mut effects);
            }
            Step::Fire(pick) => {
                let timer = self.timers.iter().nth(pick % self.timers.len().max(1));
                if let Some((key, generation)) = timer.map(|(key, generation)| (*key, *generation)) {
                    self.timers.remove(&key);
                    self.table.timed_out(TimedOut { key, generation }, 7, &mut effects);
                }
            }
            Step::StaleFire(key, generation) => {
                if self.timers.get(&key) != Some(&generation) {
                    self.table.timed_out(TimedOut { key, generation }, 7, &mut effects);
                }
            }
            Step::Liveness(up) => self.table.liveness_changed(Some(up), &mut effects),
        }
        for effect in &effects {
            match *effect {
                WorkerEffect::Deadline(Deadline::Register { key, generation, .. }) => {
                    self.timers.insert(key, generation);
                }
                WorkerEffect::Deadline(Deadline::Cancel { key }) => drop(self.timers.remove(&key)),
                WorkerEffect::Send { .. }
                | WorkerEffect::End(_)
                | WorkerEffect::Changed(_)
                | WorkerEffect::Closed(_)
                | WorkerEffect::Publish
                | WorkerEffect::Count(_)
                | WorkerEffect::Log(..) => {}
            }
        }
        effects
    }
}
