//! Saving and loading the calls of a worker: nothing is forgotten, and inconsistent states are
//! refused.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coordinator::Deadline;
use proptest::prelude::*;
use serde_json::{Value, json};
use steps::{ATTEMPTS, QUEUE, SHARE, Step, TestTable, id, operation, settings, start, step};
use topology::{DueTimes, Saver, Stored, SystemBolt, Unreadable};
use wire::answer::Conversations;
use wire::call::CallCommand;
use wire::{Kind, WallTime};
use workers::{WorkerBolt, WorkerEffect, WorkerSettings, WorkerTable, names};

fn version() -> u32 {
    WorkerBolt::new("shop").schema().expect("it is saved").version
}

/// The saved states by key.
type Records = BTreeMap<String, Vec<u8>>;

/// Saves the changes and returns their keys.
fn save(table: &mut WorkerTable, records: &mut Records) -> Vec<String> {
    let (mut taken, mut fault) = (Vec::new(), None);
    table.save(&mut Saver::new("worker", &mut taken, &mut fault));
    assert_eq!(fault, None);
    let keep = |change: topology::snapshot::Change| {
        let key = change.key.strip_prefix("worker/").expect("all keys follow the name").to_owned();
        match change.state {
            Some(state) => drop(records.insert(key.clone(), state)),
            None => assert!(records.remove(&key).is_some(), "`{key}` was deleted but never saved"),
        }
        key
    };
    taken.into_iter().map(keep).collect()
}

/// Loads a table with the keys in an order that depends on `chance`. Returns it with its view keys.
fn load(records: &Records, chance: u64) -> Result<(WorkerTable, Vec<Arc<str>>), Unreadable> {
    let mut keys: Vec<_> = records.iter().collect();
    let by_chance = |key: &str| {
        key.bytes().fold(chance, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(17))
    };
    keys.sort_by_key(|(key, _)| by_chance(key));
    let mut table = WorkerTable::new(settings(), 1);
    for (key, state) in keys {
        table.load(&Stored::new(key, version(), state))?;
    }
    let views = table.loaded()?;
    Ok((table, views))
}

/// Each timer is due at the second of its key.
struct BySlot;

impl DueTimes for BySlot {
    fn due(&self, key: u64) -> Option<WallTime> {
        Some(WallTime::default().plus_ms(key * 1_000))
    }
}

fn views(table: &WorkerTable) -> Vec<Conversations> {
    (0..3).filter_map(|n| table.view(&operation(n), &BySlot)).collect()
}

/// The number of the first call that precedes the steps.
const EARLIER: u32 = 1_000;

/// Calls that start and end, so that the ring of outcomes is empty, partly filled, full or wrapped
/// around.
fn earlier(calls: u32) -> impl Iterator<Item = Step> {
    (EARLIER..EARLIER + calls).flat_map(|n| {
        let over = Step::Answer { kind: Kind::Reply, call: n, of: n, attempt: 1 };
        [Step::Start(n), if n % 4 == 0 { Step::Abandon(n) } else { over }]
    })
}

/// The steps of the table's other tests, and answers to calls that ended long ago.
fn any_step() -> impl Strategy<Value = Step> {
    let long_ago = (EARLIER..EARLIER + 9_000, 1..3_u32);
    prop_oneof![
        12 => step(),
        1 => long_ago.clone().prop_map(|(n, _)| Step::Start(n)),
        1 => long_ago.prop_map(|(n, attempt)| Step::Answer { kind: Kind::Reply, call: n, of: n, attempt }),
    ]
}

