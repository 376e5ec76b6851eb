//! Replies that are not what a worker waits for: counted, and without effect.

mod support;

use bus::Outgoing;
use floodlight_sim::FaultKind;
use floodlight_sim::fault::Word;
use nave::world::{Asked, World};
use support::{fault, flow, inject, not_at_rest, one_lane, rules, whole};
use wire::{CallId, Envelope, Kind, MessageId, OperationId};
use workers::names;

const INSTALLED: &str = r#"{"result":"installed","existed":false}"#;

/// An answer for `call`, to the sending `attempt` of `answered`.
fn answer(world: &World, kind: Kind, call: &CallId, answered: &CallId, attempt: u32, body: &str) -> Outgoing {
    let message = MessageId::new(answered.clone(), "speaker", attempt);
    let mut envelope = Envelope::new(kind, format!("{message}:again"), "/stranger");
    envelope.call = Some(call.clone());
    envelope.operation = Some(call.operation.clone());
    envelope.causation = Some(message.to_string());
    Outgoing::keyed(&world.replies(), "of:02", body.to_owned()).with(&envelope).to(0)
}

/// A flow whose rule 2 gets no answer to its first sending, which is out.
fn waiting_for_rule_2(seed: u64) -> (World, Asked, CallId) {
    let mut world = one_lane(seed, |_| {});
    inject(&world, fault(Word::Install, 2, FaultKind::Silence, Some(1)));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(100);
    let call = CallId::new(world.operation_of(asked), 1, 2);
    (world, asked, call)
}

fn comes_up_in_the_end(world: &mut World, asked: Asked) {
    world.run_until_idle();
    assert!(world.answer(asked).is_done(), "{:?}", world.answer(asked));
    assert_eq!(rules(world), whole(3));
    assert_eq!(not_at_rest(world, &[asked]), [""; 0]);
}

/// Lesson 19: the ids are compared before anything is taken away.
#[test]
fn a_reply_with_a_mismatched_id_leaves_the_pending_call_its_true_reply() {
    for kind in [Kind::Reply, Kind::Refusal, Kind::Failure] {
        let (mut world, asked, call) = waiting_for_rule_2(1);
        let other = CallId::new(call.operation.clone(), 1, 3);
        let records =
            [answer(&world, kind, &call, &other, 1, INSTALLED), answer(&world, kind, &other, &call, 1, INSTALLED)];
        world.write(&records);
        world.run_ms(1);
        assert_eq!(world.count(names::MISMATCHED_REPLIES), 2, "{kind}");
        assert_eq!(world.timers(), 2, "the call and its step still have their deadlines; {kind}");
        comes_up_in_the_end(&mut world, asked);
    }
}

#[test]
fn a_reply_of_a_call_that_nobody_made_is_unknown() {
    let (mut world, asked, call) = waiting_for_rule_2(1);
    let nobody = CallId::new(OperationId::new("nobody").unwrap(), 1, 1);
    let records = [
        answer(&world, Kind::Reply, &nobody, &nobody, 1, INSTALLED),
        answer(&world, Kind::Refusal, &nobody, &nobody, 1, "{}"),
        // Attempts that were never sent.
        answer(&world, Kind::Reply, &call, &call, 0, INSTALLED),
        answer(&world, Kind::Reply, &call, &call, 9, INSTALLED),
    ];
    world.write(&records);
    world.run_ms(1);
    assert_eq!(world.count(names::UNKNOWN_REPLIES), 4);
    comes_up_in_the_end(&mut world, asked);
}

