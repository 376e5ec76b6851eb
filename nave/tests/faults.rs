//! Every fault of the switch controller, in each phase, at each rule: the tables are what the answer says, and nothing is left.

mod support;

use floodlight_sim::fault::Word;
use floodlight_sim::{Deed, FaultKind};
use nave::world::{Outcome, World};
use serde_json::json;
use support::{audit, fault, flow, inject, kinds, not_at_rest, one_lane, refusal, rules, stranger, whole};
use wire::Code;
use wire::speaker::{Action, Rule, SwitchId};

const LENGTH: u32 = 5;

/// Which commands of a flow are struck. Those that remove come only where an install failed before.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Install,
    Validate,
    Remove,
    CheckRemoval,
}

/// Runs one flow with a fault. Where it degrades, the fault goes after `world` was watched for a while.
fn strike(world: &mut World, what: &str, phase: Phase, rule: u32, kind: &FaultKind, times: Option<u32>) -> Outcome {
    let speaker = world.speaker().clone();
    if matches!(phase, Phase::Remove | Phase::CheckRemoval) {
        // Rule 3 is refused, so that the others have to go; the fault strikes what takes them away.
        inject(world, fault(Word::Install, 3, refusal(), Some(1)));
    }
    let word = match phase {
        Phase::Install => Word::Install,
        Phase::Validate | Phase::CheckRemoval => Word::Read,
        Phase::Remove => Word::Remove,
    };
    let mut blow = fault(word, rule, kind.clone(), times);
    // The reads of the second step validate what was installed.
    blow.when.step = (phase == Phase::Validate).then_some(2);
    inject(world, blow);
    let asked = world.request(&flow("test-01", LENGTH));
    world.run_ms(20_000);
    let told = world.answer(asked);
    if let Outcome::Failed(failed) = &told
        && failed.degraded
    {
        assert!(times.is_some() || world.unfinished().len() == 1, "{what}: it goes on trying");
        speaker.clear_faults();
        world.run_until_idle();
    }
    speaker.clear_faults();
    world.run_until_idle();
    assert_eq!(not_at_rest(world, &[asked]), [""; 0], "{what}");
    told
}

fn every_fault_in(phase: Phase) {
    let mut seed = 0;
    for kind in kinds() {
        for times in [Some(1), Some(2), Some(3), None] {
            for rule in (1..=LENGTH).cycle().take(3 * LENGTH as usize) {
                seed += 1;
                let what = format!("{phase:?} {kind} {times:?} rule {rule} seed {seed}");
                let mut world = one_lane(seed, |_| {});
                let told = strike(&mut world, &what, phase, rule, &kind, times);
                let expected = if told.is_done() { whole(LENGTH) } else { Vec::new() };
                assert_eq!(rules(&world), expected, "{what}: {told:?}");
            }
        }
    }
}

#[test]
fn a_fault_of_any_kind_while_rules_are_installed_leaves_what_the_answer_says() {
    every_fault_in(Phase::Install);
}

#[test]
fn a_fault_of_any_kind_while_rules_are_validated_leaves_what_the_answer_says() {
    every_fault_in(Phase::Validate);
}

#[test]
fn a_fault_of_any_kind_while_rules_are_removed_leaves_what_the_answer_says() {
    every_fault_in(Phase::Remove);
}

#[test]
fn a_fault_of_any_kind_while_the_removal_is_checked_leaves_what_the_answer_says() {
    every_fault_in(Phase::CheckRemoval);
}

#[test]
fn what_passes_within_the_attempts_of_a_call_is_not_seen_by_the_client() {
    for kind in kinds() {
        if kind == (FaultKind::Error { code: "busy".into(), retry: false }) {
            continue;
        }
        for word in [Word::Install, Word::Read] {
            let mut world = one_lane(1, |_| {});
            inject(&world, fault(word, 2, kind.clone(), Some(2)));
            let asked = world.request(&flow("test-01", LENGTH));
            world.run_until_idle();
            assert!(world.answer(asked).is_done(), "{kind}: {:?}", world.answer(asked));
        }
    }
}

