//! A table that is saved and loaded, compared with a twin that is neither.
#![expect(dead_code, reason = "each test file uses some of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coordinator::{Deadline, TimedOut};
use hub::{HubBolt, HubCommand, HubEffect, HubRequest, HubTable, Workflows};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::Value;
use topology::snapshot::Change;
use topology::{DueTimes, LaneInfo, Saver, Settings, Stored, SystemBolt, Unreadable};
use wire::call::{CallCommand, CallEnd};
use wire::{CallId, OperationId, WallTime};

/// Saved states by key.
pub(crate) type Saved = BTreeMap<String, Vec<u8>>;

pub(crate) struct NoTimers;

impl DueTimes for NoTimers {
    fn due(&self, _: u64) -> Option<WallTime> {
        None
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Input {
    Request(HubRequest),
    CallEnded(CallEnd),
    TimedOut(TimedOut),
    Command(HubCommand),
    Configure(Settings),
}

pub(crate) fn named(operation: &str) -> OperationId {
    OperationId::new(operation).expect("letters are allowed")
}

pub(crate) fn info() -> LaneInfo {
    LaneInfo {
        topology: "t".into(),
        stage: "s".into(),
        inbox: "i".into(),
        names: wire::topics::Topics::default(),
        lane: 1,
        lanes: 2,
    }
}

pub(crate) fn table<W: Workflows>(settings: &Settings) -> HubTable<W> {
    let mut table = HubTable::default();
    table.configure(settings, &info());
    table
}

pub(crate) fn give<W: Workflows>(table: &mut HubTable<W>, at: WallTime, input: Input) -> Vec<HubEffect> {
    let mut effects = Vec::new();
    match input {
        Input::Request(request) => table.request(at, request, &mut effects),
        Input::CallEnded(end) => table.call_ended(at, end, &mut effects),
        Input::TimedOut(timed_out) => table.timed_out(at, timed_out, &mut effects),
        Input::Command(command) => table.command(at, command, &mut effects),
        Input::Configure(settings) => table.configure(&settings, &info()),
    }
    effects
}

/// The changes since the last save.
pub(crate) fn changes<W: Workflows>(table: &mut HubTable<W>) -> Vec<Change> {
    let (mut taken, mut fault) = (Vec::new(), None);
    table.save(&mut Saver::new("hub", &mut taken, &mut fault));
    assert_eq!(fault, None);
    taken
}

/// Applies changes to the saved states.
pub(crate) fn apply(saved: &mut Saved, changes: Vec<Change>) {
    for Change { key, state } in changes {
        let key = key.strip_prefix("hub/").expect("the component's name").to_owned();
        match state {
            Some(state) => _ = saved.insert(key, state),
            None => assert!(saved.remove(&key).is_some(), "`{key}` was deleted but never saved"),
        }
    }
}

/// Loads a new table from saved states, with the keys in an order that depends on `seed`.
pub(crate) fn load<W: Workflows>(
    saved: &Saved,
    version: u32,
    settings: &Settings,
    seed: u64,
) -> Result<(HubTable<W>, Vec<String>), Unreadable> {
    let mut table = table(settings);
    let place = |key: &String| wire::hash::fnv1a(key.bytes()).wrapping_mul(seed | 1);
    let mut keys: Vec<(u64, &String)> = saved.keys().map(|key| (place(key), key)).collect();
    keys.sort_unstable();
    for (_, key) in keys {
        table.load(&Stored::new(key, version, &saved[key]))?;
    }
    let views = table.loaded()?;
    Ok((table, views.iter().map(|view| view.as_ref().to_owned()).collect()))
}

/// A table, its twin, and the inputs and effects so far.
pub(crate) struct World<W: Workflows> {
    pub(crate) table: HubTable<W>,
    twin: HubTable<W>,
    begun: Settings,
    settings: Settings,
    inputs: Vec<(WallTime, Input)>,
    pub(crate) saved: Saved,
    pub(crate) at: WallTime,
    pub(crate) timers: BTreeMap<u64, u32>,
    pub(crate) open: Vec<CallId>,
    /// Calls that the hub has abandoned.
    pub(crate) abandoned: Vec<CallId>,
    operations: Vec<OperationId>,
}

impl<W: Workflows> World<W> {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            table: table(settings),
            twin: table(settings),
            begun: settings.clone(),
            settings: settings.clone(),
            inputs: Vec::new(),
            saved: Saved::new(),
            at: WallTime(1_000),
            timers: BTreeMap::new(),
            open: Vec::new(),
            abandoned: Vec::new(),
            operations: Vec::new(),
        }
    }