/// Lesson 20: an old answer and a new one are told apart.
#[test]
fn a_refusal_of_an_attempt_that_was_given_up_is_stale_and_a_success_of_it_counts() {
    for kind in [Kind::Refusal, Kind::Failure] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(Word::Install, 2, FaultKind::Silence, Some(2)));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(550);
        let call = CallId::new(world.operation_of(asked), 1, 2);
        assert_eq!(world.count(names::RETRIED), 1, "the second attempt is out");
        let stale = answer(&world, kind, &call, &call, 1, r#"{"error":"busy","detail":"of the first"}"#);
        world.write(&[stale]);
        world.run_ms(1);
        assert_eq!(world.count(names::STALE_REPLIES), 1, "{kind}");
        comes_up_in_the_end(&mut world, asked);
    }
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(Word::Install, 2, FaultKind::DelayReply { ms: 600 }, Some(1)));
    inject(&world, fault(Word::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    comes_up_in_the_end(&mut world, asked);
    assert_eq!(world.count(names::REPLIED), 6);
}

/// Lesson 12: what comes after the end leaves a trace, and nothing else.
#[test]
fn a_late_reply_and_a_duplicate_one_are_discarded() {
    let mut world = one_lane(1, |_| {});
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    let call = CallId::new(world.operation_of(asked), 1, 2);
    let again = answer(&world, Kind::Reply, &call, &call, 1, INSTALLED);
    world.write(&[again.clone(), again]);
    world.run_until_idle();
    assert_eq!(world.count(names::DUPLICATE_REPLIES), 2);
    assert_eq!(rules(&world), whole(3));
    assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0]);

    let mut world = one_lane(1, |_| {});
    inject(&world, fault(Word::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(!world.answer(asked).failure().degraded);
    let call = CallId::new(world.operation_of(asked), 1, 2);
    let late = answer(&world, Kind::Reply, &call, &call, 3, INSTALLED);
    world.write(&[late]);
    world.run_until_idle();
    assert_eq!(world.count(names::LATE_REPLIES), 1);
    assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0]);
}

/// A stranger's timeout, early or of an older generation, fires nothing.
#[test]
fn a_timeout_that_nobody_armed_is_without_effect() {
    let (mut world, asked, _) = waiting_for_rule_2(1);
    let before = world.timers();
    let inbox = world.replies();
    let stage = inbox.rsplit('.').nth(1).expect("a topic is named by topology and stage");
    for timer in [0_u64, 1, 1 << 48, u64::MAX] {
        let mut envelope = Envelope::new(Kind::Timeout, format!("t-{timer}"), "/stranger");
        envelope.subject = Some(format!("coordinator@{stage}"));
        let body = serde_json::json!({"timer": timer, "generation": 77}).to_string();
        let record = Outgoing::keyed(&inbox, "t", body).with(&envelope).to(0);
        world.write(&[record]);
    }
    world.run_ms(1);
    assert_eq!(world.count("nave_deadlines_stale_total"), 4);
    assert_eq!(world.timers(), before);
    comes_up_in_the_end(&mut world, asked);
}

/// A reply with garbage in it fails its call, and what may have been done is undone.
#[test]
fn a_reply_whose_body_cannot_be_read_makes_no_flow_stand() {
    for body in ["null", "", "{", r#"{"result":"danced"}"#] {
        let (mut world, asked, call) = waiting_for_rule_2(1);
        let garbage = answer(&world, Kind::Reply, &call, &call, 1, body);
        world.write(&[garbage]);
        world.run_until_idle();
        let failed = world.answer(asked).failure();
        assert_eq!((failed.code, failed.degraded), (wire::Code::InstallFailed, false), "{body:?}");
        assert_eq!(rules(&world), [], "{body:?}");
        assert_eq!(not_at_rest(&mut world, &[asked]), [""; 0], "{body:?}");
    }
}

/// A reply that is not what the call expects is a failure of that call, never "installed"; what may have been done is undone.
#[test]
fn a_reply_that_is_not_what_the_call_expects_is_a_failure_of_the_call() {
    for body in ["", "null", r#"{"hello":"world"}"#, r#"{"result":"found","rule":null}"#] {
        let mut world = one_lane(1, |_| {});
        inject(&world, fault(Word::Install, 2, FaultKind::Silence, None));
        let asked = world.request(&flow("test-01", 3));
        world.run_ms(10);
        let call = CallId::new(world.operation_of(asked), 1, 2);
        let envelope = Envelope {
            causation: Some(format!("{call}/speaker/1")),
            call: Some(call),
            ..Envelope::new(Kind::Reply, "a-1", "/spoke/speaker")
        };
        world.write(&[Outgoing::keyed(&world.replies(), "of:02", body).with(&envelope).to(0)]);
        world.run_until_idle();
        let failed = world.answer(asked).failure();
        assert!(failed.detail.contains("expects"), "{body}: {failed:?}");
        assert!(!failed.degraded && world.speaker().all_rules().is_empty(), "{body}: {failed:?}");
    }
}
