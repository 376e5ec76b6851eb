//! Time: no deadline fires early after a takeover, and a step of the wall clock has no effect while
//! the owner is up.

mod support;

use std::collections::BTreeMap;

use floodlight_sim::FaultKind;
use floodlight_sim::fault::CommandKind;
use nave::testing::HUB;
use serde_json::json;
use support::{FlowWorld, fault, idle_violations, inject, one_lane, outcome, rules};
use wire::WallTime;

/// The broker timestamps of all attempts, by call.
fn attempts(world: &FlowWorld) -> BTreeMap<String, Vec<WallTime>> {
    let mut sent: BTreeMap<String, Vec<WallTime>> = BTreeMap::new();
    for record in world.lanes.records(&world.speaker_topic()) {
        let envelope = record.headers.envelope().expect("workers write envelopes");
        sent.entry(envelope.call.expect("a call has its id").to_string()).or_default().push(record.time);
    }
    sent
}

/// Shortest time between two attempts of a call: a timeout of 400 ms and at least half of the
/// backoff of 100 ms.
const SHORTEST_MS: u64 = 450;

/// Checks that no attempt is early. Returns true if a call was retried.
fn no_attempt_is_early(world: &FlowWorld, what: &str) -> bool {
    let sent = attempts(world);
    let retried = sent.values().any(|times| times.len() > 1);
    for (call, times) in sent {
        for pair in times.windows(2) {
            let backoff = pair[1].ms_since(pair[0]);
            assert!(backoff >= SHORTEST_MS, "{what}: call {call} was retried after {backoff} ms");
        }
    }
    retried
}

#[test]
fn no_attempt_times_out_early_after_an_owner_crash() {
    let mut retried = 0;
    for seed in 1..=4 {
        for at_ms in (0..1_500).step_by(50) {
            for down_ms in [0, 100, 390, 5_000] {
                let mut world = one_lane(seed, |_| {});
                let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": 2}));
                world.run_ms(at_ms);
                world.lanes.kill(HUB);
                world.run_ms(down_ms);
                world.lanes.start(HUB);
                world.run_until_idle();
                let what = format!("seed {seed}, killed at {at_ms} ms for {down_ms} ms");
                retried += u32::from(no_attempt_is_early(&world, &what));
                assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "{what}");
            }
        }
    }
    assert!(retried > 300, "{retried} of 480");
}

/// The record that armed a deadline may be much older than the commit that did, since it waited for
/// an owner of its lane.
#[test]
fn no_deadline_of_a_backlog_is_early_after_a_second_crash() {
    let mut retried = 0;
    for error in [0, 2] {
        for before in 0..6 {
            for after in 0..24 {
                let mut world = one_lane(1, |_| {});
                let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
                world.run_polls(before);
                world.lanes.kill(HUB);
                world.run_ms(5_000);
                world.lanes.start(HUB);
                world.run_polls(after);
                world.lanes.kill(HUB);
                world.lanes.start(HUB);
                world.run_until_idle();
                let what = format!("error {error}, killed after {before} polls for 5 s, and again after {after}");
                retried += u32::from(no_attempt_is_early(&world, &what));
                let operation = world.operation(asked).expect("the northbound knows the operation");
                let began = world.lanes.records(&world.speaker_topic())[0].time;
                let gave_up = operation
                    .history
                    .iter()
                    .find(|entry| entry.what.starts_with("failed"))
                    .expect("the history contains the failure")
                    .at;
                let least = if error == 0 { 2_000 } else { 3 * 400 + 50 + 100 };
                assert!(gave_up.ms_since(began) >= least, "{what}: {operation:#?}");
                assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "{what}");
            }
        }
    }
    assert!(retried > 60, "{retried} of 144");
}

/// Lesson 5: durations use the monotonic clock.
#[test]
fn a_wall_clock_step_does_not_affect_a_running_flow() {
    for error in [json!(null), json!(0), json!(1), json!(2)] {
        for step_ms in [-6 * 3_600_000, -2_000, 2_000, 6 * 3_600_000_i64] {
            let run = |at_ms: Option<u64>| {
                let mut world = one_lane(1, |_| {});
                inject(&world, fault(CommandKind::Install, 1, FaultKind::DelayReply { ms: 150 }, Some(1)));
                let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
                if let Some(at_ms) = at_ms {
                    world.run_ms(at_ms);
                    world.lanes.clock.step_wall_ms(step_ms);
                }
                world.run_until_idle();
                assert_eq!(idle_violations(&mut world, &[asked]), [""; 0]);
                (outcome(&mut world, asked), rules(&world), world.lanes.now_ms())
            };
            let undisturbed = run(None);
            for at_ms in (0..undisturbed.2).step_by(75) {
                assert_eq!(run(Some(at_ms)), undisturbed, "error {error}: {step_ms} ms at {at_ms} ms");
            }
        }
    }
}
