//! Every transition in the table of create-flow occurs in the whole system, and no other. Each
//! scenario is a test.

mod support;

use std::collections::BTreeSet;

use floodlight_sim::fault::{CommandKind, Match};
use floodlight_sim::{Fault, FaultKind};
use flow_messages::speaker::{Action, Rule, SwitchId};
use hub::check::table;
use serde_json::json;
use support::{FlowWorld, fault, flow, foreign_command, inject, one_lane, refusal};
use wire::Code;
use wire::answer::Operation;
use wire::command::Command;

/// Transitions as histories have them, such as "installing -> removing (failed)".
type Transitions = BTreeSet<String>;

/// Returns the transitions of the table that change the state.
fn of_the_table() -> Transitions {
    let rows = table(include_str!("../../flows/src/create.rs")).into_iter().filter(|row| row.state != row.next);
    rows.map(|row| format!("{} -> {} ({})", row.state, row.next, row.event)).collect()
}

/// Returns the transitions in all published histories.
fn seen(world: &FlowWorld) -> Transitions {
    let views = world.lanes.topics.view(flows::NAME, flows::STAGE);
    let records = [world.lanes.records(&world.egress()), world.lanes.records(&views)].concat();
    let operations = records.iter().filter_map(|record| serde_json::from_slice::<Operation>(&record.value).ok());
    let entries = operations.flat_map(|operation| operation.history).map(|entry| entry.what);
    entries.filter(|what| what.contains(" -> ")).collect()
}

/// Checks that the transitions `shown` occur in a scenario, and none that the table lacks.
fn assert_shows(worlds: &[FlowWorld], shown: &[&str]) {
    let (table, seen): (_, Transitions) = (of_the_table(), worlds.iter().flat_map(seen).collect());
    let missing: Vec<&str> = shown.iter().copied().filter(|transition| !seen.contains(*transition)).collect();
    assert_eq!(missing, [""; 0], "transitions that did not occur");
    assert_eq!(seen.difference(&table).collect::<Vec<_>>(), [""; 0], "transitions that the table lacks");
}

/// Makes a test of each scenario, with transitions that must occur in it.
macro_rules! scenarios {
    ($($name:ident: $shown:expr;)*) => {
        mod scenarios {
            $(
                #[test]
                fn $name() {
                    super::assert_shows(&super::$name(), &$shown);
                }
            )*
        }

        const SHOWN: &[&[&str]] = &[$(&$shown),*];
    };
}

scenarios! {
    success_and_each_injected_error: [
        "- -> installing (requested)",
        "installing -> validating (all replied)",
        "validating -> ended (all replied)",
        "installing -> removing (failed)",
        "installing -> removing (timed out)",
        "removing -> checking removal (undone)",
        "checking removal -> ended (all replied)",
    ];
    cancelled_during_installation_and_validation: [
        "installing -> removing (cancelled)",
        "validating -> removing (cancelled)",
    ];
    cancelled_while_an_existing_flow_is_validated_then_refused: [
        "- -> ended (requested)",
        "removing -> ended (undone)",
    ];
    a_foreign_client_removes_a_rule_before_it_is_validated: ["validating -> removing (all replied)"];
    the_validation_fails_or_times_out: [
        "validating -> removing (failed)",
        "validating -> removing (timed out)",
    ];
    the_removal_cannot_finish: [
        "removing -> checking removal (undo stuck)",
        "checking removal -> degraded (all replied)",
        "degraded -> removing (timed out)",
        "degraded -> ended (timed out)",
    ];
    the_check_of_the_removal_cannot_finish_or_times_out: [
        "checking removal -> degraded (failed)",
        "checking removal -> degraded (timed out)",
    ];
    a_newer_request_is_refused_for_its_length_and_removes_the_leftovers: [
        "- -> clearing (requested)",
        "clearing -> checking removal (all replied)",
        "clearing -> checking removal (failed)",
        "clearing -> checking removal (timed out)",
        "degraded -> clearing (timed out)",
    ];
    a_foreign_client_installs_a_rule_again_before_its_removal_is_checked: [
        "checking removal -> degraded (all replied)",
    ];
}

#[test]
fn the_scenarios_show_every_transition_of_the_table() {
    let shown: Transitions = SHOWN.iter().copied().flatten().map(|transition| (*transition).to_owned()).collect();
    assert_eq!(shown, of_the_table());
}

/// A world with a flow of three rules that is rolled back since its first rule is refused, and with
/// further faults.
fn rolled_back(apart: bool, faults: Vec<Fault>) -> FlowWorld {
    let mut world = one_lane(1, |options| options.apart = apart);
    inject(&world, fault(CommandKind::Install, 1, refusal(), Some(1)));
    for fault in faults {
        inject(&world, fault);
    }
    world.request(&flow("test-01", 3));
    world
}

/// Runs until the live operation is in this state.
fn until(world: &mut FlowWorld, state: &str) {
    for _ in 0..20_000 {
        if world.lanes.unfinished().first().is_some_and(|line| line.ends_with(state)) {
            return;
        }
        world.run_ms(1);
    }
    panic!("never `{state}`: {:?}", world.lanes.unfinished());
}

/// Crashes the workers while the flow is in `state`, until the deadline of its step has expired.
fn without_workers_in(state: &str, world: &mut FlowWorld) {
    inject(world, Fault { when: Match::default(), kind: FaultKind::DelayReply { ms: 100 }, times: None });
    until(world, state);
    world.lanes.kill(flows::SPEAKER);
    world.run_ms(2_500);
    world.lanes.start(flows::SPEAKER);
    world.speaker().clear_faults();
    world.run_until_idle();
}

