//! The calls of a worker, saved and loaded: nothing is forgotten, and nothing is taken that does not fit.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coordinator::Deadline;
use proptest::prelude::*;
use serde_json::{Value, json};
use steps::{ATTEMPTS, Driven, QUEUE, SHARE, Step, id, operation, settings, start, step};
use topology::{Bolt, DueTimes, Keeps, Saver, Stored, Unreadable};
use wire::answer::Conversations;
use wire::call::CallCommand;
use wire::{Kind, WallTime};
use workers::{WorkerBolt, WorkerEffect, WorkerSettings, WorkerTable, names};

const VERSION: u32 = match WorkerBolt::KEEPS {
    Keeps::Saved(version) => version,
    Keeps::Everything | Keeps::Nothing => panic!("it is saved"),
};

/// What is kept outside of the lane: the state of each key.
type Kept = BTreeMap<String, Vec<u8>>;

/// Saves what has changed; gives the keys that did.
fn save(table: &mut WorkerTable, kept: &mut Kept) -> Vec<String> {
    let (mut taken, mut fault) = (Vec::new(), None);
    table.save(&mut Saver::new("worker", &mut taken, &mut fault));
    assert_eq!(fault, None);
    let keep = |change: topology::snapshot::Change| {
        let key = change.key.strip_prefix("worker/").expect("all keys follow the name").to_owned();
        match change.state {
            Some(state) => drop(kept.insert(key.clone(), state)),
            None => assert!(kept.remove(&key).is_some(), "`{key}` is gone that was never saved"),
        }
        key
    };
    taken.into_iter().map(keep).collect()
}

/// A table from what was kept, loaded in an order by chance; and the views that it may have.
fn load(kept: &Kept, chance: u64) -> Result<(WorkerTable, Vec<Arc<str>>), Unreadable> {
    let mut keys: Vec<_> = kept.iter().collect();
    let by_chance = |key: &str| {
        key.bytes().fold(chance, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(17))
    };
    keys.sort_by_key(|(key, _)| by_chance(key));
    let mut table = WorkerTable::new(settings(), 1);
    for (key, state) in keys {
        table.load(&Stored::new(key, VERSION, state))?;
    }
    let views = table.loaded()?;
    Ok((table, views))
}

/// Due at the second of its key.
struct BySlot;

impl DueTimes for BySlot {
    fn due(&self, key: u64) -> Option<WallTime> {
        Some(WallTime::default().plus_ms(key * 1_000))
    }
}

fn views(table: &WorkerTable) -> Vec<Conversations> {
    (0..3).filter_map(|n| table.view(&operation(n), &BySlot)).collect()
}

/// The first of the calls that were there before the steps begin.
const EARLIER: u32 = 1_000;

/// Calls that begin and end: so many, so the ring of ends is empty, begun, full or around.
fn earlier(calls: u32) -> impl Iterator<Item = Step> {
    (EARLIER..EARLIER + calls).flat_map(|n| {
        let over = Step::Answer { kind: Kind::Reply, call: n, of: n, attempt: 1 };
        [Step::Start(n), if n % 4 == 0 { Step::Abandon(n) } else { over }]
    })
}

/// The steps of the table's other tests, and calls that ended long ago.
fn any_step() -> impl Strategy<Value = Step> {
    let long_ago = (EARLIER..EARLIER + 9_000, 1..3_u32);
    prop_oneof![
        12 => step(),
        1 => long_ago.clone().prop_map(|(n, _)| Step::Start(n)),
        1 => long_ago.prop_map(|(n, attempt)| Step::Answer { kind: Kind::Reply, call: n, of: n, attempt }),
    ]
}

