//! A switch controller that sends wrong, corrupt or false replies, or crashes. In each phase of a
//! flow the client gets one answer, the rules match it, and nothing is left over.

mod support;

use floodlight_sim::fault::{CommandKind, Garbage, Match, WrongIdentity};
use floodlight_sim::{Fault, FaultKind};
use flow_messages::codes;
use nave::testing::SentRequest;
use support::{
    FlowOutcome, FlowWorld, complete_flow, dead, fault, flow, idle_violations, inject, one_lane, refusal, rules,
};
use workers::names;

const LENGTH: u32 = 4;

/// The commands that a fault affects. The removal phases occur only after an install has failed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Install,
    Validate,
    Remove,
    CheckRemoval,
}

impl Phase {
    fn command(self) -> CommandKind {
        match self {
            Phase::Install => CommandKind::Install,
            Phase::Validate | Phase::CheckRemoval => CommandKind::Read,
            Phase::Remove => CommandKind::Remove,
        }
    }
}

fn misbehaviour() -> Vec<FaultKind> {
    vec![
        FaultKind::Reorder { hold: 1 },
        FaultKind::Reorder { hold: 3 },
        FaultKind::Reorder { hold: 100 },
        FaultKind::WrongKey { what: WrongIdentity::Call },
        FaultKind::WrongKey { what: WrongIdentity::Causation },
        FaultKind::WrongKey { what: WrongIdentity::Key },
        FaultKind::WrongKey { what: WrongIdentity::Partition },
        FaultKind::Corrupt { what: Garbage::Body },
        FaultKind::Corrupt { what: Garbage::Json },
        FaultKind::Corrupt { what: Garbage::Headers },
        FaultKind::Corrupt { what: Garbage::Type },
        FaultKind::Oversized { bytes: 900_000 },
        FaultKind::Oversized { bytes: 2 << 20 },
        FaultKind::Lie,
        FaultKind::Crash { after: 1, answered: false },
        FaultKind::Crash { after: 1, answered: true },
        FaultKind::Crash { after: 2, answered: false },
    ]
}

/// Runs for `ms` milliseconds. A crashed controller restarts after `away_ms`, at most five times:
/// with a permanent crash fault it would crash forever.
fn run(world: &mut FlowWorld, ms: u64, away_ms: u64) {
    let until = world.lanes.now_ms() + ms;
    let mut starts = 0;
    while world.lanes.now_ms() < until {
        world.run_ms(100);
        if world.speaker().is_down() && starts < 5 {
            starts += 1;
            world.run_ms(away_ms);
            world.speaker().restart().expect("a controller without a directory can restart");
        }
    }
}

/// Clears all faults, restarts the controller and runs until idle.
fn recover(world: &mut FlowWorld) {
    world.speaker().clear_faults();
    for _ in 0..3 {
        world.run_ms(1_000);
        world.speaker().restart().expect("a controller without a directory can restart");
    }
    world.run_until_idle();
}

/// True if every installed rule is one that the answer names.
fn rules_match(world: &FlowWorld, answer: &FlowOutcome) -> bool {
    let installed = rules(world);
    match answer {
        FlowOutcome::Up(_) => installed == complete_flow(LENGTH),
        FlowOutcome::Failed(failed) if failed.degraded => {
            installed.iter().all(|(_, number)| failed.left.iter().any(|rule| rule.number == *number))
        }
        FlowOutcome::Failed(_) => installed.is_empty(),
        FlowOutcome::Gone(_) | FlowOutcome::Refused(_) | FlowOutcome::Pending => false,
    }
}

fn check_every_misbehaviour(phase: Phase) {
    let mut seed = 0;
    for kind in misbehaviour() {
        if kind == FaultKind::Lie && phase.command() == CommandKind::Read {
            continue;
        }
        for times in [Some(1), Some(2), None] {
            for rule in 1..=LENGTH {
                for away_ms in [0, 700] {
                    seed += 1;
                    let what = format!("{phase:?} {kind:?} {times:?} rule {rule} away {away_ms} seed {seed}");
                    let mut world = one_lane(seed, |options| options.lanes = 1 + u32::from(seed % 3 == 0));
                    let answer = run_with_fault(&mut world, &what, phase, &kind, times, rule, away_ms);
                    let expected = if answer.is_done() { complete_flow(LENGTH) } else { Vec::new() };
                    assert_eq!(rules(&world), expected, "{what}: {answer:?}");
                }
            }
        }
    }
}

