//! A speaker that says that it lives.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use std::time::Duration;

use bus::{Bus as _, Clock as _, Part as _, TopicSpec};
use floodlight_sim::{FaultKind, Heartbeats, SpeakerOptions, SpeakerPart};
use support::{DOWN, World, crash, install, reply_to, settle};
use wire::alive::Heartbeat;
use wire::topics::Topics;
use wire::{Kind, WallTime};

fn alive() -> String {
    Topics::default().alive("speaker")
}

fn beating(every_ms: u64) -> SpeakerOptions {
    let heartbeats = Heartbeats { every_ms, ..Heartbeats::new(&alive(), "speaker-0") };
    SpeakerOptions { heartbeats: Some(heartbeats), ..SpeakerOptions::default() }
}

fn world() -> World {
    let world = World::new();
    world.bus.ensure_topic(&TopicSpec::log(&alive(), 1)).unwrap();
    world
}

/// When each heartbeat came, in milliseconds since the first, and whether it was the last.
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
    assert_eq!(ids.len(), records.len(), "each has an id of its own");
    beats
}

/// Turns it for so many milliseconds, whenever it asks for a turn.
fn run(world: &World, part: &mut SpeakerPart, ms: u64) {
    let until = world.clock.mono().plus_ms(ms);
    loop {
        match settle(part).next.filter(|next| *next <= until) {
            Some(next) => world.clock.advance_to(next),
            None => break world.clock.advance_to(until),
        }
    }
}

#[test]
fn it_beats_at_once_then_evenly_and_says_goodbye() {
    let world = world();
    let mut part = world.part_with("speaker-0", &beating(500));
    run(&world, &mut part, 1_700);
    assert_eq!(part.stop(), [""; 0]);
    assert_eq!(beats(&world), [(0, false), (500, false), (1_000, false), (1_500, false), (1_700, true)]);
}

#[test]
fn without_being_asked_or_with_an_interval_of_0_it_is_silent_and_idle() {
    let world = world();
    for options in [SpeakerOptions::default(), beating(0)] {
        let mut part = world.part_with("speaker-0", &options);
        assert_eq!(settle(&mut part).next, None);
        part.stop();
    }
    assert_eq!(beats(&world), []);
}

#[test]
fn one_that_is_dead_neither_beats_nor_says_goodbye() {
    let world = world();
    let mut part = world.part_with("speaker-0", &beating(500));
    run(&world, &mut part, 600);
    world.fault(crash(1, false));
    world.send(install(1, 1));
    run(&world, &mut part, 5_000);
    assert_eq!(settle(&mut part), DOWN);
    assert_eq!(beats(&world), [(0, false), (500, false)]);
    world.speaker.restart().unwrap();
    run(&world, &mut part, 400);
    assert_eq!(beats(&world), [(0, false), (500, false), (5_600, false)]);
    world.speaker.crash(false);
    run(&world, &mut part, 0);
    part.stop();
    assert_eq!(beats(&world).len(), 3);
}

#[test]
fn its_heart_can_stop_while_it_goes_on_answering() {
    let mut world = world();
    let mut part = world.part_with("speaker-0", &beating(500));
    world.speaker.stop_heart(true);
    world.send(install(1, 1));
    run(&world, &mut part, 1_200);
    assert_eq!((world.told(), beats(&world)), (vec![reply_to(1, 1)], vec![]));
    world.speaker.stop_heart(false);
    run(&world, &mut part, 300);
    world.speaker.stop_heart(true);
    part.stop();
    assert_eq!(beats(&world), [(0, false)], "a stopped heart says no goodbye");
}

#[test]
fn it_can_be_silent_while_its_heart_beats_on() {
    let mut world = world();
    let mut part = world.part_with("speaker-0", &beating(500));
    world.fault(FaultKind::Silence);
    world.send(install(1, 1));
    run(&world, &mut part, 500);
    assert_eq!((world.told(), beats(&world).len()), (vec![], 2));
}

#[test]
fn heartbeats_that_cannot_be_told_are_lost_and_answers_are_told() {
    let mut world = world();
    let mut part = world.part_with("speaker-0", &beating(500));
    world.fail_appends(2);
    world.send(install(1, 1));
    run(&world, &mut part, 1_100);
    assert_eq!((world.told(), beats(&world)), (vec![reply_to(1, 1)], vec![(0, false)]));

    let world = World::new();
    let mut part = world.part_with("speaker-0", &beating(500));
    run(&world, &mut part, 1_100);
    assert_eq!(
        part.stop(),
        ["speaker: its last heartbeat could not be told: topic `nave.spoke.speaker.alive` does not exist"]
    );
}