/// Some steps, then whether it is saved, and whether a new owner goes on from what was kept.
fn round() -> impl Strategy<Value = (Vec<Step>, bool, bool, u64)> {
    (prop::collection::vec(any_step(), 0..40), prop::bool::weighted(0.8), any::<bool>(), any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_that_was_loaded_goes_on_as_the_one_that_was_saved(
        before in prop_oneof![4 => 0..200_u32, 1 => 4_000..4_200_u32, 1 => 8_100..8_300_u32],
        rounds in prop::collection::vec(round(), 1..8)
    ) {
        let (mut never_left, mut lane, mut kept) = (Driven::new(), Driven::new(), Kept::new());
        for step in earlier(before) {
            never_left.on(&step);
            lane.on(&step);
        }
        for (steps, saves, moves, chance) in rounds {
            for step in &steps {
                prop_assert_eq!(lane.on(step), never_left.on(step), "{:?}", step);
            }
            prop_assert_eq!(views(&lane.table), views(&never_left.table));
            if saves {
                save(&mut lane.table, &mut kept);
                prop_assert!(save(&mut lane.table, &mut kept).is_empty(), "what was saved has not changed");
            }
            if saves && moves {
                let (table, loaded) = load(&kept, chance).expect("it was saved");
                lane.table = table;
                prop_assert!(save(&mut lane.table, &mut kept).is_empty(), "what was loaded is saved");
                let open: BTreeSet<_> = views(&lane.table).iter().map(|view| view.operation.to_string()).collect();
                prop_assert_eq!(loaded.len(), open.len());
                prop_assert!(loaded.iter().all(|key| open.contains(&**key)));
            }
        }
        save(&mut lane.table, &mut kept);
        let mut from_scratch = Kept::new();
        save(&mut never_left.table, &mut from_scratch);
        for key in kept.keys().chain(from_scratch.keys()) {
            let text = |kept: &Kept| kept.get(key).map(|state| String::from_utf8_lossy(state).into_owned());
            prop_assert_eq!(text(&kept), text(&from_scratch), "no change of `{}` was forgotten", key);
        }
    }
}

// ---- what it costs ------------------------------------------------------------------------------------------------------

#[test]
fn a_call_that_begins_and_ends_between_two_snapshots_costs_its_end_alone() {
    let (mut lane, mut kept) = (Driven::new(), Kept::new());
    assert_eq!(save(&mut lane.table, &mut kept), ["table"], "what is single is saved from the beginning");
    for step in earlier(10) {
        lane.on(&step);
    }
    assert_eq!(save(&mut lane.table, &mut kept), ["table", "ended/0"]);
    lane.on(&Step::Start(1));
    assert_eq!(save(&mut lane.table, &mut kept), ["table", "calls/0"]);
    lane.on(&Step::Answer { kind: Kind::Failure, call: 1, of: 1, attempt: 1 });
    assert_eq!(save(&mut lane.table, &mut kept), ["calls/0"], "and what changes");
    lane.on(&Step::Abandon(1));
    assert_eq!(save(&mut lane.table, &mut kept), ["table", "calls/0", "ended/0"]);
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["ended/0", "table"]);
}

/// A step begins its calls together. One of thousands is not written anew for each of its calls that changes.
#[test]
fn neighbours_are_one_record_and_any_number_are_records_of_bounded_size() {
    let mut table = WorkerTable::new(WorkerSettings { in_flight: 1_000, ..settings() }, 1);
    let mut kept = Kept::new();
    (0..1_000).for_each(|n| table.command(start(n), &mut Vec::new()));
    let blocks = |keys: &[String]| keys.iter().filter(|key| key.starts_with("calls/")).count();
    assert_eq!(blocks(&save(&mut table, &mut kept)), 63, "1,000 calls in blocks of 16");
    assert!(kept.values().all(|state| state.len() < 16 * 256));
    table.command(CallCommand::Abandon(id(500)), &mut Vec::new());
    assert_eq!(blocks(&save(&mut table, &mut kept)), 1);
    assert_eq!(value(&kept["calls/31"]).as_object().expect("a map").len(), 15);
    (992..1_000).for_each(|n| table.command(CallCommand::Abandon(id(n)), &mut Vec::new()));
    save(&mut table, &mut kept);
    assert!(!kept.contains_key("calls/62"), "a block without a call is gone");
}

#[test]
fn any_number_of_ends_are_64_records() {
    let (mut lane, mut kept) = (Driven::new(), Kept::new());
    for step in earlier(20_000) {
        lane.on(&step);
    }
    save(&mut lane.table, &mut kept);
    assert_eq!(kept.len(), 1 + 64);
    let bytes: usize = kept.values().map(Vec::len).sum();
    assert!(bytes < 100_000, "{bytes}");
    for step in earlier(20_064).skip(40_000) {
        lane.on(&step);
    }
    let changed = save(&mut lane.table, &mut kept);
    assert_eq!(changed.len(), 3, "64 more are in two blocks, and push out 64 that lay there: {changed:?}");
}

