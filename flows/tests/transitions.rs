//! Compares the transition table in `flows/src/create.rs` with the code, and draws it.

use std::collections::BTreeSet;
use std::path::Path;

use flows::registry::{Flow, Registry};
use flows::{CreateFlow, CreateState};
use hub::check::{Row, diagram, differences, table, walk};
use hub::{CallFailure, Event, WorkflowState as _};
use serde_json::json;
use wire::call::CallOutcome;

const BEGIN: &str = "<!-- create-flow: begin -->\n";
const END: &str = "<!-- create-flow: end -->\n";

fn rows() -> Vec<Row> {
    table(include_str!("../src/create.rs"))
}

fn replied(tag: u32, body: &str) -> Event {
    Event::Replied { tag, reply: body.into() }
}

/// Rule 1 of a flow of length 1, with the cookie and meter of the first flow of a single lane.
fn found() -> Event {
    let rule = json!({"switch": "of:01", "flow": "test-01", "number": 1, "cookie": 1, "meter": 1});
    replied(1, &json!({"result": "found", "rule": rule}).to_string())
}

fn gone() -> Event {
    replied(1, r#"{"result":"found","rule":null}"#)
}

fn failed() -> Event {
    let outcome = CallOutcome::Refused("busy".into());
    Event::Failed(CallFailure { tag: 1, what: "rule 1".into(), outcome, attempts: 2 })
}

fn undone() -> Event {
    Event::Undone { never_sent: vec![] }
}

fn stuck() -> Event {
    Event::UndoStuck { left: vec![1] }
}

fn events() -> [Event; 11] {
    use Event::{AllReplied, Cancelled, Enough, Requested, Superseded, TimedOut};
    let signal = Event::Signal { name: "go".into(), body: json!(null) };
    [Requested, gone(), AllReplied, failed(), TimedOut, undone(), stuck(), Superseded, Enough, signal, Cancelled]
}

/// The transitions of a flow of length 1, with the injected fault `error`.
fn transitions(error: Option<u32>, events: &[Event]) -> Vec<(String, String, Option<String>)> {
    let request = json!({"flowid": "test-01", "length": 1, "error": error});
    walk::<CreateFlow>(&mut Registry::default(), "test-01", &request, events)
}

/// Events that lead to each state.
fn paths() -> Vec<Vec<Event>> {
    use Event::{AllReplied, Requested, TimedOut};
    vec![
        vec![],
        vec![Requested],
        vec![Requested, AllReplied],
        vec![Requested, TimedOut],
        vec![Requested, TimedOut, undone()],
        vec![Requested, TimedOut, stuck(), AllReplied],
        vec![Requested, AllReplied, AllReplied],
    ]
}

/// The transitions of a refused flow of length 1 if one rule is left of a flow of length 2.
fn refused_over_what_is_left(events: &[Event]) -> Vec<(String, String, Option<String>)> {
    let mut lane = Registry::default();
    let resources = lane.allocate("test-01", 2).expect("there are cookies and meters");
    lane.keep("test-01", Flow { resources, left: BTreeSet::from([1]) });
    walk::<CreateFlow>(&mut lane, "test-01", &json!({"flowid": "test-01", "length": 1}), events)
}

#[test]
fn exactly_the_pairs_of_state_and_event_in_the_table_are_handled() {
    let events = events();
    assert_eq!(events.each_ref().map(Event::name), Event::NAMES, "one of each kind");
    let mut reached = BTreeSet::new();
    let mut handled = BTreeSet::new();
    for path in paths() {
        for event in &events {
            let walked = transitions(None, &[&path[..], std::slice::from_ref(event)].concat());
            let (state, event, next) = walked.last().expect("at least one event").clone();
            assert_eq!(walked.len(), path.len() + 1, "every event of the path is handled: {walked:?}");
            if next.is_some() {
                handled.insert((state.clone(), event));
            }
            reached.insert(state);
        }
    }
    for event in &events {
        let walked = refused_over_what_is_left(&[Event::Requested, event.clone()]);
        let (state, event, next) = walked.last().expect("at least one event").clone();
        if next.is_some() {
            handled.insert((state.clone(), event));
        }
        reached.insert(state);
    }
    let states: BTreeSet<String> = CreateState::ALL.iter().map(|state| state.name().to_owned()).collect();
    assert_eq!(reached, states, "a path leads to every state");
    assert_eq!(differences(&rows(), &handled, &BTreeSet::new()), [""; 0]);
}

#[test]
fn exactly_the_rows_of_the_table_occur() {
    use Event::{AllReplied, Requested, Superseded, TimedOut};
    let degraded = [Requested, TimedOut, stuck(), AllReplied];
    let again = |events: &[Event]| transitions(None, &[&degraded[..], &[TimedOut], events].concat());
    let scenarios = [
        transitions(
            None,
            &[Requested, replied(1, r#"{"result":"installed","existed":true}"#), AllReplied, found(), AllReplied],
        ),
        transitions(Some(0), &[Requested, AllReplied]),
        transitions(None, &[Requested, failed()]),
        transitions(None, &[Requested, AllReplied, gone(), AllReplied]),
        transitions(None, &[Requested, AllReplied, failed()]),
        transitions(None, &[Requested, AllReplied, TimedOut]),
        transitions(None, &[Requested, TimedOut, undone(), gone(), AllReplied]),
        transitions(None, &[Requested, TimedOut, undone(), found(), AllReplied]),
        transitions(None, &[Requested, TimedOut, undone(), failed()]),
        transitions(None, &[Requested, TimedOut, undone(), TimedOut]),
        transitions(None, &[Requested, Event::Cancelled]),
        transitions(None, &[Requested, failed(), Event::Undone { never_sent: vec![1] }]),
        transitions(None, &[Requested, AllReplied, Event::Cancelled]),
        transitions(None, &[&degraded[..], &[Superseded, TimedOut]].concat()),
        again(&[Superseded, stuck(), AllReplied]),
        again(&[undone(), Superseded, failed(), TimedOut]),
        refused_at_once(),
        refused_over_what_is_left(&[Requested, replied(1, "{}"), AllReplied, gone(), AllReplied]),
        refused_over_what_is_left(&[Requested, Superseded, TimedOut, AllReplied, TimedOut]),
        refused_over_what_is_left(&[Requested, failed(), AllReplied, TimedOut]),
    ];
    let seen: BTreeSet<(String, String, String)> = scenarios
        .iter()
        .flatten()
        .map(|(state, event, next)| (state.clone(), event.clone(), next.clone().expect("each of these can happen")))
        .collect();
    let handled: BTreeSet<(String, String)> = rows().into_iter().map(|row| (row.state, row.event)).collect();
    assert_eq!(differences(&rows(), &handled, &seen), [""; 0]);
    for row in rows() {
        let happened = seen.contains(&(row.state.clone(), row.event.clone(), row.next.clone()));
        assert!(happened, "no scenario has `{}` in `{}` lead to `{}`", row.event, row.state, row.next);
    }
}

/// A lane without meters refuses every flow.
fn refused_at_once() -> Vec<(String, String, Option<String>)> {
    let mut lane = Registry::default();
    lane.settings.meters = 0;
    walk::<CreateFlow>(&mut lane, "test-01", &json!({"flowid": "test-01", "length": 1}), &[Event::Requested])
}

/// Every wait of a flow ends by a deadline.
#[test]
fn every_waiting_state_ends_by_a_deadline() {
    for state in CreateState::ALL {
        let waits = !matches!(state, CreateState::New | CreateState::Ended);
        // After its deadline, a removal is stuck or complete.
        let by_time = if *state == CreateState::Removing { "undo stuck" } else { "timed out" };
        let ends = rows().iter().any(|row| row.state == state.name() && row.event == by_time && row.next != row.state);
        assert_eq!(ends, waits, "{}", state.name());
    }
}

#[test]
fn the_diagram_in_the_documentation_matches_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/create-flow.md");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = format!("{BEGIN}```mermaid\n{}```\n{END}", diagram(&rows()));
    assert!(text.contains(&expected), "put this into docs/create-flow.md, between the markers:\n\n{expected}");
}
