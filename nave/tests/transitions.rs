//! Every transition of the table of create-flow is seen to happen in a whole system, and no other.

mod support;

use std::collections::BTreeSet;

use floodlight_sim::fault::{Match, Word};
use floodlight_sim::{Fault, FaultKind};
use hub::check::{differences, table};
use nave::world::World;
use serde_json::json;
use support::{fault, flow, inject, one_lane, refusal, stranger};
use wire::Code;
use wire::answer::Operation;
use wire::command::{Command, Outcome};
use wire::speaker::{Action, Rule, SwitchId};

type Seen = BTreeSet<(String, String, String)>;

/// The transitions in all histories that were told or shown: "installing -> removing (failed)".
fn collect(world: &World, seen: &mut Seen) {
    let system = world.system();
    let views = system.options.topics.view(system.topology.name(), flows::STAGE);
    for record in [world.records(&world.egress()), world.records(&views)].concat() {
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

/// A world in which a flow of three is rolled back, since its first rule is refused, and in which more is broken.
fn rolled_back(apart: bool, faults: Vec<Fault>) -> World {
    let mut world = one_lane(1, |options| options.apart = apart);
    inject(&world, fault(Word::Install, 1, refusal(), Some(1)));
    for fault in faults {
        inject(&world, fault);
    }
    world.request(&flow("test-01", 3));
    world
}

/// Runs until the operation that lives is in this state.
fn until(world: &mut World, state: &str) {
    for _ in 0..20_000 {
        if world.unfinished().first().is_some_and(|line| line.ends_with(state)) {
            return;
        }
        world.run_ms(1);
    }
    panic!("never `{state}`: {:?}", world.unfinished());
}

/// The workers die while the flow is in `state`, until its step has passed its deadline.
fn without_workers_in(state: &str, world: &mut World) {
    inject(world, Fault { when: Match::default(), kind: FaultKind::DelayReply { ms: 100 }, times: None });
    until(world, state);
    world.kill(flows::SPEAKER);
    world.run_ms(2_500);
    world.start(flows::SPEAKER);
    world.speaker().clear_faults();
    world.run_until_idle();
}

/// Asks for the flow again while its degraded operation is in `state`, at its second try; then all is well again.
fn superseded_while(state: &str, world: &mut World) {
    until(world, "degraded");
    until(world, state);
    world.request(&flow("test-01", 3));
    // The try that is under way fails too.
    world.run_ms(3_000);
}

/// A world in which a rule is left of a flow, and a newer request wants another length: what becomes of its removal is `removal`.
fn refused_for_its_length(removal: &str) -> World {
    let silent = fault(Word::Remove, 2, FaultKind::Silence, None);
    let mut world = rolled_back(true, vec![silent.clone()]);
    until(&mut world, "degraded");
    world.speaker().clear_faults();
    match removal {
        "fails" => inject(&world, silent),
        "does not end" => inject(&world, fault(Word::Remove, 2, FaultKind::DelayReply { ms: 100 }, None)),
        _works => {}
    }
    world.request(&flow("test-01", 4));
    if removal == "does not end" {
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
fn every_transition_of_the_table_is_seen_and_no_other() {
    let mut seen = Seen::new();

    // Up, and each of the drills.
    let mut world = one_lane(1, |_| {});
    for error in [json!(0), json!(1), json!(null)] {
        world.request(&json!({"flowid": "test-01", "length": 3, "error": error}));
    }
    world.run_until_idle();
    collect(&world, &mut seen);

    // Cancelled while rules are installed, and while they are read back.
    for (word, state) in [(Word::Install, "installing"), (Word::Read, "validating")] {
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

    // Cancelled while a flow that stands is read back: it stands on, and nothing is to be removed.
    let mut world = one_lane(1, |_| {});
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    inject(&world, fault(Word::Read, 1, FaultKind::DelayReply { ms: 100 }, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(50);
    world.command(asked, &Command::Cancel);
    world.run_until_idle();
    assert_eq!((world.answer(asked).failure().code, world.speaker().all_rules().len()), (Code::Cancelled, 3));
    collect(&world, &mut seen);

    // Refused before it begins.
    world.request(&flow("test-01", 4));
    world.run_until_idle();
    collect(&world, &mut seen);

    // A rule is gone before it is read back: somebody took it.
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(Word::Install, 1, FaultKind::DelayReply { ms: 100 }, None));
    world.request(&flow("test-01", 3));
    world.run_ms(50);
    stranger(&mut world, 1, Action::Remove { switch: SwitchId::numbered(2), cookie: 1 });
    world.run_until_idle();
    collect(&world, &mut seen);

    // Reads go unheard: the last attempt fails. Or the workers die, and the step ends.
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(Word::Read, 2, FaultKind::Silence, Some(3)));
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    collect(&world, &mut seen);
    let mut world = one_lane(1, |options| options.apart = true);
    world.request(&flow("test-01", 3));
    without_workers_in("validating", &mut world);
    collect(&world, &mut seen);

    // The removal cannot finish, and ends by itself; or a newer request comes while it waits, or while it tries.
    for newer in [None, Some("degraded"), Some("removing")] {
        let mut world = rolled_back(false, vec![fault(Word::Remove, 2, FaultKind::Silence, None)]);
        if let Some(state) = newer {
            superseded_while(state, &mut world);
        }
        world.run_ms(5_000);
        world.speaker().clear_faults();
        world.run_until_idle();
        collect(&world, &mut seen);
    }

    // The check of the removal cannot finish: reads fail, or the workers die and the step ends.
    for newer in [None, Some("checking removal")] {
        let mut world = rolled_back(false, vec![fault(Word::Read, 2, FaultKind::Silence, None)]);
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

    // A newer request wants another length: it is refused, and removes what is left. Its removal works, fails, or does not end.
    for removal in ["works", "fails", "does not end"] {
        let world = refused_for_its_length(removal);
        collect(&world, &mut seen);
        assert!(world.speaker().all_rules().is_empty(), "a removal that {removal}");
    }

    // A rule is back before its removal is checked: somebody put it there.
    let mut world = rolled_back(false, vec![fault(Word::Remove, 3, FaultKind::DelayReply { ms: 100 }, None)]);
    world.run_ms(50);
    stranger(&mut world, 1, Action::Install { rule: rule_2() });
    world.run_until_idle();
    collect(&world, &mut seen);

    let rows = table(include_str!("../../flows/src/create.rs"));
    let missing: Vec<String> = rows
        .iter()
        .filter(|row| row.state != row.next)
        .filter(|row| !seen.contains(&(row.state.clone(), row.event.clone(), row.next.clone())))
        .map(|row| format!("{} --{}--> {}", row.state, row.event, row.next))
        .collect();
    assert_eq!(missing, [""; 0], "never seen");
    let handled = rows.iter().map(|row| (row.state.clone(), row.event.clone())).collect();
    assert_eq!(differences(&rows, &handled, &seen), [""; 0]);
}