    /// Gives an input to both tables and checks that their effects and views are equal.
    pub(crate) fn give(&mut self, input: Input) -> Result<Vec<HubEffect>, TestCaseError> {
        match &input {
            Input::Request(request) if !self.operations.contains(&request.operation) => {
                self.operations.push(request.operation.clone());
            }
            Input::Configure(settings) => self.settings = settings.clone(),
            Input::TimedOut(timed_out) => {
                if self.timers.get(&timed_out.key) == Some(&timed_out.generation) {
                    self.timers.remove(&timed_out.key);
                }
            }
            Input::CallEnded(end) => {
                self.open.retain(|call| *call != end.id);
                self.abandoned.retain(|call| *call != end.id);
            }
            Input::Request(_) | Input::Command(_) => {}
        }
        self.inputs.push((self.at, input.clone()));
        let effects = give(&mut self.table, self.at, input.clone());
        prop_assert_eq!(&effects, &give(&mut self.twin, self.at, input));
        self.looks_like_its_twin()?;
        for effect in &effects {
            match effect {
                HubEffect::Call(CallCommand::Start(call)) => self.open.push(call.id.clone()),
                HubEffect::Call(CallCommand::Abandon(id)) => {
                    self.open.retain(|open| open != id);
                    self.abandoned.push(id.clone());
                }
                HubEffect::Deadline(Deadline::Register { key, generation, .. }) => {
                    self.timers.insert(*key, *generation);
                }
                HubEffect::Deadline(Deadline::Cancel { key }) => _ = self.timers.remove(key),
                HubEffect::Answer { .. }
                | HubEffect::Ended(_)
                | HubEffect::CommandAnswer { .. }
                | HubEffect::Publish(_)
                | HubEffect::Changed(_)
                | HubEffect::Closed(_)
                | HubEffect::Count(_)
                | HubEffect::Log(..) => {}
            }
        }
        Ok(effects)
    }

    fn looks_like_its_twin(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.unfinished(), self.twin.unfinished());
        for operation in &self.operations {
            let view = |table: &HubTable<W>| table.view(operation.as_str(), &NoTimers);
            prop_assert_eq!(view(&self.table), view(&self.twin));
        }
        Ok(())
    }

    /// Saves the changes. The total must equal the first save of a table with the same inputs, so
    /// no change is forgotten.
    pub(crate) fn save(&mut self) -> Result<usize, TestCaseError> {
        let changes = changes(&mut self.table);
        let mut keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), count, "each key is saved once");
        apply(&mut self.saved, changes);
        let at_once = self.saved_at_once();
        prop_assert_eq!(readable(&self.saved), readable(&at_once));
        Ok(count)
    }

    fn saved_at_once(&self) -> Saved {
        let mut table = table::<W>(&self.begun);
        for (at, input) in &self.inputs {
            give(&mut table, *at, input.clone());
        }
        let mut saved = Saved::new();
        apply(&mut saved, changes(&mut table));
        saved
    }

    /// Loads a new table from the saved states. It has nothing to save and the same views as
    /// before.
    pub(crate) fn reload(&mut self, seed: u64) -> Result<(), TestCaseError> {
        self.save()?;
        let (mut table, mut views) = load(&self.saved, 1, &self.settings, seed)
            .map_err(|error| TestCaseError::fail(format!("the saved state cannot be loaded: {error}")))?;
        let mut live: Vec<String> = table.unfinished().iter().map(|line| operation_of(line)).collect();
        live.sort();
        views.sort();
        prop_assert_eq!(views, live);
        prop_assert_eq!(changes(&mut table), vec![], "nothing has changed since it was loaded");
        self.table = table;
        self.looks_like_its_twin()
    }
}

pub(crate) fn operation_of(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// States as text, for readable differences.
pub(crate) fn readable(saved: &Saved) -> BTreeMap<&str, String> {
    saved.iter().map(|(key, state)| (key.as_str(), String::from_utf8_lossy(state).into_owned())).collect()
}

// ---- golden states ----------------------------------------------------------------------------------------------------------

/// Compares the saved states with `tests/golden/state-v<version>/<file>.json`, and loads that file
/// in every version. With `GOLDEN=write` in the environment, writes the file of the current
/// version.
pub(crate) fn golden<W: Workflows>(file: &str, settings: &Settings, world: &World<W>) {
    let version = HubBolt::<W>::default().schema().expect("a hub is saved").version;
    let path = |version: u32| golden_path(file, version);
    let states: BTreeMap<&String, Value> =
        world.saved.iter().map(|(key, state)| (key, serde_json::from_slice(state).expect("JSON"))).collect();
    let present = format!("{}\n", serde_json::to_string_pretty(&states).expect("plain data"));
    #[expect(clippy::disallowed_methods, reason = "a person asks this test to write its golden file")]
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(path(version).parent().expect("a folder")).expect("it can be made");
        std::fs::write(path(version), &present).expect("it can be written");
    }
    for version in 1..=version {
        let (table, _) = load::<W>(&read_golden(file, version), version, settings, 7)
            .unwrap_or_else(|error| panic!("version {version} must still load: {error}"));
        assert_eq!(table.unfinished(), world.table.unfinished(), "version {version}");
    }
    let golden = std::fs::read_to_string(path(version)).expect("it is there");
    assert_eq!(
        golden, present,
        "the schema of saved states has changed: use a new version or, if this one was never released, GOLDEN=write"
    );
}

fn golden_path(file: &str, version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/state-v{version}/{file}.json"))
}

/// The states of a golden file.
pub(crate) fn read_golden(file: &str, version: u32) -> Saved {
    let text = std::fs::read_to_string(golden_path(file, version)).expect("it is there; write it with GOLDEN=write");
    let states: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
    states.into_iter().map(|(key, state)| (key, state.to_string().into_bytes())).collect()
}
