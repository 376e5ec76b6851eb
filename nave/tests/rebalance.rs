//! Lanes move between live hubs at any point of their flows.

mod support;

use nave::testing::{HUB, SentRequest};
use serde_json::json;
use support::{FlowWorld, flow, idle_violations, outcome, rules};

/// Starts flows in both lanes of a world, with every outcome among them.
fn start_flows(seed: u64) -> (FlowWorld, Vec<SentRequest>) {
    let mut world = support::world(seed);
    let asked = (0..8)
        .map(|i| {
            let mut body = flow(&format!("flow-{i}"), 3);
            body["error"] = [json!(null), json!(1), json!(null), json!(2)][i % 4].clone();
            world.request(&body)
        })
        .collect();
    (world, asked)
}

fn assert_same_outcomes(mut world: FlowWorld, asked: &[SentRequest], seed: u64, what: &str) {
    world.run_until_idle();
    let (mut undisturbed, expected) = start_flows(seed);
    undisturbed.run_until_idle();
    for (i, (one, other)) in asked.iter().zip(&expected).enumerate() {
        assert_eq!(outcome(&mut world, *one), outcome(&mut undisturbed, *other), "seed {seed}, {what}: flow {i}");
    }
    assert_eq!(rules(&world), rules(&undisturbed), "seed {seed}, {what}");
    assert_eq!(idle_violations(&mut world, asked), [""; 0], "seed {seed}, {what}");
}

#[test]
fn a_joining_hub_takes_over_a_lane_in_mid_flow() {
    for seed in 1..=2 {
        for turns in 0..120 {
            let (mut world, asked) = start_flows(seed);
            world.run_polls(turns);
            world.lanes.join_stage(HUB).unwrap();
            world.run_ms(100);
            let mut lanes = world.lanes.live(HUB);
            lanes.sort();
            assert_eq!(lanes, [[0], [1]], "each hub has one lane; seed {seed}, {turns} polls");
            assert_same_outcomes(world, &asked, seed, &format!("joined after {turns} polls"));
        }
    }
}

#[test]
fn a_stopping_hub_releases_its_lanes_in_mid_flow() {
    for seed in 1..=2 {
        for turns in (0..160).step_by(2) {
            let (mut world, asked) = start_flows(seed);
            world.lanes.join_stage(HUB).unwrap();
            world.run_polls(turns);
            world.lanes.stop(HUB);
            world.run_ms(100);
            assert_eq!(world.lanes.live(HUB), [[0, 1]], "the other hub has all lanes; seed {seed}, {turns} polls");
            assert_same_outcomes(world, &asked, seed, &format!("stopped after {turns} polls"));
        }
    }
}

/// The group expels its members between any two polls: the next owner repeats uncommitted work.
#[test]
fn expelled_hubs_do_nothing_twice() {
    for seed in 1..=2 {
        for turns in 0..100 {
            let (mut world, asked) = start_flows(seed);
            world.lanes.join_stage(HUB).unwrap();
            world.run_polls(turns);
            world.lanes.expel(HUB);
            world.run_polls(turns % 7);
            world.lanes.expel(HUB);
            assert_same_outcomes(world, &asked, seed, &format!("expelled after {turns} polls"));
        }
    }
}

/// Lesson 7: the view of an operation survives its hub.
#[test]
fn an_operation_is_visible_while_its_hub_is_down_and_then_resumes() {
    let mut world = support::world(1);
    let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": 2}));
    world.run_ms(700);
    world.lanes.kill(HUB);
    world.run_ms(200);
    let dead = world.operation(asked).expect("the view was published");
    assert_eq!((dead.live, dead.state.as_str()), (true, "installing"));
    let step = dead.step.expect("the operation has a step");
    assert_eq!((step.name.as_str(), step.calls, step.done, step.pending.len()), ("install rules", 3, 2, 1));
    assert_eq!(step.pending[0].what, "install rule 2 on of:02");
    let until = dead.until.expect("the operation waits");
    assert_eq!(until.what, "install rules");

    world.lanes.start(HUB);
    world.run_until_idle();
    let ended = world.operation(asked).expect("the northbound knows the operation");
    assert!(!ended.live);
    assert_eq!(ended.history[..dead.history.len()], dead.history, "the history only grows");
    let order: Vec<u32> = ended.history.iter().map(|entry| entry.seq).collect();
    assert_eq!(order, (1..=u32::try_from(order.len()).unwrap()).collect::<Vec<_>>(), "lesson 31");
}