/// A call that is started again by a hub which was taken over is begun once: its end is known to the new owner of the worker too.
#[test]
fn a_call_that_has_ended_does_not_begin_again_with_a_new_owner() {
    let (mut lane, mut kept) = (Driven::new(), Kept::new());
    for step in earlier(4_097) {
        lane.on(&step);
    }
    save(&mut lane.table, &mut kept);
    let (mut table, _) = load(&kept, 1).expect("it was saved");
    let mut began = |n: u32| {
        let mut effects = Vec::new();
        table.command(start(n), &mut effects);
        effects != [WorkerEffect::Count(names::DUPLICATE_CALLS)]
    };
    assert!(!began(EARLIER + 4_096) && !began(EARLIER + 1), "these are remembered");
    assert!(began(EARLIER), "the oldest one too many is not");
}

// ---- damage -------------------------------------------------------------------------------------------------------------

/// A lane with calls that are sent, back off and wait, and with ends of each kind.
fn example() -> Kept {
    let (mut lane, mut kept) = (Driven::new(), Kept::new());
    for step in earlier(66) {
        lane.on(&step);
    }
    (1..=5).for_each(|n| drop(lane.on(&Step::Start(n))));
    lane.on(&Step::Answer { kind: Kind::Failure, call: 2, of: 2, attempt: 1 });
    lane.on(&Step::Answer { kind: Kind::Reply, call: 3, of: 3, attempt: 1 });
    save(&mut lane.table, &mut kept);
    kept
}

fn value(state: &[u8]) -> Value {
    serde_json::from_slice(state).expect("it is JSON")
}

#[test]
fn the_example_has_a_call_of_each_kind() {
    let kept = example();
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["calls/4", "ended/0", "ended/1", "table"]);
    let doing = |slot: u32| value(&kept["calls/4"])[slot.to_string()]["doing"].clone();
    assert_eq!([doing(66), doing(67), doing(69), doing(70)], ["sent", "backing_off", "sent", "queued"]);
    assert!(load(&kept, 7).is_ok());
    assert_eq!((SHARE, QUEUE, ATTEMPTS), (3, 4, 3), "they all have a place to be in");
}

/// Changes one field of one key, or adds it, and loads.
fn refused(key: &str, path: &str, field: Value) -> String {
    let mut kept = example();
    let mut state = value(&kept[key]);
    let (parent, last) = path.rsplit_once('/').expect("a path begins with a slash");
    match state.pointer_mut(parent).expect("its place is there") {
        Value::Object(fields) => drop(fields.insert(last.to_owned(), field)),
        list => list[last.parse::<usize>().expect("it is a list")] = field,
    }
    kept.insert(key.to_owned(), state.to_string().into_bytes());
    load(&kept, 1).expect_err(key).0
}

