//! The hub, the workers in a separate stage, or both crash at every point of a flow and restart:
//! the outcome does not change.

mod support;

use floodlight_sim::fault::CommandKind;
use floodlight_sim::{Fault, FaultKind};
use nave::testing::SentRequest;
use serde_json::{Value, json};
use support::{
    FlowWorld, complete_flow, fault, flow, idle_violations, inject, kill, one_lane, outcome, refusal, rules,
    stages_to_crash, start,
};

const LENGTH: u32 = 3;

/// A request and the faults injected into it.
struct Case {
    seed: u64,
    attempts: Attempts,
    error: Value,
    faults: Vec<Fault>,
}

/// How often the calls of a case are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempts {
    /// Downtime of all lanes changes nothing.
    Single,
    /// Downtime counts against open deadlines, so another deadline may end the flow.
    Repeated,
}

/// Makes a module of each case, with one test for each outage.
macro_rules! cases {
    ($($name:ident: $seed:literal, $attempts:ident, $error:tt, $faults:expr;)*) => {$(
        mod $name {
            use super::*;

            fn case() -> Case {
                Case { seed: $seed, attempts: Attempts::$attempts, error: json!($error), faults: $faults.into() }
            }

            #[test]
            fn a_crash_between_any_two_polls_does_not_change_the_outcome() {
                crash_between_any_two_polls(&case());
            }

            #[test]
            fn a_crash_during_recovery_does_not_change_the_outcome() {
                crash_during_recovery(&case());
            }

            #[test]
            fn replies_received_during_downtime_do_not_time_out() {
                replies_during_downtime(&case());
            }

            #[test]
            fn work_from_a_backlog_keeps_its_full_timeout_after_a_second_crash() {
                second_crash_after_a_backlog(&case());
            }
        }
    )*};
}

cases! {
    the_flow_is_created: 1, Single, null, [];
    the_hub_loses_a_step: 2, Single, 0, [];
    the_worker_drops_a_call: 3, Repeated, 1, [];
    the_switch_does_not_answer: 4, Repeated, 2, [];
    an_install_is_lost: 5, Repeated, null, [fault(CommandKind::Install, 2, FaultKind::Silence, Some(1))];
    a_reply_is_lost: 6, Repeated, null, [fault(CommandKind::Install, 2, FaultKind::Mute, Some(2))];
    a_reply_is_late: 7, Repeated, null, [fault(CommandKind::Read, 2, FaultKind::DelayReply { ms: 500 }, Some(1))];
    a_reply_is_duplicated: 8, Single, null, [fault(CommandKind::Install, 2, FaultKind::Duplicate, None)];
    one_install_is_late_and_another_is_refused: 9, Single, null, [
        fault(CommandKind::Install, 2, FaultKind::DelayExecution { ms: 5_000 }, Some(1)),
        fault(CommandKind::Install, 1, refusal(), None),
    ];
    the_removal_needs_three_attempts: 10, Repeated, null, [
        fault(CommandKind::Install, 1, refusal(), None),
        fault(CommandKind::Remove, 2, FaultKind::Error { code: "busy".into(), retry: true }, Some(2)),
    ];
    the_removal_degrades_and_recovers: 11, Repeated, null, [
        fault(CommandKind::Install, 1, refusal(), None),
        fault(CommandKind::Remove, 2, FaultKind::Silence, Some(5)),
    ];
}

/// Starts a world with this case.
fn start_case(case: &Case) -> (FlowWorld, SentRequest) {
    let mut world = one_lane(case.seed, |_| {});
    case.faults.iter().for_each(|fault| inject(&world, fault.clone()));
    let mut body = flow("test-01", LENGTH);
    body["error"] = case.error.clone();
    let asked = world.request(&body);
    (world, asked)
}

/// The result without a crash.
struct Undisturbed {
    answer: Value,
    rules: Vec<(String, u32)>,
    took_ms: u64,
}

fn undisturbed(case: &Case) -> Undisturbed {
    let (mut world, asked) = start_case(case);
    world.run_until_idle();
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0]);
    let operation = world.operation(asked).expect("the northbound knows the operation");
    let ends = operation.history.last().expect("the history has entries").at;
    let took_ms = ends.ms_since(operation.history[0].at);
    Undisturbed { answer: outcome(&mut world, asked), rules: rules(&world), took_ms }
}

