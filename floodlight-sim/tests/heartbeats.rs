//! The heartbeats of a speaker.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

mod support;

use std::time::Duration;

use bus::{Bus as _, Clock as _, Task as _, TopicSpec};
use floodlight_sim::{FaultKind, SpeakerService};
use spoke::{SpokeOptions, SpokeTask};
use support::{DOWN, World, crash, install, reply_to, settle};
use wire::alive::Heartbeat;
use wire::topics::Topics;
use wire::{Kind, WallTime};

fn alive() -> String {
    Topics::default().alive("speaker")
}

fn options(every_ms: u64) -> SpokeOptions {
    SpokeOptions { heartbeat_ms: every_ms, ..SpokeOptions::default() }
}

fn world() -> World {
    let world = World::new();
    world.bus.ensure_topic(&TopicSpec::log(&alive(), 1)).unwrap();
    world
}

/// The time of each heartbeat, in milliseconds since the first, and whether it says goodbye.
fn beats(world: &World) -> Vec<(u64, bool)> {
    let mut reader = world.bus.reader().unwrap();
    reader.assign(&alive(), 0, 0).unwrap();
    let mut records = Vec::new();
    reader.poll(1_000, Duration::ZERO, &mut records).unwrap();
    let mut ids = Vec::new();
    let mut first = None;
    let beats = records
        .iter()
        .map(|record| {
            let envelope = record.headers.envelope().unwrap();
            assert_eq!((envelope.kind, record.key.as_deref()), (Kind::Heartbeat, Some(&b"speaker-0"[..])));
            ids.push(envelope.id);
            let body: Heartbeat = serde_json::from_slice(&record.value).unwrap();
            assert_eq!((body.instance.as_str(), body.every_ms), ("speaker-0", 500));
            let WallTime(at) = envelope.time.unwrap();
            (at - *first.get_or_insert(at), body.bye)
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), records.len(), "all ids are different");
    beats
}

/// Polls the task for `ms` milliseconds of virtual time.
fn run(world: &World, task: &mut SpokeTask<SpeakerService>, ms: u64) {
    let until = world.clock.mono().plus_ms(ms);
    loop {
        match settle(task).next.filter(|next| *next <= until) {
            Some(next) => world.clock.advance_to(next),
            None => break world.clock.advance_to(until),
        }
    }
}

#[test]
fn heartbeats_come_at_the_interval_and_end_with_a_goodbye() {
    let world = world();
    let mut task = world.task_with("speaker-0", &options(500));
    run(&world, &mut task, 1_700);
    assert_eq!(task.stop(), [""; 0]);
    assert_eq!(beats(&world), [(0, false), (500, false), (1_000, false), (1_500, false), (1_700, true)]);
}

#[test]
fn there_are_no_heartbeats_by_default_or_with_interval_0() {
    let world = world();
    for options in [SpokeOptions::default(), options(0)] {
        let mut task = world.task_with("speaker-0", &options);
        assert_eq!(settle(&mut task).next, None);
        task.stop();
    }
    assert_eq!(beats(&world), []);
}

#[test]
fn a_crashed_speaker_sends_neither_heartbeats_nor_goodbye() {
    let world = world();
    let mut task = world.task_with("speaker-0", &options(500));
    run(&world, &mut task, 600);
    world.fault(crash(1, false));
    world.send(install(1, 1));
    run(&world, &mut task, 5_000);
    assert_eq!(settle(&mut task), DOWN);
    assert_eq!(beats(&world), [(0, false), (500, false)]);
    world.speaker.restart().unwrap();
    run(&world, &mut task, 400);
    assert_eq!(beats(&world), [(0, false), (500, false), (5_600, false)]);
    world.speaker.crash(false);
    run(&world, &mut task, 0);
    task.stop();
    assert_eq!(beats(&world).len(), 3);
}

#[test]
fn heartbeats_can_stop_while_the_speaker_answers() {
    let mut world = world();
    let mut task = world.task_with("speaker-0", &options(500));
    world.speaker.stop_heartbeats(true);
    world.send(install(1, 1));
    run(&world, &mut task, 1_200);
    assert_eq!((world.answers(), beats(&world)), (vec![reply_to(1, 1)], vec![]));
    world.speaker.stop_heartbeats(false);
    run(&world, &mut task, 300);
    world.speaker.stop_heartbeats(true);
    task.stop();
    assert_eq!(beats(&world), [(0, false)], "stopped heartbeats end without a goodbye");
}

#[test]
fn heartbeats_continue_while_the_speaker_is_silent() {
    let mut world = world();
    let mut task = world.task_with("speaker-0", &options(500));
    world.fault(FaultKind::Silence);
    world.send(install(1, 1));
    run(&world, &mut task, 500);
    assert_eq!((world.answers(), beats(&world).len()), (vec![], 2));
}

#[test]
fn failed_heartbeats_do_not_stop_answers() {
    let mut world = world();
    let mut task = world.task_with("speaker-0", &options(500));
    world.fail_appends(2);
    world.send(install(1, 1));
    run(&world, &mut task, 1_100);
    assert_eq!((world.answers(), beats(&world)), (vec![reply_to(1, 1)], vec![(0, false)]));

    let world = World::new();
    let mut task = world.task_with("speaker-0", &options(500));
    run(&world, &mut task, 1_100);
    assert_eq!(
        task.stop(),
        ["speaker-0: the last heartbeat was not sent: topic `nave.spoke.speaker.alive` does not exist"]
    );
}
