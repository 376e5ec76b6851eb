//! Operations that break a rule, and ended operations.

use std::collections::BTreeMap;

use hub::{Event, Fx, HubCommand, HubEffect, HubRequest, HubSettings, HubTable, Illegal, Workflow, WorkflowState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use topology::{DueTimes, LaneInfo, Level, Settings};
use wire::answer::Answer;
use wire::command::Command;
use wire::{Code, OperationId, Problem, WallTime};

/// Does what its request says.
#[derive(Serialize, Deserialize)]
struct Scripted(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScriptedState {
    New,
    Waiting,
    Ended,
}

impl WorkflowState for ScriptedState {
    const ALL: &'static [Self] = &[Self::New, Self::Waiting, Self::Ended];
    fn name(self) -> &'static str {
        match self {
            Self::New => "-",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        }
    }
}

impl Workflow for Scripted {
    const NAME: &'static str = "scripted";
    type State = ScriptedState;
    type Request = Value;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, request: Value) -> Result<Self, Problem> {
        Ok(Self(request.as_str().unwrap_or("").to_owned()))
    }

    fn on(&mut self, state: ScriptedState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<ScriptedState, Illegal> {
        match (state, event, self.0.as_str()) {
            (ScriptedState::New, Event::Requested, "end") => {
                fx.answer(Answer::Done(json!("done")));
                fx.end();
                Ok(ScriptedState::Ended)
            }
            (ScriptedState::New, Event::Requested, "end with a large answer") => {
                fx.answer(Answer::Done(json!("x".repeat(1_000))));
                fx.end();
                Ok(ScriptedState::Ended)
            }
            (ScriptedState::New, Event::Requested, failure) if failure.starts_with('{') => {
                fx.answer(Answer::Failed(serde_json::from_str(failure).expect("the test writes JSON")));
                fx.end();
                Ok(ScriptedState::Ended)
            }
            (ScriptedState::New, Event::Requested, "end without an answer") => {
                fx.end();
                Ok(ScriptedState::Ended)
            }
            (ScriptedState::New, Event::Requested, "panic, then end without an answer") => {
                "end without an answer".clone_into(&mut self.0);
                panic!("told to")
            }
            (ScriptedState::New, Event::Requested, "wait for nothing") => Ok(ScriptedState::Waiting),
            (ScriptedState::New, Event::Requested, "panic") => panic!("told to"),
            _ => Err(Illegal),
        }
    }
}

struct NoTimers;

impl DueTimes for NoTimers {
    fn due(&self, _: u64) -> Option<WallTime> {
        None
    }
}

fn table(remembered: usize) -> HubTable<Scripted> {
    let mut table = HubTable::default();
    let info = LaneInfo {
        topology: "t".into(),
        stage: "s".into(),
        inbox: "i".into(),
        names: wire::topics::Topics::default(),
        lane: 0,
        lanes: 1,
    };
    let settings = HubSettings { remembered, answer_bytes: 1_000, ..HubSettings::default() };
    table.configure(&Settings::default().with("hub", &settings), &info);
    table
}

/// The effects of a request.
fn requested(table: &mut HubTable<Scripted>, operation: &str, key: &str, request: &str) -> Vec<HubEffect> {
    let mut effects = Vec::new();
    let body = wire::request::Request::new("scripted", json!(request));
    let request = HubRequest {
        operation: OperationId::new(operation).expect("letters are allowed"),
        has_key: true,
        cause: format!("r-{operation}").into(),
        key: key.into(),
        expires: None,
        body: Ok(body),
    };
    table.request(WallTime(0), request, &mut effects);
    effects
}

/// The answers to a request, by operation.
fn ask(table: &mut HubTable<Scripted>, operation: &str, key: &str, request: &str) -> BTreeMap<String, Answer> {
    let answers = requested(table, operation, key, request).into_iter().filter_map(|effect| match effect {
        HubEffect::Answer { view, .. } => Some((view.operation.to_string(), view.answer?)),
        HubEffect::Call(_)
        | HubEffect::Deadline(_)
        | HubEffect::Ended(_)
        | HubEffect::Changed(_)
        | HubEffect::Closed(_)
        | HubEffect::Count(_)
        | HubEffect::CommandAnswer { .. }
        | HubEffect::Publish(_)
        | HubEffect::Log(..) => None,
    });
    answers.collect()
}

/// Log lines of a workflow without its own note used to end in "failed; ".
#[test]
fn the_log_line_of_a_failure_has_its_reason() {
    for (failure, reason) in [
        (r#"{"detail": "no room", "message": "sorry"}"#, "no room"),
        (r#"{"detail": "", "message": "sorry"}"#, "sorry"),
        (r#"{"at": "hotel"}"#, r#"{"at":"hotel"}"#),
    ] {
        let effects = requested(&mut table(8), "one", "k", failure);
        let lines = effects.iter().filter_map(|effect| match effect {
            HubEffect::Log(Level::Warn, _, text) => Some(text.as_str()),
            _another => None,
        });
        assert_eq!(lines.collect::<Vec<_>>(), [format!("`k`: failed: {reason}")]);
    }
}

/// Otherwise its client would wait in vain.
#[test]
fn a_workflow_that_ends_without_an_answer_has_failed() {
    let mut table = table(8);
    let answers = ask(&mut table, "one", "k", "end without an answer");
    let Some(Answer::Failed(body)) = answers.get("one") else { panic!("{answers:?}") };
    assert_eq!((&body["code"], &body["detail"]), (&json!("NAVE-0045"), &json!("`scripted` ended in state `ended`")));
    assert_eq!(ask(&mut table, "one", "k", "end without an answer"), answers, "a repeat gets the same answer");
}

/// The notice that it is parked is not its answer.
#[test]
fn a_workflow_that_was_parked_and_ends_without_an_answer_has_failed() {
    let mut table = table(8);
    let parked = ask(&mut table, "one", "k", "panic, then end without an answer");
    assert!(matches!(&parked["one"], Answer::Refused(problem) if problem.code == Code::Parked), "{parked:?}");
    let operation = OperationId::new("one").expect("letters are allowed");
    table.command(WallTime(0), HubCommand { operation, cause: "c".into(), command: Command::Resume }, &mut Vec::new());
    let answers = ask(&mut table, "one", "k", "panic, then end without an answer");
    let Some(Answer::Failed(body)) = answers.get("one") else { panic!("{answers:?}") };
    assert_eq!(body["code"], json!("NAVE-0045"));
}

/// Lessons 24, 29 and 36: an operation that panics, cannot handle an event or would wait forever is
/// parked. Its client gets an answer, it is listed, and the others continue.
#[test]
fn a_broken_operation_is_parked_and_the_others_continue() {
    let mut table = table(10);
    let broken = [
        ("panic", "it panicked on event `requested`: told to"),
        ("unknown", "event `requested` cannot happen in state `-`"),
        ("wait for nothing", "it waits for no call, timer or person"),
    ];
    for (i, (request, reason)) in broken.into_iter().enumerate() {
        let operation = format!("op-{i}");
        let answers = ask(&mut table, &operation, &operation, request);
        assert_eq!(answers[&operation], Answer::Refused(Problem::new(Code::Parked, reason)), "{request}");
        let view = table.view(&operation, &NoTimers).expect("it is listed");
        assert_eq!((view.state.as_str(), view.live), ("parked", true), "{request}");
        let next = ask(&mut table, &format!("next-{i}"), "another key", "end");
        assert_eq!(next[&format!("next-{i}")], Answer::Done(json!("done")), "after {request}");
    }
    assert_eq!(table.unfinished().len(), 3);
}

/// Lesson 7: ended operations leave the map; the newest outcomes are remembered for repeats.
#[test]
fn the_newest_outcomes_are_remembered_and_older_ones_forgotten() {
    let mut table = table(2);
    for operation in ["a", "b", "c"] {
        ask(&mut table, operation, "key", "end");
    }
    assert_eq!(table.unfinished(), [""; 0]);
    assert_eq!(table.view("a", &NoTimers), None);
    assert!(table.view("b", &NoTimers).is_some() && table.view("c", &NoTimers).is_some());
    // The id is forgotten, so this is a new operation.
    assert_eq!(ask(&mut table, "a", "key", "end")["a"], Answer::Done(json!("done")));
}

/// Lesson 30: the notice replaces an answer that the bus would not accept, also for repeats.
#[test]
fn an_oversized_answer_is_replaced_by_a_notice() {
    let mut table = table(10);
    for _ in 0..2 {
        let answers = ask(&mut table, "op", "key", "end with a large answer");
        let Answer::Done(body) = &answers["op"] else { panic!("{answers:?}") };
        assert_eq!(body["code"], "NAVE-0010");
        assert_eq!(body["detail"], "the answer has 1002 bytes; the limit is 1000");
    }
}
