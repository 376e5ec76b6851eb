//! Damaged saved states: each is refused with a reason that names its key, and none causes a panic.

#[path = "support/positions.rs"]
mod positions;
#[path = "support/script.rs"]
mod script;
mod support;

use std::collections::BTreeMap;

use coordinator::TimedOut;
use hub::{HubCommand, HubTable};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use topology::{Settings, Stored, Unreadable};
use wire::call::{CallEnd, CallOutcome};
use wire::command::Command;
use wire::{CallId, WallTime};

use script::{Act, Script, request, small};
use support::{Input, NoTimers, Saved, changes, give, load, named, operation_of};

type States = BTreeMap<String, Value>;

fn states() -> States {
    saved().into_iter().map(|(key, state)| (key, serde_json::from_slice(&state).expect("JSON"))).collect()
}

/// The saved states of a hub that remembers three operations.
fn saved() -> Saved {
    let (mut world, _) = positions::hub(3, |_| ());
    world.save().expect("same as its twin");
    world.saved
}

fn bytes(states: &States) -> Saved {
    states.iter().map(|(key, state)| (key.clone(), state.to_string().into_bytes())).collect()
}

/// The reason of the refusal, loading the keys in one of many orders.
fn refused(states: &States) -> String {
    let load = |seed| load::<Script>(&bytes(states), 1, &small(3), seed).err().map(|error| error.0);
    load(1).expect("it is refused")
}

fn with(change: impl FnOnce(&mut States)) -> String {
    let mut states = states();
    change(&mut states);
    refused(&states)
}

/// The reason of the refusal after a value in the state of a key is replaced.
fn at(key: &str, place: &str, value: Value) -> String {
    with(|states| {
        let state = states.get_mut(key).expect("it is there").pointer_mut(place);
        *state.unwrap_or_else(|| panic!("`{key}` has no {place}")) = value;
    })
}

#[test]
fn an_undamaged_state_is_loaded() {
    assert!(load::<Script>(&bytes(&states()), 1, &small(3), 1).is_ok());
    assert!(load::<Script>(&Saved::new(), 1, &small(3), 1).is_ok(), "a hub that never had an operation");
}

#[test]
fn contradicting_keys_are_refused_by_name() {
    for (reason, says) in [
        (with(|states| _ = states.remove("table")), "saved `table` is missing"),
        (at("table", "/next_slot", json!(10)), "saved `running/10` is inconsistent: the next slot is 10"),
        (at("table", "/next_slot", json!(1_u64 << 60)), "saved `table` is inconsistent: its next slot is"),
        (at("table", "/live", json!(8)), "saved `table` is inconsistent: 8 live operations expected, 7 found"),
        (
            with(|states| _ = states.remove("running/4")),
            "saved `table` is inconsistent: 7 live operations expected, 6 found",
        ),
        (
            with(|states| _ = states.remove("running/7")),
            "saved `running/9` is inconsistent: it is first on its key, but",
        ),
        (
            at("running/5", "/key", json!("a")),
            "saved `running/5` is inconsistent: another operation is active on its key",
        ),
        (
            at("table", "/admission", json!([])),
            "saved `running/10` is inconsistent: it is first on its key, but not in `admission`",
        ),
        (
            at("table", "/admission", json!([10, 3])),
            "saved `table` is inconsistent: `admission` lists 3, which does not exist",
        ),
        (
            at("table", "/admission", json!([10, 9])),
            "saved `table` is inconsistent: `admission` lists 9, which does not wait",
        ),
        (
            at("table", "/admission", json!([5, 10])),
            "saved `table` is inconsistent: `admission` lists 5, which does not wait",
        ),
        (at("table", "/admission", json!([10, 10])), "saved `table` is inconsistent: `admission` lists 10, twice"),
        (at("table", "/finished/to", json!(5)), "saved `table` is inconsistent: outcomes 1 to 5 do not fit 3 places"),
        (at("table", "/finished/from", json!(5)), "saved `table` is inconsistent: outcomes 5 to 4 do not fit 3 places"),
        (at("table", "/finished/places", json!(4)), "saved `finished/0` is inconsistent: its sequence number is 3"),
        (with(|states| _ = states.remove("finished/1")), "saved `finished/1` is missing"),
        (at("finished/1", "/sequence", json!(7)), "saved `finished/1` is inconsistent: its sequence number is 7"),
        (at("finished/1", "/view/operation", json!("past-3")), "saved `finished/"),
        (at("finished/1", "/view/operation", json!("undo")), "saved `running/8` is inconsistent: undo has ended"),
        (at("finished/1", "/view/live", json!(true)), "saved `finished/1` is inconsistent: it has no outcome"),
        (at("finished/1", "/view/outcome", json!("lost")), "saved `finished/1` is inconsistent: it has no outcome"),
    ] {
        assert!(reason.starts_with(says), "`{reason}`, not `{says}`");
    }
}

