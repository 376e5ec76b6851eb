//! Requests: which ones belong to the same operation, their limits, and unreadable ones.

mod support;

use bus::Outgoing;
use floodlight_sim::FaultKind;
use floodlight_sim::fault::CommandKind;
use nave::testing::{HUB, SentRequest};
use serde_json::json;
use support::{
    FlowOutcome, FlowWorld, answers, audit, complete_flow, dead, fault, flow, idle_violations, inject, one_lane,
    refusal, refused, request_envelope, request_record, rules,
};
use wire::{Code, Envelope, Kind};

const BODY: &str = r#"{"workflow":"create-flow","request":{"flowid":"test-01","length":3}}"#;

fn code(world: &mut FlowWorld, asked: SentRequest) -> Option<Code> {
    match world.answer(asked) {
        FlowOutcome::Refused(problem) => Some(problem.code),
        FlowOutcome::Up(_) | FlowOutcome::Gone(_) | FlowOutcome::Failed(_) | FlowOutcome::Pending => None,
    }
}

// ---- identity of operations ---------------------------------------------------------------------------------------------

/// Lesson 13: the second record neither replaces nor repeats the first.
#[test]
fn a_record_delivered_twice_is_one_operation() {
    for apart_ms in [0, 1, 5_000] {
        let mut world = one_lane(1, |_| {});
        let record = request_record(&world, "r-1", "op-1", "test-01", BODY);
        world.lanes.write(std::slice::from_ref(&record));
        world.run_ms(apart_ms);
        world.lanes.write(&[record]);
        world.run_until_idle();
        assert_eq!(world.lanes.count(hub::names::STARTED), 1, "{apart_ms} ms apart");
        assert_eq!(world.lanes.count(hub::names::REPEATED), 1, "{apart_ms} ms apart");
        assert_eq!(audit(&world, "install").len(), 3, "{apart_ms} ms apart");
        assert_eq!(refused(&world, "r-1"), [], "{apart_ms} ms apart");
        // A repeat after the answer gets the remembered answer.
        let operation = request_envelope("r-1", "op-1").requested_operation("flows", "test-01");
        assert!((1..=2).contains(&answers(&world, &operation)), "{apart_ms} ms apart");
    }
}

/// Clients may share a correlation id between requests: it has no meaning for the system.
#[test]
fn requests_that_share_a_correlation_id_are_separate_operations() {
    for lanes in [1, 2] {
        let mut world = if lanes == 1 { one_lane(1, |_| {}) } else { support::world(1) };
        let ids = ["r-1", "r-2", "r-3"];
        for (id, key) in ids.iter().zip(["test-01", "test-02", "test-05"]) {
            let envelope =
                Envelope { correlation: Some("order 7/2".into()), ..Envelope::new(Kind::Request, *id, "/stranger") };
            let body = BODY.replace("test-01", key);
            world.lanes.write(&[Outgoing::keyed(&world.inbox(), key, body).with(&envelope)]);
        }
        world.run_until_idle();
        let received: Vec<Envelope> =
            world.lanes.records(&world.egress()).iter().map(|answer| answer.headers.envelope().unwrap()).collect();
        let mut operations: Vec<_> = received.iter().map(|answer| answer.operation.clone().unwrap()).collect();
        operations.sort();
        operations.dedup();
        assert_eq!((received.len(), operations.len()), (3, 3), "{lanes} lanes");
        assert!(ids.iter().all(|id| received.iter().any(|answer| answer.causation.as_deref() == Some(id))));
        let calls = world.lanes.records("nave.spoke.speaker").into_iter().map(|call| call.headers.envelope().unwrap());
        assert!(received.into_iter().chain(calls).all(|answer| answer.correlation.as_deref() == Some("order 7/2")));
        assert_eq!(rules(&world).len(), 9, "{lanes} lanes");
    }
}

/// An event is one request: the same `ce_source` and `ce_id` with another body is refused, naming
/// both.
#[test]
fn an_event_repeated_with_another_body_is_refused() {
    let mut world = one_lane(1, |_| {});
    let envelope = Envelope::new(Kind::Request, "r-1", "/stranger");
    for length in ["3", "4"] {
        let body = BODY.replace(":3}", &format!(":{length}}}"));
        world.lanes.write(&[Outgoing::keyed(&world.inbox(), "test-01", body).with(&envelope)]);
        world.run_until_idle();
    }
    assert_eq!(refused(&world, "r-1"), [Code::KeyReused]);
    let text = world
        .lanes
        .records(&world.egress())
        .into_iter()
        .map(|answer| String::from_utf8_lossy(&answer.value).into_owned());
    assert!(text.collect::<String>().contains("the first request with this `ce_source` and `ce_id` for `test-01`"));
}

