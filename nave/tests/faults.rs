//! Every fault of the switch controller, in each phase, at each rule: the rules match the answer,
//! and nothing is left over.

mod support;

use floodlight_sim::fault::CommandKind;
use floodlight_sim::{CommandOutcome, FaultKind};
use flow_messages::codes;
use flow_messages::speaker::{Action, Rule, SwitchId};
use serde_json::json;
use support::{
    FlowOutcome, FlowWorld, audit, complete_flow, fault, flow, foreign_command, idle_violations, inject, kinds,
    one_lane, refusal, rules,
};
use wire::Code;

const LENGTH: u32 = 5;

/// The commands that a fault affects. The removal phases occur only after an install has failed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Install,
    Validate,
    Remove,
    CheckRemoval,
}

/// Runs one flow with a fault. If the flow degrades, the fault is cleared after a while.
fn run_with_fault(
    world: &mut FlowWorld,
    what: &str,
    phase: Phase,
    rule: u32,
    kind: &FaultKind,
    times: Option<u32>,
) -> FlowOutcome {
    let speaker = world.speaker().clone();
    if matches!(phase, Phase::Remove | Phase::CheckRemoval) {
        // Rule 3 is refused, so the flow removes the others, and the fault affects the removal.
        inject(world, fault(CommandKind::Install, 3, refusal(), Some(1)));
    }
    let word = match phase {
        Phase::Install => CommandKind::Install,
        Phase::Validate | Phase::CheckRemoval => CommandKind::Read,
        Phase::Remove => CommandKind::Remove,
    };
    let mut injected = fault(word, rule, kind.clone(), times);
    // The second step reads the rules for validation.
    injected.when.step = (phase == Phase::Validate).then_some(2);
    inject(world, injected);
    let asked = world.request(&flow("test-01", LENGTH));
    world.run_ms(20_000);
    let answer = world.answer(asked);
    if let FlowOutcome::Failed(failed) = &answer
        && failed.degraded
    {
        assert!(times.is_some() || world.lanes.unfinished().len() == 1, "{what}: it keeps retrying");
        speaker.clear_faults();
        world.run_until_idle();
    }
    speaker.clear_faults();
    world.run_until_idle();
    assert_eq!(idle_violations(world, &[asked]), [""; 0], "{what}");
    answer
}

fn check_every_fault(phase: Phase) {
    let mut seed = 0;
    for kind in kinds() {
        for times in [Some(1), Some(2), Some(3), None] {
            for rule in (1..=LENGTH).cycle().take(3 * LENGTH as usize) {
                seed += 1;
                let what = format!("{phase:?} {kind} {times:?} rule {rule} seed {seed}");
                let mut world = one_lane(seed, |_| {});
                let answer = run_with_fault(&mut world, &what, phase, rule, &kind, times);
                let expected = if answer.is_done() { complete_flow(LENGTH) } else { Vec::new() };
                assert_eq!(rules(&world), expected, "{what}: {answer:?}");
            }
        }
    }
}

#[test]
fn after_any_fault_during_installation_the_rules_match_the_answer() {
    check_every_fault(Phase::Install);
}

#[test]
fn after_any_fault_during_validation_the_rules_match_the_answer() {
    check_every_fault(Phase::Validate);
}

#[test]
fn after_any_fault_during_removal_the_rules_match_the_answer() {
    check_every_fault(Phase::Remove);
}

#[test]
fn after_any_fault_in_the_removal_check_the_rules_match_the_answer() {
    check_every_fault(Phase::CheckRemoval);
}

#[test]
fn a_fault_that_retries_overcome_is_invisible_to_the_client() {
    for kind in kinds() {
        if kind == (FaultKind::Error { code: "busy".into(), retry: false }) {
            continue;
        }
        for word in [CommandKind::Install, CommandKind::Read] {
            let mut world = one_lane(1, |_| {});
            inject(&world, fault(word, 2, kind.clone(), Some(2)));
            let asked = world.request(&flow("test-01", LENGTH));
            world.run_until_idle();
            assert!(world.answer(asked).is_done(), "{kind}: {:?}", world.answer(asked));
        }
    }
}

#[test]
fn an_install_executed_after_its_removal_leaves_no_rule() {
    for seed in 1..=5 {
        let mut world = one_lane(seed, |_| {});
        inject(&world, fault(CommandKind::Install, 2, FaultKind::DelayExecution { ms: 30_000 }, None));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_ms(10_000);
        let failed = world.answer(asked).failure();
        assert_eq!((failed.code, failed.degraded), (codes::INSTALL_FAILED, false), "seed {seed}");
        let checked = audit(&world, "read").iter().rfind(|entry| entry.rule == Some(2)).expect("the rule was read").seq;

        world.run_until_idle();
        let late: Vec<_> = audit(&world, "install").into_iter().filter(|entry| entry.seq > checked).collect();
        assert_eq!(late.len(), 3, "each attempt is executed after the removal was validated; seed {seed}");
        assert!(
            late.iter().all(|entry| entry.outcome == CommandOutcome::Refused { error: "undone" }),
            "seed {seed}: {late:?}"
        );
        assert_eq!(rules(&world), [], "seed {seed}");
        assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "seed {seed}");
    }
}

