//! Compares the transition table in `flows/src/remove.rs` with the code.

use std::collections::BTreeSet;

use flows::registry::{Flow, Registry};
use flows::{RemoveFlow, RemoveState};
use hub::check::{Row, differences, table, walk};
use hub::{CallFailure, Event, WorkflowState as _};
use serde_json::json;
use wire::call::CallOutcome;

fn rows() -> Vec<Row> {
    table(include_str!("../src/remove.rs"))
}

fn replied(body: &str) -> Event {
    Event::Replied { tag: 1, reply: body.into() }
}

fn gone() -> Event {
    replied(r#"{"result":"found","rule":null}"#)
}

fn removed() -> Event {
    replied(r#"{"result":"removed","existed":true}"#)
}

fn failed() -> Event {
    let outcome = CallOutcome::Refused("busy".into());
    Event::Failed(CallFailure { tag: 1, what: "rule 1".into(), outcome, attempts: 2 })
}

/// The transitions of a flow of length 1 that exists.
fn transitions(events: &[Event]) -> Vec<(String, String, Option<String>)> {
    let mut lane = Registry::default();
    let resources = lane.allocate("test-01", 1).expect("there are cookies and meters");
    lane.keep("test-01", Flow { resources, left: BTreeSet::new() });
    walk::<RemoveFlow>(&mut lane, "test-01", &json!({"flowid": "test-01"}), events)
}

/// Events that lead to each state.
fn paths() -> Vec<Vec<Event>> {
    use Event::{AllReplied, Requested, TimedOut};
    vec![
        vec![],
        vec![Requested],
        vec![Requested, AllReplied],
        vec![Requested, TimedOut, AllReplied],
        vec![Requested, AllReplied, gone(), AllReplied],
    ]
}

#[test]
fn exactly_the_pairs_of_state_and_event_in_the_table_are_handled() {
    use Event::{AllReplied, Cancelled, Enough, Requested, Superseded, TimedOut};
    let (undone, stuck) = (Event::Undone { never_sent: vec![] }, Event::UndoStuck { left: vec![1] });
    let signal = Event::Signal { name: "go".into(), body: json!(null) };
    let events =
        [Requested, gone(), AllReplied, failed(), TimedOut, undone, stuck, Superseded, Enough, signal, Cancelled];
    assert_eq!(events.each_ref().map(Event::name), Event::NAMES, "one of each kind");
    let (mut reached, mut handled) = (BTreeSet::new(), BTreeSet::new());
    for path in paths() {
        for event in &events {
            let walked = transitions(&[&path[..], std::slice::from_ref(event)].concat());
            let (state, event, next) = walked.last().expect("at least one event").clone();
            assert_eq!(walked.len(), path.len() + 1, "every event of the path is handled: {walked:?}");
            if next.is_some() {
                handled.insert((state.clone(), event));
            }
            reached.insert(state);
        }
    }
    let states: BTreeSet<String> = RemoveState::ALL.iter().map(|state| state.name().to_owned()).collect();
    assert_eq!(reached, states, "a path leads to every state");
    assert_eq!(differences(&rows(), &handled, &BTreeSet::new()), [""; 0]);
}

#[test]
fn exactly_the_rows_of_the_table_occur() {
    use Event::{AllReplied, Requested, Superseded, TimedOut};
    let scenarios = [
        transitions(&[Requested, removed(), AllReplied, gone(), AllReplied]),
        transitions(&[Requested, AllReplied, AllReplied, TimedOut, failed(), AllReplied, TimedOut]),
        transitions(&[Requested, AllReplied, failed(), Superseded, TimedOut]),
        transitions(&[Requested, AllReplied, TimedOut]),
        transitions(&[
            Requested,
            TimedOut,
            gone(),
            AllReplied,
            TimedOut,
            Superseded,
            AllReplied,
            Superseded,
            failed(),
            TimedOut,
        ]),
        walk::<RemoveFlow>(&mut Registry::default(), "test-01", &json!({"flowid": "test-01"}), &[Requested]),
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
