//! Commands: signals, cancelling, and resuming or aborting a parked operation.

use coordinator::{Deadline, TimedOut};
use hub::{
    CalledService, Event, Fx, HubCommand, HubEffect, HubRequest, HubTable, Illegal, LaneState, ServiceExt, StepSpec,
    Workflow, WorkflowState, Workflows,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use topology::{Saver, Stored, Unreadable};
use wire::answer::{Answer, Operation};
use wire::call::{CallCommand, CallEnd, CallOutcome};
use wire::command::{Command, Outcome};
use wire::{CallId, Code, OperationId, Problem, Service, WallTime};

/// Books, waits for a person, then confirms; or undoes the booking.
#[derive(Serialize, Deserialize)]
struct Booking {
    /// Number of panics on a reply before it is handled.
    breaks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BookingState {
    New,
    Booking,
    Waiting,
    Undoing,
    Ended,
}

use BookingState::{Booking as Books, Ended, New, Undoing, Waiting};

impl WorkflowState for BookingState {
    const ALL: &'static [Self] = &[New, Books, Waiting, Undoing, Ended];
    fn name(self) -> &'static str {
        match self {
            New => "-",
            Books => "booking",
            Waiting => "waiting",
            Undoing => "undoing",
            Ended => "ended",
        }
    }
}

#[derive(Debug, Deserialize, hub::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(default)]
    breaks: u32,
}

/// The number of aborted operations.
#[derive(Debug, Default, PartialEq, Eq)]
struct Aborted(u32);

impl LaneState for Aborted {
    fn save(&mut self, saver: &mut Saver<'_>) {
        saver.put("aborted", &self.0);
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        self.0 = stored.read()?;
        Ok(())
    }
}

const HOTEL: Service<Value, Value> = Service::named("hotel");

impl Workflow for Booking {
    const NAME: &'static str = "booking";
    const SERVICES: &'static [CalledService] = &[CalledService::of(HOTEL)];
    type State = BookingState;
    type Request = Ask;
    type Lane = Aborted;

    fn begin(_: &OperationId, _: &str, request: Ask) -> Result<Self, Problem> {
        Ok(Self { breaks: request.breaks })
    }

    fn on(&mut self, state: BookingState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<BookingState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                let call = HOTEL.call(1, "k", &json!({}), "book 1", 100).undo(&json!({}), "give 1 back", 100);
                fx.step(StepSpec::new("book", 200).call(call));
                Books
            }
            (Books, Event::Replied { .. }) if self.breaks > 0 => {
                self.breaks -= 1;
                panic!("broken");
            }
            (Books, Event::Replied { .. }) => Books,
            (Books, Event::AllReplied) => {
                fx.wait_for("approval", "a person to approve", Some(1_000));
                Waiting
            }
            (Waiting, Event::Signal { body, .. }) if body["ok"] == true => {
                fx.answer(Answer::Done(json!("booked")));
                fx.end();
                Ended
            }
            (Books | Waiting, Event::Cancelled | Event::TimedOut) => {
                fx.undo("give back", 200);
                Undoing
            }
            (Undoing, Event::Undone { .. }) => {
                fx.answer(Answer::Failed(json!("given back")));
                fx.end();
                Ended
            }
            (New | Books | Waiting | Undoing | Ended, _) => return Err(Illegal),
        })
    }

    fn aborted(&mut self, lane: &mut Aborted) {
        lane.0 += 1;
    }
}

/// A hub with the effects of its last input.
#[derive(Default)]
struct Hub {
    table: HubTable<Booking>,
    effects: Vec<HubEffect>,
    commands: u32,
}

impl Hub {
    fn ask(&mut self, operation: &str, key: &str, request: Value) {
        self.effects.clear();
        let body = wire::request::Request::new("booking", request);
        let operation = OperationId::new(operation).expect("letters are allowed");
        let cause = format!("r-{operation}").into();
        let request = HubRequest { operation, has_key: true, cause, key: key.into(), expires: None, body: Ok(body) };
        self.table.request(WallTime(0), request, &mut self.effects);
    }

    fn command(&mut self, operation: &str, command: Command) -> Result<Operation, Problem> {
        self.effects.clear();
        self.commands += 1;
        let cause = format!("c-{}", self.commands);
        let operation = OperationId::new(operation).expect("letters are allowed");
        let command = HubCommand { operation, cause: cause.as_str().into(), command };
        self.table.command(WallTime(0), command, &mut self.effects);
        let outcomes: Vec<Outcome> = self.effects.iter().filter_map(|effect| command_outcome(effect, &cause)).collect();
        let [outcome] = &outcomes[..] else { panic!("one outcome, not {outcomes:?}") };
        match outcome {
            Outcome::Taken(view) => Ok(Operation::clone(view)),
            Outcome::Refused(problem) => Err(problem.clone()),
        }
    }

