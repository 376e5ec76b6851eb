//! Every transition in the table of create-flow occurs in the whole system, and no other.

mod support;

use std::collections::BTreeSet;

use floodlight_sim::fault::{CommandKind, Match};
use floodlight_sim::{Fault, FaultKind};
use hub::check::{differences, table};
use nave::testing::World;
use serde_json::json;
use support::{fault, flow, foreign_command, inject, one_lane, refusal};
use wire::Code;
use wire::answer::Operation;
use wire::command::{Command, Outcome};
use wire::speaker::{Action, Rule, SwitchId};

type Seen = BTreeSet<(String, String, String)>;

/// Collects the transitions in all published histories, such as "installing -> removing (failed)".
fn collect(world: &World, seen: &mut Seen) {
    let views = world.lanes.topics.view(flows::NAME, flows::STAGE);
    for record in [world.lanes.records(&world.egress()), world.lanes.records(&views)].concat() {
        let Ok(operation) = serde_json::from_slice::<Operation>(&record.value) else { continue };
        for entry in operation.history {
            let parts = entry.what.split_once(" -> ").and_then(|(from, rest)| {
                let (next, event) = rest.strip_suffix(')')?.split_once(" (")?;
                Some((from.to_owned(), event.to_owned(), next.to_owned()))
            });
            seen.extend(parts);
        }
    }
}

/// A world with a flow of three rules that is rolled back since its first rule is refused, and with
/// further faults.
fn rolled_back(apart: bool, faults: Vec<Fault>) -> World {
    let mut world = one_lane(1, |options| options.apart = apart);
    inject(&world, fault(CommandKind::Install, 1, refusal(), Some(1)));
    for fault in faults {
        inject(&world, fault);
    }
    world.request(&flow("test-01", 3));
    world
}

/// Runs until the live operation is in this state.
fn until(world: &mut World, state: &str) {
    for _ in 0..20_000 {
        if world.lanes.unfinished().first().is_some_and(|line| line.ends_with(state)) {
            return;
        }
        world.run_ms(1);
    }
    panic!("never `{state}`: {:?}", world.lanes.unfinished());
}

/// Crashes the workers while the flow is in `state`, until the deadline of its step has expired.
fn without_workers_in(state: &str, world: &mut World) {
    inject(world, Fault { when: Match::default(), kind: FaultKind::DelayReply { ms: 100 }, times: None });
    until(world, state);
    world.lanes.kill(flows::SPEAKER);
    world.run_ms(2_500);
    world.lanes.start(flows::SPEAKER);
    world.speaker().clear_faults();
    world.run_until_idle();
}

/// Requests the flow again while its degraded operation is in `state` in its second attempt.
fn superseded_while(state: &str, world: &mut World) {
    until(world, "degraded");
    until(world, state);
    world.request(&flow("test-01", 3));
    // The attempt in progress fails too.
    world.run_ms(3_000);
}

