//! Time: deadlines are never early across a takeover, and a step of the wall clock changes nothing while the owner lives.

mod support;

use std::collections::BTreeMap;

use floodlight_sim::FaultKind;
use floodlight_sim::fault::Word;
use nave::world::World;
use serde_json::json;
use support::{fault, inject, not_at_rest, one_lane, outcome, rules};
use wire::WallTime;

/// When each attempt of each call was sent, as the bus stamped it.
fn attempts(world: &World) -> BTreeMap<String, Vec<WallTime>> {
    let mut sent: BTreeMap<String, Vec<WallTime>> = BTreeMap::new();
    for record in world.records(&world.system().speaker_topic()) {
        let envelope = record.headers.envelope().expect("workers write envelopes");
        sent.entry(envelope.call.expect("a call has its id").to_string()).or_default().push(record.time);
    }
    sent
}

/// The shortest time between two attempts of one call: an attempt waits 400 ms, then at least half of 100 ms.
const SHORTEST_MS: u64 = 450;

/// Says whether some call was tried again.
fn no_attempt_is_early(world: &World, what: &str) -> bool {
    let sent = attempts(world);
    let again = sent.values().any(|times| times.len() > 1);
    for (call, times) in sent {
        for pair in times.windows(2) {
            let pause = pair[1].ms_since(pair[0]);
            assert!(pause >= SHORTEST_MS, "{what}: call {call} was tried again after {pause} ms");
        }
    }
    again
}

#[test]
fn no_attempt_is_given_up_early_when_its_owner_dies() {
    let mut tried_again = 0;
    for seed in 1..=4 {
        for at_ms in (0..1_500).step_by(50) {
            for dead_ms in [0, 100, 390, 5_000] {
                let mut world = one_lane(seed, |_| {});
                let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": 2}));
                world.run_ms(at_ms);
                world.kill_hub();
                world.run_ms(dead_ms);
                world.start_hub();
                world.run_until_idle();
                let what = format!("seed {seed}, killed at {at_ms} ms for {dead_ms} ms");
                tried_again += u32::from(no_attempt_is_early(&world, &what));
                assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "{what}");
            }
        }
    }
    assert!(tried_again > 300, "{tried_again} of 480");
}

/// The record that armed a deadline may be much older than the commit that did: it waited while nobody owned the lane.
#[test]
fn no_deadline_of_a_backlog_is_early_when_the_next_owner_dies_too() {
    let mut tried_again = 0;
    for error in [0, 2] {
        for before in 0..6 {
            for after in 0..24 {
                let mut world = one_lane(1, |_| {});
                let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
                world.run_turns(before);
                world.kill_hub();
                world.run_ms(5_000);
                world.start_hub();
                world.run_turns(after);
                world.kill_hub();
                world.start_hub();
                world.run_until_idle();
                let what = format!("error {error}, killed after {before} turns for 5 s, and again after {after}");
                tried_again += u32::from(no_attempt_is_early(&world, &what));
                let operation = world.operation(asked).expect("it is known");
                let began = world.records(&world.system().speaker_topic())[0].time;
                let gave_up =
                    operation.history.iter().find(|entry| entry.what.starts_with("failed")).expect("it did").at;
                let least = if error == 0 { 2_000 } else { 3 * 400 + 50 + 100 };
                assert!(gave_up.ms_since(began) >= least, "{what}: {operation:#?}");
                assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "{what}");
            }
        }
    }
    assert!(tried_again > 60, "{tried_again} of 144");
}

/// Lesson 5: durations are counted on the monotonic clock.
#[test]
fn a_step_of_the_wall_clock_in_mid_flow_changes_nothing_while_the_owner_lives() {
    for error in [json!(null), json!(0), json!(1), json!(2)] {
        for step_ms in [-6 * 3_600_000, -2_000, 2_000, 6 * 3_600_000_i64] {
            let ends = |at_ms: Option<u64>| {
                let mut world = one_lane(1, |_| {});
                inject(&world, fault(Word::Install, 1, FaultKind::DelayReply { ms: 150 }, Some(1)));
                let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
                if let Some(at_ms) = at_ms {
                    world.run_ms(at_ms);
                    world.clock().step_wall_ms(step_ms);
                }
                world.run_until_idle();
                assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0]);
                (outcome(&mut world, asked), rules(&world), world.now_ms())
            };
            let undisturbed = ends(None);
            for at_ms in (0..undisturbed.2).step_by(75) {
                assert_eq!(ends(Some(at_ms)), undisturbed, "error {error}: {step_ms} ms at {at_ms} ms");
            }
        }
    }
}
