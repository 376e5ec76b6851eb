//! A speaker with a directory: rules and memory match after a crash at any moment.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

mod support;

use std::path::PathBuf;

use bus::{MonoTime, Task as _};
use floodlight_sim::memory::FactKind;
use floodlight_sim::tables::{Change, Fact, NumberedFact};
use floodlight_sim::{CommandOutcome, Request, Speaker, SpeakerHandle, Store, StoreError};
use flow_messages::speaker::{Action, Command, SwitchId};
use support::{Fate, World, crash, install, reply_to, settle};
use wire::WallTime;

/// Returns the path of a missing directory with this name.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", directory.display()),
        Ok(()) | Err(_) => directory,
    }
}

/// Replaces the speaker of the world by one from this directory.
fn reopen(world: &mut World, directory: &std::path::Path) {
    // Drops the old speaker first: it uses the directory.
    world.speaker = SpeakerHandle::new();
    world.speaker = SpeakerHandle::open(directory).unwrap();
}

fn executed(speaker: &SpeakerHandle) -> usize {
    speaker.audit().iter().filter(|entry| matches!(entry.outcome, CommandOutcome::Executed { .. })).count()
}

#[test]
fn a_reopened_speaker_has_its_rules_and_its_memory() {
    let directory = directory("again");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut task = world.task("speaker-0");
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut task);
    let rules = world.speaker.all_rules();
    assert_eq!((world.answers().len(), rules.len()), (3, 3));
    task.stop();

    reopen(&mut world, &directory);
    assert_eq!(world.speaker.all_rules(), rules);
    let mut task = world.task("speaker-1");
    world.send(install(2, 2));
    world.send(install(4, 1));
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(2, 2), reply_to(4, 1)]);
    let outcomes: Vec<CommandOutcome> = world.speaker.audit().into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes, [CommandOutcome::Remembered, CommandOutcome::Executed { existed: false }]);
}

#[test]
fn a_kill_before_the_store_leaves_neither_rule_nor_memory() {
    let directory = directory("unstored");
    let store = Store::open(&directory).unwrap();
    let mut speaker = Speaker::default().with_tables(store.tables().unwrap());
    let outgoing = install(1, 1);
    let request = Request {
        key: outgoing.key.clone(),
        envelope: outgoing.headers.envelope().unwrap(),
        command: serde_json::from_slice(&outgoing.value).unwrap(),
    };
    speaker.on(MonoTime(0), WallTime(0), request.clone());
    assert_eq!(speaker.switches().all_rules().len(), 1);
    assert!(!speaker.take_changes().is_empty());
    drop((speaker, store));

    let tables = Store::open(&directory).unwrap().tables().unwrap();
    assert!(tables.switches().all_rules().is_empty());
    assert_eq!(tables.memory().reply(request.envelope.call.as_ref().unwrap()), None);
}

#[test]
fn a_kill_before_the_answer_leads_to_an_answer_from_memory() {
    let directory = directory("unanswered");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut task = world.task("speaker-0");
    world.fault(crash(2, false));
    world.send(install(1, 1));
    world.send(install(2, 1));
    settle(&mut task);
    assert_eq!((world.answers(), world.speaker.all_rules().len()), (vec![], 2));
    drop(task);
    world.bus.expel(support::TOPIC);

    reopen(&mut world, &directory);
    assert_eq!(world.speaker.all_rules().len(), 2);
    let mut task = world.task("speaker-1");
    settle(&mut task);
    assert_eq!((world.answers(), executed(&world.speaker)), (vec![reply_to(1, 1), reply_to(2, 1)], 0));
}

#[test]
fn a_kill_after_the_answer_repeats_nothing() {
    let directory = directory("answered");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut task = world.task("speaker-0");
    world.fault(crash(1, true));
    world.send(install(1, 1));
    settle(&mut task);
    assert_eq!(world.answers(), [reply_to(1, 1)]);
    drop(task);
    world.bus.expel(support::TOPIC);

    reopen(&mut world, &directory);
    let mut task = world.task("speaker-1");
    world.send(install(1, 2));
    settle(&mut task);
    assert_eq!((world.answers(), executed(&world.speaker)), (vec![reply_to(1, 2)], 0));
}

#[test]
fn a_failed_commit_does_not_change_the_stored_tables() {
    for fate in [Fate::Fails, Fate::Fenced, Fate::UnknownButCommitted, Fate::UnknownAndLost] {
        let directory = directory("fated");
        let mut world = World::new();
        reopen(&mut world, &directory);
        let mut task = world.task("speaker-0");
        world.fate(fate);
        world.send(install(1, 1));
        settle(&mut task);
        world.clock.advance_ms(50);
        settle(&mut task);
        assert_eq!(world.answers(), [reply_to(1, 1)], "{fate:?}");
        task.stop();
        reopen(&mut world, &directory);
        assert_eq!(world.speaker.all_rules().len(), 1, "{fate:?}");
    }
}

