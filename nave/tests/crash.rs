//! The hub, or the workers where they are a stage of their own, or both, die at every point of a flow and start again: the
//! flow ends as if nothing had happened.

mod support;

use floodlight_sim::fault::Word;
use floodlight_sim::{Fault, FaultKind};
use nave::world::{Asked, World};
use serde_json::{Value, json};
use support::{fault, flow, inject, kill, not_at_rest, one_lane, outcome, refusal, rules, start, victims, whole};

const LENGTH: u32 = 3;

/// What is asked, and what is broken.
struct Story {
    name: &'static str,
    /// True where no attempt is made twice: then time in which nobody owns any lane changes nothing. Elsewhere it counts
    /// against the deadlines that are open, so another deadline may be the one that ends the flow.
    patient: bool,
    error: Value,
    faults: Vec<Fault>,
}

fn stories() -> Vec<Story> {
    let patient = |name, error, faults| Story { name, patient: true, error, faults };
    let story = |name, error, faults| Story { name, patient: false, error, faults };
    let on = |word, kind, times| fault(word, 2, kind, times);
    vec![
        patient("comes up", json!(null), vec![]),
        patient("the hub loses a step", json!(0), vec![]),
        story("the worker swallows", json!(1), vec![]),
        story("the switch is silent", json!(2), vec![]),
        story("an install gets lost", json!(null), vec![on(Word::Install, FaultKind::Silence, Some(1))]),
        story("a reply gets lost", json!(null), vec![on(Word::Install, FaultKind::Mute, Some(2))]),
        story("a reply is late", json!(null), vec![on(Word::Read, FaultKind::DelayReply { ms: 500 }, Some(1))]),
        patient("a reply comes twice", json!(null), vec![on(Word::Install, FaultKind::Duplicate, None)]),
        patient(
            "an install is late, and refused elsewhere",
            json!(null),
            vec![
                on(Word::Install, FaultKind::DelayExecution { ms: 5_000 }, Some(1)),
                fault(Word::Install, 1, refusal(), None),
            ],
        ),
        story(
            "the removal needs three attempts",
            json!(null),
            vec![
                fault(Word::Install, 1, refusal(), None),
                on(Word::Remove, FaultKind::Error { code: "busy".into(), retry: true }, Some(2)),
            ],
        ),
        story(
            "the removal degrades and ends by itself",
            json!(null),
            vec![fault(Word::Install, 1, refusal(), None), on(Word::Remove, FaultKind::Silence, Some(5))],
        ),
    ]
}

/// A world in which a story begins.
fn begun(seed: u64, story: &Story) -> (World, Asked) {
    let mut world = one_lane(seed, |_| {});
    story.faults.iter().for_each(|fault| inject(&world, fault.clone()));
    let mut body = flow("test-01", LENGTH);
    body["error"] = story.error.clone();
    let asked = world.request(&body);
    (world, asked)
}

/// How it ends without a crash: what the client is told, the rules that stand, and how long it took.
fn undisturbed(seed: u64, story: &Story) -> (Value, Vec<(String, u32)>, u64) {
    let (mut world, asked) = begun(seed, story);
    world.run_until_idle();
    assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "{}", story.name);
    let operation = world.operation(asked).expect("it is known");
    let ends = operation.history.last().expect("it has a history").at;
    (outcome(&mut world, asked), rules(&world), ends.ms_since(operation.history[0].at))
}

/// True where the flow may end in another way: while a stage was dead a deadline of the hub passed. It does not where the hub
/// alone was dead and every attempt was answered: the answers wait in its inbox.
fn may_end_otherwise(story: &Story, stages: &[&str], dead_ms: u64) -> bool {
    dead_ms > 0 && !(story.patient && stages == ["hub"])
}