#[test]
fn an_inconsistent_operation_is_refused_by_its_key() {
    for (key, place, value, says) in [
        ("running/8", "/slot", json!(5), "its slot is 5"),
        ("running/8", "/steps", json!(7), "its open step is not the latest"),
        ("running/8", "/steps", json!(u32::MAX), "a count exceeds"),
        ("running/8", "/entries", json!(7), "its history does not end with its last entry"),
        ("running/8", "/causes", json!([]), "it has 0 causes"),
        ("running/8", "/timer/generation", json!(1), "its deadline is not the latest"),
        ("running/8", "/compensations/0/call", json!([1, 0]), "it never made call 1/0"),
        ("running/8", "/open/calls/0/undoes/0", json!([9, 1]), "it never made call 9/1"),
        ("running/8", "/standing", json!("ended"), "it has ended"),
        ("running/8", "/standing", json!("queued"), "it is queued, but has started"),
        ("running/10", "/standing", json!("running"), "it waits for nothing"),
        ("running/4", "/answer", Value::Null, "it is parked without an answer"),
        ("running/4", "/standing/parked/ends/0/id", json!("parked/1/1"), "it does not wait for call parked/1/1"),
        ("running/4", "/standing/parked/timer/generation", json!(2), "its deadline is not the latest"),
    ] {
        let reason = at(key, place, value);
        let expected = format!("saved `{key}` is inconsistent: {says}");
        assert!(reason.starts_with(&expected), "`{reason}`, not `{expected}`");
    }
    let doubled = at("running/9", "/id", json!("degraded"));
    assert!(doubled.starts_with("saved `running/") && doubled.contains("is also degraded"), "{doubled}");
}

#[test]
fn unknown_keys_and_values_are_refused_by_name() {
    for (key, place, value, says) in [
        ("running/8", "/machine/workflow", json!("song"), "unknown workflow `song`; allowed are script"),
        (
            "running/8",
            "/machine/state",
            json!("singing"),
            "workflow `script`, saved by version 1: this build has no state `singing`",
        ),
        (
            "running/8",
            "/machine/body/page",
            json!("two"),
            "workflow `script`, saved by version 1: invalid type: string \"two\"",
        ),
        ("running/8", "/open/mode", json!("sideways"), "unknown variant `sideways`"),
        ("running/8", "/open/name", json!(7), "expected an interned name"),
        ("table", "/finished", json!([]), "invalid"),
        ("finished/0", "/view", json!(7), "invalid type"),
    ] {
        let reason = at(key, place, value);
        assert!(reason.starts_with(&format!("saved `{key}` cannot be read")) && reason.contains(says), "{reason}");
    }
    for key in ["song", "running/x", "running/08", "running/8/1", "finished/-1", "finished/01", "lane", ""] {
        let state = if key.starts_with("finished") { "finished/0" } else { "running/8" };
        let reason = with(|states| {
            let state = states.remove(state).expect("it is there");
            states.insert(key.to_owned(), state);
        });
        assert!(reason.contains(&format!("`{key}`")), "{key}: {reason}");
    }
    let newer = HubTable::<Script>::default().load(&Stored::new("table", 3, b"{}"));
    assert_eq!(newer, Err(Unreadable("saved `table` has version 3; this build reads up to 1".into())));
}

