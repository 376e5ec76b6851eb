//! A flow is removed with all its rules despite faults; leftover rules are reported and the removal
//! is retried.

mod support;

use floodlight_sim::fault::CommandKind;
use flow_messages::codes;
use nave::testing::SentRequest;
use serde_json::Value;
use support::{
    FlowOutcome, FlowWorld, complete_flow, fault, flow, idle_violations, inject, kill, kinds, one_lane, outcome, rules,
    stages_to_crash, start,
};
use wire::Kind;

/// A world with a flow of three rules.
fn existing_flow(seed: u64) -> (FlowWorld, SentRequest) {
    let mut world = one_lane(seed, |_| {});
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(asked).is_done());
    (world, asked)
}

/// Name and state of the flows in the published views.
fn published_flows(world: &FlowWorld) -> Vec<(String, String)> {
    let views = world.lanes.topics.view(flows::NAME, flows::STAGE);
    let resource = |record: bus::Record| {
        let key = String::from_utf8(record.key?.to_vec()).ok()?;
        let flow = key.strip_prefix("resource/flow/")?.to_owned();
        let body: Option<Value> = serde_json::from_slice(&record.value).ok();
        Some((flow, body.map(|body| body["value"]["state"].as_str().expect("a state").to_owned())))
    };
    let last: std::collections::BTreeMap<_, _> = world.lanes.records(&views).into_iter().filter_map(resource).collect();
    last.into_iter().filter_map(|(flow, state)| Some((flow, state?))).collect()
}

#[test]
fn a_removed_flow_leaves_nothing_and_frees_its_name() {
    let (mut world, up) = existing_flow(1);
    assert_eq!(published_flows(&world), [("test-01".to_owned(), "up".to_owned())]);
    let gone = world.remove("test-01");
    world.run_until_idle();
    let FlowOutcome::Gone(body) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    assert_eq!((body.removed, rules(&world).len()), (3, 0));
    assert_eq!(published_flows(&world), []);
    // The name can be used with another length.
    let again = world.request(&flow("test-01", 5));
    world.run_until_idle();
    assert!(world.answer(again).is_done());
    assert_eq!(rules(&world), complete_flow(5));
    assert_eq!(idle_violations(&mut world, &[up, gone, again]), [""; 0]);
}

#[test]
fn a_missing_flow_cannot_be_removed() {
    let mut world = one_lane(2, |_| {});
    let gone = world.remove("test-01");
    world.run_until_idle();
    let FlowOutcome::Refused(problem) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    assert_eq!(problem.to_string(), "NAVE-0104: flow `test-01` does not exist");
}