    fn reply(&mut self, operation: &str, step: u32) {
        self.effects.clear();
        let id = CallId::new(OperationId::new(operation).expect("letters are allowed"), step, 1);
        let end = CallEnd { id, lane: 0, attempts: 1, outcome: CallOutcome::Replied("{}".into()) };
        self.table.call_ended(WallTime(0), end, &mut self.effects);
    }

    /// The calls that the last input started.
    fn started(&self) -> Vec<String> {
        let started = |effect: &HubEffect| match effect {
            HubEffect::Call(CallCommand::Start(call)) => Some(call.what.clone()),
            other => (!matches!(other, HubEffect::Call(CallCommand::Abandon(_)))).then_some(None).flatten(),
        };
        self.effects.iter().filter_map(started).collect()
    }

    /// The answers to the last input.
    fn answers(&self) -> Vec<Answer> {
        let answer = |effect: &HubEffect| {
            let HubEffect::Answer { view, .. } = effect else { return None };
            view.answer.clone()
        };
        self.effects.iter().filter_map(answer).collect()
    }

    fn deadlines(&self) -> Vec<&Deadline> {
        let deadline = |effect: &HubEffect| matches!(effect, HubEffect::Deadline(_));
        let deadlines = self.effects.iter().filter(|effect| deadline(effect));
        deadlines
            .filter_map(|effect| if let HubEffect::Deadline(deadline) = effect { Some(deadline) } else { None })
            .collect()
    }

    fn view(&self, operation: &str) -> Operation {
        self.table.view(operation, &NoTimers).expect("the operation is live or remembered")
    }
}

fn command_outcome(effect: &HubEffect, cause: &str) -> Option<Outcome> {
    let HubEffect::CommandAnswer { cause: answered, outcome, .. } = effect else { return None };
    (answered.id == cause).then(|| outcome.clone())
}

struct NoTimers;

impl topology::DueTimes for NoTimers {
    fn due(&self, _: u64) -> Option<WallTime> {
        None
    }
}

fn approval(body: Value) -> Command {
    Command::Signal { name: "approval".into(), body }
}

/// A hub in which `op` waits for a signal.
fn waiting() -> Hub {
    let mut hub = Hub::default();
    hub.ask("op", "k", json!({}));
    hub.reply("op", 1);
    hub
}

#[test]
fn a_signal_continues_the_operation_that_waits_for_it() {
    let mut hub = waiting();
    let view = hub.view("op");
    assert_eq!((view.state.as_str(), view.signal.as_deref()), ("waiting", Some("approval")));
    assert_eq!(view.until.expect("it waits").what, "a person to approve");
    let view = hub.command("op", approval(json!({"ok": true}))).expect("it waits for it");
    assert!(!view.live);
    assert_eq!(hub.answers(), [Answer::Done(json!("booked"))]);
    assert!(view.history.iter().any(|entry| entry.what == "signal `approval`"), "{:?}", view.history);
}

#[test]
fn an_unexpected_signal_is_refused_and_changes_nothing() {
    let mut hub = waiting();
    let problem = hub.command("op", Command::Signal { name: "denial".into(), body: json!({}) }).unwrap_err();
    assert_eq!(problem.to_string(), "NAVE-0002: `signal` is `denial`; allowed is `approval`, the signal it waits for");
    let problem = hub.command("op", approval(json!({"ok": 1}))).unwrap_err();
    assert_eq!(problem.code, Code::NotNow, "the workflow does not accept it: {problem}");
    assert_eq!(hub.view("op").state, "waiting");
    assert_eq!(hub.command("unknown", approval(json!({}))).unwrap_err().code, Code::UnknownOperation);
    hub.ask("early", "k2", json!({}));
    assert_eq!(hub.command("early", approval(json!({}))).unwrap_err().code, Code::NotNow, "it does not wait yet");
    hub.command("op", approval(json!({"ok": true}))).expect("it still waits");
    assert_eq!(hub.command("op", approval(json!({"ok": true}))).unwrap_err().code, Code::NotNow, "it has ended");
}

#[test]
fn a_wait_for_a_signal_ends_at_its_deadline() {
    let mut hub = waiting();
    let Some(&&Deadline::Register { key, generation, after_ms: 1_000 }) = hub.deadlines().last() else {
        panic!("a deadline of a second: {:?}", hub.effects)
    };
    hub.effects.clear();
    hub.table.timed_out(WallTime(0), TimedOut { key, generation }, &mut hub.effects);
    assert_eq!(hub.started(), ["give 1 back"]);
}

#[test]
fn a_cancelled_operation_is_undone_and_answered() {
    let mut hub = waiting();
    let view = hub.command("op", Command::Cancel).expect("it can be cancelled");
    assert_eq!((view.state.as_str(), view.signal), ("undoing", None));
    assert_eq!(hub.started(), ["give 1 back"]);
    hub.reply("op", 2);
    assert_eq!(hub.answers(), [Answer::Failed(json!("given back"))]);
}