/// Requests the flow again while its degraded operation is in `state` in its second attempt.
fn superseded_while(state: &str, world: &mut FlowWorld) {
    until(world, "degraded");
    until(world, state);
    world.request(&flow("test-01", 3));
    // The attempt in progress fails too.
    world.run_ms(3_000);
}

/// A world with a leftover rule and a newer request with another length. `removal` is the outcome
/// of its removal.
fn refused_for_its_length(removal: &str) -> FlowWorld {
    let silent = fault(CommandKind::Remove, 2, FaultKind::Silence, None);
    let mut world = rolled_back(true, vec![silent.clone()]);
    until(&mut world, "degraded");
    world.speaker().clear_faults();
    match removal {
        "fails" => inject(&world, silent),
        "times out" => inject(&world, fault(CommandKind::Remove, 2, FaultKind::DelayReply { ms: 100 }, None)),
        _succeeds => {}
    }
    world.request(&flow("test-01", 4));
    if removal == "times out" {
        without_workers_in("clearing", &mut world);
    }
    world.run_ms(5_000);
    world.speaker().clear_faults();
    world.run_until_idle();
    world
}

fn rule_2() -> Rule {
    Rule { switch: SwitchId::numbered(2), flow: "test-01".into(), number: 2, cookie: 1, meter: 1 }
}

// ---- scenarios ------------------------------------------------------------------------------------------------------------

fn success_and_each_injected_error() -> Vec<FlowWorld> {
    let mut world = one_lane(1, |_| {});
    for error in [json!(0), json!(1), json!(null)] {
        world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
    }
    world.run_until_idle();
    vec![world]
}

fn cancelled_during_installation_and_validation() -> Vec<FlowWorld> {
    let cancelled = |(word, state)| {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(word, 1, FaultKind::DelayReply { ms: 100 }, Some(1)));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(50);
        let cancel = world.command(asked, &Command::Cancel);
        world.run_until_idle();
        assert!(world.outcome(&cancel).is_some_and(|outcome| outcome.is_ok()), "{state}");
        assert_eq!(world.answer(asked).failure().code, Code::Cancelled, "{state}");
        assert!(world.speaker().all_rules().is_empty(), "{state}");
        world
    };
    [(CommandKind::Install, "installing"), (CommandKind::Read, "validating")].map(cancelled).into()
}

/// The first cancellation comes while an existing flow is validated, which continues to exist.
fn cancelled_while_an_existing_flow_is_validated_then_refused() -> Vec<FlowWorld> {
    let mut world = one_lane(1, |_| {});
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    inject(&world, fault(CommandKind::Read, 1, FaultKind::DelayReply { ms: 100 }, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(50);
    world.command(asked, &Command::Cancel);
    world.run_until_idle();
    assert_eq!((world.answer(asked).failure().code, world.speaker().all_rules().len()), (Code::Cancelled, 3));
    world.request(&flow("test-01", 4));
    world.run_until_idle();
    vec![world]
}

fn a_foreign_client_removes_a_rule_before_it_is_validated() -> Vec<FlowWorld> {
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 1, FaultKind::DelayReply { ms: 100 }, None));
    world.request(&flow("test-01", 3));
    world.run_ms(50);
    foreign_command(&mut world, 1, Action::Remove { switch: SwitchId::numbered(2), cookie: 1 });
    world.run_until_idle();
    vec![world]
}

/// Reads get no reply until the last attempt fails, or the workers crash and the step times out.
fn the_validation_fails_or_times_out() -> Vec<FlowWorld> {
    let mut fails = one_lane(1, |_| {});
    inject(&fails, fault(CommandKind::Read, 2, FaultKind::Silence, Some(3)));
    fails.request(&flow("test-01", 3));
    fails.run_until_idle();
    let mut times_out = one_lane(1, |options| options.apart = true);
    times_out.request(&flow("test-01", 3));
    without_workers_in("validating", &mut times_out);
    vec![fails, times_out]
}

/// Leftovers are removed when the speaker is well again; or a newer request comes while the
/// operation is in the state `newer`.
fn unfinished(command: CommandKind, newer: Option<&str>) -> FlowWorld {
    let mut world = rolled_back(false, vec![fault(command, 2, FaultKind::Silence, None)]);
    if let Some(state) = newer {
        superseded_while(state, &mut world);
    }
    world.run_ms(5_000);
    world.speaker().clear_faults();
    world.run_until_idle();
    world
}

fn the_removal_cannot_finish() -> Vec<FlowWorld> {
    [None, Some("degraded"), Some("removing")].map(|newer| unfinished(CommandKind::Remove, newer)).into()
}

fn the_check_of_the_removal_cannot_finish_or_times_out() -> Vec<FlowWorld> {
    let mut times_out = rolled_back(true, vec![]);
    without_workers_in("checking removal", &mut times_out);
    let cannot_finish = [None, Some("checking removal")].map(|newer| unfinished(CommandKind::Read, newer));
    cannot_finish.into_iter().chain([times_out]).collect()
}

fn a_newer_request_is_refused_for_its_length_and_removes_the_leftovers() -> Vec<FlowWorld> {
    let refused = |removal| {
        let world = refused_for_its_length(removal);
        assert!(world.speaker().all_rules().is_empty(), "a removal that {removal}");
        world
    };
    ["succeeds", "fails", "times out"].map(refused).into()
}

fn a_foreign_client_installs_a_rule_again_before_its_removal_is_checked() -> Vec<FlowWorld> {
    let mut world = rolled_back(false, vec![fault(CommandKind::Remove, 3, FaultKind::DelayReply { ms: 100 }, None)]);
    world.run_ms(50);
    foreign_command(&mut world, 1, Action::Install { rule: rule_2() });
    world.run_until_idle();
    vec![world]
}