/// Lesson 25: a repeat gets an answer and does not extend the deadline of the first request.
#[test]
fn a_repeat_with_the_same_key_gets_the_first_answer() {
    for error in [json!(null), json!(0), json!(1)] {
        let body = json!({"flowid": "test-01", "length": 3, "error": error});
        for apart_ms in [0, 1, 300, 1_900, 30_000] {
            let mut world = one_lane(1, |_| {});
            let first = world.request_with_key(&body, Some("k")).unwrap();
            world.run_ms(apart_ms);
            let second = world.request_with_key(&body, Some("k")).unwrap();
            world.run_until_idle();
            assert_eq!(world.operation_of(first), world.operation_of(second));
            assert_ne!(world.answer(first), FlowOutcome::Pending, "{error} {apart_ms} ms apart");
            assert_eq!(world.answer(first), world.answer(second), "{error} {apart_ms} ms apart");
            assert_eq!(world.lanes.count(hub::names::STARTED), 1, "{error} {apart_ms} ms apart");
            if error == 0 {
                let operation = world.operation(first).expect("the northbound knows the operation");
                let (began, ended) =
                    (operation.history[0].at, operation.history.last().expect("the history has entries").at);
                assert_eq!(ended.ms_since(began), 2_000, "the deadline of the first; {apart_ms} ms apart");
            }
        }
    }
}

#[test]
fn a_repeat_of_a_degraded_operation_gets_its_answer() {
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 3, refusal(), Some(1)));
    inject(&world, fault(CommandKind::Remove, 2, FaultKind::Silence, None));
    let first = world.request_with_key(&flow("test-01", 3), Some("k")).unwrap();
    world.run_ms(5_000);
    let second = world.request_with_key(&flow("test-01", 3), Some("k")).unwrap();
    world.run_ms(100);
    assert!(world.answer(second).failure().degraded);
    assert_eq!(world.answer(first), world.answer(second));
    assert_eq!(world.lanes.unfinished().len(), 1, "the first operation keeps retrying");
    world.speaker().clear_faults();
    world.run_until_idle();
    assert_eq!(rules(&world), []);
}

#[test]
fn a_key_with_another_body_is_refused_for_that_request_alone() {
    for apart_ms in [0, 1, 30_000] {
        let mut world = one_lane(1, |_| {});
        let first = world.request_with_key(&flow("test-01", 3), Some("k")).unwrap();
        world.run_ms(apart_ms);
        let other = world.request_with_key(&flow("test-01", 2), Some("k")).unwrap();
        let again = world.request_with_key(&flow("test-01", 3), Some("k")).unwrap();
        world.run_until_idle();
        assert_eq!(code(&mut world, other), Some(Code::KeyReused), "{apart_ms} ms apart");
        assert!(world.answer(first).is_done(), "{apart_ms} ms apart");
        assert!(world.answer(again).is_done(), "{apart_ms} ms apart");
        assert_eq!(rules(&world), complete_flow(3));
        assert!(
            world.operation(first).expect("the northbound knows the operation").answer.is_some(),
            "the view of the first operation is unchanged"
        );
    }
}

#[test]
fn a_second_request_without_a_key_is_another_operation() {
    let mut world = one_lane(1, |_| {});
    let asked = [world.request(&flow("test-01", 3)), world.request(&flow("test-01", 3))];
    world.run_until_idle();
    assert_ne!(world.operation_of(asked[0]), world.operation_of(asked[1]));
    let existed = asked.map(|asked| match world.answer(asked) {
        FlowOutcome::Up(up) => up.existed,
        other @ (FlowOutcome::Gone(_) | FlowOutcome::Failed(_) | FlowOutcome::Refused(_) | FlowOutcome::Pending) => {
            panic!("{other:?}")
        }
    });
    assert_eq!(existed, [false, true]);
    assert_eq!(idle_violations(&mut world, &asked), [""; 0]);
}

// ---- limits -------------------------------------------------------------------------------------------------------------

