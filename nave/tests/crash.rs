//! The hub, the workers in a separate stage, or both crash at every point of a flow and restart:
//! the outcome does not change.

mod support;

use floodlight_sim::fault::CommandKind;
use floodlight_sim::{Fault, FaultKind};
use nave::testing::{FlowRequest, World};
use serde_json::{Value, json};
use support::{
    complete_flow, fault, flow, idle_violations, inject, kill, one_lane, outcome, refusal, rules, stages_to_crash,
    start,
};

const LENGTH: u32 = 3;

/// A request and the faults injected into it.
struct Case {
    name: &'static str,
    /// True if no attempt is repeated: then downtime of all lanes changes nothing. Otherwise
    /// downtime counts against open deadlines, so another deadline may end the flow.
    single_attempts: bool,
    error: Value,
    faults: Vec<Fault>,
}

fn cases() -> Vec<Case> {
    let single_attempts = |name, error, faults| Case { name, single_attempts: true, error, faults };
    let retried = |name, error, faults| Case { name, single_attempts: false, error, faults };
    let on_rule_2 = |command, kind, times| fault(command, 2, kind, times);
    vec![
        single_attempts("the flow is created", json!(null), vec![]),
        single_attempts("the hub loses a step", json!(0), vec![]),
        retried("the worker drops a call", json!(1), vec![]),
        retried("the switch does not answer", json!(2), vec![]),
        retried("an install is lost", json!(null), vec![on_rule_2(CommandKind::Install, FaultKind::Silence, Some(1))]),
        retried("a reply is lost", json!(null), vec![on_rule_2(CommandKind::Install, FaultKind::Mute, Some(2))]),
        retried(
            "a reply is late",
            json!(null),
            vec![on_rule_2(CommandKind::Read, FaultKind::DelayReply { ms: 500 }, Some(1))],
        ),
        single_attempts(
            "a reply is duplicated",
            json!(null),
            vec![on_rule_2(CommandKind::Install, FaultKind::Duplicate, None)],
        ),
        single_attempts(
            "one install is late and another is refused",
            json!(null),
            vec![
                on_rule_2(CommandKind::Install, FaultKind::DelayExecution { ms: 5_000 }, Some(1)),
                fault(CommandKind::Install, 1, refusal(), None),
            ],
        ),
        retried(
            "the removal needs three attempts",
            json!(null),
            vec![
                fault(CommandKind::Install, 1, refusal(), None),
                on_rule_2(CommandKind::Remove, FaultKind::Error { code: "busy".into(), retry: true }, Some(2)),
            ],
        ),
        retried(
            "the removal degrades and recovers",
            json!(null),
            vec![
                fault(CommandKind::Install, 1, refusal(), None),
                on_rule_2(CommandKind::Remove, FaultKind::Silence, Some(5)),
            ],
        ),
    ]
}

/// Starts a world with this case.
fn start_case(seed: u64, case: &Case) -> (World, FlowRequest) {
    let mut world = one_lane(seed, |_| {});
    case.faults.iter().for_each(|fault| inject(&world, fault.clone()));
    let mut body = flow("test-01", LENGTH);
    body["error"] = case.error.clone();
    let asked = world.request(&body);
    (world, asked)
}

/// The result without a crash: answer, rules and duration.
fn undisturbed(seed: u64, case: &Case) -> (Value, Vec<(String, u32)>, u64) {
    let (mut world, asked) = start_case(seed, case);
    world.run_until_idle();
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "{}", case.name);
    let operation = world.operation(asked).expect("the northbound knows the operation");
    let ends = operation.history.last().expect("the history has entries").at;
    (outcome(&mut world, asked), rules(&world), ends.ms_since(operation.history[0].at))
}

/// True if the outcome may differ: a deadline of the hub may expire during the downtime. It cannot
/// if only the hub was down and every attempt was answered: the replies wait in its inbox.
fn may_differ(case: &Case, stages: &[&str], down_ms: u64) -> bool {
    down_ms > 0 && !(case.single_attempts && stages == ["hub"])
}

