//! A flow is removed: every rule of it, whatever goes wrong on the way, and what is left is said and tried again.

mod support;

use floodlight_sim::fault::Word;
use nave::world::{Asked, Outcome, World};
use serde_json::Value;
use support::{fault, flow, inject, kill, kinds, not_at_rest, one_lane, outcome, rules, start, victims, whole};
use wire::{Code, Kind};

/// A world in which a flow of three stands.
fn standing(seed: u64) -> (World, Asked) {
    let mut world = one_lane(seed, |_| {});
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(asked).is_done());
    (world, asked)
}

/// The flows that are shown to those outside, by name.
fn shown(world: &World) -> Vec<(String, String)> {
    let system = world.system();
    let views = system.options.topics.view(system.topology.name(), flows::STAGE);
    let resource = |record: bus::Record| {
        let key = String::from_utf8(record.key?.to_vec()).ok()?;
        let flow = key.strip_prefix("resource/flow/")?.to_owned();
        let body: Option<Value> = serde_json::from_slice(&record.value).ok();
        Some((flow, body.map(|body| body["value"]["state"].as_str().expect("a state").to_owned())))
    };
    let last: std::collections::BTreeMap<_, _> = world.records(&views).into_iter().filter_map(resource).collect();
    last.into_iter().filter_map(|(flow, state)| Some((flow, state?))).collect()
}

#[test]
fn a_flow_that_is_removed_leaves_nothing_and_its_name_is_free() {
    let (mut world, up) = standing(1);
    assert_eq!(shown(&world), [("test-01".to_owned(), "up".to_owned())]);
    let gone = world.remove("test-01");
    world.run_until_idle();
    let Outcome::Gone(body) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    assert_eq!((body.removed, rules(&world).len()), (3, 0));
    assert_eq!(shown(&world), []);
    // Another length: nothing is remembered of the flow that was.
    let again = world.request(&flow("test-01", 5));
    world.run_until_idle();
    assert!(world.answer(again).is_done());
    assert_eq!(rules(&world), whole(5));
    assert_eq!(not_at_rest(&mut world, &[up, gone, again]), [""; 0]);
}

#[test]
fn a_flow_that_is_not_there_cannot_be_removed() {
    let mut world = one_lane(2, |_| {});
    let gone = world.remove("test-01");
    world.run_until_idle();
    let Outcome::Refused(problem) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    assert_eq!(problem.to_string(), "NAVE-0104: there is no flow `test-01`");
}

