//! The hub's table under any order of events: every request is answered and nothing is left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coordinator::{Deadline, TimedOut};
use hub::{
    CallOrder, CalledService, Event, Fx, HubEffect, HubRequest, HubSettings, HubTable, Illegal, ServiceExt, StepSpec,
    Workflow, WorkflowState,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use topology::{LaneInfo, Settings};
use wire::answer::Answer;
use wire::call::{CallCommand, CallEnd, CallOutcome};
use wire::{CallId, OperationId, Problem, Service, WallTime};

/// Makes two calls and undoes them if one fails.
#[derive(Serialize, Deserialize)]
struct Pair(CallOrder);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PairState {
    New,
    Doing,
    Undoing,
    Ended,
}

impl WorkflowState for PairState {
    const ALL: &'static [Self] = &[Self::New, Self::Doing, Self::Undoing, Self::Ended];
    fn name(self) -> &'static str {
        match self {
            Self::New => "-",
            Self::Doing => "doing",
            Self::Undoing => "undoing",
            Self::Ended => "ended",
        }
    }
}

const SPOKE: Service<Value, Value> = Service::named("spoke");

impl Workflow for Pair {
    const NAME: &'static str = "pair";
    const SERVICES: &'static [CalledService] = &[CalledService::of(SPOKE)];
    type State = PairState;
    type Request = Value;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, request: Value) -> Result<Self, Problem> {
        match request.as_bool() {
            Some(true) => Ok(Self(CallOrder::AtOnce)),
            Some(false) => Ok(Self(CallOrder::OneByOne)),
            None => Err(Problem::field("body", "neither", "true or false")),
        }
    }

    fn on(&mut self, state: PairState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<PairState, Illegal> {
        let end = |fx: &mut Fx<'_, Self>, answer| {
            fx.answer(answer);
            fx.end();
            PairState::Ended
        };
        Ok(match (state, event) {
            (PairState::New, Event::Requested) => {
                let call = |tag: u32| {
                    let call = SPOKE.call(tag, format!("key-{tag}"), &json!({}), format!("do {tag}"), 100);
                    call.undo(&json!({}), format!("undo {tag}"), 100)
                };
                fx.step(StepSpec::new("do", 300).order(self.0).calls([1, 2].map(call)));
                PairState::Doing
            }
            (PairState::Doing, Event::Replied { .. }) => PairState::Doing,
            (PairState::Doing, Event::AllReplied) => end(fx, Answer::Done(json!("done"))),
            (PairState::Doing, Event::Failed(_) | Event::TimedOut) => {
                fx.undo("undo", 300);
                PairState::Undoing
            }
            (PairState::Undoing, Event::Undone { .. }) => end(fx, Answer::Failed(json!("undone"))),
            (PairState::Undoing, Event::UndoStuck { left }) => end(fx, Answer::Failed(json!({ "left": left }))),
            (PairState::New | PairState::Doing | PairState::Undoing | PairState::Ended, _) => return Err(Illegal),
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Request { operation: u32, key: u32, mode: Option<bool> },
    EndCall { pick: usize, outcome: u8 },
    EndUnknown { operation: u32, step: u32, n: u32 },
    Fire(usize),
    FireStale(u64, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pick = || any::<prop::sample::Index>().prop_map(|i| i.index(1 << 16));
    let request = (0..10_u32, 0..3_u32, prop::option::weighted(0.95, any::<bool>()));
    let step = prop_oneof![
        3 => request.prop_map(|(operation, key, mode)| Step::Request { operation, key, mode }),
        6 => (pick(), 0..3_u8).prop_map(|(pick, outcome)| Step::EndCall { pick, outcome }),
        1 => (0..10_u32, 0..4_u32, 0..4_u32).prop_map(|(operation, step, n)| Step::EndUnknown { operation, step, n }),
        1 => pick().prop_map(Step::Fire),
        1 => (0..10_u64, 0..4_u32).prop_map(|(slot, generation)| Step::FireStale(slot, generation)),
    ];
    prop::collection::vec(step, 0..120)
}

/// A table and its past effects.
struct Watched {
    table: HubTable<Pair>,
    timers: BTreeMap<u64, u32>,
    open: VecDeque<CallId>,
    started: BTreeSet<CallId>,
    asked: BTreeMap<String, OperationId>,
    /// The number of answers to each request.
    answered: BTreeMap<String, u32>,
    /// The outcomes of each operation, as answered.
    outcomes: BTreeMap<OperationId, Vec<Option<Answer>>>,
    doubled: Vec<CallId>,
    parked: u32,
}

fn watched() -> Watched {
    let mut table = HubTable::default();
    let settings = HubSettings { live: 5, waiting_per_key: 2, remembered: 1_000, ..HubSettings::default() };
    let info = LaneInfo {
        topology: "t".into(),
        stage: "s".into(),
        inbox: "i".into(),
        names: wire::topics::Topics::default(),
        lane: 0,
        lanes: 1,
    };
    table.configure(&Settings::default().with("hub", &settings), &info);
    Watched {
        table,
        timers: BTreeMap::new(),
        open: VecDeque::new(),
        started: BTreeSet::new(),
        asked: BTreeMap::new(),
        answered: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        doubled: Vec::new(),
        parked: 0,
    }
}

impl Watched {
    fn take(&mut self, effects: Vec<HubEffect>) {
        for effect in effects {
            match effect {
                HubEffect::Call(CallCommand::Start(call)) => {
                    if !self.started.insert(call.id.clone()) {
                        self.doubled.push(call.id.clone());
                    }
                    self.open.push_back(call.id);
                }
                HubEffect::Call(CallCommand::Abandon(id)) => self.open.retain(|open| *open != id),
                HubEffect::Deadline(Deadline::Register { key, generation, .. }) => {
                    self.timers.insert(key, generation);
                }
                HubEffect::Deadline(Deadline::Cancel { key }) => {
                    self.timers.remove(&key);
                }
                HubEffect::Answer { view, cause } => {
                    *self.answered.entry(cause.id).or_default() += 1;
                    if view.answer.as_ref().is_some_and(Answer::is_outcome) {
                        self.outcomes.entry(view.operation.clone()).or_default().push(view.answer);
                    }
                }
                HubEffect::Count(name) => self.parked += u32::from(name == hub::names::PARKED),
                HubEffect::Ended(_)
                | HubEffect::CommandAnswer { .. }
                | HubEffect::Publish(_)
                | HubEffect::Changed(_)
                | HubEffect::Closed(_)
                | HubEffect::Log(..) => {}
            }
        }
    }

    fn on(&mut self, at: u64, step: &Step) {
        let (mut effects, at) = (Vec::new(), WallTime(at));
        let named = |n: u32| OperationId::new(&format!("op-{n}")).expect("letters are allowed");
        match *step {
            Step::Request { operation, key, mode } => {
                // An operation belongs to one key, since the northbound derives its id from the
                // key.
                let (operation, key) = (named(operation * 3 + key), format!("key-{key}"));
                let cause = format!("r-{}", self.asked.len());
                self.asked.insert(cause.clone(), operation.clone());
                let request = mode.map_or(Value::Null, Value::Bool);
                let body = wire::request::Request::new("pair", request);
                self.table.request(
                    at,
                    HubRequest { operation, has_key: true, cause: cause.into(), key, expires: None, body: Ok(body) },
                    &mut effects,
                );
            }
            Step::EndCall { pick, outcome } => {
                let Some(id) = self.open.remove(pick % self.open.len().max(1)) else { return };
                let outcome = match outcome {
                    0 => CallOutcome::Refused("no".into()),
                    1 => CallOutcome::TimedOut,
                    _replied => CallOutcome::Replied("{}".into()),
                };
                self.table.call_ended(at, CallEnd { id, lane: 0, attempts: 2, outcome }, &mut effects);
            }
            Step::EndUnknown { operation, step, n } => {
                let id = CallId::new(named(operation), step, n);
                if !self.open.contains(&id) {
                    let outcome = CallOutcome::Replied("{}".into());
                    self.table.call_ended(at, CallEnd { id, lane: 0, attempts: 1, outcome }, &mut effects);
                }
            }
            Step::Fire(pick) => {
                let timer = self.timers.iter().nth(pick % self.timers.len().max(1));
                let Some((key, generation)) = timer.map(|(key, generation)| (*key, *generation)) else { return };
                self.timers.remove(&key);
                self.table.timed_out(at, TimedOut { key, generation }, &mut effects);
            }
            Step::FireStale(key, generation) => {
                if self.timers.get(&key) != Some(&generation) {
                    self.table.timed_out(at, TimedOut { key, generation }, &mut effects);
                }
            }
        }
        self.take(effects);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_gets_one_answer_and_nothing_is_left(steps in steps()) {
        let mut watched = watched();
        let mut at = 0;
        for step in steps {
            at += 1;
            watched.on(at, &step);
            prop_assert_eq!(watched.parked, 0, "this workflow breaks no rule");
            prop_assert!(watched.table.unfinished().len() <= 5, "at most `live` operations are live");
            prop_assert!(watched.timers.len() <= watched.table.unfinished().len());
        }
        // Spokes no longer answer: the deadlines end every live operation.
        for _ in 0..100 {
            watched.on(at, &Step::Fire(0));
        }
        prop_assert_eq!(watched.table.unfinished(), Vec::<String>::new());
        prop_assert!(watched.timers.is_empty() && watched.open.is_empty());
        prop_assert_eq!(&watched.doubled, &Vec::<CallId>::new(), "no call id is used twice");
        for (cause, operation) in &watched.asked {
            let answered = watched.answered.get(cause).copied().unwrap_or(0);
            prop_assert_eq!(answered, 1, "{} for {}", cause, operation);
        }
        for (operation, answers) in &watched.outcomes {
            prop_assert!(answers.windows(2).all(|two| two[0] == two[1]), "{} changed its answer: {:?}", operation, answers);
        }
    }
}
