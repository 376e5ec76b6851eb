//! The worker's table under any order of events.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::{Deadline, TimedOut};
use proptest::prelude::*;
use wire::call::{Call, CallCommand};
use wire::{CallId, Kind, MessageId, OperationId};
use workers::{SpokeReply, WorkerEffect, WorkerSettings, WorkerTable};

/// What may happen, with numbers that pick among calls and timers.
#[derive(Debug, Clone)]
enum Step {
    Start(u32),
    Abandon(u32),
    Answer { kind: Kind, call: u32, of: u32, attempt: u32 },
    Fire(usize),
    StaleFire(u64, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let calls = 1..12_u32;
    let kind = prop::sample::select(vec![Kind::Reply, Kind::Refusal, Kind::Failure]);
    let answer = (kind, calls.clone(), prop::option::weighted(0.1, calls.clone()), 0..5_u32);
    let answer =
        answer.prop_map(|(kind, call, of, attempt)| Step::Answer { kind, call, of: of.unwrap_or(call), attempt });
    let step = prop_oneof![
        3 => calls.clone().prop_map(Step::Start),
        1 => calls.prop_map(Step::Abandon),
        4 => answer,
        3 => any::<prop::sample::Index>().prop_map(|i| Step::Fire(i.index(1 << 16))),
        1 => (0..12_u64, 0..6_u32).prop_map(|(slot, generation)| Step::StaleFire(slot, generation)),
    ];
    prop::collection::vec(step, 0..120)
}

fn id(n: u32) -> CallId {
    CallId::new(OperationId::new("op").expect("letters are allowed"), 1, n)
}

fn start(n: u32) -> CallCommand {
    CallCommand::Start(Call {
        id: id(n),
        service: "spoke".into(),
        key: format!("key-{}", n % 3),
        what: format!("do {n}"),
        body: "{}".into(),
        undoes: Vec::new(),
        lane: 0,
        within_ms: 1_000,
        swallow: n.is_multiple_of(5),
    })
}

/// A table and what it said so far.
struct Watched {
    table: WorkerTable,
    /// The deadlines that run: what each was registered with.
    timers: BTreeMap<u64, u32>,
    started: BTreeSet<CallId>,
    abandoned: BTreeSet<CallId>,
    /// How often each call ended.
    ended: BTreeMap<CallId, u32>,
    /// The attempts that were sent of each call.
    sent: BTreeMap<CallId, Vec<u32>>,
}

impl Watched {
    fn take(&mut self, effects: Vec<WorkerEffect>) {
        for effect in effects {
            match effect {
                WorkerEffect::Send { call, attempt, .. } => self.sent.entry(call.id.clone()).or_default().push(attempt),
                WorkerEffect::End(end) => *self.ended.entry(end.id).or_default() += 1,
                WorkerEffect::Deadline(Deadline::Register { key, generation, .. }) => {
                    self.timers.insert(key, generation);
                }
                WorkerEffect::Deadline(Deadline::Cancel { key }) => {
                    self.timers.remove(&key);
                }
                WorkerEffect::Changed(_) | WorkerEffect::Closed(_) | WorkerEffect::Count(_) | WorkerEffect::Log(..) => {
                }
            }
        }
    }

    fn fire(&mut self, key: u64, generation: u32, effects: &mut Vec<WorkerEffect>) {
        if self.timers.get(&key) == Some(&generation) {
            self.timers.remove(&key);
        }
        self.table.timed_out(TimedOut { key, generation }, 7, effects);
    }

    fn on(&mut self, step: &Step) {
        let mut effects = Vec::new();
        match *step {
            Step::Start(n) => {
                self.started.insert(id(n));
                self.table.command(start(n), &mut effects);
            }
            Step::Abandon(n) => {
                if self.started.contains(&id(n)) && !self.ended.contains_key(&id(n)) {
                    self.abandoned.insert(id(n));
                }
                self.table.command(CallCommand::Abandon(id(n)), &mut effects);
            }
            Step::Answer { kind, call, of, attempt } => {
                let reply = SpokeReply {
                    kind,
                    call: id(call),
                    message: MessageId::new(id(of), "spoke", attempt),
                    body: "{}".into(),
                };
                self.table.answered(reply, 3, &mut effects);
            }
            Step::Fire(pick) => {
                let timer = self
                    .timers
                    .iter()
                    .nth(pick % self.timers.len().max(1))
                    .map(|(key, generation)| (*key, *generation));
                if let Some((key, generation)) = timer {
                    self.fire(key, generation, &mut effects);
                }
            }
            Step::StaleFire(key, generation) => {
                if self.timers.get(&key) != Some(&generation) {
                    self.table.timed_out(TimedOut { key, generation }, 7, &mut effects);
                }
            }
        }
        self.take(effects);
    }
}

const SHARE: u32 = 3;
const QUEUE: usize = 4;
const ATTEMPTS: u32 = 3;

fn watched() -> Watched {
    let settings = WorkerSettings {
        attempts: ATTEMPTS,
        in_flight: SHARE,
        queue: QUEUE,
        timeout_ms: 100,
        ..WorkerSettings::default()
    };
    Watched {
        table: WorkerTable::new(settings, 1),
        timers: BTreeMap::new(),
        started: BTreeSet::new(),
        abandoned: BTreeSet::new(),
        ended: BTreeMap::new(),
        sent: BTreeMap::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_ends_exactly_once_unless_it_was_abandoned_and_nothing_is_left(steps in steps()) {
        let mut watched = watched();
        for step in steps {
            watched.on(&step);
            let open = watched.table.len();
            prop_assert!(open <= SHARE as usize + QUEUE, "{open} open");
            prop_assert_eq!(watched.timers.len(), open, "a deadline for each open call, and none else");
            let owed = watched.started.len() - watched.abandoned.len() - watched.ended.len();
            prop_assert_eq!(owed, open, "what is owed is open");
        }
        // Nobody answers any more: the deadlines end what is open.
        for _ in 0..1_000 {
            watched.on(&Step::Fire(0));
        }
        prop_assert!(watched.table.is_empty() && watched.timers.is_empty());
        for call in &watched.started {
            let ends = watched.ended.get(call).copied().unwrap_or(0);
            prop_assert_eq!(ends, u32::from(!watched.abandoned.contains(call)), "{}", call);
        }
    }

    #[test]
    fn attempts_are_numbered_without_a_gap_and_never_more_than_allowed(steps in steps()) {
        let mut watched = watched();
        for step in steps {
            watched.on(&step);
        }
        for (call, attempts) in &watched.sent {
            let expected: Vec<u32> = (1..=u32::try_from(attempts.len()).unwrap()).collect();
            prop_assert_eq!(attempts, &expected, "{}", call);
            prop_assert!(attempts.len() <= ATTEMPTS as usize, "{}", call);
        }
    }

    #[test]
    fn no_more_calls_are_in_flight_than_the_share(starts in prop::collection::vec(1..40_u32, 0..60)) {
        let mut watched = watched();
        for n in starts {
            watched.on(&Step::Start(n));
            // Each of the swallowed ones takes a place too: it is sent as far as the table knows.
            prop_assert!(watched.sent.len() <= SHARE as usize);
        }
    }
}