/// `otherwise`: it may end in another way, but whole.
fn ends_as_if_nothing_had_happened(
    mut world: World,
    asked: Asked,
    seed: u64,
    story: &Story,
    otherwise: bool,
    when: &str,
) {
    world.run_until_idle();
    let what = format!("{}, seed {seed}, killed {when}", story.name);
    if !otherwise {
        let (told, stand, _) = undisturbed(seed, story);
        assert_eq!(outcome(&mut world, asked), told, "{what}");
        assert_eq!(rules(&world), stand, "{what}");
    }
    let expected = if world.answer(asked).is_done() { whole(LENGTH) } else { Vec::new() };
    assert_eq!(rules(&world), expected, "{what}");
    assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "{what}");
    let operation = world.operation(asked).expect("it can be looked up");
    assert!(operation.answer.is_some() && !operation.live, "{what}: {operation:?}");
}

#[test]
fn a_process_killed_between_any_two_turns_ends_the_flow_as_if_nothing_had_happened() {
    for (seed, story) in (1..).zip(stories()) {
        for stages in victims() {
            let mut turns = 0;
            loop {
                let (mut world, asked) = begun(seed, &story);
                let idle = world.run_turns(turns);
                kill(&mut world, &stages);
                start(&mut world, &stages);
                let when = format!("{stages:?} after {turns} turns");
                ends_as_if_nothing_had_happened(world, asked, seed, &story, false, &when);
                if idle {
                    break;
                }
                turns += 1;
            }
            assert!(turns > 20, "{}: {turns} turns", story.name);
        }
    }
}

/// Twice in a row: the second crash comes at any moment of the recovery from the first.
#[test]
fn a_process_killed_again_while_it_recovers_ends_the_flow_as_if_nothing_had_happened() {
    for ((seed, story), stages) in (1..).zip(stories()).zip(victims().into_iter().cycle()) {
        for first in [5, 12, 20, 30] {
            for second in 0..16 {
                let (mut world, asked) = begun(seed, &story);
                world.run_turns(first);
                for turns in [second, 3] {
                    kill(&mut world, &stages);
                    start(&mut world, &stages);
                    world.run_turns(turns);
                }
                let when = format!("{stages:?} after {first} turns, and twice again after {second}");
                ends_as_if_nothing_had_happened(world, asked, seed, &story, false, &when);
            }
        }
    }
}

/// The replies wait in the inbox, and are handled before any deadline fires.
#[test]
fn a_process_that_is_dead_for_a_while_does_not_expire_what_came_meanwhile() {
    for ((seed, story), stages) in (1..).zip(stories()).zip(victims().into_iter().cycle()) {
        let (_, _, took_ms) = undisturbed(seed, &story);
        let step_ms = (took_ms / 40).max(1);
        for at_ms in (0..=took_ms).step_by(usize::try_from(step_ms).unwrap()) {
            for dead_ms in [0, 450, 1_700, 30_000] {
                let (mut world, asked) = begun(seed, &story);
                world.run_ms(at_ms);
                kill(&mut world, &stages);
                world.run_ms(dead_ms);
                start(&mut world, &stages);
                let when = format!("{stages:?} at {at_ms} ms for {dead_ms} ms");
                ends_as_if_nothing_had_happened(
                    world,
                    asked,
                    seed,
                    &story,
                    may_end_otherwise(&story, &stages, dead_ms),
                    &when,
                );
            }
        }
    }
}

/// The same between turns, and killed once more just after it came back: what the backlog began has its full time.
#[test]
fn a_process_that_is_dead_for_a_while_and_dies_again_does_not_expire_what_it_had_just_begun() {
    for ((seed, story), stages) in (1..).zip(stories()).zip(victims().into_iter().cycle()) {
        for first in (4..40).step_by(3) {
            for second in [6, 9, 12] {
                let (mut world, asked) = begun(seed, &story);
                world.run_turns(first);
                kill(&mut world, &stages);
                world.run_ms(5_000);
                start(&mut world, &stages);
                world.run_turns(second);
                kill(&mut world, &stages);
                start(&mut world, &stages);
                let when = format!("{stages:?} after {first} turns for 5 s, and again after {second}");
                ends_as_if_nothing_had_happened(
                    world,
                    asked,
                    seed,
                    &story,
                    may_end_otherwise(&story, &stages, 5_000),
                    &when,
                );
            }
        }
    }
}
