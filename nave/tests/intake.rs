//! Lesson 28: at ten times its capacity the system completes admitted requests at full speed,
//! refuses the rest at once, and uses no more memory.

mod support;

use floodlight_sim::fault::Match;
use floodlight_sim::{Fault, FaultKind};
use nave::testing::{HUB, SentRequest};
use support::{FlowOutcome, FlowWorld, complete_flow, flow, idle_violations, inject, one_lane};
use wire::Code;

/// Time that the spoke takes for each call. A flow installs and reads, so it takes twice as long.
const SPOKE_MS: u64 = 50;
/// Limit of concurrently active flows: that many complete per [`FLOW_MS`].
const ACTIVE: usize = 8;
const FLOW_MS: u64 = 2 * SPOKE_MS;
const LIVE: usize = 64;

fn slow(seed: u64) -> FlowWorld {
    let world = one_lane(seed, |options| (options.hub.active, options.hub.live) = (ACTIVE, LIVE));
    inject(&world, Fault { when: Match::default(), kind: FaultKind::DelayReply { ms: SPOKE_MS }, times: None });
    world
}

/// Sends `each` flows every [`FLOW_MS`], for `rounds` rounds. Returns the accepted requests and the
/// number of refused ones.
fn load(world: &mut FlowWorld, each: usize, rounds: usize) -> (Vec<SentRequest>, usize) {
    let (mut asked, mut refused) = (Vec::new(), 0);
    for n in 0..each * rounds {
        match world.request_with_key(&flow(&format!("flow-{n}"), 1), None) {
            Ok(one) => asked.push(one),
            Err(problem) => {
                assert_eq!(problem.code, Code::Busy, "{problem}");
                refused += 1;
            }
        }
        if (n + 1).is_multiple_of(each) {
            world.run_ms(FLOW_MS);
            assert!(
                world.lanes.unfinished().len() <= LIVE,
                "the limit of live operations is exceeded: {}",
                world.lanes.unfinished().len()
            );
        }
    }
    (asked, refused)
}

/// Number of flows created, and number of requests refused because the lane was busy.
fn outcomes(world: &mut FlowWorld, asked: &[SentRequest]) -> (usize, usize) {
    let (mut up, mut busy) = (0, 0);
    for one in asked {
        match world.answer(*one) {
            FlowOutcome::Up(_) => up += 1,
            FlowOutcome::Refused(problem) => {
                assert_eq!(problem.code, Code::Busy, "{problem}");
                busy += 1;
            }
            other @ (FlowOutcome::Gone(_) | FlowOutcome::Failed(_) | FlowOutcome::Pending) => panic!("{other:?}"),
        }
    }
    (up, busy)
}

#[test]
fn ten_times_the_capacity_runs_at_full_speed_and_the_rest_is_refused() {
    const ROUNDS: usize = 50;
    let mut world = slow(1);
    let (asked, refused_by_northbound) = load(&mut world, 10 * ACTIVE, ROUNDS);
    let done = installed_rules(&world);
    assert!(done >= ACTIVE * (ROUNDS - 2), "{done} of {} at full speed", ACTIVE * ROUNDS);
    world.run_until_idle();
    let (up, busy) = outcomes(&mut world, &asked);
    assert_eq!(up + busy + refused_by_northbound, 10 * ACTIVE * ROUNDS, "each request has its answer");
    assert!(up >= ACTIVE * ROUNDS && busy > 0, "{up} created, {busy} refused by the hub");
    assert_eq!(world.speaker().all_rules().len(), up, "refused requests install nothing");
    assert_eq!((world.lanes.timers(), world.lanes.unfinished().len()), (0, 0));
}

/// Number of installed rules, one per created flow.
fn installed_rules(world: &FlowWorld) -> usize {
    world.speaker().all_rules().len()
}

/// At the capacity no request is refused or has to wait.
#[test]
fn load_at_the_capacity_is_accepted_completely() {
    let mut world = slow(2);
    let (asked, refused) = load(&mut world, ACTIVE, 20);
    world.run_until_idle();
    assert_eq!((outcomes(&mut world, &asked), refused), ((20 * ACTIVE, 0), 0));
    assert_eq!(idle_violations(&mut world, &asked), [""; 0]);
}

/// Waiting requests are part of the state.
#[test]
fn waiting_requests_survive_a_crash() {
    let mut world = slow(3);
    let asked: Vec<SentRequest> = (0..40).map(|n| world.request(&flow(&format!("flow-{n}"), 1))).collect();
    world.run_ms(FLOW_MS);
    world.lanes.kill(HUB);
    world.lanes.start(HUB);
    world.run_until_idle();
    assert_eq!(outcomes(&mut world, &asked), (40, 0));
    assert_eq!(idle_violations(&mut world, &asked), [""; 0]);
    assert_eq!(world.speaker().all_rules().len(), 40 * complete_flow(1).len());
}