/// The leftover rules of a flow in its published view.
fn left(world: &FlowWorld, flow: &str) -> Vec<u64> {
    let views = world.lanes.topics.view(flows::NAME, flows::STAGE);
    let key = format!("resource/flow/{flow}");
    let shown = world.lanes.records(&views).into_iter().rfind(|record| record.key.as_deref() == Some(key.as_bytes()));
    let body: Value = serde_json::from_slice(&shown.expect("the flow has a view").value).expect("the view is JSON");
    body["value"]["left"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

#[test]
fn a_degraded_operations_answer_stays_its_last_egress_record() {
    let mut world = one_lane(8, |_| {});
    world.request(&flow("test-01", 3));
    world.run_until_idle();
    inject(&world, fault(CommandKind::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let gone = world.remove("test-01");
    world.run_ms(4_000);
    let FlowOutcome::Failed(failed) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    world.speaker().clear_faults();
    world.run_until_idle();

    let kinds = |topic: &str, of: &str| -> Vec<Kind> {
        let records = world.lanes.records(topic).into_iter().filter(|record| !record.value.is_empty());
        let envelopes = records.map(|record| record.headers.envelope().expect("the hub writes envelopes"));
        let of_operation = envelopes.filter(|envelope| envelope.operation.as_ref().is_some_and(|id| id.as_str() == of));
        of_operation.map(|envelope| envelope.kind).collect()
    };
    let views = world.lanes.topics.view(flows::NAME, flows::STAGE);
    assert_eq!(kinds(&world.egress(), failed.operation.as_str()), [Kind::Answer]);
    assert_eq!(kinds(&views, failed.operation.as_str()).last(), Some(&Kind::View));
    let ended = world.lanes.records(&views).into_iter().rfind(|record| !record.value.is_empty() && is_ended(record));
    let ended: Value = serde_json::from_slice(&ended.expect("the end of the operation is a view").value).unwrap();
    assert_eq!((&ended["operation"], &ended["live"]), (&failed.operation.to_string().into(), &false.into()));
}

/// True for the last view of an operation that was answered before it ended.
fn is_ended(record: &bus::Record) -> bool {
    record.key.as_ref().is_some_and(|key| key.starts_with(b"ended/"))
}

/// The rules that the speaker was to remove after audit entry `since`, in order.
fn removals(world: &FlowWorld, since: u64) -> Vec<u32> {
    let audit = world.speaker().audit_after(since, usize::MAX);
    let mut rules: Vec<u32> =
        audit.into_iter().filter(|entry| entry.command == "remove").filter_map(|entry| entry.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[test]
fn only_the_rules_that_were_not_removed_are_reported_as_left() {
    let mut world = one_lane(6, |_| {});
    world.request(&flow("test-01", 5));
    world.run_until_idle();
    inject(&world, fault(CommandKind::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let gone = world.remove("test-01");
    world.run_ms(4_000);
    let FlowOutcome::Failed(failed) = world.answer(gone) else { panic!("{:?}", world.answer(gone)) };
    assert_eq!(failed.left.iter().map(|rule| rule.number).collect::<Vec<_>>(), [2]);
    assert_eq!(left(&world, "test-01"), [2]);
    assert_eq!(rules(&world), [("of:02".to_owned(), 2)]);
    // A second request removes only the leftover rule.
    let since = world.speaker().audit().last().map_or(0, |entry| entry.seq);
    let again = world.remove("test-01");
    world.run_ms(2_000);
    world.speaker().clear_faults();
    world.run_until_idle();
    assert_eq!(removals(&world, since), [2]);
    let FlowOutcome::Gone(body) = world.answer(again) else { panic!("{:?}", world.answer(again)) };
    assert_eq!((body.removed, rules(&world).len()), (1, 0));
    assert_eq!(idle_violations(&mut world, &[gone, again]), [""; 0]);
}

/// A creation and its rollback fail.
#[test]
fn a_failed_creation_reports_the_rules_it_could_not_remove() {
    let mut world = one_lane(7, |_| {});
    inject(&world, fault(CommandKind::Install, 4, support::refusal(), None));
    inject(&world, fault(CommandKind::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 5));
    world.run_ms(6_000);
    let FlowOutcome::Failed(failed) = world.answer(asked) else { panic!("{:?}", world.answer(asked)) };
    assert_eq!(failed.left.iter().map(|rule| rule.number).collect::<Vec<_>>(), [2]);
    assert_eq!((left(&world, "test-01"), rules(&world)), (vec![2], vec![("of:02".to_owned(), 2)]));
    world.speaker().clear_faults();
    world.run_until_idle();
    assert_eq!((rules(&world), published_flows(&world)), (vec![], vec![]));
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0]);
}

/// A degraded flow ends early for a newer request. If that one is refused, it must still remove the
/// leftover rules.
#[test]
fn a_refused_request_removes_leftover_rules() {
    for times in [None, Some(8)] {
        let (mut world, _) = existing_flow(8);
        inject(&world, fault(CommandKind::Remove, 2, floodlight_sim::FaultKind::Silence, times));
        let gone = world.remove("test-01");
        world.run_ms(3_000);
        assert!(matches!(world.answer(gone), FlowOutcome::Failed(_)));
        let longer = world.request(&flow("test-01", 4));
        world.run_ms(6_000);
        let FlowOutcome::Refused(problem) = world.answer(longer) else { panic!("{:?}", world.answer(longer)) };
        assert_eq!(problem.field.as_deref(), Some("length"));
        world.run_ms(10_000);
        world.speaker().clear_faults();
        world.run_until_idle();
        assert_eq!((rules(&world), published_flows(&world)), (vec![], vec![]), "{times:?}: all rules are removed");
        let again = world.request(&flow("test-01", 4));
        world.run_until_idle();
        assert!(world.answer(again).is_done(), "{times:?}: the name is free");
        assert_eq!(idle_violations(&mut world, &[gone, longer, again]), [""; 0], "{times:?}");
    }
}

/// Every kind of fault, in the removal and in the check after it, briefly and for long: the answer
/// lists the installed rules.
#[test]
fn after_any_fault_the_answer_lists_the_rest_until_nothing_is_left() {
    for kind in kinds() {
        for word in [CommandKind::Remove, CommandKind::Read] {
            for times in [1, 4] {
                let what = format!("{kind} on {word:?}, {times} times");
                let (mut world, _) = existing_flow(u64::from(times));
                inject(&world, fault(word, 2, kind.clone(), Some(times)));
                let gone = world.remove("test-01");
                world.run_ms(4_500);
                match world.answer(gone) {
                    FlowOutcome::Gone(_) => assert_eq!(rules(&world), [], "{what}"),
                    FlowOutcome::Failed(failed) => {
                        assert_eq!((failed.code, failed.degraded), (codes::REMOVAL_FAILED, true), "{what}");
                        let left: Vec<u32> = failed.left.iter().map(|rule| rule.number).collect();
                        let installed: Vec<u32> = rules(&world).into_iter().map(|(_, number)| number).collect();
                        assert!(
                            installed.iter().all(|number| left.contains(number)),
                            "{what}: {installed:?} of {left:?}"
                        );
                    }
                    other @ (FlowOutcome::Up(_) | FlowOutcome::Refused(_) | FlowOutcome::Pending) => {
                        panic!("{what}: {other:?}")
                    }
                }
                world.run_until_idle();
                assert_eq!(rules(&world), [], "{what}");
                assert_eq!(published_flows(&world), [], "{what}");
                assert_eq!(idle_violations(&mut world, &[gone]), [""; 0], "{what}");
            }
        }
    }
}

/// A newer request takes over leftover rules, once no late removal can affect it.
#[test]
fn a_flow_is_created_over_the_leftovers_of_a_removal() {
    let (mut world, _) = existing_flow(3);
    inject(&world, fault(CommandKind::Remove, 2, floodlight_sim::FaultKind::Silence, None));
    let gone = world.remove("test-01");
    world.run_ms(3_000);
    assert!(matches!(world.answer(gone), FlowOutcome::Failed(_)));
    assert_eq!(published_flows(&world), [("test-01".to_owned(), "degraded".to_owned())]);
    let again = world.request(&flow("test-01", 3));
    world.run_ms(5_000);
    world.speaker().clear_faults();
    world.run_until_idle();
    assert!(world.answer(again).is_done(), "{:?}", world.answer(again));
    assert_eq!(
        (rules(&world), published_flows(&world)),
        (complete_flow(3), vec![("test-01".to_owned(), "up".to_owned())])
    );
    assert_eq!(idle_violations(&mut world, &[gone, again]), [""; 0]);
}

#[test]
fn a_crash_at_any_point_of_a_removal_does_not_change_the_outcome() {
    let (mut undisturbed, _) = existing_flow(4);
    let gone = undisturbed.remove("test-01");
    undisturbed.run_until_idle();
    let expected = outcome(&mut undisturbed, gone);
    for stages in stages_to_crash() {
        for turns in 0.. {
            let (mut world, _) = existing_flow(4);
            let gone = world.remove("test-01");
            let idle = world.run_polls(turns);
            kill(&mut world, &stages);
            start(&mut world, &stages);
            world.run_until_idle();
            assert_eq!(
                (outcome(&mut world, gone), rules(&world)),
                (expected.clone(), vec![]),
                "{stages:?} after {turns} polls"
            );
            assert_eq!(idle_violations(&mut world, &[gone]), [""; 0], "{stages:?} after {turns} polls");
            if idle {
                assert!(turns > 10, "{turns} polls");
                break;
            }
        }
    }
}
