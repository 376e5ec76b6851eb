//! The deadlines of a lane, saved and loaded: nothing is forgotten, and nothing is taken that does not fit.

use std::collections::BTreeMap;

use coordinator::table::{Table, WheelChange};
use coordinator::{CoordinatorBolt, Deadline};
use proptest::prelude::*;
use serde_json::Value;
use topology::{Bolt, Keeps, Saver, Stored, Unreadable};

const VERSION: u32 = match CoordinatorBolt::KEEPS {
    Keeps::Saved(version) => version,
    Keeps::Everything | Keeps::Nothing => panic!("it is saved"),
};

/// What is kept outside of the lane: the state of each key.
type Kept = BTreeMap<String, Vec<u8>>;

/// Saves what has changed; gives how many keys did.
fn save(table: &mut Table, kept: &mut Kept) -> usize {
    let (mut taken, mut fault) = (Vec::new(), None);
    table.save(&mut Saver::new("coordinator", &mut taken, &mut fault));
    assert_eq!(fault, None);
    let changes = taken.len();
    for change in taken {
        let key = change.key.strip_prefix("coordinator/").expect("all keys follow the name").to_owned();
        match change.state {
            Some(state) => drop(kept.insert(key, state)),
            None => assert!(kept.remove(&key).is_some(), "`{key}` is gone that was never saved"),
        }
    }
    changes
}