/// A world with a leftover rule and a newer request with another length. `removal` is the outcome
/// of its removal.
fn refused_for_its_length(removal: &str) -> World {
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

#[test]
fn exactly_the_transitions_of_the_table_occur() {
    let mut seen = Seen::new();

    // Success, and each injected error.
    let mut world = one_lane(1, |_| {});
    for error in [json!(0), json!(1), json!(null)] {
        world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
    }
    world.run_until_idle();
    collect(&world, &mut seen);

    // Cancelled during installation and during validation.
    for (word, state) in [(CommandKind::Install, "installing"), (CommandKind::Read, "validating")] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(word, 1, FaultKind::DelayReply { ms: 100 }, Some(1)));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(50);
        let cancel = world.command(asked, &Command::Cancel);
        world.run_until_idle();
        assert!(matches!(world.outcome(&cancel), Some(Outcome::Taken(_))), "{state}");
        assert_eq!(world.answer(asked).failure().code, Code::Cancelled, "{state}");
        assert!(world.speaker().all_rules().is_empty(), "{state}");
        collect(&world, &mut seen);
    }

    // Cancelled while an existing flow is validated: it continues to exist.
    let mut world = one_lane(1, |_| {});
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    inject(&world, fault(CommandKind::Read, 1, FaultKind::DelayReply { ms: 100 }, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(50);
    world.command(asked, &Command::Cancel);
    world.run_until_idle();
    assert_eq!((world.answer(asked).failure().code, world.speaker().all_rules().len()), (Code::Cancelled, 3));
    collect(&world, &mut seen);

    // Refused before it starts.
    world.request(&flow("test-01", 4));
    world.run_until_idle();
    collect(&world, &mut seen);

    // A foreign client removes a rule before it is validated.
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 1, FaultKind::DelayReply { ms: 100 }, None));
    world.request(&flow("test-01", 3));
    world.run_ms(50);
    foreign_command(&mut world, 1, Action::Remove { switch: SwitchId::numbered(2), cookie: 1 });
    world.run_until_idle();
    collect(&world, &mut seen);

    // Reads get no reply until the last attempt fails. Or the workers crash, and the step times
    // out.
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Read, 2, FaultKind::Silence, Some(3)));
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    collect(&world, &mut seen);
    let mut world = one_lane(1, |options| options.apart = true);
    world.request(&flow("test-01", 3));
    without_workers_in("validating", &mut world);
    collect(&world, &mut seen);

    // The removal cannot finish and later succeeds; or a newer request comes during the backoff or
    // an attempt.
    for newer in [None, Some("degraded"), Some("removing")] {
        let mut world = rolled_back(false, vec![fault(CommandKind::Remove, 2, FaultKind::Silence, None)]);
        if let Some(state) = newer {
            superseded_while(state, &mut world);
        }
        world.run_ms(5_000);
        world.speaker().clear_faults();
        world.run_until_idle();
        collect(&world, &mut seen);
    }

    // The check of the removal cannot finish: reads fail, or the workers crash and the step times
    // out.
    for newer in [None, Some("checking removal")] {
        let mut world = rolled_back(false, vec![fault(CommandKind::Read, 2, FaultKind::Silence, None)]);
        if let Some(state) = newer {
            superseded_while(state, &mut world);
        }
        world.run_ms(5_000);
        world.speaker().clear_faults();
        world.run_until_idle();
        collect(&world, &mut seen);
    }
    let mut world = rolled_back(true, vec![]);
    without_workers_in("checking removal", &mut world);
    collect(&world, &mut seen);

    // A newer request with another length is refused and removes the leftovers. Its removal
    // succeeds, fails or times out.
    for removal in ["succeeds", "fails", "times out"] {
        let world = refused_for_its_length(removal);
        collect(&world, &mut seen);
        assert!(world.speaker().all_rules().is_empty(), "a removal that {removal}");
    }

    // A foreign client installs a rule again before its removal is checked.
    let mut world = rolled_back(false, vec![fault(CommandKind::Remove, 3, FaultKind::DelayReply { ms: 100 }, None)]);
    world.run_ms(50);
    foreign_command(&mut world, 1, Action::Install { rule: rule_2() });
    world.run_until_idle();
    collect(&world, &mut seen);

    let rows = table(include_str!("../../flows/src/create.rs"));
    let missing: Vec<String> = rows
        .iter()
        .filter(|row| row.state != row.next)
        .filter(|row| !seen.contains(&(row.state.clone(), row.event.clone(), row.next.clone())))
        .map(|row| format!("{} --{}--> {}", row.state, row.event, row.next))
        .collect();
    assert_eq!(missing, [""; 0], "transitions that did not occur");
    let handled = rows.iter().map(|row| (row.state.clone(), row.event.clone())).collect();
    assert_eq!(differences(&rows, &handled, &seen), [""; 0]);
}
