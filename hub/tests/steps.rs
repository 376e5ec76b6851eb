//! The order of a step's events, shown with a small workflow.

use hub::{
    CalledService, Event, Fx, HubEffect, HubRequest, HubTable, Illegal, ServiceExt, StepSpec, Workflow, WorkflowState,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::answer::Answer;
use wire::call::{CallCommand, CallEnd, CallOutcome};
use wire::{OperationId, Problem, Service, WallTime};

/// Sends one call and, at its reply, opens a second step.
#[derive(Serialize, Deserialize)]
struct First;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstState {
    New,
    Asking,
    Telling,
    Ended,
}

impl WorkflowState for FirstState {
    const ALL: &'static [Self] = &[Self::New, Self::Asking, Self::Telling, Self::Ended];
    fn name(self) -> &'static str {
        match self {
            Self::New => "-",
            Self::Asking => "asking",
            Self::Telling => "telling",
            Self::Ended => "ended",
        }
    }
}

const ORACLE: Service<Value, Value> = Service::named("oracle");

fn step(name: &'static str, tags: &[u32]) -> StepSpec {
    let call = |tag: &u32| ORACLE.call(*tag, "k", &json!({}), format!("ask {tag}"), 100);
    StepSpec::new(name, 200).calls(tags.iter().map(call))
}

impl Workflow for First {
    const NAME: &'static str = "first";
    const SERVICES: &'static [CalledService] = &[CalledService::of(ORACLE)];
    type State = FirstState;
    type Request = Value;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, _: Value) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn on(&mut self, state: FirstState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<FirstState, Illegal> {
        match (state, event) {
            (FirstState::New, Event::Requested) => {
                fx.step(step("ask", &[1]));
                Ok(FirstState::Asking)
            }
            (FirstState::Asking, Event::Replied { .. }) => {
                fx.step(step("tell", &[2, 3]));
                Ok(FirstState::Telling)
            }
            (FirstState::Telling, Event::Replied { .. }) => Ok(FirstState::Telling),
            (FirstState::Telling, Event::AllReplied) => {
                fx.answer(Answer::Done(json!("told")));
                fx.end();
                Ok(FirstState::Ended)
            }
            (FirstState::New | FirstState::Asking | FirstState::Telling | FirstState::Ended, _) => Err(Illegal),
        }
    }
}

fn started(effects: &[HubEffect]) -> Vec<String> {
    let call = |effect: &HubEffect| match effect {
        HubEffect::Call(CallCommand::Start(call)) => Some(call.id.to_string()),
        HubEffect::Call(CallCommand::Abandon(_))
        | HubEffect::Deadline(_)
        | HubEffect::Answer { .. }
        | HubEffect::Ended(_)
        | HubEffect::Changed(_)
        | HubEffect::Closed(_)
        | HubEffect::Count(_)
        | HubEffect::CommandAnswer { .. }
        | HubEffect::Publish(_)
        | HubEffect::Log(..) => None,
    };
    effects.iter().filter_map(call).collect()
}

fn answered(effects: &[HubEffect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, HubEffect::Answer { .. })).count()
}

#[test]
fn a_last_reply_that_opens_a_new_step_does_not_pass_its_barrier() {
    let mut table = HubTable::<First>::default();
    let operation = OperationId::new("op").unwrap();
    let mut effects = Vec::new();
    let body = wire::request::Request::new("first", json!({}));
    let request = HubRequest {
        operation: operation.clone(),
        has_key: true,
        cause: "r".into(),
        key: "k".into(),
        expires: None,
        body: Ok(body),
    };
    table.request(WallTime(0), request, &mut effects);
    assert_eq!(started(&effects), ["op/1/1"]);

    let mut reply = |step: u32, n: u32| {
        effects.clear();
        let id = wire::CallId::new(operation.clone(), step, n);
        table.call_ended(
            WallTime(0),
            CallEnd { id, lane: 0, attempts: 1, outcome: CallOutcome::Replied("{}".into()) },
            &mut effects,
        );
        (started(&effects), answered(&effects))
    };
    assert_eq!(reply(1, 1), (vec!["op/2/1".to_owned(), "op/2/2".to_owned()], 0), "the new step has its own barrier");
    assert_eq!(reply(2, 1), (vec![], 0));
    assert_eq!(reply(2, 2), (vec![], 1));
    assert_eq!(table.unfinished(), [""; 0]);
}