/// Checks that the outcome equals that without a crash, or with `may_differ`, that it is at least
/// consistent.
fn assert_same_outcome(mut world: World, asked: FlowRequest, seed: u64, case: &Case, may_differ: bool, when: &str) {
    world.run_until_idle();
    let what = format!("{}, seed {seed}, killed {when}", case.name);
    if !may_differ {
        let (answer, installed, _) = undisturbed(seed, case);
        assert_eq!(outcome(&mut world, asked), answer, "{what}");
        assert_eq!(rules(&world), installed, "{what}");
    }
    let expected = if world.answer(asked).is_done() { complete_flow(LENGTH) } else { Vec::new() };
    assert_eq!(rules(&world), expected, "{what}");
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "{what}");
    let operation = world.operation(asked).expect("the northbound knows the operation");
    assert!(operation.answer.is_some() && !operation.live, "{what}: {operation:?}");
}

#[test]
fn a_crash_between_any_two_polls_does_not_change_the_outcome() {
    for (seed, case) in (1..).zip(cases()) {
        for stages in stages_to_crash() {
            let mut turns = 0;
            loop {
                let (mut world, asked) = start_case(seed, &case);
                let idle = world.run_polls(turns);
                kill(&mut world, &stages);
                start(&mut world, &stages);
                let when = format!("{stages:?} after {turns} polls");
                assert_same_outcome(world, asked, seed, &case, false, &when);
                if idle {
                    break;
                }
                turns += 1;
            }
            assert!(turns > 20, "{}: {turns} polls", case.name);
        }
    }
}

/// The second crash comes at any moment of the recovery from the first.
#[test]
fn a_crash_during_recovery_does_not_change_the_outcome() {
    for ((seed, case), stages) in (1..).zip(cases()).zip(stages_to_crash().into_iter().cycle()) {
        for first in [5, 12, 20, 30] {
            for second in 0..16 {
                let (mut world, asked) = start_case(seed, &case);
                world.run_polls(first);
                for turns in [second, 3] {
                    kill(&mut world, &stages);
                    start(&mut world, &stages);
                    world.run_polls(turns);
                }
                let when = format!("{stages:?} after {first} polls, again after {second}, and again after 3");
                assert_same_outcome(world, asked, seed, &case, false, &when);
            }
        }
    }
}

/// The replies wait in the inbox and are handled before any deadline fires.
#[test]
fn replies_received_during_downtime_do_not_time_out() {
    for ((seed, case), stages) in (1..).zip(cases()).zip(stages_to_crash().into_iter().cycle()) {
        let (_, _, took_ms) = undisturbed(seed, &case);
        let step_ms = (took_ms / 40).max(1);
        for at_ms in (0..=took_ms).step_by(usize::try_from(step_ms).unwrap()) {
            for down_ms in [0, 450, 1_700, 30_000] {
                let (mut world, asked) = start_case(seed, &case);
                world.run_ms(at_ms);
                kill(&mut world, &stages);
                world.run_ms(down_ms);
                start(&mut world, &stages);
                let when = format!("{stages:?} at {at_ms} ms for {down_ms} ms");
                assert_same_outcome(world, asked, seed, &case, may_differ(&case, &stages, down_ms), &when);
            }
        }
    }
}

/// A second crash follows right after the recovery: work started from the backlog has its full
/// timeout.
#[test]
fn work_from_a_backlog_keeps_its_full_timeout_after_a_second_crash() {
    for ((seed, case), stages) in (1..).zip(cases()).zip(stages_to_crash().into_iter().cycle()) {
        for first in (4..40).step_by(3) {
            for second in [6, 9, 12] {
                let (mut world, asked) = start_case(seed, &case);
                world.run_polls(first);
                kill(&mut world, &stages);
                world.run_ms(5_000);
                start(&mut world, &stages);
                world.run_polls(second);
                kill(&mut world, &stages);
                start(&mut world, &stages);
                let when = format!("{stages:?} after {first} polls for 5 s, and again after {second}");
                assert_same_outcome(world, asked, seed, &case, may_differ(&case, &stages, 5_000), &when);
            }
        }
    }
}