/// A table from what was kept, loaded in an order by chance.
fn load(kept: &Kept, chance: u64) -> Result<Table, Unreadable> {
    let mut keys: Vec<_> = kept.iter().collect();
    keys.sort_by_key(|(key, _)| {
        key.bytes().fold(chance, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    let mut table = Table::default();
    for (key, state) in keys {
        table.load(&Stored::new(key, VERSION, state))?;
    }
    Ok(table)
}

#[derive(Debug, Clone)]
enum Step {
    On(u16, Deadline),
    Passed(u64, u32),
}

/// What comes of a step: all that a caller of the table can see.
type Came = (Option<WheelChange>, Option<(u16, u64, u32)>, Option<u64>, usize);

fn on(table: &mut Table, step: &Step) -> Came {
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
    // A few blocks, each with a few timers that come again, and the last block of all.
    let key = prop_oneof![8 => 0..200_u64, 1 => (1_u64 << 48) - 3..1 << 48];
    let owner = prop::sample::select(vec![0_u16, 1, u16::MAX]);
    let register = (key.clone(), 0..3_u32, 0..100_u64).prop_map(|(key, generation, after_ms)| Deadline::Register {
        key,
        generation,
        after_ms,
    });
    let passed = |(owner, key, generation)| Step::Passed(Table::timer(owner, key), generation);
    prop_oneof![
        4 => (owner.clone(), register).prop_map(|(owner, register)| Step::On(owner, register)),
        3 => (owner.clone(), key.clone()).prop_map(|(owner, key)| Step::On(owner, Deadline::Cancel { key })),
        3 => (owner, key, 0..3_u32).prop_map(passed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// In each round some steps, then a save; in some a new owner, which goes on from what was kept.
    #[test]
    fn a_table_that_was_loaded_goes_on_as_the_one_that_was_saved(
        rounds in prop::collection::vec((prop::collection::vec(step(), 0..60), any::<bool>(), any::<u64>()), 1..8)
    ) {
        let (mut kept, mut past) = (Kept::new(), Vec::new());
        let (mut never_left, mut lane) = (Table::default(), Table::default());
        for (steps, moves, chance) in rounds {
            for step in &steps {
                prop_assert_eq!(on(&mut lane, step), on(&mut never_left, step));
            }
            save(&mut lane, &mut kept);
            prop_assert_eq!(save(&mut lane, &mut kept), 0, "what was saved has not changed");

            past.extend(steps);
            let (mut scratch, mut from_scratch) = (Table::default(), Kept::new());
            for step in &past {
                on(&mut scratch, step);
            }
            save(&mut scratch, &mut from_scratch);
            prop_assert_eq!(&kept, &from_scratch, "no change was forgotten");

            if moves {
                lane = load(&kept, chance).expect("it was saved");
                prop_assert_eq!(save(&mut lane, &mut kept), 0, "what was loaded is saved");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_deadlines_are_some_two_thousand_records() {
    let (mut table, mut kept) = (Table::default(), Kept::new());
    for key in 0..100_000 {
        table.on(3, Deadline::Register { key, generation: 1, after_ms: 100 });
    }
    assert_eq!(save(&mut table, &mut kept), 1_563);
    table.on(3, Deadline::Cancel { key: 7 });
    assert_eq!(save(&mut table, &mut kept), 1, "and one change is one of them");
    let largest = kept.values().map(Vec::len).max();
    assert!(largest < Some(1_600), "{largest:?}");
}

// ---- damage -------------------------------------------------------------------------------------------------------------

#[test]
fn what_does_not_fit_is_refused_with_its_key() {
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
        ("1", "[[63,1]]", "timer 63 is of another block"),
        ("1", "[[64,1],[128,1]]", "timer 128 is of another block"),
        ("1", "[[65,1],[64,1]]", "not in ascending order"),
        ("1", "[[64,1],[64,2]]", "not in ascending order"),
        ("", "[[0,1]]", "not the number of a block"),
        ("x", "[[0,1]]", "not the number of a block"),
        ("01", "[[64,1]]", "not the number of a block"),
        ("-1", "[[0,1]]", "not the number of a block"),
        ("288230376151711744", "[[0,1]]", "not the number of a block"),
    ];
    for (key, state, why) in damaged {
        let refused = Table::default().load(&Stored::new(key, VERSION, state.as_bytes())).unwrap_err().0;
        assert!(refused.contains(&format!("saved `{key}`")) && refused.contains(why), "{key}: {state}: {refused}");
    }
}

#[test]
fn a_block_that_comes_twice_and_another_version_are_refused() {
    let mut table = Table::default();
    let block = Stored::new("0", VERSION, b"[[7,1]]");
    assert_eq!(table.load(&block), Ok(()));
    assert_eq!(table.load(&block), Err(Unreadable("saved `0` does not fit: it came twice".into())));
    for version in [0, VERSION + 1] {
        let refused = Table::default().load(&Stored::new("0", version, b"[[7,1]]")).unwrap_err().0;
        assert!(refused.contains("saved `0`") && refused.contains(&format!("version is {version}")), "{refused}");
    }
}

#[test]
fn a_block_that_was_cut_anywhere_is_refused() {
    let (mut table, mut kept) = (Table::default(), Kept::new());
    for key in [1, 2, 40] {
        table.on(3, Deadline::Register { key, generation: 1, after_ms: 100 });
    }
    save(&mut table, &mut kept);
    let (key, state) = kept.pop_first().expect("it has a block");
    for cut in 0..state.len() {
        assert!(Table::default().load(&Stored::new(&key, VERSION, &state[..cut])).is_err(), "cut at {cut}");
    }
}

// ---- for ever -----------------------------------------------------------------------------------------------------------

fn golden(version: u32) -> String {
    format!("{}/tests/golden/state-v{version}.json", env!("CARGO_MANIFEST_DIR"))
}

/// What a lane saves that has deadlines of two owners.
fn example() -> Kept {
    let (mut table, mut kept) = (Table::default(), Kept::new());
    for key in [0, 1, 63, 64] {
        table.on(0, Deadline::Register { key, generation: 1, after_ms: 100 });
        table.on(3, Deadline::Register { key: key + 1_000, generation: 2, after_ms: 100 });
    }
    table.on(0, Deadline::Cancel { key: 1 });
    save(&mut table, &mut kept);
    kept
}

/// Another form needs another version. `GOLDEN=write` writes the file of this one.
#[test]
fn the_form_is_that_of_its_version() {
    let read = |state: &Vec<u8>| serde_json::from_slice::<Value>(state).expect("it is JSON");
    let states: BTreeMap<String, Value> = example().iter().map(|(key, state)| (key.clone(), read(state))).collect();
    #[expect(clippy::disallowed_methods, reason = "a person asks this test to write its file")]
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        let lines: Vec<_> = states.iter().map(|(key, state)| format!("  \"{key}\": {state}")).collect();
        std::fs::write(golden(VERSION), format!("{{\n{}\n}}\n", lines.join(",\n"))).expect("the folder is there");
    }
    let file = std::fs::read_to_string(golden(VERSION)).expect("the file is kept");
    assert_eq!(states, serde_json::from_str(&file).expect("it is JSON"), "another form is another version");
}

/// A lane that an older build has saved goes on.
#[test]
fn every_form_that_ever_was_loads() {
    for version in 1..=VERSION {
        let file = std::fs::read_to_string(golden(version)).expect("the file is kept");
        let states: BTreeMap<String, Value> = serde_json::from_str(&file).expect("it is JSON");
        let mut table = Table::default();
        for (key, state) in states {
            assert_eq!(table.load(&Stored::new(&key, version, state.to_string().as_bytes())), Ok(()));
        }
        assert_eq!(table.len(), 7);
        assert_eq!((table.registered(0, 1), table.registered(0, 64)), (None, Some(64)));
        assert_eq!(table.passed(Table::timer(3, 1_063), 2).map(|(owner, _)| owner), Some(3));
    }
}
