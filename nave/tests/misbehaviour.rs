//! A switch controller that is worse than slow or silent: it mistakes, garbles, lies and dies. In each phase of a flow the
//! client gets one answer, the tables are what it says, and nothing is left.

mod support;

use floodlight_sim::fault::{Astray, Garbage, Match, Word};
use floodlight_sim::{Fault, FaultKind};
use nave::world::{Asked, Outcome, World};
use support::{dead, fault, flow, inject, not_at_rest, one_lane, refusal, rules, whole};
use wire::Code;
use workers::names;

const LENGTH: u32 = 4;

/// Which commands of a flow are struck. Those that remove come only where an install failed before.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Install,
    Validate,
    Remove,
    CheckRemoval,
}

impl Phase {
    fn word(self) -> Word {
        match self {
            Phase::Install => Word::Install,
            Phase::Validate | Phase::CheckRemoval => Word::Read,
            Phase::Remove => Word::Remove,
        }
    }
}

fn misbehaviour() -> Vec<FaultKind> {
    vec![
        FaultKind::Reorder { hold: 1 },
        FaultKind::Reorder { hold: 3 },
        FaultKind::Reorder { hold: 100 },
        FaultKind::WrongKey { what: Astray::Call },
        FaultKind::WrongKey { what: Astray::Causation },
        FaultKind::WrongKey { what: Astray::Key },
        FaultKind::WrongKey { what: Astray::Partition },
        FaultKind::Corrupt { what: Garbage::Body },
        FaultKind::Corrupt { what: Garbage::Json },
        FaultKind::Corrupt { what: Garbage::Headers },
        FaultKind::Corrupt { what: Garbage::Type },
        FaultKind::Oversized { bytes: 900_000 },
        FaultKind::Oversized { bytes: 2 << 20 },
        FaultKind::Lie,
        FaultKind::Crash { after: 1, told: false },
        FaultKind::Crash { after: 1, told: true },
        FaultKind::Crash { after: 2, told: false },
    ]
}

/// Lets `ms` milliseconds pass. A controller that dies is started again `away_ms` later, so often at most: one that dies of
/// every command that it reads again needs somebody who takes the fault away.
fn run(world: &mut World, ms: u64, away_ms: u64) {
    let until = world.now_ms() + ms;
    let mut starts = 0;
    while world.now_ms() < until {
        world.run_ms(100);
        if world.speaker().is_down() && starts < 5 {
            starts += 1;
            world.run_ms(away_ms);
            world.speaker().restart().expect("it has no directory");
        }
    }
}

/// The faults go, a dead controller is started, and all comes to its end.
fn recover(world: &mut World) {
    world.speaker().clear_faults();
    for _ in 0..3 {
        world.run_ms(1_000);
        world.speaker().restart().expect("it has no directory");
    }
    world.run_until_idle();
}

/// Every rule that stands is one that the answer names.
fn stands_as_told(world: &World, told: &Outcome) -> bool {
    let standing = rules(world);
    match told {
        Outcome::Up(_) => standing == whole(LENGTH),
        Outcome::Failed(failed) if failed.degraded => {
            standing.iter().all(|(_, number)| failed.left.iter().any(|rule| rule.number == *number))
        }
        Outcome::Failed(_) => standing.is_empty(),
        Outcome::Gone(_) | Outcome::Refused(_) | Outcome::Nothing => false,
    }
}

fn every_misbehaviour_in(phase: Phase) {
    let mut seed = 0;
    for kind in misbehaviour() {
        if kind == FaultKind::Lie && phase.word() == Word::Read {
            continue;
        }
        for times in [Some(1), Some(2), None] {
            for rule in 1..=LENGTH {
                for away_ms in [0, 700] {
                    seed += 1;
                    let what = format!("{phase:?} {kind:?} {times:?} rule {rule} away {away_ms} seed {seed}");
                    let mut world = one_lane(seed, |options| options.lanes = 1 + u32::from(seed % 3 == 0));
                    let told = strike(&mut world, &what, phase, &kind, times, rule, away_ms);
                    let expected = if told.is_done() { whole(LENGTH) } else { Vec::new() };
                    assert_eq!(rules(&world), expected, "{what}: {told:?}");
                }
            }
        }
    }
}