#[test]
fn what_does_not_fit_is_refused_with_its_key() {
    let far = json!(1_u64 << 49);
    let contradictions = [
        ("table", "/next_slot", json!(70), "calls/4", "slot 70, and the next slot of `table` is 70"),
        ("table", "/next_slot", far.clone(), "table", "beyond"),
        ("table", "/next_slot", json!(-1), "table", "invalid value"),
        ("table", "/ended", far, "table", "beyond"),
        ("table", "/ended", json!(66), "ended/1", "should have 2 of 66"),
        ("table", "/ended", json!(68), "ended/1", "should have 4 of 68"),
        ("table", "/ended", json!(64), "ended/1", "should have 0 of 64"),
        ("table", "/ended", json!(129), "ended/2", "missing"),
        ("table", "/ended", json!(u64::MAX), "table", "beyond"),
        ("table", "/down", json!(true), "calls/4", "slot 70 waits, and the spoke is down"),
        ("table", "/down", json!("no"), "table", "invalid type"),
        ("ended/0", "/0/0", json!("op-0/1/1/"), "ended/0", "ce_callid"),
        ("ended/0", "/0/0", json!("op-1/1/1"), "ended/0", "call op-1/1/1 is open"),
        ("ended/0", "/0/0", json!("op-2/1/1064"), "ended/1", "has ended twice"),
        ("ended/1", "/0/1", json!(1), "ended/1", "invalid type"),
        ("ended/1", "/0", json!(null), "ended/1", "invalid type"),
        ("calls/4", "/66/doing", json!("asleep"), "calls/4", "unknown variant"),
        ("calls/4", "/66/doing", json!("queued"), "calls/4", "it waits and was sent, or neither"),
        ("calls/4", "/70/doing", json!("sent"), "calls/4", "it waits and was sent, or neither"),
        ("calls/4", "/66/attempt", json!(0), "calls/4", "it waits and was sent, or neither"),
        ("calls/4", "/66/attempt", json!(u32::MAX), "calls/4", "no deadline"),
        ("calls/4", "/70/generation", json!(0), "calls/4", "no deadline"),
        ("calls/4", "/66/generation", json!(u32::MAX), "calls/4", "armed too often"),
        ("calls/4", "/66/spent_ms", json!(901), "calls/4", "beyond its time"),
        ("calls/4", "/66/armed_ms", json!(u64::MAX), "calls/4", "beyond its time"),
        ("calls/4", "/66/call/id", json!("op-2/1/2"), "calls/4", "has the same call"),
        ("calls/4", "/66/call/id", json!("op 1/1/1"), "calls/4", "operation"),
        ("calls/4", "/66/call", json!({}), "calls/4", "missing field"),
        ("calls/4", "/64", json!({}), "calls/4", "missing field"),
        ("calls/4", "/sixty", json!({}), "calls/4", "invalid"),
    ];
    for (key, path, field, named, why) in contradictions {
        let refused = refused(key, path, field.clone());
        assert!(refused.contains(&format!("saved `{named}")) && refused.contains(why), "{path} {field}: {refused}");
    }
}

#[test]
fn a_queue_without_anything_in_flight_would_wait_for_ever_and_is_refused() {
    let mut kept = example();
    let queued = json!({ "70": value(&kept["calls/4"])["70"] });
    kept.insert("calls/4".to_owned(), queued.to_string().into_bytes());
    assert_eq!(load(&kept, 1).unwrap_err().0, "saved `calls/4` does not fit: slot 70 waits, and nothing is in flight");
}

#[test]
fn a_key_that_is_missing_unknown_or_too_many_is_refused() {
    for (missing, named) in [("table", "table"), ("ended/0", "ended/0"), ("ended/1", "ended/1")] {
        let mut kept = example();
        kept.remove(missing);
        let refused = load(&kept, 1).unwrap_err().0;
        assert!(refused.contains(&format!("saved `{named}` does not fit: it is missing")), "{refused}");
    }
    let unknown = ["", "tables", "calls", "calls/", "calls/x", "calls/04", "calls/-1", "calls/5", "open/70"];
    for unknown in unknown.into_iter().chain(["ended", "ended/01", "ended/2", "x/1"]) {
        let mut kept = example();
        let state = if unknown.starts_with("calls") { kept["calls/4"].clone() } else { b"[]".to_vec() };
        kept.insert(unknown.to_owned(), state);
        let refused = load(&kept, 1).unwrap_err().0;
        assert!(refused.contains(&format!("saved `{unknown}` does not fit")), "{unknown}: {refused}");
    }
    assert_eq!(load(&Kept::new(), 1).map(|(table, views)| (table.len(), views)), Ok((0, vec![])), "a new one");
}

#[test]
fn a_key_that_comes_twice_and_another_version_are_refused() {
    let kept = example();
    for (key, state) in &kept {
        let mut table = WorkerTable::new(settings(), 1);
        assert_eq!(table.load(&Stored::new(key, VERSION, state)), Ok(()));
        let twice = table.load(&Stored::new(key, VERSION, state)).unwrap_err().0;
        assert!(twice.contains(&format!("saved `{key}` does not fit: it came twice")), "{twice}");
        for version in [0, VERSION + 1] {
            let other = table.load(&Stored::new(key, version, state)).unwrap_err().0;
            assert!(other.contains(&format!("saved `{key}` does not fit: its version is {version}")), "{other}");
        }
    }
}