#[test]
fn a_queued_operation_is_cancelled_without_effect_and_the_next_starts() {
    let mut hub = waiting();
    hub.ask("second", "k", json!({}));
    hub.ask("third", "k", json!({}));
    let view = hub.command("second", Command::Cancel).expect("it is queued");
    assert_eq!((view.state.as_str(), view.live), ("cancelled", false));
    assert!(matches!(&hub.answers()[..], [Answer::Refused(problem)] if problem.code == Code::Cancelled));
    assert_eq!(hub.started(), [""; 0]);
    hub.command("op", approval(json!({"ok": true}))).expect("it waits for it");
    assert_eq!(hub.started(), ["book 1"], "the third starts");
    assert_eq!(hub.table.unfinished().len(), 1);
}

#[test]
fn a_resumed_operation_retries_the_event_that_parked_it() {
    let mut hub = Hub::default();
    hub.ask("op", "k", json!({"breaks": 2}));
    hub.reply("op", 1);
    assert!(matches!(&hub.answers()[..], [Answer::Refused(problem)] if problem.code == Code::Parked));
    assert_eq!(hub.command("op", Command::Cancel).unwrap_err().code, Code::NotNow);

    let view = hub.command("op", Command::Resume).expect("it is parked");
    assert_eq!(view.state, "parked", "it panicked again");
    let view = hub.command("op", Command::Resume).expect("it is parked");
    assert_eq!((view.state.as_str(), view.signal.as_deref()), ("waiting", Some("approval")), "{:?}", view.history);
    assert!(hub.deadlines().iter().any(|deadline| matches!(deadline, Deadline::Register { after_ms: 1_000, .. })));
    assert_eq!(hub.command("op", Command::Resume).unwrap_err().code, Code::NotNow, "it is not parked any more");
    let view = hub.command("op", approval(json!({"ok": true}))).expect("it waits for it");
    assert_eq!(view.answer, Some(Answer::Done(json!("booked"))));
    assert_eq!(hub.answers(), [], "its client got the parked answer and gets no second one");
    assert!(hub.effects.iter().any(|effect| matches!(effect, HubEffect::Ended(_))), "the final view is published");
}

#[test]
fn an_aborted_operation_releases_lane_state_and_its_key() {
    let mut hub = Hub::default();
    hub.ask("op", "k", json!({"breaks": 1}));
    hub.reply("op", 1);
    hub.ask("next", "k", json!({}));
    let view = hub.command("op", Command::Abort).expect("it is parked");
    let Some(Answer::Failed(body)) = view.answer else { panic!("it failed: {:?}", view.answer) };
    assert_eq!(body["code"], "NAVE-0044");
    assert_eq!(*hub.table.lane(), Aborted(1));
    assert_eq!(hub.started(), ["book 1"], "the next starts");
    assert_eq!(hub.command("next", Command::Abort).unwrap_err().code, Code::NotNow, "it is not parked");
}

#[test]
fn a_repeat_of_a_parked_request_gets_the_parked_answer() {
    let mut hub = Hub::default();
    hub.ask("op", "k", json!({"breaks": 1}));
    hub.reply("op", 1);
    hub.ask("op", "k", json!({"breaks": 1}));
    let causes: Vec<&str> = hub.effects.iter().filter_map(cause).collect();
    assert_eq!(causes, ["r-op"], "a refusal names the request that it is for");
}

fn cause(effect: &HubEffect) -> Option<&str> {
    let HubEffect::Answer { cause, .. } = effect else { return None };
    Some(&cause.id)
}

#[test]
fn a_request_past_its_client_deadline_is_not_started() {
    let mut hub = waiting();
    let body = wire::request::Request::new("booking", json!({}));
    let operation = OperationId::new("late").expect("letters are allowed");
    let request = HubRequest {
        operation,
        has_key: true,
        cause: "r".into(),
        key: "k".into(),
        expires: Some(WallTime(50)),
        body: Ok(body),
    };
    hub.table.request(WallTime(0), request, &mut hub.effects);
    let end = approval(json!({"ok": true}));
    let command = HubCommand { operation: OperationId::new("op").expect("a name"), cause: "c".into(), command: end };
    hub.effects.clear();
    hub.table.command(WallTime(51), command, &mut hub.effects);
    let answers = hub.answers();
    assert!(matches!(&answers[1..], [Answer::Refused(problem)] if problem.code == Code::TooLate), "{answers:?}");
    assert_eq!(hub.started(), [""; 0]);
    assert_eq!(hub.table.unfinished(), [""; 0]);
}

#[test]
fn a_request_of_the_wrong_type_is_refused_with_the_path_of_the_fault() {
    for (request, field) in [(json!({"breaks": "x"}), "breaks"), (json!({"brakes": 1}), "brakes"), (json!("x"), "body")]
    {
        let mut hub = Hub::default();
        hub.ask("op", "k", request.clone());
        let answers = hub.answers();
        let [Answer::Refused(problem)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(
            (&problem.code, problem.field.as_deref()),
            (&Code::InvalidField, Some(field)),
            "{request}: {problem}"
        );
    }
    assert_eq!(Booking::types()[0].2["properties"]["breaks"]["type"], "integer");
}
