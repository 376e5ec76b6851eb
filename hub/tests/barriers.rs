//! The barriers of a step: all replies, the first reply, or a quorum.

use hub::{
    Barrier, CalledService, Event, Fx, HubEffect, HubRequest, HubTable, Illegal, ServiceExt, StepSpec, Workflow,
    WorkflowState,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::answer::Answer;
use wire::call::{CallCommand, CallEnd, CallOutcome};
use wire::{CallId, OperationId, Problem, Service, WallTime};

/// Sends several calls at once.
#[derive(Serialize, Deserialize)]
struct Poll(Barrier, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PollState {
    New,
    Asking,
    Ended,
}

impl WorkflowState for PollState {
    const ALL: &'static [Self] = &[Self::New, Self::Asking, Self::Ended];
    fn name(self) -> &'static str {
        match self {
            Self::New => "-",
            Self::Asking => "asking",
            Self::Ended => "ended",
        }
    }
}

impl Workflow for Poll {
    const NAME: &'static str = "poll";
    const SERVICES: &'static [CalledService] = &[CalledService::of(ORACLE)];
    type State = PollState;
    type Request = Value;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, request: Value) -> Result<Self, Problem> {
        let number = |name: &str| u32::try_from(request[name].as_u64().unwrap_or(0)).unwrap_or(0);
        let barrier = match number("needs") {
            0 => Barrier::All,
            1 => Barrier::First,
            n => Barrier::Quorum(n),
        };
        Ok(Self(barrier, number("calls")))
    }

    fn on(&mut self, state: PollState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<PollState, Illegal> {
        let end = |fx: &mut Fx<'_, Self>, answer| {
            fx.answer(answer);
            fx.end();
            Ok(PollState::Ended)
        };
        match (state, event) {
            (PollState::New, Event::Requested) => {
                let call = |tag| ORACLE.call(tag, "k", &json!({}), format!("ask {tag}"), 100);
                fx.step(StepSpec::new("ask", 200).barrier(self.0).calls((1..=self.1).map(call)));
                Ok(PollState::Asking)
            }
            (PollState::Asking, Event::Replied { .. }) => Ok(PollState::Asking),
            (PollState::Asking, Event::AllReplied | Event::Enough) => end(fx, Answer::Done(json!(event.name()))),
            (PollState::Asking, Event::Failed(_)) => end(fx, Answer::Failed(json!("failed"))),
            (PollState::New | PollState::Asking | PollState::Ended, _) => Err(Illegal),
        }
    }
}

const ORACLE: Service<Value, Value> = Service::named("oracle");

/// Runs a step of `calls` calls that needs `needs` replies (0: all). `ends` lists call numbers and
/// whether each has a reply. Returns the answer, the number of ends before it, and the number of
/// abandoned calls.
fn poll(calls: u32, needs: u32, ends: &[(u32, bool)]) -> (Answer, usize, usize) {
    let mut table = HubTable::<Poll>::default();
    let operation = OperationId::new("op").expect("letters are allowed");
    let body = wire::request::Request::new("poll", json!({"calls": calls, "needs": needs}));
    let request = HubRequest {
        operation: operation.clone(),
        has_key: true,
        cause: "r".into(),
        key: "k".into(),
        expires: None,
        body: Ok(body),
    };
    let mut effects = Vec::new();
    table.request(WallTime(0), request, &mut effects);
    for (ended, (n, replied)) in ends.iter().enumerate() {
        if let Some(answer) = answer(&effects) {
            return (answer, ended, abandoned(&effects));
        }
        let id = CallId::new(operation.clone(), 1, *n);
        let outcome = if *replied { CallOutcome::Replied("{}".into()) } else { CallOutcome::TimedOut };
        table.call_ended(WallTime(0), CallEnd { id, lane: 0, attempts: 1, outcome }, &mut effects);
    }
    (answer(&effects).expect("it ends once all calls have ended"), ends.len(), abandoned(&effects))
}

fn answer(effects: &[HubEffect]) -> Option<Answer> {
    effects
        .iter()
        .find_map(|effect| if let HubEffect::Answer { view, .. } = effect { view.answer.clone() } else { None })
}

fn abandoned(effects: &[HubEffect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, HubEffect::Call(CallCommand::Abandon(_)))).count()
}

#[test]
fn the_first_answer_is_enough_and_the_others_are_abandoned() {
    let enough = Answer::Done(json!("enough replied"));
    assert_eq!(poll(3, 1, &[(2, true), (1, true), (3, true)]), (enough.clone(), 1, 2));
    assert_eq!(poll(3, 1, &[(2, false), (1, false), (3, true)]), (enough, 3, 0), "two failed, and one was enough");
    assert_eq!(poll(2, 1, &[(2, false), (1, false)]).0, Answer::Failed(json!("failed")));
}

#[test]
fn a_quorum_fails_as_soon_as_it_is_impossible() {
    assert_eq!(poll(3, 2, &[(1, false), (2, false), (3, true)]), (Answer::Failed(json!("failed")), 2, 1));
    assert_eq!(
        poll(3, 9, &[(1, true), (2, true), (3, true)]).0,
        Answer::Done(json!("enough replied")),
        "a quorum above the number of calls means all"
    );
}

proptest! {
    /// In any order, the step passes at the reply that reaches the barrier and fails at the end
    /// that makes it unreachable.
    #[test]
    fn a_barrier_passes_or_fails_at_the_first_end_that_decides_it(
        calls in 1..6_u32, needs in 0..7_u32, outcomes in prop::collection::vec(any::<bool>(), 6), seed in any::<u64>(),
    ) {
        let needed = if needs == 0 { calls } else { needs.min(calls) };
        let mut order: Vec<u32> = (1..=calls).collect();
        order.sort_by_key(|n| (u64::from(*n)).wrapping_mul(seed | 1).rotate_left(17));
        let ends: Vec<(u32, bool)> = order.iter().map(|n| (*n, outcomes[*n as usize - 1])).collect();
        let (mut done, mut failed, mut expected) = (0, 0, None);
        for (i, (_, replied)) in ends.iter().enumerate() {
            if *replied { done += 1 } else { failed += 1 }
            if expected.is_none() && (done >= needed || calls - failed < needed) {
                expected = Some((done >= needed, i + 1));
            }
        }
        let (answer, after, _) = poll(calls, needs, &ends);
        prop_assert_eq!(Some((matches!(answer, Answer::Done(_)), after)), expected);
    }
}