#[test]
fn an_install_that_is_executed_after_its_own_removal_was_validated_leaves_no_rule() {
    for seed in 1..=5 {
        let mut world = one_lane(seed, |_| {});
        inject(&world, fault(Word::Install, 2, FaultKind::DelayExecution { ms: 30_000 }, None));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_ms(10_000);
        let failed = world.answer(asked).failure();
        assert_eq!((failed.code, failed.degraded), (Code::InstallFailed, false), "seed {seed}");
        let checked = audit(&world, "read").iter().rfind(|entry| entry.rule == Some(2)).expect("it was read").seq;

        world.run_until_idle();
        let late: Vec<_> = audit(&world, "install").into_iter().filter(|entry| entry.seq > checked).collect();
        assert_eq!(late.len(), 3, "each attempt came late, after the removal was validated; seed {seed}");
        assert!(late.iter().all(|entry| entry.deed == Deed::Refused { error: "undone" }), "seed {seed}: {late:?}");
        assert_eq!(rules(&world), [], "seed {seed}");
        assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_removal_that_cannot_finish_is_answered_with_what_is_left_and_tried_again_until_the_switch_is_back() {
    for seed in 1..=3 {
        let mut world = one_lane(seed, |_| {});
        let speaker = world.speaker().clone();
        inject(&world, fault(Word::Install, 3, refusal(), None));
        inject(&world, fault(Word::Remove, 4, FaultKind::Silence, None));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_ms(5_000);
        let failed = world.answer(asked).failure();
        let left: Vec<u32> = failed.left.iter().map(|rule| rule.number).collect();
        assert_eq!((failed.degraded, left), (true, vec![4]), "seed {seed}");
        assert_eq!(rules(&world), [("of:04".to_owned(), 4)], "the others are gone; seed {seed}");

        // Ten minutes of tries: the first sending of each, and the pauses between them.
        world.run_ms(600_000);
        let tries: Vec<u64> = audit(&world, "remove")
            .iter()
            .filter(|entry| entry.rule == Some(4) && entry.attempt == 1)
            .map(|entry| entry.at.0)
            .collect();
        let pauses: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.len() >= 10, "seed {seed}: {pauses:?}");
        for (i, pause) in pauses.iter().enumerate() {
            let wait = (1_000 << i.min(16)).clamp(1_600, 60_000);
            // A try itself takes as long as a call, at most 1.6 s.
            assert!((wait..=wait + 2_000).contains(pause), "pause {i} after {wait}; seed {seed}: {pauses:?}");
        }

        speaker.clear_faults();
        world.run_ms(65_000);
        world.run_until_idle();
        assert_eq!(rules(&world), [], "seed {seed}");
        assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "seed {seed}");
        let ended = world.operation(asked).expect("the last view stays");
        assert_eq!((ended.live, ended.state.as_str()), (false, "ended"), "seed {seed}");
    }
}

