//! A speaker with a directory, killed between any two of doing, keeping and telling: rules and memory stand together.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use std::path::PathBuf;

use bus::{MonoTime, Part as _};
use floodlight_sim::memory::Memo;
use floodlight_sim::tables::{Change, Fact, Numbered};
use floodlight_sim::{Deed, Request, Speaker, SpeakerHandle, Store, StoreError};
use support::{Fate, World, crash, install, reply_to, settle};
use wire::WallTime;
use wire::speaker::{Action, Command, SwitchId};

/// An empty directory of this name.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", directory.display()),
        Ok(()) | Err(_) => directory,
    }
}

/// A world whose speaker is kept there. The one before must be gone.
fn reopen(world: &mut World, directory: &std::path::Path) {
    world.speaker = SpeakerHandle::new();
    world.speaker = SpeakerHandle::open(directory).unwrap();
}

fn executed(speaker: &SpeakerHandle) -> usize {
    speaker.audit().iter().filter(|entry| matches!(entry.deed, Deed::Executed { .. })).count()
}

#[test]
fn a_speaker_that_is_opened_again_has_its_rules_and_answers_repeats_the_same() {
    let directory = directory("again");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut part = world.part("speaker-0");
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    settle(&mut part);
    let rules = world.speaker.all_rules();
    assert_eq!((world.told().len(), rules.len()), (3, 3));
    part.stop();

    reopen(&mut world, &directory);
    assert_eq!(world.speaker.all_rules(), rules);
    let mut part = world.part("speaker-1");
    world.send(install(2, 2));
    world.send(install(4, 1));
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(2, 2), reply_to(4, 1)]);
    let deeds: Vec<Deed> = world.speaker.audit().into_iter().map(|entry| entry.deed).collect();
    assert_eq!(deeds, [Deed::Remembered, Deed::Executed { existed: false }]);
}

#[test]
fn killed_between_doing_and_keeping_it_has_neither_rule_nor_memory() {
    let directory = directory("unkept");
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
fn killed_between_keeping_and_telling_it_tells_from_memory_what_it_has_done() {
    let directory = directory("untold");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut part = world.part("speaker-0");
    world.fault(crash(2, false));
    world.send(install(1, 1));
    world.send(install(2, 1));
    settle(&mut part);
    assert_eq!((world.told(), world.speaker.all_rules().len()), (vec![], 2));
    drop(part);
    world.bus.expel(support::TOPIC);

    reopen(&mut world, &directory);
    assert_eq!(world.speaker.all_rules().len(), 2);
    let mut part = world.part("speaker-1");
    settle(&mut part);
    assert_eq!((world.told(), executed(&world.speaker)), (vec![reply_to(1, 1), reply_to(2, 1)], 0));
}

#[test]
fn killed_after_telling_it_repeats_nothing_and_remembers_all() {
    let directory = directory("told");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut part = world.part("speaker-0");
    world.fault(crash(1, true));
    world.send(install(1, 1));
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(1, 1)]);
    drop(part);
    world.bus.expel(support::TOPIC);

    reopen(&mut world, &directory);
    let mut part = world.part("speaker-1");
    world.send(install(1, 2));
    settle(&mut part);
    assert_eq!((world.told(), executed(&world.speaker)), (vec![reply_to(1, 2)], 0));
}

/// What could not be committed is told by the same process later, whatever became of the commit; it was kept once.
#[test]
fn a_commit_that_fails_changes_nothing_in_what_is_kept() {
    for fate in [Fate::Fails, Fate::IsFenced, Fate::HappensInSilence, Fate::IsLostInSilence] {
        let directory = directory("fated");
        let mut world = World::new();
        reopen(&mut world, &directory);
        let mut part = world.part("speaker-0");
        world.fate(fate);
        world.send(install(1, 1));
        settle(&mut part);
        world.clock.advance_ms(50);
        settle(&mut part);
        assert_eq!(world.told(), [reply_to(1, 1)], "{fate:?}");
        part.stop();
        reopen(&mut world, &directory);
        assert_eq!(world.speaker.all_rules().len(), 1, "{fate:?}");
    }
}

#[test]
fn a_new_process_after_a_crash_has_what_was_kept_and_is_the_same_speaker() {
    let directory = directory("restart");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut part = world.part("speaker-0");
    world.fault(crash(1, false));
    world.send(install(1, 1));
    settle(&mut part);
    world.speaker.restart().unwrap();
    settle(&mut part);
    assert_eq!((world.told(), world.executed()), (vec![reply_to(1, 1)], 1));
    assert_eq!(world.speaker.all_rules().len(), 1);
}

/// A copy of the file at any moment is what a process that is killed there leaves behind.
#[test]
fn at_any_moment_the_file_has_the_rules_and_the_memory_of_the_last_turn() {
    let (directory, copy) = (directory("moments"), directory("moments-copy"));
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut part = world.part("speaker-0");
    for n in 1..=12 {
        let mut request = install(n, 1);
        if n % 3 == 0 {
            // Takes away what came before it, by an undo that names it.
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
        settle(&mut part);
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
    assert!(first.is_kept());
    let error = SpeakerHandle::open(&directory).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(first);
    SpeakerHandle::open(&directory).unwrap();
}

#[test]
fn a_directory_that_cannot_be_read_is_said_to_be_damaged() {
    for garbage in [&b"this is no store"[..], &[0; 10_000]] {
        let directory = directory("garbage");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("speaker.redb"), garbage).unwrap();
        let error = SpeakerHandle::open(&directory).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("take it away to begin with empty tables"), "{error}");
    }
}

#[test]
fn a_torn_file_is_said_to_be_damaged_or_opens_as_it_was() {
    let directory = directory("torn");
    let mut world = World::new();
    reopen(&mut world, &directory);
    let mut part = world.part("speaker-0");
    world.send(install(1, 1));
    settle(&mut part);
    part.stop();
    world.speaker = SpeakerHandle::new();
    let file = directory.join("speaker.redb");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = 0;
    for part in 1..16 {
        std::fs::write(&file, &whole[..whole.len() * part / 16]).unwrap();
        match SpeakerHandle::open(&directory) {
            Ok(speaker) => assert_eq!(speaker.all_rules().len(), 1, "{part}/16"),
            Err(error) => {
                damaged += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "{part}/16: {error}");
            }
        }
    }
    assert!(damaged > 0);
}

#[test]
fn a_directory_that_is_a_file_cannot_be_used() {
    let directory = directory("file");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("file");
    std::fs::write(&file, "x").unwrap();
    let error = SpeakerHandle::open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

#[test]
fn a_directory_of_another_version_is_left_alone() {
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
fn what_is_forgotten_is_gone_from_the_disk_too() {
    let directory = directory("forgotten");
    let mut store = Store::open(&directory).unwrap();
    let call = |n| wire::CallId::new(wire::OperationId::new("op").unwrap(), 1, n);
    let undone = |n: u32| Change::Remembered(Numbered { number: n.into(), fact: Fact::Undone { call: call(n) } });
    store.write(&[undone(1), undone(2)]).unwrap();
    store.write(&[Change::Forgotten { memo: Memo::Undone, number: 1 }, undone(3)]).unwrap();
    drop(store);
    let tables = Store::open(&directory).unwrap().tables().unwrap();
    assert_eq!([1, 2, 3].map(|n| tables.memory().is_undone(&call(n))), [false, true, true]);
}