#[test]
fn a_restart_after_a_crash_loads_the_stored_tables() {
    let directory = directory("restart");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut task = world.task("speaker-0");
    world.fault(crash(1, false));
    world.send(install(1, 1));
    settle(&mut task);
    world.speaker.restart().unwrap();
    settle(&mut task);
    assert_eq!((world.answers(), world.executed()), (vec![reply_to(1, 1)], 1));
    assert_eq!(world.speaker.all_rules().len(), 1);
}

/// A copy of the file is what a kill at that moment leaves behind.
#[test]
fn the_file_has_the_rules_and_the_memory_after_every_poll() {
    let (directory, copy) = (directory("moments"), directory("moments-copy"));
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut task = world.task("speaker-0");
    for n in 1..=12 {
        let mut request = install(n, 1);
        if n % 3 == 0 {
            // Undoes the call before it.
            let mut envelope = request.headers.envelope().unwrap();
            envelope.kind = wire::Kind::Undo;
            envelope.undoes = vec![wire::CallId::new(wire::OperationId::new("op").unwrap(), 1, n - 1)];
            let action = Action::Remove { switch: SwitchId::numbered(8), cookie: u64::from(n) - 1 };
            request = bus::Outgoing {
                value: serde_json::to_vec(&Command { action, error: None }).unwrap().into(),
                ..request.with(&envelope)
            };
        }
        world.send(request);
        settle(&mut task);
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::copy(directory.join("speaker.redb"), copy.join("speaker.redb")).unwrap();
        let tables = Store::open(&copy).unwrap().tables().unwrap();
        assert_eq!(tables.switches().all_rules(), world.speaker.all_rules(), "after {n}");
        let call = |n| wire::CallId::new(wire::OperationId::new("op").unwrap(), 1, n);
        for i in 1..=n {
            assert!(tables.memory().reply(&call(i)).is_some(), "{i} after {n}");
            assert_eq!(tables.memory().is_undone(&call(i)), i % 3 == 2 && i < n, "{i} after {n}");
            assert_eq!(tables.memory().named(&SwitchId::numbered(8), i.into()).is_some(), i % 3 != 0, "{i} after {n}");
        }
    }
}

#[test]
fn a_directory_belongs_to_one_speaker_at_a_time() {
    let directory = directory("one");
    let first = SpeakerHandle::open(&directory).unwrap();
    assert!(first.is_persistent());
    let error = SpeakerHandle::open(&directory).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(first);
    SpeakerHandle::open(&directory).unwrap();
}

#[test]
fn a_corrupt_directory_is_reported_as_damaged() {
    for garbage in [&b"this is no store"[..], &[0; 10_000]] {
        let directory = directory("garbage");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("speaker.redb"), garbage).unwrap();
        let error = SpeakerHandle::open(&directory).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("remove it to start with empty tables"), "{error}");
    }
}

#[test]
fn a_truncated_file_is_reported_as_damaged_or_opens_unchanged() {
    let directory = directory("torn");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut task = world.task("speaker-0");
    world.send(install(1, 1));
    settle(&mut task);
    task.stop();
    world.speaker = SpeakerHandle::new();
    let file = directory.join("speaker.redb");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = 0;
    for sixteenths in 1..16 {
        std::fs::write(&file, &whole[..whole.len() * sixteenths / 16]).unwrap();
        match SpeakerHandle::open(&directory) {
            Ok(speaker) => assert_eq!(speaker.all_rules().len(), 1, "{sixteenths}/16"),
            Err(error) => {
                damaged += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "{sixteenths}/16: {error}");
            }
        }
    }
    assert!(damaged > 0);
}

#[test]
fn a_file_in_place_of_the_directory_is_unusable() {
    let directory = directory("file");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("file");
    std::fs::write(&file, "x").unwrap();
    let error = SpeakerHandle::open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

#[test]
fn a_directory_of_another_version_is_refused() {
    let directory = directory("version");
    drop(SpeakerHandle::open(&directory).unwrap());
    let database = redb::Database::open(directory.join("speaker.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("version", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = SpeakerHandle::open(&directory).unwrap_err();
    assert!(matches!(error, StoreError::Version { found: 2, .. }), "{error}");
}

#[test]
fn forgotten_facts_are_deleted_from_the_disk() {
    let directory = directory("forgotten");
    let mut store = Store::open(&directory).unwrap();
    let call = |n| wire::CallId::new(wire::OperationId::new("op").unwrap(), 1, n);
    let undone = |n: u32| Change::Remembered(NumberedFact { number: n.into(), fact: Fact::Undone { call: call(n) } });
    store.write(&[undone(1), undone(2)]).unwrap();
    store.write(&[Change::Forgotten { kind: FactKind::Undone, number: 1 }, undone(3)]).unwrap();
    drop(store);
    let tables = Store::open(&directory).unwrap().tables().unwrap();
    assert_eq!([1, 2, 3].map(|n| tables.memory().is_undone(&call(n))), [false, true, true]);
}
