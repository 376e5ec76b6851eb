//! Replies that no worker waits for are counted and have no effect.

mod support;

use bus::Outgoing;
use floodlight_sim::FaultKind;
use floodlight_sim::fault::CommandKind;
use flow_messages::codes;
use nave::testing::SentRequest;
use support::{FlowWorld, complete_flow, fault, flow, idle_violations, inject, one_lane, rules};
use wire::{CallId, Envelope, Kind, MessageId, OperationId};
use workers::names;

const INSTALLED: &str = r#"{"result":"installed","existed":false}"#;

/// An answer for `call` to attempt `attempt` of the call `answered`.
fn answer(world: &FlowWorld, kind: Kind, call: &CallId, answered: &CallId, attempt: u32, body: &str) -> Outgoing {
    let message = MessageId::new(answered.clone(), "speaker", attempt);
    let mut envelope = Envelope::new(kind, format!("{message}:again"), "/stranger");
    envelope.call = Some(call.clone());
    envelope.operation = Some(call.operation.clone());
    envelope.causation = Some(message.to_string());
    Outgoing::keyed(&world.replies(), "of:02", body.to_owned()).with(&envelope).to(0)
}

/// Starts a flow whose rule 2 gets no reply to its first attempt, which is open.
fn waiting_for_rule_2(seed: u64) -> (FlowWorld, SentRequest, CallId) {
    let mut world = one_lane(seed, |_| {});
    inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(100);
    let call = CallId::new(world.operation_of(asked), 1, 2);
    (world, asked, call)
}

fn assert_succeeds(world: &mut FlowWorld, asked: SentRequest) {
    world.run_until_idle();
    assert!(world.answer(asked).is_done(), "{:?}", world.answer(asked));
    assert_eq!(rules(world), complete_flow(3));
    assert_eq!(idle_violations(world, &[asked]), [""; 0]);
}

/// Lesson 19: a worker compares all ids before it completes a call.
#[test]
fn a_reply_with_a_mismatched_id_does_not_complete_the_call() {
    for kind in [Kind::Reply, Kind::Refusal, Kind::Failure] {
        let (mut world, asked, call) = waiting_for_rule_2(1);
        let other = CallId::new(call.operation.clone(), 1, 3);
        let records =
            [answer(&world, kind, &call, &other, 1, INSTALLED), answer(&world, kind, &other, &call, 1, INSTALLED)];
        world.lanes.write(&records);
        world.run_ms(1);
        assert_eq!(world.lanes.count(names::MISMATCHED_REPLIES), 2, "{kind}");
        assert_eq!(world.lanes.timers(), 2, "the call and its step still have their deadlines; {kind}");
        assert_succeeds(&mut world, asked);
    }
}

#[test]
fn a_reply_to_an_unknown_call_is_counted() {
    let (mut world, asked, call) = waiting_for_rule_2(1);
    let unknown = CallId::new(OperationId::new("unknown").unwrap(), 1, 1);
    let records = [
        answer(&world, Kind::Reply, &unknown, &unknown, 1, INSTALLED),
        answer(&world, Kind::Refusal, &unknown, &unknown, 1, "{}"),
        // Attempts that were never sent.
        answer(&world, Kind::Reply, &call, &call, 0, INSTALLED),
        answer(&world, Kind::Reply, &call, &call, 9, INSTALLED),
    ];
    world.lanes.write(&records);
    world.run_ms(1);
    assert_eq!(world.lanes.count(names::UNKNOWN_REPLIES), 4);
    assert_succeeds(&mut world, asked);
}

/// Lesson 20: replies to old and new attempts are distinguished.
#[test]
fn a_refusal_of_an_old_attempt_is_stale_but_a_success_counts() {
    for kind in [Kind::Refusal, Kind::Failure] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, Some(2)));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(550);
        let call = CallId::new(world.operation_of(asked), 1, 2);
        assert_eq!(world.lanes.count(names::RETRIED), 1, "the second attempt is open");
        let stale = answer(&world, kind, &call, &call, 1, r#"{"error":"busy","detail":"of the first"}"#);
        world.lanes.write(&[stale]);
        world.run_ms(1);
        assert_eq!(world.lanes.count(names::STALE_REPLIES), 1, "{kind}");
        assert_succeeds(&mut world, asked);
    }
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 2, FaultKind::DelayReply { ms: 600 }, Some(1)));
    inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    assert_succeeds(&mut world, asked);
    assert_eq!(world.lanes.count(names::REPLIED), 6);
}

