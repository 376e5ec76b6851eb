//! Lanes move between hubs that live, at any point of their flows.

mod support;

use nave::world::{Asked, World};
use serde_json::json;
use support::{flow, not_at_rest, outcome, rules};

/// Flows in both lanes of a world, with every outcome among them.
fn begun(seed: u64) -> (World, Vec<Asked>) {
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

fn ends_as_it_should(mut world: World, asked: &[Asked], seed: u64, what: &str) {
    world.run_until_idle();
    let (mut calm, calmly) = begun(seed);
    calm.run_until_idle();
    for (i, (one, other)) in asked.iter().zip(&calmly).enumerate() {
        assert_eq!(outcome(&mut world, *one), outcome(&mut calm, *other), "seed {seed}, {what}: flow {i}");
    }
    assert_eq!(rules(&world), rules(&calm), "seed {seed}, {what}");
    assert_eq!(not_at_rest(&mut world, asked), [""; 0], "seed {seed}, {what}");
}

#[test]
fn a_hub_that_joins_takes_a_lane_over_in_mid_flow() {
    for seed in 1..=2 {
        for turns in 0..120 {
            let (mut world, asked) = begun(seed);
            world.run_turns(turns);
            world.join_hub();
            world.run_ms(100);
            let mut lanes = world.lanes();
            lanes.sort();
            assert_eq!(lanes, [[0], [1]], "each has its share; seed {seed}, {turns} turns");
            ends_as_it_should(world, &asked, seed, &format!("joined after {turns} turns"));
        }
    }
}

#[test]
fn a_hub_that_stops_in_order_hands_its_lanes_on_in_mid_flow() {
    for seed in 1..=2 {
        for turns in (0..160).step_by(2) {
            let (mut world, asked) = begun(seed);
            world.join_hub();
            world.run_turns(turns);
            world.stop_hub();
            world.run_ms(100);
            assert_eq!(world.lanes(), [[0, 1]], "the other has all; seed {seed}, {turns} turns");
            ends_as_it_should(world, &asked, seed, &format!("stopped after {turns} turns"));
        }
    }
}

/// A generation lost between any two polls: what was not committed by then is done again by whoever comes.
#[test]
fn hubs_that_lose_their_lanes_between_two_polls_do_nothing_twice() {
    for seed in 1..=2 {
        for turns in 0..100 {
            let (mut world, asked) = begun(seed);
            world.join_hub();
            world.run_turns(turns);
            world.expel_hubs();
            world.run_turns(turns % 7);
            world.expel_hubs();
            ends_as_it_should(world, &asked, seed, &format!("expelled after {turns} turns"));
        }
    }
}

/// Lesson 7: what is known of an operation survives its hub.
#[test]
fn an_operation_can_be_looked_up_while_its_hub_is_dead_and_goes_on_from_there() {
    let mut world = support::world(1);
    let asked = world.request(&json!({"flowid": "test-01", "length": 3, "error": 2}));
    world.run_ms(700);
    world.kill_hub();
    world.run_ms(200);
    let dead = world.operation(asked).expect("its view was published");
    assert_eq!((dead.live, dead.state.as_str()), (true, "installing"));
    let step = dead.step.expect("a step is open");
    assert_eq!((step.name.as_str(), step.calls, step.done, step.pending.len()), ("install rules", 3, 2, 1));
    assert_eq!(step.pending[0].what, "install rule 2 on of:02");
    let until = dead.until.expect("it waits for something");
    assert_eq!(until.what, "install rules");

    world.start_hub();
    world.run_until_idle();
    let ended = world.operation(asked).expect("it is known");
    assert!(!ended.live);
    assert_eq!(ended.history[..dead.history.len()], dead.history, "what was, is");
    let order: Vec<u32> = ended.history.iter().map(|entry| entry.seq).collect();
    assert_eq!(order, (1..=u32::try_from(order.len()).unwrap()).collect::<Vec<_>>(), "lesson 31");
}