#[test]
fn an_unfinished_removal_reports_the_rest_and_is_retried() {
    for seed in 1..=3 {
        let mut world = one_lane(seed, |_| {});
        let speaker = world.speaker().clone();
        inject(&world, fault(CommandKind::Install, 3, refusal(), None));
        inject(&world, fault(CommandKind::Remove, 4, FaultKind::Silence, None));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_ms(5_000);
        let failed = world.answer(asked).failure();
        let left: Vec<u32> = failed.left.iter().map(|rule| rule.number).collect();
        assert_eq!((failed.degraded, left), (true, vec![4]), "seed {seed}");
        assert_eq!(rules(&world), [("of:04".to_owned(), 4)], "the others are gone; seed {seed}");

        // Ten minutes of removal attempts; the first message of each, and the backoff between them.
        world.run_ms(600_000);
        let attempts: Vec<u64> = audit(&world, "remove")
            .iter()
            .filter(|entry| entry.rule == Some(4) && entry.attempt == 1)
            .map(|entry| entry.at.0)
            .collect();
        let backoffs: Vec<u64> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(backoffs.len() >= 10, "seed {seed}: {backoffs:?}");
        for (i, backoff) in backoffs.iter().enumerate() {
            let wait = (1_000 << i.min(16)).clamp(1_600, 60_000);
            // An attempt takes as long as a call, at most 1.6 s.
            assert!((wait..=wait + 2_000).contains(backoff), "backoff {i} of {wait} ms; seed {seed}: {backoffs:?}");
        }

        speaker.clear_faults();
        world.run_ms(65_000);
        world.run_until_idle();
        assert_eq!(rules(&world), [], "seed {seed}");
        assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "seed {seed}");
        let ended = world.operation(asked).expect("the last view is kept");
        assert_eq!((ended.live, ended.state.as_str()), (false, "ended"), "seed {seed}");
    }
}

/// Starts a flow whose rule 4 could not be removed. Its operation keeps retrying.
fn degraded(seed: u64) -> (FlowWorld, nave::testing::SentRequest) {
    let mut world = one_lane(seed, |_| {});
    inject(&world, fault(CommandKind::Install, 3, refusal(), Some(1)));
    inject(&world, fault(CommandKind::Remove, 4, FaultKind::Silence, None));
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
        assert_eq!(rules(&world), complete_flow(LENGTH), "after {ms} ms");
        assert_eq!(idle_violations(&mut world, &[first, second]), [""; 0], "after {ms} ms");
    }
}

/// A late removal of the superseded operation must not affect its successor.
#[test]
fn a_late_removal_of_a_superseded_operation_does_no_harm() {
    for ms in (0..8_000).step_by(100) {
        let (mut world, first) = degraded(ms);
        let speaker = world.speaker().clone();
        speaker.clear_faults();
        inject(&world, fault(CommandKind::Remove, 4, FaultKind::DelayExecution { ms: 1_200 }, None));
        world.run_ms(ms);
        let second = world.request(&flow("test-01", LENGTH));
        world.run_until_idle();
        assert!(world.answer(second).is_done(), "after {ms} ms: {:?}", world.answer(second));
        assert_eq!(rules(&world), complete_flow(LENGTH), "after {ms} ms");
        assert_eq!(idle_violations(&mut world, &[first, second]), [""; 0], "after {ms} ms");
    }
}

/// Requests queued behind a degraded operation are answered one after the other.
#[test]
fn requests_queued_behind_a_degraded_operation_are_executed() {
    for seed in 1..=3 {
        let mut world = one_lane(seed, |_| {});
        inject(&world, fault(CommandKind::Install, 3, refusal(), None));
        inject(&world, fault(CommandKind::Remove, 4, FaultKind::Silence, None));
        let asked: Vec<_> = (0..3).map(|_| world.request(&flow("test-01", LENGTH))).collect();
        world.run_ms(30_000);
        for one in &asked {
            assert!(world.answer(*one).failure().degraded, "seed {seed}");
        }
        world.speaker().clear_faults();
        world.run_until_idle();
        assert_eq!(rules(&world), [], "seed {seed}");
        assert_eq!(idle_violations(&mut world, &asked), [""; 0], "seed {seed}");
    }
}

