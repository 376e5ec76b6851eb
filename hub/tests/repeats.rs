//! Repeated requests: each gets the outcome of its operation and starts nothing.

#[expect(dead_code, reason = "this file uses a part of it")]
#[path = "support/script.rs"]
mod script;
mod support;

use coordinator::{Deadline, TimedOut};
use hub::{Barrier, CallOrder, HubCommand, HubEffect, HubRequest, HubSettings, HubTable};
use topology::Settings;
use wire::answer::{Answer, Operation};
use wire::call::{CallEnd, CallOutcome};
use wire::command::{Command, Outcome};
use wire::{CallId, Code, Problem, WallTime};

use script::{Act, Script, request};
use support::{Input, NoTimers, Saved, apply, changes, give, load, named, table};

/// An operation with an outcome.
struct Case {
    what: &'static str,
    pages: Vec<Vec<Act>>,
    /// Its final state, and the code if it is refused.
    ends: (&'static str, Option<Code>),
    /// Requests it as `r-1` and brings it to its outcome.
    run: fn(&mut HubTable<Script>, &[Vec<Act>]),
}

const AT: WallTime = WallTime(100);

fn settings(remembered: usize) -> Settings {
    let hub = HubSettings { live: 4, active: 4, waiting_per_key: 2, remembered, answer_bytes: 200 };
    Settings::default().with("hub", &hub)
}

fn step() -> Vec<Act> {
    vec![Act::Step(CallOrder::AtOnce, Barrier::All, vec![(1, 0)])]
}

fn ask(hub: &mut HubTable<Script>, request: HubRequest) -> Vec<HubEffect> {
    give(hub, AT, Input::Request(request))
}

/// The repeated request for `op`, with a new `ce_id` each time.
fn op(cause: &str, pages: &[Vec<Act>]) -> HubRequest {
    request("op", "k", cause, pages)
}

fn send(hub: &mut HubTable<Script>, command: Command) -> Result<Operation, Problem> {
    let command = HubCommand { operation: named("op"), cause: "c".into(), command };
    let outcome = give(hub, AT, Input::Command(command)).into_iter().find_map(|effect| match effect {
        HubEffect::CommandAnswer { outcome: Outcome::Taken(view), .. } => Some(Ok(*view)),
        HubEffect::CommandAnswer { outcome: Outcome::Refused(problem), .. } => Some(Err(problem)),
        _other => None,
    });
    outcome.expect("a command has an outcome")
}

/// The answers, each with the request that it is for.
fn answers(effects: &[HubEffect]) -> Vec<(Operation, &str)> {
    fn answer(effect: &HubEffect) -> Option<(Operation, &str)> {
        let HubEffect::Answer { view, cause } = effect else { return None };
        Some((Operation::clone(view), &cause.id))
    }
    effects.iter().filter_map(answer).collect()
}

/// The only answer, which must be for the request `cause`.
fn answer(effects: &[HubEffect], cause: &str) -> Answer {
    let answers = answers(effects);
    let [(view, to)] = &answers[..] else { panic!("one answer, not {answers:?}") };
    assert_eq!(*to, cause);
    view.answer.clone().expect("it is answered")
}

fn code(answer: &Answer) -> Option<Code> {
    if let Answer::Refused(problem) = answer { Some(problem.code.clone()) } else { None }
}

/// Occupies the key of `op`.
fn busy(hub: &mut HubTable<Script>) {
    ask(hub, request("first", "k", "r-first", &[step()]));
}

/// Frees the key.
fn release(hub: &mut HubTable<Script>) {
    end_call(hub, "first");
}

fn end_call(hub: &mut HubTable<Script>, operation: &str) -> Vec<HubEffect> {
    let outcome = CallOutcome::Replied("{}".into());
    let end = CallEnd { id: CallId::new(named(operation), 1, 1), lane: 1, attempts: 1, outcome };
    give(hub, AT, Input::CallEnded(end))
}

/// Moves the hub to a new owner through the saved state.
fn reload(hub: &mut HubTable<Script>, saved: &mut Saved) {
    apply(saved, changes(hub));
    *hub = load::<Script>(saved, 1, &settings(8), 7).expect("what was saved is loaded").0;
}

fn cases() -> Vec<Case> {
    let case = |what, pages, ends, run| Case { what, pages, ends, run };
    vec![
        case("done", vec![vec![Act::End]], ("ended", None), |hub, pages| drop(ask(hub, op("r-1", pages)))),
        case(
            "refused by its workflow",
            vec![vec![Act::Refuse(Code::NotFound), Act::End]],
            ("ended", Some(Code::NotFound)),
            |hub, pages| drop(ask(hub, op("r-1", pages))),
        ),
        case(CANCELLED_BEFORE, vec![step()], ("cancelled", Some(Code::Cancelled)), |hub, pages| {
            busy(hub);
            ask(hub, op("r-1", pages));
            send(hub, Command::Cancel).expect("it is queued");
            release(hub);
        }),
        case(CANCELLED_RUNNING, vec![step()], ("ended", None), |hub, pages| {
            ask(hub, op("r-1", pages));
            send(hub, Command::Cancel).expect("it runs");
        }),
        case("too late", vec![step()], ("refused", Some(Code::TooLate)), |hub, pages| {
            busy(hub);
            ask(hub, HubRequest { expires: Some(AT), ..op("r-1", pages) });
            release(hub);
        }),
        case(ABORTED, vec![vec![Act::Panic]], ("aborted", None), |hub, pages| {
            ask(hub, op("r-1", pages));
            send(hub, Command::Abort).expect("it is parked");
        }),
        case(ANSWERED, vec![vec![Act::Failed, Act::Wait], vec![Act::Panic]], ("aborted", None), |hub, pages| {
            let effects = ask(hub, op("r-1", pages));
            let timer = effects.iter().find_map(|effect| match effect {
                HubEffect::Deadline(Deadline::Register { key, generation, .. }) => {
                    Some(TimedOut { key: *key, generation: *generation })
                }
                _other => None,
            });
            give(hub, AT, Input::TimedOut(timer.expect("it waits")));
            send(hub, Command::Abort).expect("it is parked");
        }),
    ]
}

const CANCELLED_BEFORE: &str = "cancelled while queued";
const CANCELLED_RUNNING: &str = "cancelled while it ran";
const ABORTED: &str = "aborted";
const ANSWERED: &str = "answered, then parked and aborted";

#[test]
fn every_repeat_gets_the_outcome_also_after_a_reload() {
    for Case { what, pages, ends: (state, refused), run } in cases() {
        let (mut hub, mut saved) = (table::<Script>(&settings(8)), Saved::new());
        run(&mut hub, &pages);
        let view = hub.view("op", &NoTimers).unwrap_or_else(|| panic!("{what}: it is remembered"));
        let outcome = view.answer.clone().expect("it has ended");
        assert_eq!((view.state.as_str(), view.live, code(&outcome)), (state, false, refused), "{what}");
        for cause in ["r-2", "r-3"] {
            let effects = ask(&mut hub, op(cause, &pages));
            assert_eq!(answers(&effects), [(view.clone(), cause)], "{what}");
            let other = ask(&mut hub, op("r-other", &[vec![Act::Note]]));
            assert_eq!(code(&answer(&other, "r-other")), Some(Code::KeyReused), "{what}: another body");
            reload(&mut hub, &mut saved);
        }
        assert_eq!(hub.unfinished(), [""; 0], "{what}: nothing runs again");
    }
}

/// Its clients have received this answer before it was parked.
#[test]
fn an_abort_keeps_an_earlier_answer() {
    let Some(Case { pages, run, .. }) = cases().into_iter().find(|case| case.what == ANSWERED) else {
        panic!("there is such a case")
    };
    let mut hub = table::<Script>(&settings(8));
    run(&mut hub, &pages);
    assert_eq!(answer(&ask(&mut hub, op("r-2", &pages)), "r-2"), Answer::Failed(serde_json::Value::Null));
}

#[test]
fn an_unreadable_request_has_an_outcome_like_any_other() {
    let body = |workflow: &str, body: &str| Ok(wire::request::Request::new(workflow, body.into()));
    for (body, code_of) in [
        (body("script", "no script"), Code::InvalidField),
        (body("unknown", ""), Code::InvalidField),
        (Err("not JSON".to_owned()), Code::NotJson),
    ] {
        let mut hub = table::<Script>(&settings(8));
        let asked = |cause: &str| HubRequest { body: body.clone(), ..op(cause, &[]) };
        let first = answers(&ask(&mut hub, asked("r-1"))).iter().map(|(view, _)| view.clone()).collect::<Vec<_>>();
        let [view] = &first[..] else { panic!("one answer, not {first:?}") };
        assert_eq!((view.state.as_str(), view.live), ("refused", false));
        assert_eq!(view.answer.as_ref().and_then(code), Some(code_of));
        reload(&mut hub, &mut Saved::new());
        assert_eq!(answers(&ask(&mut hub, asked("r-2"))), [(view.clone(), "r-2")]);
        let good = ask(&mut hub, op("r-3", &[step()]));
        assert_eq!(code(&answer(&good, "r-3")), Some(Code::KeyReused), "its key is used");
    }
}

/// A bus record, and so a snapshot record, holds at most 1 MiB.
#[test]
fn a_refusal_of_a_large_request_is_saved_in_a_small_record() {
    let mut hub = table::<Script>(&settings(8));
    let long = "\u{1}".repeat(1 << 20);
    for (n, body) in [
        Ok(wire::request::Request::new("script", long.as_str().into())),
        Ok(wire::request::Request::new(&long, "".into())),
        Ok(wire::request::Request { route: long.clone(), ..wire::request::Request::new("script", "".into()) }),
        Err(long.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        ask(&mut hub, HubRequest { body, ..request(&format!("op-{n}"), &long, "r", &[]) });
    }
    let sizes: Vec<usize> = changes(&mut hub).iter().filter_map(|change| change.state.as_ref()).map(Vec::len).collect();
    assert_eq!(sizes.len(), 4 + 1, "the outcomes and the table");
    assert!(sizes.iter().all(|size| *size < 100_000), "{sizes:?}");
}

#[test]
fn a_request_refused_for_lack_of_room_may_be_retried() {
    let mut hub = table::<Script>(&settings(8));
    busy(&mut hub);
    for n in 0..2 {
        ask(&mut hub, request(&format!("waits-{n}"), "k", "r", &[vec![Act::End]]));
    }
    assert_eq!(code(&answer(&ask(&mut hub, op("r-1", &[step()])), "r-1")), Some(Code::QueueFull));
    ask(&mut hub, request("other", "another", "r", &[step()]));
    assert_eq!(code(&answer(&ask(&mut hub, op("r-2", &[step()])), "r-2")), Some(Code::Busy));
    release(&mut hub);
    assert_eq!(answers(&ask(&mut hub, op("r-3", &[step()]))), [], "it runs");
    assert!(hub.unfinished().iter().any(|line| line.starts_with("op ")), "{:?}", hub.unfinished());
}

/// An empty pool may have room later.
#[test]
fn a_workflow_refusal_for_lack_of_room_may_be_retried() {
    let mut hub = table::<Script>(&settings(8));
    let pages = [vec![Act::Refuse(Code::QueueFull), Act::End]];
    for cause in ["r-1", "r-2"] {
        let effects = ask(&mut hub, op(cause, &pages));
        assert_eq!(code(&answer(&effects, cause)), Some(Code::QueueFull));
        assert!(hub.view("op", &NoTimers).is_none(), "nothing is remembered");
    }
    assert_eq!(answers(&ask(&mut hub, op("r-3", &[step()]))), [], "with another body, too");
}

#[test]
fn a_repeated_cancel_or_abort_is_accepted_and_changes_nothing() {
    for Case { what, pages, run, .. } in cases() {
        let command = match what {
            CANCELLED_BEFORE | CANCELLED_RUNNING => Command::Cancel,
            ABORTED => Command::Abort,
            _neither => continue,
        };
        let (mut hub, mut saved) = (table::<Script>(&settings(8)), Saved::new());
        run(&mut hub, &pages);
        let view = hub.view("op", &NoTimers).expect("it is remembered");
        for _ in 0..2 {
            assert_eq!(send(&mut hub, command.clone()), Ok(view.clone()), "{what}");
            reload(&mut hub, &mut saved);
        }
        let other = if command == Command::Cancel { Command::Abort } else { Command::Cancel };
        assert_eq!(send(&mut hub, other).map_err(|problem| problem.code), Err(Code::NotNow), "{what}: it has ended");
    }
    let mut hub = table::<Script>(&settings(8));
    ask(&mut hub, op("r-1", &[vec![Act::End]]));
    assert_eq!(
        send(&mut hub, Command::Cancel).map_err(|problem| problem.code),
        Err(Code::NotNow),
        "it never accepted a cancel"
    );
}

#[test]
fn a_repeated_cancel_during_undo_does_not_undo_twice() {
    let mut hub = table::<Script>(&settings(8));
    let call = vec![Act::Step(CallOrder::AtOnce, Barrier::All, vec![(1, 1)])];
    let pages = [call, vec![Act::Undo], vec![Act::Failed, Act::End]];
    ask(&mut hub, op("r-1", &pages));
    let undoing = send(&mut hub, Command::Cancel).expect("it runs");
    assert!(undoing.live && undoing.step.is_some(), "{undoing:?}");
    assert_eq!(send(&mut hub, Command::Cancel), Ok(undoing.clone()));
    reload(&mut hub, &mut Saved::new());
    assert_eq!(send(&mut hub, Command::Cancel), Ok(undoing), "the next owner remembers it");
}

#[test]
fn a_command_answer_has_the_final_view_without_remembered_outcomes() {
    let mut hub = table::<Script>(&settings(0));
    busy(&mut hub);
    ask(&mut hub, op("r-1", &[step()]));
    let view = send(&mut hub, Command::Cancel).expect("it is queued");
    assert_eq!((view.state.as_str(), view.live), ("cancelled", false));
}

#[test]
fn a_repeat_of_a_queued_request_only_extends_its_deadline() {
    let late = AT.plus_ms(1);
    for (first, again, runs) in [
        (Some(AT), None, true),
        (Some(AT), Some(late), true),
        (Some(late), Some(AT), true),
        (None, Some(AT), true),
        (Some(AT), Some(AT), false),
    ] {
        let mut hub = table::<Script>(&settings(8));
        busy(&mut hub);
        ask(&mut hub, HubRequest { expires: first, ..op("r-1", &[step()]) });
        ask(&mut hub, HubRequest { expires: again, ..op("r-2", &[step()]) });
        let effects = end_call(&mut hub, "first");
        let refused = answers(&effects).iter().any(|(view, _)| view.state == "refused");
        assert_eq!(refused, !runs, "{first:?}, then {again:?}");
    }
}

/// A request with another body is refused and must not get the outcome of the first one.
#[test]
fn each_waiting_request_gets_its_own_answer_up_to_a_limit() {
    let mut hub = table::<Script>(&settings(8));
    let names: Vec<String> = (1..=17).map(|n| format!("r-{n}")).collect();
    for name in &names[..16] {
        assert_eq!(answers(&ask(&mut hub, op(name, &[step()]))), [], "it waits");
    }
    assert_eq!(answers(&ask(&mut hub, op("r-1", &[step()]))), [], "a record that is delivered twice is one request");
    assert_eq!(code(&answer(&ask(&mut hub, op("r-other", &[])), "r-other")), Some(Code::KeyReused));
    let effects = ask(&mut hub, op("r-17", &[step()]));
    assert!(answers(&effects)[0].0.live, "its operation is live");
    let Answer::Refused(problem) = answer(&effects, "r-17") else { panic!("it is refused") };
    assert_eq!(problem.to_string(), "NAVE-0005: limit of 16 unanswered requests for op reached; retry in 1 s");
    let effects = end_call(&mut hub, "op");
    let causes: Vec<&str> = answers(&effects).iter().map(|(_, cause)| *cause).collect();
    assert_eq!(causes, names[..16].iter().map(String::as_str).collect::<Vec<_>>());
    assert!(matches!(answer(&ask(&mut hub, op("r-17", &[step()])), "r-17"), Answer::Done(_)));
}

#[test]
fn a_key_reused_on_another_route_is_refused_with_both_routes() {
    let asked = |cause: &str, route: &str| {
        let request = op(cause, &[step()]);
        let body = request.body.map(|body| wire::request::Request { route: route.to_owned(), ..body });
        HubRequest { body, ..request }
    };
    let (mut hub, mut saved) = (table::<Script>(&settings(8)), Saved::new());
    ask(&mut hub, asked("r-1", "POST /a"));
    for ended in [false, true] {
        if ended {
            end_call(&mut hub, "op");
            reload(&mut hub, &mut saved);
        }
        let Answer::Refused(problem) = answer(&ask(&mut hub, asked("r-2", "PUT /a")), "r-2") else {
            panic!("it is refused")
        };
        let detail = "the first request with this Idempotency-Key for `k` had another path or method: it was `POST /a`, \
                      and this one is `PUT /a`; use a new key";
        assert_eq!((problem.code, problem.detail.as_str()), (Code::KeyReused, detail));
        let long = "x".repeat(10_000);
        let Answer::Refused(problem) = answer(&ask(&mut hub, asked("r-3", &long)), "r-3") else {
            panic!("it is refused")
        };
        assert!(problem.detail.len() < 400, "{}", problem.detail);
    }
}