fn strike(
    world: &mut World,
    what: &str,
    phase: Phase,
    kind: &FaultKind,
    times: Option<u32>,
    rule: u32,
    away_ms: u64,
) -> Outcome {
    if matches!(phase, Phase::Remove | Phase::CheckRemoval) {
        // Rule 3 is refused, so that the others have to go; the fault strikes what takes them away.
        inject(world, fault(Word::Install, 3, refusal(), Some(1)));
    }
    let mut blow = fault(phase.word(), rule, kind.clone(), times);
    // The reads of the second step validate what was installed.
    blow.when.step = (phase == Phase::Validate).then_some(2);
    inject(world, blow);
    let asked = world.request(&flow("test-01", LENGTH));
    for _ in 0..100 {
        if world.answer(asked) != Outcome::Nothing {
            break;
        }
        run(world, 100, away_ms);
    }
    let told = world.answer(asked);
    assert!(stands_as_told(world, &told), "{what}: {:?} after {told:?}", rules(world));
    recover(world);
    assert_eq!(not_at_rest(world, &[asked]), [""; 0], "{what}");
    assert_eq!(world.answer(asked), told, "{what}: one answer");
    told
}

#[test]
fn whatever_goes_wrong_while_rules_are_installed_the_tables_are_what_the_answer_says() {
    every_misbehaviour_in(Phase::Install);
}

#[test]
fn whatever_goes_wrong_while_rules_are_validated_the_tables_are_what_the_answer_says() {
    every_misbehaviour_in(Phase::Validate);
}

#[test]
fn whatever_goes_wrong_while_rules_are_removed_the_tables_are_what_the_answer_says() {
    every_misbehaviour_in(Phase::Remove);
}

#[test]
fn whatever_goes_wrong_while_the_removal_is_checked_the_tables_are_what_the_answer_says() {
    every_misbehaviour_in(Phase::CheckRemoval);
}

fn answered(world: &mut World, asked: Asked) -> Outcome {
    world.run_until_idle();
    assert_eq!(not_at_rest(world, &[asked]), [""; 0]);
    world.answer(asked)
}

#[test]
fn an_install_that_is_a_lie_is_found_by_validation_and_rolled_back() {
    for rule in 1..=LENGTH {
        let mut world = one_lane(u64::from(rule), |_| {});
        inject(&world, fault(Word::Install, rule, FaultKind::Lie, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        let failed = answered(&mut world, asked).failure();
        assert_eq!((failed.code, failed.degraded), (Code::ValidationFailed, false), "rule {rule}");
        assert_eq!(failed.detail, format!("rules {rule} are not on their switches as they should be"));
        assert_eq!(rules(&world), [], "rule {rule}");
    }
}

#[test]
fn a_removal_that_is_a_lie_is_found_when_the_absence_is_validated_and_tried_again() {
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(Word::Install, 3, refusal(), Some(1)));
    inject(&world, fault(Word::Remove, 2, FaultKind::Lie, Some(2)));
    let asked = world.request(&flow("test-01", LENGTH));
    world.run_ms(900);
    let failed = world.answer(asked).failure();
    let left: Vec<u32> = failed.left.iter().map(|rule| rule.number).collect();
    assert_eq!((failed.degraded, left), (true, vec![2]));
    assert_eq!(rules(&world), [("of:02".to_owned(), 2)]);
    world.run_until_idle();
    assert_eq!(rules(&world), [], "the third removal was no lie");
    assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0]);
}

/// A reply of which nobody can tell whose it is goes to the dead letters; the attempt's own timeout saves the call.
#[test]
fn a_reply_that_nobody_can_read_is_a_dead_letter_and_the_next_attempt_is_answered() {
    for (garbage, reason) in [
        (Garbage::Body, "the body is not UTF-8"),
        (Garbage::Headers, "`ce_specversion` is missing"),
        (Garbage::Type, "`ce_type` is missing"),
    ] {
        for word in [Word::Install, Word::Read] {
            let mut world = one_lane(1, |_| {});
            inject(&world, fault(word, 2, FaultKind::Corrupt { what: garbage }, Some(1)));
            let asked = world.request(&flow("test-01", LENGTH));
            assert!(answered(&mut world, asked).is_done(), "{garbage:?} {word:?}");
            assert_eq!(dead(&world), [reason], "{garbage:?} {word:?}");
            assert_eq!(world.count(names::RETRIED), 1, "{garbage:?} {word:?}");
            assert_eq!(rules(&world), whole(LENGTH), "{garbage:?} {word:?}");
        }
    }
}