/// A leftover rule of an earlier operation is removed even if the new operation's install of it is
/// refused.
#[test]
fn a_leftover_rule_is_removed_although_its_install_is_refused() {
    let (mut world, first) = degraded(1);
    let speaker = world.speaker().clone();
    speaker.clear_faults();
    inject(&world, fault(CommandKind::Install, 4, refusal(), None));
    let second = world.request(&flow("test-01", LENGTH));
    world.run_until_idle();
    let failed = world.answer(second).failure();
    assert_eq!((failed.degraded, failed.left.len()), (false, 0));
    assert_eq!(rules(&world), []);
    assert_eq!(idle_violations(&mut world, &[first, second]), [""; 0]);
}

#[test]
fn an_existing_flow_survives_a_failed_ensure() {
    let mut seed = 0;
    for kind in [FaultKind::Silence, FaultKind::Mute, refusal()] {
        for word in [CommandKind::Install, CommandKind::Read] {
            seed += 1;
            let mut world = one_lane(seed, |_| {});
            let first = world.request(&flow("test-01", LENGTH));
            world.run_until_idle();
            inject(&world, fault(word, 3, kind.clone(), None));
            let second = world.request(&flow("test-01", LENGTH));
            world.run_until_idle();
            let failed = world.answer(second).failure();
            assert_eq!((failed.degraded, failed.left.len()), (false, 0), "{kind} {word:?}");
            assert_eq!(rules(&world), complete_flow(LENGTH), "{kind} {word:?}");
            assert_eq!(idle_violations(&mut world, &[first, second]), [""; 0], "{kind} {word:?}");
        }
    }
}

#[test]
fn an_empty_pool_refuses_by_name_and_leaks_nothing() {
    let mut world = one_lane(1, |options| options.flows.meters = 1);
    let first = world.request(&flow("a", 3));
    let second = world.request(&flow("b", 5));
    world.run_until_idle();
    assert!(world.answer(first).is_done());
    let FlowOutcome::Refused(problem) = world.answer(second) else { panic!("{:?}", world.answer(second)) };
    assert_eq!(problem.code, codes::POOL_EMPTY);
    assert_eq!(problem.to_string(), "NAVE-0103: no meter is free on of:01 for flow `b`; remove a flow first");
    assert_eq!(rules(&world), complete_flow(3));

    // A failed flow returns its resources, so the next one finds everything free.
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
fn a_length_that_differs_from_the_existing_flow_is_refused() {
    let mut world = one_lane(1, |_| {});
    world.request(&flow("test-01", 3));
    let other = world.request(&flow("test-01", 4));
    world.run_until_idle();
    let FlowOutcome::Refused(problem) = world.answer(other) else { panic!("{:?}", world.answer(other)) };
    assert_eq!((problem.code, problem.field.as_deref()), (Code::InvalidField, Some("length")));
    assert_eq!(problem.detail, "`length` is 4; allowed is 3, since flow `test-01` exists with that length");
    assert_eq!(rules(&world), complete_flow(3));
}

#[test]
fn fault_injection_works_at_the_minimum_and_maximum_length() {
    for (length, errors) in
        [(1, vec![json!(0), json!(1), json!(2), json!(null)]), (1000, vec![json!(0), json!(1), json!(2), json!(null)])]
    {
        let mut world = one_lane(u64::from(length), |_| {});
        for error in errors {
            let asked = world.request(&json!({"flowid": "test-01", "length": length, "error": error}));
            world.run_until_idle();
            let answer = world.answer(asked);
            assert_eq!(answer.is_done(), error.is_null(), "length {length} error {error}: {answer:?}");
            let expected = if error.is_null() { complete_flow(length) } else { Vec::new() };
            assert_eq!(rules(&world), expected, "length {length} error {error}");
            assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "length {length} error {error}");
        }
    }
}

/// Lesson 14: results are distinguished by type, never by parts of a name.
#[test]
fn a_flow_named_error_is_a_flow() {
    let mut world = one_lane(1, |_| {});
    for name in ["error", "refused", "timeout"] {
        let asked = world.request(&flow(name, 2));
        world.run_until_idle();
        assert!(world.answer(asked).is_done(), "{name}: {:?}", world.answer(asked));
    }
}

/// A rollback must not remove the rules of others.
#[test]
fn a_rollback_does_not_remove_foreign_rules() {
    for kind in [FaultKind::Silence, refusal()] {
        let mut world = one_lane(1, |_| {});
        let rule = Rule { switch: SwitchId::numbered(2), flow: "foreign".into(), number: 2, cookie: 1, meter: 1 };
        foreign_command(&mut world, 1, Action::Install { rule });
        world.run_until_idle();
        inject(&world, fault(CommandKind::Install, 4, kind.clone(), None));
        let asked = world.request(&flow("test-01", LENGTH));
        world.run_until_idle();
        assert!(!world.answer(asked).failure().degraded, "{kind}");
        assert_eq!(rules(&world), [("of:02".to_owned(), 2)], "{kind}");
        assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "{kind}");
    }
}