#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    Garbage(Vec<u8>),
    /// Replaces the value at this index in a walk through the whole state.
    Replace(Index, Value),
    Remove(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let numbers = prop_oneof![
        (0..12_u64).prop_map(|number| json!(number)),
        Just(json!(u64::MAX)),
        Just(json!(u32::MAX)),
        Just(json!(u32::MAX / 2)),
        Just(json!(1_u64 << 48)),
        Just(json!(-1)),
        Just(json!(0.5)),
    ];
    let values = prop_oneof![
        4 => numbers,
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => prop_oneof![Just(json!([])), Just(json!({})), Just(json!("running")), Just(json!("step/1/1"))],
    ];
    prop_oneof![
        1 => any::<Index>().prop_map(Damage::Cut),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Damage::Flip(place, byte)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Damage::Garbage),
        8 => (any::<Index>(), values).prop_map(|(place, value)| Damage::Replace(place, value)),
        4 => any::<Index>().prop_map(Damage::Remove),
    ]
}

/// Collects the paths of a value and of all values in it.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                places(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn damaged(state: &[u8], damage: &Damage) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(state).expect("JSON");
    let mut found = Vec::new();
    places(&value, "", &mut found);
    match damage {
        Damage::Cut(place) => state[..place.index(state.len())].to_vec(),
        Damage::Flip(place, byte) => {
            let mut state = state.to_vec();
            let at = place.index(state.len());
            state[at] = *byte;
            state
        }
        Damage::Garbage(bytes) => bytes.clone(),
        Damage::Replace(place, with) => {
            let at = place.get::<String>(&found);
            *value.pointer_mut(at).expect("it was found") = with.clone();
            value.to_string().into_bytes()
        }
        Damage::Remove(place) => {
            let at = place.get::<String>(&found);
            let Some((above, name)) = at.rsplit_once('/') else { return Vec::new() };
            match value.pointer_mut(above).expect("it was found") {
                Value::Array(values) => _ = values.remove(name.parse().expect("a place")),
                Value::Object(fields) => _ = fields.remove(&name.replace("~1", "/").replace("~0", "~")),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
            value.to_string().into_bytes()
        }
    }
}

/// Every kind of input.
fn inputs(table: &HubTable<Script>) -> Vec<Input> {
    let mut inputs = Vec::new();
    let replied = || CallOutcome::Replied("turn the page".into());
    for operation in table.unfinished().iter().map(|line| operation_of(line)) {
        for command in [Command::Signal { name: "go".into(), body: json!({}) }, Command::Resume, Command::Cancel] {
            inputs.push(Input::Command(HubCommand { operation: named(&operation), cause: "c".into(), command }));
        }
        for (step, n) in (0..3).flat_map(|step| (0..5).map(move |n| (step, n))) {
            for outcome in [CallOutcome::TimedOut, replied()] {
                let id = CallId::new(named(&operation), step, n);
                inputs.push(Input::CallEnded(CallEnd { id, lane: 1, attempts: step, outcome }));
            }
        }
    }
    for (key, generation) in (0..12).flat_map(|key| (0..6).map(move |generation| (key, generation))) {
        inputs.push(Input::TimedOut(TimedOut { key, generation }));
    }
    for n in 0..4 {
        let script = [vec![Act::Step(hub::CallOrder::AtOnce, hub::Barrier::All, vec![(1, 1)])], vec![Act::Undo]];
        inputs.push(Input::Request(request(&format!("new-{n}"), ["a", "d", "z", "past"][n], "r", &script)));
    }
    inputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The state is refused with its key, or it behaves like any other state.
    #[test]
    fn a_damaged_state_never_panics(pick in any::<Index>(), damages in prop::collection::vec(damage(), 1..3), seed in any::<u64>()) {
        let mut saved = saved();
        let keys: Vec<String> = saved.keys().cloned().collect();
        let key = pick.get::<String>(&keys);
        for damage in &damages {
            let state = saved[key].clone();
            if serde_json::from_slice::<Value>(&state).is_ok_and(|_| !state.is_empty()) {
                saved.insert(key.clone(), damaged(&state, damage));
            }
        }
        let settings = Settings::default();
        match load::<Script>(&saved, 1, &settings, seed) {
            Err(Unreadable(reason)) => {
                prop_assert!(reason.starts_with("saved `") && reason.chars().count() <= Unreadable::MAX_CHARS, "{}", reason);
            }
            Ok((mut loaded, _)) => {
                for _ in 0..3 {
                    for input in inputs(&loaded) {
                        give(&mut loaded, WallTime(5), input);
                    }
                }
                for operation in loaded.unfinished().iter().map(|line| operation_of(line)) {
                    loaded.view(&operation, &NoTimers);
                }
                changes(&mut loaded);
            }
        }
    }
}