/// True if the outcome must equal that without a crash. Otherwise a deadline of the hub may expire
/// during the downtime: unless only the hub was down and every attempt was answered, because then
/// the replies wait in its inbox.
fn must_equal(case: &Case, stages: &[&str], down_ms: u64) -> bool {
    down_ms == 0 || (case.attempts == Attempts::Single && stages == ["hub"])
}

/// Checks that the outcome is consistent, and equals `same_as` if that is given.
fn assert_outcome(mut world: FlowWorld, asked: SentRequest, same_as: Option<&Undisturbed>, killed: &str) {
    world.run_until_idle();
    if let Some(same_as) = same_as {
        assert_eq!(outcome(&mut world, asked), same_as.answer, "killed {killed}");
        assert_eq!(rules(&world), same_as.rules, "killed {killed}");
    }
    let expected = if world.answer(asked).is_done() { complete_flow(LENGTH) } else { Vec::new() };
    assert_eq!(rules(&world), expected, "killed {killed}");
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "killed {killed}");
    let operation = world.operation(asked).expect("the northbound knows the operation");
    assert!(operation.answer.is_some() && !operation.live, "killed {killed}: {operation:?}");
}

/// The stages that crash in a case: the cases take turns.
fn stages_of(case: &Case) -> Vec<&'static str> {
    let turn = usize::try_from(case.seed - 1).expect("a small number");
    stages_to_crash().into_iter().cycle().nth(turn).expect("a cycle has no end")
}

fn crash_between_any_two_polls(case: &Case) {
    let same = undisturbed(case);
    for stages in stages_to_crash() {
        let mut turns = 0;
        loop {
            let (mut world, asked) = start_case(case);
            let idle = world.run_polls(turns);
            kill(&mut world, &stages);
            start(&mut world, &stages);
            let when = format!("{stages:?} after {turns} polls");
            assert_outcome(world, asked, Some(&same), &when);
            if idle {
                break;
            }
            turns += 1;
        }
        assert!(turns > 20, "{turns} polls");
    }
}

/// The second crash comes at any moment of the recovery from the first.
fn crash_during_recovery(case: &Case) {
    let (stages, same) = (stages_of(case), undisturbed(case));
    for first in [5, 12, 20, 30] {
        for second in 0..16 {
            let (mut world, asked) = start_case(case);
            world.run_polls(first);
            for turns in [second, 3] {
                kill(&mut world, &stages);
                start(&mut world, &stages);
                world.run_polls(turns);
            }
            let when = format!("{stages:?} after {first} polls, again after {second}, and again after 3");
            assert_outcome(world, asked, Some(&same), &when);
        }
    }
}

/// The replies wait in the inbox and are handled before any deadline fires.
fn replies_during_downtime(case: &Case) {
    let (stages, same) = (stages_of(case), undisturbed(case));
    let step_ms = (same.took_ms / 40).max(1);
    for at_ms in (0..=same.took_ms).step_by(usize::try_from(step_ms).expect("a small number")) {
        for down_ms in [0, 450, 1_700, 30_000] {
            let (mut world, asked) = start_case(case);
            world.run_ms(at_ms);
            kill(&mut world, &stages);
            world.run_ms(down_ms);
            start(&mut world, &stages);
            let when = format!("{stages:?} at {at_ms} ms for {down_ms} ms");
            assert_outcome(world, asked, must_equal(case, &stages, down_ms).then_some(&same), &when);
        }
    }
}

/// A second crash follows right after the recovery: work started from the backlog has its full
/// timeout.
fn second_crash_after_a_backlog(case: &Case) {
    let (stages, same) = (stages_of(case), undisturbed(case));
    let same_as = must_equal(case, &stages, 5_000).then_some(&same);
    for first in (4..40).step_by(3) {
        for second in [6, 9, 12] {
            let (mut world, asked) = start_case(case);
            world.run_polls(first);
            kill(&mut world, &stages);
            world.run_ms(5_000);
            start(&mut world, &stages);
            world.run_polls(second);
            kill(&mut world, &stages);
            start(&mut world, &stages);
            let when = format!("{stages:?} after {first} polls for 5 s, and again after {second}");
            assert_outcome(world, asked, same_as, &when);
        }
    }
}