/// Steps, whether the table is saved after them, and whether a new owner then loads it.
fn round() -> impl Strategy<Value = (Vec<Step>, bool, bool, u64)> {
    (prop::collection::vec(any_step(), 0..40), prop::bool::weighted(0.8), any::<bool>(), any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_table_behaves_like_the_saved_one(
        before in prop_oneof![4 => 0..200_u32, 1 => 4_000..4_200_u32, 1 => 8_100..8_300_u32],
        rounds in prop::collection::vec(round(), 1..8)
    ) {
        let (mut original, mut lane, mut records) = (TestTable::new(), TestTable::new(), Records::new());
        for step in earlier(before) {
            original.on(&step);
            lane.on(&step);
        }
        for (steps, saves, moves, chance) in rounds {
            for step in &steps {
                prop_assert_eq!(lane.on(step), original.on(step), "{:?}", step);
            }
            prop_assert_eq!(views(&lane.table), views(&original.table));
            if saves {
                save(&mut lane.table, &mut records);
                prop_assert!(save(&mut lane.table, &mut records).is_empty(), "nothing has changed since the save");
            }
            if saves && moves {
                let (table, loaded) = load(&records, chance).expect("it was saved");
                lane.table = table;
                prop_assert!(save(&mut lane.table, &mut records).is_empty(), "a loaded state needs no save");
                let open: BTreeSet<_> = views(&lane.table).iter().map(|view| view.operation.to_string()).collect();
                prop_assert_eq!(loaded.len(), open.len());
                prop_assert!(loaded.iter().all(|key| open.contains(&**key)));
            }
        }
        save(&mut lane.table, &mut records);
        let mut from_scratch = Records::new();
        save(&mut original.table, &mut from_scratch);
        for key in records.keys().chain(from_scratch.keys()) {
            let text = |records: &Records| records.get(key).map(|state| String::from_utf8_lossy(state).into_owned());
            prop_assert_eq!(text(&records), text(&from_scratch), "no change of `{}` was forgotten", key);
        }
    }
}

// ---- what it costs ------------------------------------------------------------------------------------------------------

#[test]
fn a_call_between_two_snapshots_costs_only_its_outcome() {
    let (mut lane, mut records) = (TestTable::new(), Records::new());
    assert_eq!(save(&mut lane.table, &mut records), ["table"], "the head is saved from the start");
    for step in earlier(10) {
        lane.on(&step);
    }
    assert_eq!(save(&mut lane.table, &mut records), ["table", "ended/0"]);
    lane.on(&Step::Start(1));
    assert_eq!(save(&mut lane.table, &mut records), ["table", "calls/0"]);
    lane.on(&Step::Answer { kind: Kind::Failure, call: 1, of: 1, attempt: 1 });
    assert_eq!(save(&mut lane.table, &mut records), ["calls/0"], "a change rewrites its block");
    lane.on(&Step::Abandon(1));
    assert_eq!(save(&mut lane.table, &mut records), ["table", "calls/0", "ended/0"]);
    assert_eq!(records.keys().collect::<Vec<_>>(), ["ended/0", "table"]);
}

/// A step starts its calls together. A change of one call must not rewrite thousands.
#[test]
fn neighbouring_calls_share_records_of_bounded_size() {
    let mut table = WorkerTable::new(WorkerSettings { in_flight: 1_000, ..settings() }, 1);
    let mut records = Records::new();
    (0..1_000).for_each(|n| table.command(start(n), &mut Vec::new()));
    let blocks = |keys: &[String]| keys.iter().filter(|key| key.starts_with("calls/")).count();
    assert_eq!(blocks(&save(&mut table, &mut records)), 63, "1,000 calls in blocks of 16");
    assert!(records.values().all(|state| state.len() < 16 * 256));
    table.command(CallCommand::Abandon(id(500)), &mut Vec::new());
    assert_eq!(blocks(&save(&mut table, &mut records)), 1);
    assert_eq!(value(&records["calls/31"]).as_object().expect("a map").len(), 15);
    (992..1_000).for_each(|n| table.command(CallCommand::Abandon(id(n)), &mut Vec::new()));
    save(&mut table, &mut records);
    assert!(!records.contains_key("calls/62"), "a block without a call is gone");
}

#[test]
fn any_number_of_outcomes_takes_64_records() {
    let (mut lane, mut records) = (TestTable::new(), Records::new());
    for step in earlier(20_000) {
        lane.on(&step);
    }
    save(&mut lane.table, &mut records);
    assert_eq!(records.len(), 1 + 64);
    let bytes: usize = records.values().map(Vec::len).sum();
    assert!(bytes < 100_000, "{bytes}");
    for step in earlier(20_064).skip(40_000) {
        lane.on(&step);
    }
    let changed = save(&mut lane.table, &mut records);
    assert_eq!(changed.len(), 3, "64 more are in two blocks, and push out 64 that lay there: {changed:?}");
}

/// A hub that was taken over may start a call again. The new owner of the worker must still know
/// that it has ended.
#[test]
fn an_ended_call_does_not_start_again_after_a_takeover() {
    let (mut lane, mut records) = (TestTable::new(), Records::new());
    for step in earlier(4_097) {
        lane.on(&step);
    }
    save(&mut lane.table, &mut records);
    let (mut table, _) = load(&records, 1).expect("it was saved");
    let mut began = |n: u32| {
        let mut effects = Vec::new();
        table.command(start(n), &mut effects);
        effects != [WorkerEffect::Count(names::DUPLICATE_CALLS)]
    };
    assert!(!began(EARLIER + 4_096) && !began(EARLIER + 1), "these are remembered");
    assert!(began(EARLIER), "the one beyond the limit is not");
}

// ---- damage -------------------------------------------------------------------------------------------------------------

/// A lane with sent, backing-off and queued calls, and with each kind of outcome.
fn example() -> Records {
    let (mut lane, mut records) = (TestTable::new(), Records::new());
    for step in earlier(66) {
        lane.on(&step);
    }
    (1..=5).for_each(|n| drop(lane.on(&Step::Start(n))));
    lane.on(&Step::Answer { kind: Kind::Failure, call: 2, of: 2, attempt: 1 });
    lane.on(&Step::Answer { kind: Kind::Reply, call: 3, of: 3, attempt: 1 });
    save(&mut lane.table, &mut records);
    records
}

fn value(state: &[u8]) -> Value {
    serde_json::from_slice(state).expect("it is JSON")
}

#[test]
fn the_example_has_a_call_of_each_kind() {
    let records = example();
    assert_eq!(records.keys().collect::<Vec<_>>(), ["calls/4", "ended/0", "ended/1", "table"]);
    let doing = |slot: u32| value(&records["calls/4"])[slot.to_string()]["doing"].clone();
    assert_eq!([doing(66), doing(67), doing(69), doing(70)], ["sent", "backing_off", "sent", "queued"]);
    assert!(load(&records, 7).is_ok());
    assert_eq!((SHARE, QUEUE, ATTEMPTS), (3, 4, 3), "they all have a place to be in");
}

/// Sets one field of one key, loads, and returns the refusal.
fn refused(key: &str, path: &str, field: Value) -> String {
    let mut records = example();
    let mut state = value(&records[key]);
    let (parent, last) = path.rsplit_once('/').expect("a path begins with a slash");
    match state.pointer_mut(parent).expect("the parent exists") {
        Value::Object(fields) => drop(fields.insert(last.to_owned(), field)),
        list => list[last.parse::<usize>().expect("it is a list")] = field,
    }
    records.insert(key.to_owned(), state.to_string().into_bytes());
    load(&records, 1).expect_err(key).0
}

#[test]
fn an_inconsistent_state_is_refused_with_its_key() {
    let far = json!(1_u64 << 49);
    let contradictions = [
        ("table", "/next_slot", json!(70), "calls/4", "slot 70, but the next slot of `table` is 70"),
        ("table", "/next_slot", far.clone(), "table", "exceeds"),
        ("table", "/next_slot", json!(-1), "table", "invalid value"),
        ("table", "/ended", far, "table", "exceeds"),
        ("table", "/ended", json!(66), "ended/1", "expected are 2 of 66"),
        ("table", "/ended", json!(68), "ended/1", "expected are 4 of 68"),
        ("table", "/ended", json!(64), "ended/1", "expected are 0 of 64"),
        ("table", "/ended", json!(129), "ended/2", "missing"),
        ("table", "/ended", json!(u64::MAX), "table", "exceeds"),
        ("table", "/down", json!(true), "calls/4", "slot 70 is queued, but the spoke is down"),
        ("table", "/down", json!("no"), "table", "invalid type"),
        ("ended/0", "/0/0", json!("op-0/1/1/"), "ended/0", "ce_callid"),
        ("ended/0", "/0/0", json!("op-1/1/1"), "ended/0", "call op-1/1/1 is open"),
        ("ended/0", "/0/0", json!("op-2/1/1064"), "ended/1", "has ended twice"),
        ("ended/1", "/0/1", json!(1), "ended/1", "invalid type"),
        ("ended/1", "/0", json!(null), "ended/1", "invalid type"),
        ("calls/4", "/66/doing", json!("asleep"), "calls/4", "unknown variant"),
        ("calls/4", "/66/doing", json!("queued"), "calls/4", "`doing` and `attempt` contradict each other"),
        ("calls/4", "/70/doing", json!("sent"), "calls/4", "`doing` and `attempt` contradict each other"),
        ("calls/4", "/66/attempt", json!(0), "calls/4", "`doing` and `attempt` contradict each other"),
        ("calls/4", "/66/attempt", json!(u32::MAX), "calls/4", "no deadline"),
        ("calls/4", "/70/generation", json!(0), "calls/4", "no deadline"),
        ("calls/4", "/66/generation", json!(u32::MAX), "calls/4", "its generation is too large"),
        ("calls/4", "/66/spent_ms", json!(901), "calls/4", "exceeds its time limit"),
        ("calls/4", "/66/armed_ms", json!(u64::MAX), "calls/4", "exceeds its time limit"),
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
fn a_queue_with_nothing_in_flight_is_refused() {
    let mut records = example();
    let queued = json!({ "70": value(&records["calls/4"])["70"] });
    records.insert("calls/4".to_owned(), queued.to_string().into_bytes());
    assert_eq!(
        load(&records, 1).unwrap_err().0,
        "saved `calls/4` is inconsistent: slot 70 is queued, but nothing is in flight"
    );
}

#[test]
fn a_missing_unknown_or_extra_key_is_refused() {
    for (missing, named) in [("table", "table"), ("ended/0", "ended/0"), ("ended/1", "ended/1")] {
        let mut records = example();
        records.remove(missing);
        let refused = load(&records, 1).unwrap_err().0;
        assert!(refused.contains(&format!("saved `{named}` is inconsistent: it is missing")), "{refused}");
    }
    let unknown = ["", "tables", "calls", "calls/", "calls/x", "calls/04", "calls/-1", "calls/5", "open/70"];
    for unknown in unknown.into_iter().chain(["ended", "ended/01", "ended/2", "x/1"]) {
        let mut records = example();
        let state = if unknown.starts_with("calls") { records["calls/4"].clone() } else { b"[]".to_vec() };
        records.insert(unknown.to_owned(), state);
        let refused = load(&records, 1).unwrap_err().0;
        assert!(refused.contains(&format!("saved `{unknown}` is inconsistent")), "{unknown}: {refused}");
    }
    assert_eq!(load(&Records::new(), 1).map(|(table, views)| (table.len(), views)), Ok((0, vec![])), "a new one");
}

#[test]
fn duplicate_keys_and_other_versions_are_refused() {
    let records = example();
    for (key, state) in &records {
        let mut table = WorkerTable::new(settings(), 1);
        assert_eq!(table.load(&Stored::new(key, version(), state)), Ok(()));
        let twice = table.load(&Stored::new(key, version(), state)).unwrap_err().0;
        assert!(twice.contains(&format!("saved `{key}` is inconsistent: it was loaded twice")), "{twice}");
        for version in [0, version() + 1] {
            let other = table.load(&Stored::new(key, version, state)).unwrap_err().0;
            assert!(other.contains(&format!("saved `{key}` is inconsistent: its version is {version}")), "{other}");
        }
    }
}

#[test]
fn a_truncated_or_foreign_state_is_refused_with_its_key() {
    for (key, state) in example() {
        let others: [&[u8]; 5] = [b"null", b"7", b"\"\"", b"{\"a\":1}", b"\xff"];
        let foreign = others.into_iter().chain((0..state.len()).map(|cut| &state[..cut]));
        for foreign in foreign {
            let mut table = WorkerTable::new(settings(), 1);
            let refused = table.load(&Stored::new(&key, version(), foreign)).unwrap_err().0;
            assert!(refused.contains(&format!("saved `{key}` cannot be read")), "{refused}");
        }
    }
}

// ---- golden states -----------------------------------------------------------------------------------------------------------

fn golden(version: u32) -> String {
    format!("{}/tests/golden/state-v{version}.json", env!("CARGO_MANIFEST_DIR"))
}

/// Another schema needs another version. `GOLDEN=write` writes the file of the current version.
#[test]
fn the_saved_state_matches_its_schema_version() {
    let states: BTreeMap<String, Value> = example().iter().map(|(key, state)| (key.clone(), value(state))).collect();
    #[expect(clippy::disallowed_methods, reason = "a person asks this test to write its file")]
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        let lines: Vec<_> = states.iter().map(|(key, state)| format!("  \"{key}\": {state}")).collect();
        std::fs::write(golden(version()), format!("{{\n{}\n}}\n", lines.join(",\n"))).expect("the folder is there");
    }
    let file = std::fs::read_to_string(golden(version())).expect("the file exists");
    let file: BTreeMap<String, Value> = serde_json::from_str(&file).expect("it is JSON");
    for key in states.keys().chain(file.keys()) {
        assert_eq!(states.get(key), file.get(key), "another schema of `{key}` needs another version");
    }
}

/// The golden state of a version.
fn saved_by(version: u32) -> Records {
    let file = std::fs::read_to_string(golden(version)).expect("the file exists");
    let states: BTreeMap<String, Value> = serde_json::from_str(&file).expect("it is JSON");
    states.into_iter().map(|(key, state)| (key, state.to_string().into_bytes())).collect()
}

fn loaded_by(version: u32) -> (WorkerTable, BTreeSet<String>) {
    let mut table = WorkerTable::new(settings(), 1);
    for (key, state) in saved_by(version) {
        assert_eq!(table.load(&Stored::new(&key, version, &state)), Ok(()));
    }
    let open = table.loaded().expect("a consistent state").iter().map(ToString::to_string).collect();
    (table, open)
}

/// A lane saved by an older build continues.
#[test]
fn every_schema_version_loads() {
    for older in 1..=version() {
        let (mut table, open) = loaded_by(older);
        assert_eq!(open, BTreeSet::from(["op-1".to_owned(), "op-2".to_owned()]));
        assert_eq!(table.len(), 4);
        let mut effects = Vec::new();
        table.command(CallCommand::Abandon(id(1)), &mut effects);
        let sent = Deadline::Register { key: 70, generation: 2, after_ms: 100 };
        assert!(effects.contains(&WorkerEffect::Deadline(sent)), "the queued call is sent: {effects:?}");
    }
}

/// A snapshot has one version for all keys, so the next save must replace all keys of an older
/// version.
#[test]
fn the_next_save_migrates_the_state_of_an_older_version() {
    for older in 1..=version() {
        let (mut records, (mut table, _)) = (saved_by(older), loaded_by(older));
        let changed = save(&mut table, &mut records);
        assert_eq!(changed.is_empty(), older == version(), "{changed:?}");
        let values =
            |records: &Records| records.iter().map(|(key, state)| (key.clone(), value(state))).collect::<Vec<_>>();
        assert_eq!(values(&records), values(&saved_by(version())));
        assert!(save(&mut table, &mut records).is_empty());
        assert!(load(&records, 3).is_ok());
    }
}

/// A call that ends between loading and saving leaves no key of either version.
#[test]
fn calls_of_version_1_that_end_leave_no_keys() {
    let (mut records, (mut table, _)) = (saved_by(1), loaded_by(1));
    for n in [1, 2, 4, 5] {
        table.command(CallCommand::Abandon(id(n)), &mut Vec::new());
    }
    save(&mut table, &mut records);
    assert_eq!(records.keys().collect::<Vec<_>>(), ["ended/0", "ended/1", "table"]);
}