/// A flow whose rule 4 could not be removed: its operation goes on trying.
fn degraded(seed: u64) -> (World, nave::world::Asked) {
    let mut world = one_lane(seed, |_| {});
    inject(&world, fault(Word::Install, 3, refusal(), Some(1)));
    inject(&world, fault(Word::Remove, 4, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", LENGTH));
    world.run_ms(4_500);
    assert!(world.answer(asked).failure().degraded);
    (world, asked)
}

#[test]
fn a_new_request_takes_over_from_a_degraded_operation_at_any_moment() {
    for ms in (0..12_000).step_by(400) {
        let (mut world, first) = degraded(ms);
        world.run_ms(ms);
        world.speaker().clear_faults();
        let second = world.request(&flow("test-01", LENGTH));
        world.run_until_idle();
        assert!(world.answer(second).is_done(), "after {ms} ms: {:?}", world.answer(second));
        assert_eq!(rules(&world), whole(LENGTH), "after {ms} ms");
        assert_eq!(not_at_rest(&mut world, &[first, second]), [""; 0], "after {ms} ms");
    }
}

/// A removal of the operation that gives way may be carried out late: it must not strike the one that takes over.
#[test]
fn a_late_removal_of_an_operation_that_was_taken_over_from_does_no_harm() {
    for ms in (0..8_000).step_by(100) {
        let (mut world, first) = degraded(ms);
        let speaker = world.speaker().clone();
        speaker.clear_faults();
        inject(&world, fault(Word::Remove, 4, FaultKind::DelayExecution { ms: 1_200 }, None));
        world.run_ms(ms);
        let second = world.request(&flow("test-01", LENGTH));
        world.run_until_idle();
        assert!(world.answer(second).is_done(), "after {ms} ms: {:?}", world.answer(second));
        assert_eq!(rules(&world), whole(LENGTH), "after {ms} ms");
        assert_eq!(not_at_rest(&mut world, &[first, second]), [""; 0], "after {ms} ms");
    }
}

/// Those that wait for their turn behind an operation that degrades are answered too, one after the other.
#[test]
fn requests_that_wait_behind_an_operation_that_degrades_get_their_turn() {
    for seed in 1..=3 {
        let mut world = one_lane(seed, |_| {});
        inject(&world, fault(Word::Install, 3, refusal(), None));
        inject(&world, fault(Word::Remove, 4, FaultKind::Silence, None));
        let asked: Vec<_> = (0..3).map(|_| world.request(&flow("test-01", LENGTH))).collect();
        world.run_ms(30_000);
        for one in &asked {
            assert!(world.answer(*one).failure().degraded, "seed {seed}");
        }
        world.speaker().clear_faults();
        world.run_until_idle();
        assert_eq!(rules(&world), [], "seed {seed}");
        assert_eq!(not_at_rest(&mut world, &asked), [""; 0], "seed {seed}");
    }
}

/// A rule that an operation before left behind has to go, even where the new operation's install of it is refused.
#[test]
fn what_was_left_is_removed_although_its_install_is_refused() {
    let (mut world, first) = degraded(1);
    let speaker = world.speaker().clone();
    speaker.clear_faults();
    inject(&world, fault(Word::Install, 4, refusal(), None));
    let second = world.request(&flow("test-01", LENGTH));
    world.run_until_idle();
    let failed = world.answer(second).failure();
    assert_eq!((failed.degraded, failed.left.len()), (false, 0));
    assert_eq!(rules(&world), []);
    assert_eq!(not_at_rest(&mut world, &[first, second]), [""; 0]);
}

#[test]
fn a_flow_that_stood_before_stands_after_a_failed_ensure() {
    let mut seed = 0;
    for kind in [FaultKind::Silence, FaultKind::Mute, refusal()] {
        for word in [Word::Install, Word::Read] {
            seed += 1;
            let mut world = one_lane(seed, |_| {});
            let first = world.request(&flow("test-01", LENGTH));
            world.run_until_idle();
            inject(&world, fault(word, 3, kind.clone(), None));
            let second = world.request(&flow("test-01", LENGTH));
            world.run_until_idle();
            let failed = world.answer(second).failure();
            assert_eq!((failed.degraded, failed.left.len()), (false, 0), "{kind} {word:?}");
            assert_eq!(rules(&world), whole(LENGTH), "{kind} {word:?}");
            assert_eq!(not_at_rest(&mut world, &[first, second]), [""; 0], "{kind} {word:?}");
        }
    }
}

#[test]
fn an_empty_pool_refuses_clearly_and_leaks_nothing() {
    let mut world = one_lane(1, |options| options.flows.meters = 1);
    let first = world.request(&flow("a", 3));
    let second = world.request(&flow("b", 5));
    world.run_until_idle();
    assert!(world.answer(first).is_done());
    let Outcome::Refused(problem) = world.answer(second) else { panic!("{:?}", world.answer(second)) };
    assert_eq!(problem.code, Code::PoolEmpty);
    assert_eq!(problem.to_string(), "NAVE-0103: no meter is free on of:01 for flow `b`; remove a flow first");
    assert_eq!(rules(&world), whole(3));

    // Nothing was taken: whoever fails gives back, so the next one finds everything free.
    let mut world = one_lane(2, |options| options.flows.meters = 1);
    for error in [1, 2, 0, 1] {
        let failing = world.request(&json!({"flowid": "a", "length": 3, "error": error}));
        world.run_until_idle();
        assert!(!world.answer(failing).failure().degraded);
    }
    let last = world.request(&flow("b", 3));
    world.run_until_idle();
    assert!(world.answer(last).is_done(), "{:?}", world.answer(last));
    let cookies: Vec<u64> = world.speaker().all_rules().iter().map(|rule| rule.cookie).collect();
    assert_eq!(cookies, [1, 1, 1]);
}

#[test]
fn a_length_that_differs_from_the_flows_own_is_refused_by_name() {
    let mut world = one_lane(1, |_| {});
    world.request(&flow("test-01", 3));
    let other = world.request(&flow("test-01", 4));
    world.run_until_idle();
    let Outcome::Refused(problem) = world.answer(other) else { panic!("{:?}", world.answer(other)) };
    assert_eq!((problem.code, problem.field.as_deref()), (Code::InvalidField, Some("length")));
    assert_eq!(problem.detail, "`length` is 4; allowed is 3, since flow `test-01` exists with that length");
    assert_eq!(rules(&world), whole(3));
}

#[test]
fn the_drills_work_at_the_shortest_and_at_the_greatest_length() {
    for (length, errors) in
        [(1, vec![json!(0), json!(1), json!(2), json!(null)]), (1000, vec![json!(0), json!(1), json!(2), json!(null)])]
    {
        let mut world = one_lane(u64::from(length), |_| {});
        for error in errors {
            let asked = world.request(&json!({"flowid": "test-01", "length": length, "error": error}));
            world.run_until_idle();
            let told = world.answer(asked);
            assert_eq!(told.is_done(), error.is_null(), "length {length} error {error}: {told:?}");
            let expected = if error.is_null() { whole(length) } else { Vec::new() };
            assert_eq!(rules(&world), expected, "length {length} error {error}");
            assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "length {length} error {error}");
        }
    }
}

/// Lesson 14: results are told apart by type, never by what a name contains.
#[test]
fn a_flow_named_error_is_a_flow() {
    let mut world = one_lane(1, |_| {});
    for name in ["error", "refused", "timeout"] {
        let asked = world.request(&flow(name, 2));
        world.run_until_idle();
        assert!(world.answer(asked).is_done(), "{name}: {:?}", world.answer(asked));
    }
}

/// What somebody else put on a switch is not ours to remove.
#[test]
fn a_rule_that_stood_before_is_not_removed_with_those_that_were_installed() {
    for kind in [FaultKind::Silence, refusal()] {
        let mut world = one_lane(1, |_| {});
        let rule = Rule { switch: SwitchId::numbered(2), flow: "foreign".into(), number: 2, cookie: 1, meter: 1 };
        stranger(&mut world, 1, Action::Install { rule });
        world.run_until_idle();
        inject(&world, fault(Word::Install, 4, kind.clone(), None));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_until_idle();
        assert!(!world.answer(asked).failure().degraded, "{kind}");
        assert_eq!(rules(&world), [("of:02".to_owned(), 2)], "{kind}");
        assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "{kind}");
    }
}
