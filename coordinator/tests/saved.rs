//! Saving and loading the deadlines of a lane: nothing is forgotten, and inconsistent states are
//! refused.

use std::collections::BTreeMap;

use coordinator::table::{DeadlineTable, WheelChange};
use coordinator::{CoordinatorBolt, Deadline};
use proptest::prelude::*;
use serde_json::Value;
use topology::{Saver, Stored, SystemBolt, Unreadable};

fn version() -> u32 {
    CoordinatorBolt::default().schema().expect("it is saved").version
}

/// The saved states by key.
type Records = BTreeMap<String, Vec<u8>>;

/// Saves the changes and returns the number of changed keys.
fn save(table: &mut DeadlineTable, records: &mut Records) -> usize {
    let (mut taken, mut fault) = (Vec::new(), None);
    table.save(&mut Saver::new("coordinator", &mut taken, &mut fault));
    assert_eq!(fault, None);
    let changes = taken.len();
    for change in taken {
        let key = change.key.strip_prefix("coordinator/").expect("all keys follow the name").to_owned();
        match change.state {
            Some(state) => drop(records.insert(key, state)),
            None => assert!(records.remove(&key).is_some(), "`{key}` was deleted but never saved"),
        }
    }
    changes
}

/// Loads a table with the keys in an order that depends on `chance`.
fn load(records: &Records, chance: u64) -> Result<DeadlineTable, Unreadable> {
    let mut keys: Vec<_> = records.iter().collect();
    keys.sort_by_key(|(key, _)| {
        key.bytes().fold(chance, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    let mut table = DeadlineTable::default();
    for (key, state) in keys {
        table.load(&Stored::new(key, version(), state))?;
    }
    Ok(table)
}

#[derive(Debug, Clone)]
enum Step {
    On(u16, Deadline),
    Passed(u64, u32),
}

/// The visible results of a step.
type Results = (Option<WheelChange>, Option<(u16, u64, u32)>, Option<u64>, usize);

fn on(table: &mut DeadlineTable, step: &Step) -> Results {
    match *step {
        Step::On(owner, deadline) => {
            let (Deadline::Register { key, .. } | Deadline::Cancel { key }) = deadline;
            let change = table.on(owner, deadline);
            (change, None, table.registered(owner, key), table.len())
        }
        Step::Passed(timer, generation) => {
            let passed = table.passed(timer, generation).map(|(owner, out)| (owner, out.key, out.generation));
            (None, passed, None, table.len())
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    // A few blocks of a few timers that recur, and the very last block.
    let key = prop_oneof![8 => 0..200_u64, 1 => (1_u64 << 48) - 3..1 << 48];
    let owner = prop::sample::select(vec![0_u16, 1, u16::MAX]);
    let register = (key.clone(), 0..3_u32, 0..100_u64).prop_map(|(key, generation, after_ms)| Deadline::Register {
        key,
        generation,
        after_ms,
    });
    let passed = |(owner, key, generation)| Step::Passed(DeadlineTable::timer(owner, key), generation);
    prop_oneof![
        4 => (owner.clone(), register).prop_map(|(owner, register)| Step::On(owner, register)),
        3 => (owner.clone(), key.clone()).prop_map(|(owner, key)| Step::On(owner, Deadline::Cancel { key })),
        3 => (owner, key, 0..3_u32).prop_map(passed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each round performs some steps and a save. In some rounds a new owner then loads the saved
    /// state.
    #[test]
    fn a_loaded_table_behaves_like_the_saved_one(
        rounds in prop::collection::vec((prop::collection::vec(step(), 0..60), any::<bool>(), any::<u64>()), 1..8)
    ) {
        let (mut records, mut past) = (Records::new(), Vec::new());
        let (mut original, mut lane) = (DeadlineTable::default(), DeadlineTable::default());
        for (steps, moves, chance) in rounds {
            for step in &steps {
                prop_assert_eq!(on(&mut lane, step), on(&mut original, step));
            }
            save(&mut lane, &mut records);
            prop_assert_eq!(save(&mut lane, &mut records), 0, "nothing has changed since the save");

            past.extend(steps);
            let (mut scratch, mut from_scratch) = (DeadlineTable::default(), Records::new());
            for step in &past {
                on(&mut scratch, step);
            }
            save(&mut scratch, &mut from_scratch);
            prop_assert_eq!(&records, &from_scratch, "no change was forgotten");

            if moves {
                lane = load(&records, chance).expect("it was saved");
                prop_assert_eq!(save(&mut lane, &mut records), 0, "a loaded state needs no save");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_deadlines_take_1563_records() {
    let (mut table, mut records) = (DeadlineTable::default(), Records::new());
    for key in 0..100_000 {
        table.on(3, Deadline::Register { key, generation: 1, after_ms: 100 });
    }
    assert_eq!(save(&mut table, &mut records), 1_563);
    table.on(3, Deadline::Cancel { key: 7 });
    assert_eq!(save(&mut table, &mut records), 1, "one change rewrites one record");
    let largest = records.values().map(Vec::len).max();
    assert!(largest < Some(1_600), "{largest:?}");
}

// ---- damage -------------------------------------------------------------------------------------------------------------

#[test]
fn an_inconsistent_state_is_refused_with_its_key() {
    let damaged = [
        ("1", "[[64,1],[65,1]", "EOF"),
        ("1", "", "EOF"),
        ("1", "{}", "invalid type: map"),
        ("1", "[[64,\"1\"]]", "invalid type: string"),
        ("1", "[[64,-1]]", "invalid value: integer `-1`"),
        ("1", "[[64,4294967296]]", "invalid value: integer `4294967296`"),
        ("1", "[[64]]", "invalid length 1"),
        ("1", "[[64,1,2]]", "trailing"),
        ("1", "[]", "it is empty"),
        ("1", "[[63,1]]", "timer 63 belongs to another block"),
        ("1", "[[64,1],[128,1]]", "timer 128 belongs to another block"),
        ("1", "[[65,1],[64,1]]", "not in ascending order"),
        ("1", "[[64,1],[64,2]]", "not in ascending order"),
        ("", "[[0,1]]", "not a block number"),
        ("x", "[[0,1]]", "not a block number"),
        ("01", "[[64,1]]", "not a block number"),
        ("-1", "[[0,1]]", "not a block number"),
        ("288230376151711744", "[[0,1]]", "not a block number"),
    ];
    for (key, state, why) in damaged {
        let refused = DeadlineTable::default().load(&Stored::new(key, version(), state.as_bytes())).unwrap_err().0;
        assert!(refused.contains(&format!("saved `{key}`")) && refused.contains(why), "{key}: {state}: {refused}");
    }
}

#[test]
fn duplicate_blocks_and_other_versions_are_refused() {
    let mut table = DeadlineTable::default();
    let block = Stored::new("0", version(), b"[[7,1]]");
    assert_eq!(table.load(&block), Ok(()));
    assert_eq!(table.load(&block), Err(Unreadable("saved `0` is inconsistent: it was loaded twice".into())));
    for version in [0, self::version() + 1] {
        let refused = DeadlineTable::default().load(&Stored::new("0", version, b"[[7,1]]")).unwrap_err().0;
        assert!(refused.contains("saved `0`") && refused.contains(&format!("version is {version}")), "{refused}");
    }
}

#[test]
fn a_truncated_block_is_refused() {
    let (mut table, mut records) = (DeadlineTable::default(), Records::new());
    for key in [1, 2, 40] {
        table.on(3, Deadline::Register { key, generation: 1, after_ms: 100 });
    }
    save(&mut table, &mut records);
    let (key, state) = records.pop_first().expect("it has a block");
    for cut in 0..state.len() {
        assert!(DeadlineTable::default().load(&Stored::new(&key, version(), &state[..cut])).is_err(), "cut at {cut}");
    }
}

// ---- golden states -----------------------------------------------------------------------------------------------------------

fn golden(version: u32) -> String {
    format!("{}/tests/golden/state-v{version}.json", env!("CARGO_MANIFEST_DIR"))
}

/// The saved state of a lane with deadlines of two owners.
fn example() -> Records {
    let (mut table, mut records) = (DeadlineTable::default(), Records::new());
    for key in [0, 1, 63, 64] {
        table.on(0, Deadline::Register { key, generation: 1, after_ms: 100 });
        table.on(3, Deadline::Register { key: key + 1_000, generation: 2, after_ms: 100 });
    }
    table.on(0, Deadline::Cancel { key: 1 });
    save(&mut table, &mut records);
    records
}

/// Another schema needs another version. `GOLDEN=write` writes the file of the current version.
#[test]
fn the_saved_state_matches_its_schema_version() {
    let read = |state: &Vec<u8>| serde_json::from_slice::<Value>(state).expect("it is JSON");
    let states: BTreeMap<String, Value> = example().iter().map(|(key, state)| (key.clone(), read(state))).collect();
    #[expect(clippy::disallowed_methods, reason = "a person asks this test to write its file")]
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        let lines: Vec<_> = states.iter().map(|(key, state)| format!("  \"{key}\": {state}")).collect();
        std::fs::write(golden(version()), format!("{{\n{}\n}}\n", lines.join(",\n"))).expect("the folder is there");
    }
    let file = std::fs::read_to_string(golden(version())).expect("the file exists");
    assert_eq!(states, serde_json::from_str(&file).expect("it is JSON"), "another schema needs another version");
}

/// A lane saved by an older build continues.
#[test]
fn every_schema_version_loads() {
    for version in 1..=self::version() {
        let file = std::fs::read_to_string(golden(version)).expect("the file exists");
        let states: BTreeMap<String, Value> = serde_json::from_str(&file).expect("it is JSON");
        let mut table = DeadlineTable::default();
        for (key, state) in states {
            assert_eq!(table.load(&Stored::new(&key, version, state.to_string().as_bytes())), Ok(()));
        }
        assert_eq!(table.len(), 7);
        assert_eq!((table.registered(0, 1), table.registered(0, 64)), (None, Some(64)));
        assert_eq!(table.passed(DeadlineTable::timer(3, 1_063), 2).map(|(owner, _)| owner), Some(3));
    }
}
