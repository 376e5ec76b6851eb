//! Lesson 28: at ten times the capacity the system finishes what it admitted at full speed, refuses the rest at once, and grows
//! no further.

mod support;

use floodlight_sim::fault::Match;
use floodlight_sim::{Fault, FaultKind};
use nave::world::{Asked, Outcome, World};
use support::{flow, inject, not_at_rest, one_lane, whole};
use wire::Code;

/// A flow reads and writes, and the spoke takes so long for each: a flow takes twice that.
const SPOKE_MS: u64 = 50;
/// So many flows may work at once, so so many are done in [`FLOW_MS`].
const ACTIVE: usize = 8;
const FLOW_MS: u64 = 2 * SPOKE_MS;
const LIVE: usize = 64;

fn slow(seed: u64) -> World {
    let world = one_lane(seed, |options| (options.hub.active, options.hub.live) = (ACTIVE, LIVE));
    inject(&world, Fault { when: Match::default(), kind: FaultKind::DelayReply { ms: SPOKE_MS }, times: None });
    world
}

/// Sends `each` flows every [`FLOW_MS`] for so many rounds: those that were taken, and how many were refused.
fn load(world: &mut World, each: usize, rounds: usize) -> (Vec<Asked>, usize) {
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
            assert!(world.unfinished().len() <= LIVE, "no more live than may: {}", world.unfinished().len());
        }
    }
    (asked, refused)
}

/// How many came up, and how many were told that the lane is busy.
fn outcomes(world: &mut World, asked: &[Asked]) -> (usize, usize) {
    let (mut up, mut busy) = (0, 0);
    for one in asked {
        match world.answer(*one) {
            Outcome::Up(_) => up += 1,
            Outcome::Refused(problem) => {
                assert_eq!(problem.code, Code::Busy, "{problem}");
                busy += 1;
            }
            other @ (Outcome::Gone(_) | Outcome::Failed(_) | Outcome::Nothing) => panic!("{other:?}"),
        }
    }
    (up, busy)
}

#[test]
fn ten_times_the_capacity_is_answered_as_fast_as_the_capacity_and_the_rest_is_refused() {
    const ROUNDS: usize = 50;
    let mut world = slow(1);
    let (asked, at_the_edge) = load(&mut world, 10 * ACTIVE, ROUNDS);
    let done = audit_of_installs(&world);
    assert!(done >= ACTIVE * (ROUNDS - 2), "{done} of {} at full speed", ACTIVE * ROUNDS);
    world.run_until_idle();
    let (up, busy) = outcomes(&mut world, &asked);
    assert_eq!(up + busy + at_the_edge, 10 * ACTIVE * ROUNDS, "each has its answer");
    assert!(up >= ACTIVE * ROUNDS && busy > 0, "{up} came up, {busy} were refused by the hub");
    assert_eq!(world.speaker().all_rules().len(), up, "what was refused was not begun");
    assert_eq!((world.timers(), world.unfinished().len()), (0, 0));
}

/// Rules that stand: installs that were carried out.
fn audit_of_installs(world: &World) -> usize {
    world.speaker().all_rules().len()
}

/// Below the capacity nobody is refused, and nobody waits.
#[test]
fn the_capacity_itself_is_taken_whole() {
    let mut world = slow(2);
    let (asked, refused) = load(&mut world, ACTIVE, 20);
    world.run_until_idle();
    assert_eq!((outcomes(&mut world, &asked), refused), ((20 * ACTIVE, 0), 0));
    assert_eq!(not_at_rest(&mut world, &asked), [""; 0]);
}

/// What waits for a place is state like any other: it survives the death of its process.
#[test]
fn requests_that_wait_for_a_place_survive_a_crash() {
    let mut world = slow(3);
    let asked: Vec<Asked> = (0..40).map(|n| world.request(&flow(&format!("flow-{n}"), 1))).collect();
    world.run_ms(FLOW_MS);
    world.kill_hub();
    world.start_hub();
    world.run_until_idle();
    assert_eq!(outcomes(&mut world, &asked), (40, 0));
    assert_eq!(not_at_rest(&mut world, &asked), [""; 0]);
    assert_eq!(world.speaker().all_rules().len(), 40 * whole(1).len());
}