/// Lesson 19, with the spoke itself at fault: whatever identity a reply claims, the call that waits keeps its true one.
#[test]
fn a_reply_under_another_identity_takes_nothing_away_from_the_call_that_waits() {
    for (what, count) in [(Astray::Call, 1), (Astray::Causation, 1), (Astray::Partition, 0)] {
        let mut world = one_lane(2, |options| options.lanes = 2);
        inject(&world, fault(Word::Install, 2, FaultKind::WrongKey { what }, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        assert!(answered(&mut world, asked).is_done(), "{what:?}");
        assert_eq!(world.count(names::MISMATCHED_REPLIES), count, "{what:?}");
        assert_eq!((world.count(names::RETRIED), world.count(names::TIMED_OUT)), (1, 0), "{what:?}");
        assert_eq!(rules(&world), whole(LENGTH), "{what:?}");
    }
}

/// The partition says where a reply goes; a key that is not the request's does no harm.
#[test]
fn a_reply_with_another_key_arrives() {
    let mut world = one_lane(2, |options| options.lanes = 4);
    inject(&world, fault(Word::Install, 2, FaultKind::WrongKey { what: Astray::Key }, None));
    let asked = world.request(&flow("test-01", LENGTH));
    assert!(answered(&mut world, asked).is_done());
    assert_eq!(world.count(names::RETRIED), 0);
}

/// Lesson 30: a reply that no bus takes is lost, not fatal; one that just fits is read.
#[test]
fn a_reply_that_is_too_large_costs_an_attempt_and_nothing_else() {
    for (bytes, retried) in [(900_000, 0), (1_100_000, 1)] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(Word::Read, 2, FaultKind::Oversized { bytes }, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        assert!(answered(&mut world, asked).is_done(), "{bytes}");
        assert_eq!(world.count(names::RETRIED), retried, "{bytes}");
    }
}

/// Replies in another order than the requests: the barrier counts them by identity.
#[test]
fn replies_that_overtake_each_other_are_all_counted() {
    for (hold, count) in [(1, 1), (2, 3), (7, 1)] {
        let mut world = one_lane(1, |_| {});
        let when = Match { command: Some(Word::Install), ..Match::default() };
        inject(&world, Fault { when, kind: FaultKind::Reorder { hold }, times: Some(count) });
        let asked = world.request(&flow("test-01", 8));
        assert!(answered(&mut world, asked).is_done(), "{hold}");
        assert_eq!((world.count(names::RETRIED), world.count(names::LATE_REPLIES)), (0, 0), "{hold}");
        assert_eq!(rules(&world), whole(8), "{hold}");
    }
}

/// Dead for longer than any attempt waits: the flow fails, and what the dead one had done is undone when it is back.
#[test]
fn a_controller_that_dies_and_stays_away_leaves_what_the_answer_says() {
    for (seed, told) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut world = one_lane(seed, |_| {});
        inject(&world, fault(Word::Install, 3, FaultKind::Crash { after: 1, told }, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_ms(6_000);
        let failed = world.answer(asked).failure();
        assert!(failed.degraded, "nobody could say that anything was removed");
        assert!(world.speaker().is_down());
        world.speaker().restart().expect("it has no directory");
        assert!(stands_as_told(&world, &Outcome::Failed(failed)), "told {told}");
        world.run_until_idle();
        assert_eq!(rules(&world), [], "told {told}");
        assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "told {told}");
    }
}

/// The same seed, the same percentage: the same commands are struck and every client is told the same.
#[test]
fn a_run_with_faults_by_percentage_is_repeated_by_its_seed() {
    let run = |seed: u64| {
        let mut world = World::seeded(7);
        world.speaker().set_seed(seed);
        let faults = r#"[
            {"kind": "lie", "when": {"percent": 2}},
            {"kind": {"corrupt": {"what": "type"}}, "when": {"percent": 10}},
            {"kind": {"wrong_key": {"what": "call"}}, "when": {"percent": 10}},
            {"kind": "mute", "when": {"percent": 12.5}}
        ]"#;
        world.speaker().inject_all(serde_json::from_str(faults).expect("faults")).expect("they can strike");
        let asked: Vec<_> = (0..12).map(|n| world.request(&flow(&format!("flow-{n}"), 5))).collect();
        world.run_ms(10_000);
        let told: Vec<String> = asked.iter().map(|asked| format!("{:?}", world.answer(*asked))).collect();
        let struck = world.speaker().struck();
        world.speaker().clear_faults();
        world.run_until_idle();
        assert_eq!(not_at_rest(&mut world, &asked), [""; 0], "seed {seed}");
        (told, struck)
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    let (told, struck) = first;
    assert!(told.iter().any(|told| told.starts_with("Up")), "{told:?}");
    assert!(struck.len() >= 3, "{struck:?}");
}