#[test]
fn operations_of_one_flow_run_in_the_order_of_their_requests() {
    for seed in 1..=5 {
        let mut world = one_lane(seed, |_| {});
        let errors = [json!(null), json!(1), json!(0), json!(null), json!(2)];
        let asked: Vec<SentRequest> = errors
            .iter()
            .map(|error| world.request(&json!({"flowid": "test-01", "length": 3, "error": error})))
            .collect();
        world.run_until_idle();
        let mut order: Vec<_> = world.speaker().audit().into_iter().map(|entry| entry.call.operation).collect();
        order.dedup();
        let expected: Vec<_> = asked.iter().map(|asked| world.operation_of(*asked)).collect();
        assert_eq!(order, expected, "one at a time; seed {seed}");
        assert_eq!(idle_violations(&mut world, &asked), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_full_queue_refuses_requests_but_keeps_the_queued_ones() {
    let mut world = one_lane(1, |options| options.hub.waiting_per_key = 2);
    let asked: Vec<SentRequest> = (0..5).map(|_| world.request(&flow("test-01", 3))).collect();
    let other = world.request(&flow("test-02", 3));
    world.run_until_idle();
    let codes: Vec<_> = asked.iter().map(|asked| code(&mut world, *asked)).collect();
    assert_eq!(codes, [None, None, None, Some(Code::QueueFull), Some(Code::QueueFull)]);
    assert!(asked[..3].iter().all(|asked| world.answer(*asked).is_done()));
    assert!(world.answer(other).is_done(), "each flow has its own queue");
    let late = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(late).is_done(), "there is room again");
}

/// Lesson 28: the number of live operations limits the intake.
#[test]
fn a_lane_at_its_limit_of_live_operations_answers_busy() {
    let mut world = one_lane(1, |options| options.hub.live = 2);
    let asked: Vec<SentRequest> = ["a", "b", "c"].map(|name| world.request(&flow(name, 3))).into();
    world.run_until_idle();
    let codes: Vec<_> = asked.iter().map(|asked| code(&mut world, *asked)).collect();
    assert_eq!(codes, [None, None, Some(Code::Busy)]);
    let late = world.request(&flow("c", 3));
    world.run_until_idle();
    assert!(world.answer(late).is_done(), "there is room again");
}

/// Lesson 28: calls above the limit wait in the worker, and replies are handled before them.
#[test]
fn a_worker_with_one_call_in_flight_completes_every_flow() {
    let mut world = one_lane(1, |options| options.speaker.in_flight = 1);
    let asked: Vec<SentRequest> = (0..10).map(|i| world.request(&flow(&format!("flow-{i}"), 10))).collect();
    world.run_until_idle();
    assert!(asked.iter().all(|asked| world.answer(*asked).is_done()));
    assert_eq!(idle_violations(&mut world, &asked), [""; 0]);
}

// ---- unreadable records -------------------------------------------------------------------------------------------------

/// Lessons 8 and 9: the client is answered, the reason is kept, and the lane works, also after a
/// restart.
#[test]
fn an_unreadable_request_is_refused_and_sent_to_dead_letters() {
    let unreadable = ["null", "", "{", "[]", "7", r#"{"workflow":"create-flow"}"#, "\u{0}"];
    let mut world = one_lane(1, |_| {});
    for (i, body) in unreadable.iter().enumerate() {
        let (id, operation) = (format!("r-{i}"), format!("op-{i}"));
        let record = request_record(&world, &id, &operation, "test-01", body);
        world.lanes.write(&[record]);
        world.run_until_idle();
        assert_eq!(refused(&world, &id), [Code::NotJson], "{body:?}");
        assert_eq!(dead(&world).len(), i + 1, "{body:?}");
    }
    world.lanes.kill(HUB);
    world.lanes.start(HUB);
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(asked).is_done());
    assert_eq!(dead(&world).len(), unreadable.len(), "no record is handled twice: {:?}", dead(&world));
}

/// Lesson 9: refusals name the invalid field or workflow, and no operation starts.
#[test]
fn a_disallowed_request_is_refused() {
    let flows = |request: &str| format!(r#"{{"workflow":"create-flow","request":{request}}}"#);
    let bodies = [
        flows("null"),
        flows("[]"),
        flows(r#"{"flowid":"test-01"}"#),
        flows(r#"{"flowid":"test-01","length":0}"#),
        flows(r#"{"flowid":"test-01","length":-1}"#),
        flows(r#"{"flowid":"test-01","length":1001}"#),
        flows(r#"{"flowid":"test-01","length":3,"colour":"red"}"#),
        flows(r#"{"flowid":"test-01","length":3,"error":3}"#),
        flows(r#"{"flowid":"another","length":3}"#),
        r#"{"workflow":"make-tea","request":{"flowid":"test-01","length":3}}"#.to_owned(),
    ];
    let mut world = one_lane(1, |_| {});
    for (i, body) in bodies.iter().enumerate() {
        let (id, operation) = (format!("r-{i}"), format!("op-{i}"));
        let record = request_record(&world, &id, &operation, "test-01", body);
        world.lanes.write(&[record]);
        world.run_until_idle();
        assert_eq!(refused(&world, &id), [Code::InvalidField], "{body}");
    }
    assert_eq!(dead(&world), [""; 0], "readable requests are no dead letters");
    assert_eq!((world.lanes.count(hub::names::STARTED), world.lanes.timers()), (0, 0));
}

/// G11: the answer names the header, whatever else is wrong.
#[test]
fn a_request_with_an_invalid_header_is_refused_by_header_name() {
    let good = [
        ("ce_specversion", "1.0"),
        ("ce_id", "r-1"),
        ("ce_source", "/stranger"),
        ("ce_type", "nave.request"),
        ("ce_idempotencykey", "k"),
        ("ce_correlationid", "order 7/2"),
    ];
    let soon = "2999-01-01T00:00:00+02:00";
    for (name, value, is_read) in [
        ("ce_source", "", false),
        ("ce_specversion", "", false),
        ("ce_type", "order.made", false),
        ("ce_type", "", false),
        ("ce_expirytime", "2999-01-01T00:00:00", false),
        ("ce_expirytime", "1795226400", false),
        ("ce_attempt", "two", false),
        ("ce_expirytime", soon, true),
    ] {
        let mut world = one_lane(1, |_| {});
        let headers = good.iter().copied().filter(|(known, _)| *known != name);
        let headers = headers.chain((!value.is_empty()).then_some((name, value)));
        let record = Outgoing::keyed(&world.inbox(), "test-01", BODY);
        world.lanes.write(&[Outgoing { headers: headers.collect(), ..record }]);
        world.run_until_idle();
        let received = world.lanes.records(&world.egress());
        assert_eq!(received.len(), 1, "{name}: {value}");
        let envelope = received[0].headers.envelope().unwrap();
        assert_eq!(
            (envelope.causation.as_deref(), envelope.correlation.as_deref()),
            (Some("r-1"), Some("order 7/2")),
            "{name}: {value}"
        );
        let text = String::from_utf8_lossy(&received[0].value).into_owned();
        assert_eq!(text.contains("NAVE-0016") && text.contains(&format!("`{name}`")), !is_read, "{name}: {text}");
        assert_eq!(dead(&world).len(), usize::from(!is_read));
        // The refused request has not used the key, so the corrected one succeeds.
        let record = Outgoing::keyed(&world.inbox(), "test-01", BODY);
        world.lanes.write(&[Outgoing { headers: good.into_iter().collect(), ..record }]);
        world.run_until_idle();
        assert_eq!(rules(&world), complete_flow(3), "{name}: {value}");
    }
}

/// Replies of a spoke without a valid call id are visible in the operation and in the service.
#[test]
fn rejected_replies_are_visible_with_the_invalid_header() {
    let mut world = one_lane(1, |_| {});
    inject(&world, fault(CommandKind::Install, 2, FaultKind::Silence, None));
    let asked = world.request(&flow("test-01", 3));
    world.run_ms(10);
    let call = wire::CallId::new(world.operation_of(asked), 1, 2);
    let inbox = world.replies();
    let message = format!("{call}/speaker/1");
    let without_call = Envelope { causation: Some(message), ..Envelope::new(Kind::Reply, "a-1", "/spoke/speaker") };
    let without_cause = Envelope { call: Some(call), ..Envelope::new(Kind::Reply, "a-2", "/spoke/speaker") };
    let reply = |envelope: &Envelope| Outgoing::keyed(&inbox, "of:02", "{}").with(envelope).to(0);
    world.lanes.write(&[reply(&without_call), reply(&without_cause)]);
    world.run_ms(300);
    assert_eq!(world.lanes.count(workers::names::REJECTED_REPLIES), 2);
    let letters = world.lanes.records("nave.flows.dead");
    assert!(
        letters
            .iter()
            .all(|letter| String::from_utf8_lossy(&letter.value).contains(r#"["ce_source","/spoke/speaker"]"#))
    );
    let view = world.operation(asked).expect("the northbound knows the operation");
    let pending = view.step.expect("the operation has a step").pending;
    let rejected = pending[0]
        .conversation
        .as_ref()
        .and_then(|talk| talk.rejected.clone())
        .expect("the rejected replies are recorded");
    assert_eq!((rejected.replies, rejected.last.as_str()), (2, "`ce_causationid` is missing"));
    world.run_until_idle();
}

#[test]
fn an_unaddressed_record_is_a_dead_letter_with_its_reason() {
    let mut world = one_lane(1, |_| {});
    let inbox = world.inbox();
    let request = |envelope: &Envelope| Outgoing::keyed(&inbox, "test-01", BODY).with(envelope);
    let named = request_envelope("r-1", "op-1");
    let mut without_key = request(&named).to(0);
    without_key.key = None;
    let mut bad_key = request(&named).to(0);
    bad_key.key = Some(vec![0xff, 0xfe].into());
    let mut reply_to_nothing = request(&Envelope::new(Kind::Reply, "r-2", "/stranger"));
    reply_to_nothing.value = "{}".into();
    let subject = Some("coordinator@hub".to_owned());
    let of_nobody = Envelope { subject, ..Envelope::new(Kind::Timeout, "r-7", "/stranger") };
    let mut garbled = request(&named);
    garbled.headers = [("ce_specversion", "1.0"), ("ce_id", "r"), ("ce_source", "/s"), ("ce_type", "nave.dance")]
        .into_iter()
        .collect();
    let records = [
        (Outgoing::keyed(&inbox, "test-01", BODY), "ce_specversion"),
        (garbled, "nave.dance"),
        (request(&Envelope::new(Kind::Command, "r-1", "/stranger")), "`ce_operation` is missing"),
        (without_key, "a request needs a key"),
        (bad_key, "UTF-8"),
        (reply_to_nothing, "`ce_causationid` is missing"),
        (request(&Envelope::new(Kind::View, "r-3", "/stranger")), "no component takes nave.view"),
        (request(&Envelope::new(Kind::Owner, "r-4", "/stranger")), "missing field"),
        (request(&Envelope::new(Kind::Timeout, "r-5", "/stranger")), "no component takes nave.timeout"),
        (request(&of_nobody), "missing field"),
        (request(&Envelope::new(Kind::Tuple, "r-6", "/stranger")), "there is no edge"),
    ];
    for (i, (record, reason)) in records.into_iter().enumerate() {
        world.lanes.write(&[record]);
        world.run_until_idle();
        let letters = dead(&world);
        assert_eq!(letters.len(), i + 1, "{reason}: {letters:?}");
        assert!(letters[i].contains(reason), "{reason}: {}", letters[i]);
    }
    let asked = world.request(&flow("test-01", 3));
    world.run_until_idle();
    assert!(world.answer(asked).is_done(), "the lane works");
}

/// Lesson 15: the key alone decides the lane.
#[test]
fn a_request_in_the_wrong_lane_is_forwarded_only_once() {
    let mut world = support::world(1);
    let lane = wire::routing::lane_of(b"test-01", 2);
    let record = request_record(&world, "r-1", "op-1", "test-01", BODY).to(1 - lane);
    world.lanes.write(&[record]);
    world.run_until_idle();
    assert_eq!(world.lanes.count(topology::names::FORWARDED), 1);
    assert_eq!(rules(&world), complete_flow(3));
    let operation = request_envelope("r-1", "op-1").requested_operation("flows", "test-01");
    assert_eq!(answers(&world, &operation), 1);

    let mut envelope = request_envelope("r-2", "op-2");
    envelope.attempt = Some(1);
    let lost = Outgoing::keyed(&world.inbox(), "test-01", BODY).with(&envelope).to(1 - lane);
    world.lanes.write(&[lost]);
    world.run_until_idle();
    let letters = dead(&world);
    assert!(letters.len() == 1 && letters[0].starts_with("`ce_attempt` is `1`"), "{letters:?}");
    assert_eq!(refused(&world, "r-2"), [Code::BadHeader]);
    assert_eq!(world.lanes.count(topology::names::FORWARDED), 1);
}