#[test]
fn a_state_that_was_cut_anywhere_or_holds_something_else_is_refused_with_its_key() {
    for (key, state) in example() {
        let others: [&[u8]; 5] = [b"null", b"7", b"\"\"", b"{\"a\":1}", b"\xff"];
        let foreign = others.into_iter().chain((0..state.len()).map(|cut| &state[..cut]));
        for foreign in foreign {
            let mut table = WorkerTable::new(settings(), 1);
            let refused = table.load(&Stored::new(&key, VERSION, foreign)).unwrap_err().0;
            assert!(refused.contains(&format!("saved `{key}` cannot be read")), "{refused}");
        }
    }
}

// ---- for ever -----------------------------------------------------------------------------------------------------------

fn golden(version: u32) -> String {
    format!("{}/tests/golden/state-v{version}.json", env!("CARGO_MANIFEST_DIR"))
}

/// Another form needs another version. `GOLDEN=write` writes the file of this one.
#[test]
fn the_form_is_that_of_its_version() {
    let states: BTreeMap<String, Value> = example().iter().map(|(key, state)| (key.clone(), value(state))).collect();
    #[expect(clippy::disallowed_methods, reason = "a person asks this test to write its file")]
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        let lines: Vec<_> = states.iter().map(|(key, state)| format!("  \"{key}\": {state}")).collect();
        std::fs::write(golden(VERSION), format!("{{\n{}\n}}\n", lines.join(",\n"))).expect("the folder is there");
    }
    let file = std::fs::read_to_string(golden(VERSION)).expect("the file is kept");
    let file: BTreeMap<String, Value> = serde_json::from_str(&file).expect("it is JSON");
    for key in states.keys().chain(file.keys()) {
        assert_eq!(states.get(key), file.get(key), "another form of `{key}` is another version");
    }
}

/// The states of a version's example, as its build saved them.
fn saved_by(version: u32) -> Kept {
    let file = std::fs::read_to_string(golden(version)).expect("the file is kept");
    let states: BTreeMap<String, Value> = serde_json::from_str(&file).expect("it is JSON");
    states.into_iter().map(|(key, state)| (key, state.to_string().into_bytes())).collect()
}

fn loaded_by(version: u32) -> (WorkerTable, BTreeSet<String>) {
    let mut table = WorkerTable::new(settings(), 1);
    for (key, state) in saved_by(version) {
        assert_eq!(table.load(&Stored::new(&key, version, &state)), Ok(()));
    }
    let open = table.loaded().expect("it fits").iter().map(ToString::to_string).collect();
    (table, open)
}

/// A lane that an older build has saved goes on.
#[test]
fn every_form_that_ever_was_loads() {
    for version in 1..=VERSION {
        let (mut table, open) = loaded_by(version);
        assert_eq!(open, BTreeSet::from(["op-1".to_owned(), "op-2".to_owned()]));
        assert_eq!(table.len(), 4);
        let mut effects = Vec::new();
        table.command(CallCommand::Abandon(id(1)), &mut effects);
        let sent = Deadline::Register { key: 70, generation: 2, after_ms: 100 };
        assert!(effects.contains(&WorkerEffect::Deadline(sent)), "the one that waited has its place: {effects:?}");
    }
}

/// The head names one version for all keys: so with the next save none of an older one is left.
#[test]
fn what_an_older_build_has_saved_has_the_form_of_this_one_after_the_next_save() {
    for version in 1..=VERSION {
        let (mut kept, (mut table, _)) = (saved_by(version), loaded_by(version));
        let changed = save(&mut table, &mut kept);
        assert_eq!(changed.is_empty(), version == VERSION, "{changed:?}");
        let values = |kept: &Kept| kept.iter().map(|(key, state)| (key.clone(), value(state))).collect::<Vec<_>>();
        assert_eq!(values(&kept), values(&saved_by(VERSION)));
        assert!(save(&mut table, &mut kept).is_empty());
        assert!(load(&kept, 3).is_ok());
    }
}

/// A call that has gone between the loading and the save leaves no key of either form.
#[test]
fn what_an_older_build_has_saved_and_goes_leaves_nothing() {
    let (mut kept, (mut table, _)) = (saved_by(1), loaded_by(1));
    for n in [1, 2, 4, 5] {
        table.command(CallCommand::Abandon(id(n)), &mut Vec::new());
    }
    save(&mut table, &mut kept);
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["ended/0", "ended/1", "table"]);
}