fn run_with_fault(
    world: &mut FlowWorld,
    what: &str,
    phase: Phase,
    kind: &FaultKind,
    times: Option<u32>,
    rule: u32,
    away_ms: u64,
) -> FlowOutcome {
    if matches!(phase, Phase::Remove | Phase::CheckRemoval) {
        // Rule 3 is refused, so the flow removes the others, and the fault affects the removal.
        inject(world, fault(CommandKind::Install, 3, refusal(), Some(1)));
    }
    let mut injected = fault(phase.command(), rule, kind.clone(), times);
    // The second step reads the rules for validation.
    injected.when.step = (phase == Phase::Validate).then_some(2);
    inject(world, injected);
    let asked = world.request(&flow("test-01", LENGTH));
    for _ in 0..100 {
        if world.answer(asked) != FlowOutcome::Pending {
            break;
        }
        run(world, 100, away_ms);
    }
    let answer = world.answer(asked);
    assert!(rules_match(world, &answer), "{what}: {:?} after {answer:?}", rules(world));
    recover(world);
    assert_eq!(idle_violations(world, &[asked]), [""; 0], "{what}");
    assert_eq!(world.answer(asked), answer, "{what}: the answer must not change");
    answer
}

#[test]
fn under_misbehaviour_during_installation_rules_match_the_answer() {
    check_every_misbehaviour(Phase::Install);
}

#[test]
fn under_misbehaviour_during_validation_rules_match_the_answer() {
    check_every_misbehaviour(Phase::Validate);
}

#[test]
fn under_misbehaviour_during_removal_rules_match_the_answer() {
    check_every_misbehaviour(Phase::Remove);
}

#[test]
fn under_misbehaviour_in_the_removal_check_rules_match_the_answer() {
    check_every_misbehaviour(Phase::CheckRemoval);
}

fn answer_when_idle(world: &mut FlowWorld, asked: SentRequest) -> FlowOutcome {
    world.run_until_idle();
    assert_eq!(idle_violations(world, &[asked]), [""; 0]);
    world.answer(asked)
}

#[test]
fn a_false_install_reply_is_detected_and_rolled_back() {
    for rule in 1..=LENGTH {
        let mut world = one_lane(u64::from(rule), |_| {});
        inject(&world, fault(CommandKind::Install, rule, FaultKind::Lie, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        let failed = answer_when_idle(&mut world, asked).failure();
        assert_eq!((failed.code, failed.degraded), (codes::VALIDATION_FAILED, false), "rule {rule}");
        assert_eq!(failed.detail, format!("rules {rule} are missing on their switches, or differ"));
        assert_eq!(rules(&world), [], "rule {rule}");
    }
}

#[test]
fn a_false_removal_reply_is_detected_and_retried() {
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 3, refusal(), Some(1)));
    inject(&world, fault(CommandKind::Remove, 2, FaultKind::Lie, Some(2)));
    let asked = world.request(&flow("test-01", LENGTH));
    world.run_ms(900);
    let failed = world.answer(asked).failure();
    let left: Vec<u32> = failed.left.iter().map(|rule| rule.number).collect();
    assert_eq!((failed.degraded, left), (true, vec![2]));
    assert_eq!(rules(&world), [("of:02".to_owned(), 2)]);
    world.run_until_idle();
    assert_eq!(rules(&world), [], "the third removal is executed");
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0]);
}

/// A reply without an identifiable call goes to the dead-letter topic, and the timeout of the
/// attempt triggers a retry.
#[test]
fn an_unreadable_reply_is_a_dead_letter_and_its_call_is_retried() {
    for (garbage, reason) in [
        (Garbage::Body, "the body is not UTF-8"),
        (Garbage::Headers, "`ce_specversion` is missing"),
        (Garbage::Type, "`ce_type` is missing"),
    ] {
        for word in [CommandKind::Install, CommandKind::Read] {
            let mut world = one_lane(1, |_| {});
            inject(&world, fault(word, 2, FaultKind::Corrupt { what: garbage }, Some(1)));
            let asked = world.request(&flow("test-01", LENGTH));
            assert!(answer_when_idle(&mut world, asked).is_done(), "{garbage:?} {word:?}");
            assert_eq!(dead(&world), [reason], "{garbage:?} {word:?}");
            assert_eq!(world.lanes.count(names::RETRIED), 1, "{garbage:?} {word:?}");
            assert_eq!(rules(&world), complete_flow(LENGTH), "{garbage:?} {word:?}");
        }
    }
}