/// The rules that are left of a flow, as they are shown to those outside.
fn left(world: &World, flow: &str) -> Vec<u64> {
    let system = world.system();
    let views = system.options.topics.view(system.topology.name(), flows::STAGE);
    let key = format!("resource/flow/{flow}");
    let shown = world.records(&views).into_iter().rfind(|record| record.key.as_deref() == Some(key.as_bytes()));
    let body: Value = serde_json::from_slice(&shown.expect("it is shown").value).expect("it is there");
    body["value"]["left"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

#[test]
fn the_answer_of_a_degraded_operation_stays_its_last_record_in_the_egress() {
    let mut world = one_lane(8, |_| {});
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    inject(&world, fault(Word::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let gone = world.remove("test-01");
    world.run_ms(4_000);
    let Outcome::Failed(failed) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    world.speaker().clear_faults();
    world.run_until_idle();

    let kinds = |topic: &str, of: &str| -> Vec<Kind> {
        let records = world.records(topic).into_iter().filter(|record| !record.value.is_empty());
        let envelopes = records.map(|record| record.headers.envelope().expect("the hub writes envelopes"));
        let of_it = envelopes.filter(|envelope| envelope.operation.as_ref().is_some_and(|id| id.as_str() == of));
        of_it.map(|envelope| envelope.kind).collect()
    };
    let system = world.system();
    let views = system.options.topics.view(system.topology.name(), flows::STAGE);
    assert_eq!(kinds(&world.egress(), failed.operation.as_str()), [Kind::Answer]);
    assert_eq!(kinds(&views, failed.operation.as_str()).last(), Some(&Kind::View));
    let over = world.records(&views).into_iter().rfind(|record| !record.value.is_empty() && is_over(record));
    let over: Value = serde_json::from_slice(&over.expect("its end is a view").value).unwrap();
    assert_eq!((&over["operation"], &over["live"]), (&failed.operation.to_string().into(), &false.into()));
}

/// True for the last view of an operation that was answered before it was over.
fn is_over(record: &bus::Record) -> bool {
    record.key.as_ref().is_some_and(|key| key.starts_with(b"over/"))
}

/// The rules that the speaker was asked to remove since then, in order.
fn removals(world: &World, since: u64) -> Vec<u32> {
    let audit = world.speaker().audit_after(since, usize::MAX);
    let mut rules: Vec<u32> =
        audit.into_iter().filter(|entry| entry.command == "remove").filter_map(|entry| entry.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[test]
fn the_rules_that_are_left_are_those_that_were_not_removed_and_no_others() {
    let mut world = one_lane(6, |_| {});
    world.request(&flow("test-01", 5));
    world.run_until_idle();
    inject(&world, fault(Word::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let gone = world.remove("test-01");
    world.run_ms(4_000);
    let Outcome::Failed(failed) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    assert_eq!(failed.left.iter().map(|rule| rule.number).collect::<Vec<_>>(), [2]);
    assert_eq!(left(&world, "test-01"), [2]);
    assert_eq!(rules(&world), [("of:02".to_owned(), 2)]);
    // Asked again, it removes what is left and nothing else.
    let since = world.speaker().audit().last().map_or(0, |entry| entry.seq);
    let again = world.remove("test-01");
    world.run_ms(2_000);
    world.speaker().clear_faults();
    world.run_until_idle();
    assert_eq!(removals(&world, since), [2]);
    let Outcome::Gone(body) = world.answer(again) else { panic!("{:?}", world.answer(again)) };
    assert_eq!((body.removed, rules(&world).len()), (1, 0));
    assert_eq!(not_at_rest(&mut world, &[gone, again]), [""; 0]);
}

/// The same for a creation that failed, and whose undo failed as well.
#[test]
fn the_rules_that_a_creation_leaves_are_those_that_it_could_not_remove() {
    let mut world = one_lane(7, |_| {});
    inject(&world, fault(Word::Install, 4, support::refusal(), None));
    inject(&world, fault(Word::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 5));
    world.run_ms(6_000);
    let Outcome::Failed(failed) = world.answer(asked) else { panic!("{:?}", world.answer(asked)) };
    assert_eq!(failed.left.iter().map(|rule| rule.number).collect::<Vec<_>>(), [2]);
    assert_eq!((left(&world, "test-01"), rules(&world)), (vec![2], vec![("of:02".to_owned(), 2)]));
    world.speaker().clear_faults();
    world.run_until_idle();
    assert_eq!((rules(&world), shown(&world)), (vec![], vec![]));
    assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0]);
}

/// A degraded flow ends early for a newer request. That one was refused, and what was left was nobody's.
#[test]
fn a_request_that_is_refused_over_what_is_left_removes_it() {
    for times in [None, Some(8)] {
        let (mut world, _) = standing(8);
        inject(&world, fault(Word::Remove, 2, floodlight_sim::FaultKind::Silence, times));
        let gone = world.remove("test-01");
        world.run_ms(3_000);
        assert!(matches!(world.answer(gone), Outcome::Failed(_)));
        let longer = world.request(&flow("test-01", 4));
        world.run_ms(6_000);
        let Outcome::Refused(problem) = world.answer(longer) else { panic!("{:?}", world.answer(longer)) };
        assert_eq!(problem.field.as_deref(), Some("length"));
        world.run_ms(10_000);
        world.speaker().clear_faults();
        world.run_until_idle();
        assert_eq!((rules(&world), shown(&world)), (vec![], vec![]), "{times:?}: nothing is left");
        let again = world.request(&flow("test-01", 4));
        world.run_until_idle();
        assert!(world.answer(again).is_done(), "{times:?}: its name is free");
        assert_eq!(not_at_rest(&mut world, &[gone, longer, again]), [""; 0], "{times:?}");
    }
}

/// Every kind of fault, on the removal and on the check after it, once and for long: the answer says what stands.
#[test]
fn whatever_goes_wrong_the_answer_says_what_is_left_and_in_the_end_nothing_is() {
    for kind in kinds() {
        for word in [Word::Remove, Word::Read] {
            for times in [1, 4] {
                let what = format!("{kind} on {word:?}, {times} times");
                let (mut world, _) = standing(u64::from(times));
                inject(&world, fault(word, 2, kind.clone(), Some(times)));
                let gone = world.remove("test-01");
                world.run_ms(4_500);
                match world.answer(gone) {
                    Outcome::Gone(_) => assert_eq!(rules(&world), [], "{what}"),
                    Outcome::Failed(failed) => {
                        assert_eq!((failed.code, failed.degraded), (Code::RemovalFailed, true), "{what}");
                        let left: Vec<u32> = failed.left.iter().map(|rule| rule.number).collect();
                        let stand: Vec<u32> = rules(&world).into_iter().map(|(_, number)| number).collect();
                        assert!(stand.iter().all(|number| left.contains(number)), "{what}: {stand:?} of {left:?}");
                    }
                    other @ (Outcome::Up(_) | Outcome::Refused(_) | Outcome::Nothing) => panic!("{what}: {other:?}"),
                }
                world.run_until_idle();
                assert_eq!(rules(&world), [], "{what}");
                assert_eq!(shown(&world), [], "{what}");
                assert_eq!(not_at_rest(&mut world, &[gone]), [""; 0], "{what}");
            }
        }
    }
}

/// A newer request takes over what is left, once no late removal can strike it.
#[test]
fn a_flow_is_created_again_over_what_a_removal_left() {
    let (mut world, _) = standing(3);
    inject(&world, fault(Word::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let gone = world.remove("test-01");
    world.run_ms(3_000);
    assert!(matches!(world.answer(gone), Outcome::Failed(_)));
    assert_eq!(shown(&world), [("test-01".to_owned(), "degraded".to_owned())]);
    let again = world.request(&flow("test-01", 3));
    world.run_ms(5_000);
    world.speaker().clear_faults();
    world.run_until_idle();
    assert!(world.answer(again).is_done(), "{:?}", world.answer(again));
    assert_eq!((rules(&world), shown(&world)), (whole(3), vec![("test-01".to_owned(), "up".to_owned())]));
    assert_eq!(not_at_rest(&mut world, &[gone, again]), [""; 0]);
}

#[test]
fn a_process_killed_between_any_two_turns_of_a_removal_changes_nothing() {
    let (mut undisturbed, _) = standing(4);
    let gone = undisturbed.remove("test-01");
    undisturbed.run_until_idle();
    let told = outcome(&mut undisturbed, gone);
    for stages in victims() {
        for turns in 0.. {
            let (mut world, _) = standing(4);
            let gone = world.remove("test-01");
            let idle = world.run_turns(turns);
            kill(&mut world, &stages);
            start(&mut world, &stages);
            world.run_until_idle();
            assert_eq!(
                (outcome(&mut world, gone), rules(&world)),
                (told.clone(), vec![]),
                "{stages:?} after {turns} turns"
            );
            assert_eq!(not_at_rest(&mut world, &[gone]), [""; 0], "{stages:?} after {turns} turns");
            if idle {
                assert!(turns > 10, "{turns} turns");
                break;
            }
        }
    }
}