/// Lesson 12: replies after the end of a call are counted and have no effect.
#[test]
fn late_and_duplicate_replies_are_discarded() {
    let mut world = one_lane(1, |_| {});
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    let call = CallId::new(world.operation_of(asked), 1, 2);
    let again = answer(&world, Kind::Reply, &call, &call, 1, INSTALLED);
    world.lanes.write(&[again.clone(), again]);
    world.run_until_idle();
    assert_eq!(world.lanes.count(names::DUPLICATE_REPLIES), 2);
    assert_eq!(rules(&world), complete_flow(3));
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0]);

    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(!world.answer(asked).failure().degraded);
    let call = CallId::new(world.operation_of(asked), 1, 2);
    let late = answer(&world, Kind::Reply, &call, &call, 3, INSTALLED);
    world.lanes.write(&[late]);
    world.run_until_idle();
    assert_eq!(world.lanes.count(names::LATE_REPLIES), 1);
    assert_eq!(idle_violations(&mut world, &[asked]), [""; 0]);
}

/// A foreign timeout record of an unknown timer or generation fires nothing.
#[test]
fn a_timeout_without_an_armed_timer_has_no_effect() {
    let (mut world, asked, _) = waiting_for_rule_2(1);
    let before = world.lanes.timers();
    let inbox = world.replies();
    let stage = inbox.rsplit('.').nth(1).expect("a topic is named by topology and stage");
    for timer in [0_u64, 1, 1 << 48, u64::MAX] {
        let mut envelope = Envelope::new(Kind::Timeout, format!("t-{timer}"), "/stranger");
        envelope.subject = Some(format!("coordinator@{stage}"));
        let body = serde_json::json!({"timer": timer, "generation": 77}).to_string();
        let record = Outgoing::keyed(&inbox, "t", body).with(&envelope).to(0);
        world.lanes.write(&[record]);
    }
    world.run_ms(1);
    assert_eq!(world.lanes.count(topology::names::TIMEOUTS_STALE), 4);
    assert_eq!(world.lanes.timers(), before);
    assert_succeeds(&mut world, asked);
}

/// A corrupt reply fails its call, and calls that may have been executed are undone.
#[test]
fn a_reply_with_an_unreadable_body_creates_no_flow() {
    for body in ["null", "", "{", r#"{"result":"danced"}"#] {
        let (mut world, asked, call) = waiting_for_rule_2(1);
        let garbage = answer(&world, Kind::Reply, &call, &call, 1, body);
        world.lanes.write(&[garbage]);
        world.run_until_idle();
        let failed = world.answer(asked).failure();
        assert_eq!((failed.code, failed.degraded), (codes::INSTALL_FAILED, false), "{body:?}");
        assert_eq!(rules(&world), [], "{body:?}");
        assert_eq!(idle_violations(&mut world, &[asked]), [""; 0], "{body:?}");
    }
}

/// A reply that is not what the call expects fails the call, and calls that may have been executed
/// are undone.
#[test]
fn an_unexpected_reply_fails_its_call() {
    for body in ["", "null", r#"{"hello":"world"}"#, r#"{"result":"found","rule":null}"#] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, None));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(10);
        let call = CallId::new(world.operation_of(asked), 1, 2);
        let envelope = Envelope {
            causation: Some(format!("{call}/speaker/1")),
            call: Some(call),
            ..Envelope::new(Kind::Reply, "a-1", "/spoke/speaker")
        };
        world.lanes.write(&[Outgoing::keyed(&world.replies(), "of:02", body).with(&envelope).to(0)]);
        world.run_until_idle();
        let failed = world.answer(asked).failure();
        assert!(failed.detail.contains("expects"), "{body}: {failed:?}");
        assert!(!failed.degraded && world.speaker().all_rules().is_empty(), "{body}: {failed:?}");
    }
}