/// Lesson 19, with a faulty spoke: a reply with a wrong identity does not complete the waiting
/// call.
#[test]
fn a_reply_with_a_wrong_id_does_not_affect_the_waiting_call() {
    for (what, count) in [(WrongIdentity::Call, 1), (WrongIdentity::Causation, 1), (WrongIdentity::Partition, 0)] {
        let mut world = one_lane(2, |options| options.lanes = 2);
        inject(&world, fault(CommandKind::Install, 2, FaultKind::WrongKey { what }, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        assert!(answer_when_idle(&mut world, asked).is_done(), "{what:?}");
        assert_eq!(world.lanes.count(names::MISMATCHED_REPLIES), count, "{what:?}");
        assert_eq!((world.lanes.count(names::RETRIED), world.lanes.count(names::TIMED_OUT)), (1, 0), "{what:?}");
        assert_eq!(rules(&world), complete_flow(LENGTH), "{what:?}");
    }
}

/// The partition routes a reply; its key does not matter.
#[test]
fn a_reply_with_a_wrong_key_is_delivered() {
    let mut world = one_lane(2, |options| options.lanes = 4);
    inject(&world, fault(CommandKind::Install, 2, FaultKind::WrongKey { what: WrongIdentity::Key }, None));
    let asked = world.request(&flow("test-01", LENGTH));
    assert!(answer_when_idle(&mut world, asked).is_done());
    assert_eq!(world.lanes.count(names::RETRIED), 0);
}

/// Lesson 30: a reply too large for the bus is lost without harm, and one that just fits is read.
#[test]
fn an_oversized_reply_costs_one_attempt_only() {
    for (bytes, retried) in [(900_000, 0), (1_100_000, 1)] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(CommandKind::Read, 2, FaultKind::Oversized { bytes }, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        assert!(answer_when_idle(&mut world, asked).is_done(), "{bytes}");
        assert_eq!(world.lanes.count(names::RETRIED), retried, "{bytes}");
    }
}

/// Replies in another order than the requests: the barrier counts them by identity.
#[test]
fn reordered_replies_are_all_counted() {
    for (hold, count) in [(1, 1), (2, 3), (7, 1)] {
        let mut world = one_lane(1, |_| {});
        let when = Match { command: Some(CommandKind::Install), ..Match::default() };
        inject(&world, Fault { when, kind: FaultKind::Reorder { hold }, times: Some(count) });
        let asked = world.request(&flow("test-01", 8));
        assert!(answer_when_idle(&mut world, asked).is_done(), "{hold}");
        assert_eq!((world.lanes.count(names::RETRIED), world.lanes.count(names::LATE_REPLIES)), (0, 0), "{hold}");
        assert_eq!(rules(&world), complete_flow(8), "{hold}");
    }
}

/// The controller is down for longer than any attempt waits. The flow fails, and the rules are
/// removed after the restart.
#[test]
fn after_a_long_controller_crash_the_rules_match_the_answer() {
    for (seed, answered) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut world = one_lane(seed, |_| {});
        inject(&world, fault(CommandKind::Install, 3, FaultKind::Crash { after: 1, answered }, Some(1)));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_ms(6_000);
        let failed = world.answer(asked).failure();
        assert!(failed.degraded, "no removal was confirmed");
        assert!(world.speaker().is_down());
        world.speaker().restart().expect("a controller without a directory can restart");
        assert!(rules_match(&world, &FlowOutcome::Failed(failed)), "answered {answered}");
        world.run_until_idle();
        assert_eq!(rules(&world), [], "answered {answered}");
        assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "answered {answered}");
    }
}

/// The same PRNG seed and percentage affect the same commands and yield the same answers.
#[test]
fn faults_by_percentage_are_reproducible_by_seed() {
    let run = |seed: u64| {
        let mut world = support::world(7);
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
        let answers: Vec<String> = asked.iter().map(|asked| format!("{:?}", world.answer(*asked))).collect();
        let struck = world.speaker().struck();
        world.speaker().clear_faults();
        world.run_until_idle();
        assert_eq!(idle_violations(&mut world, &asked), [""; 0], "seed {seed}");
        (answers, struck)
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    let (answers, struck) = first;
    assert!(answers.iter().any(|answer| answer.starts_with("Up")), "{answers:?}");
    assert!(struck.len() >= 3, "{struck:?}");
}
