//! Gateway: turns requests into records, and passes answers to the waiting requests.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use std::sync::Arc;

use bus::{Clock, ManualClock, Outgoing, Record, Route};
use flow_messages::codes;
use northbound::{Gateway, GatewayLimits, GatewayOptions, Submission, Ticket, Waiting};
use serde_json::json;
use support::{EGRESS, INBOX, VIEW, about, ended, failed, refused, running, up};
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;
use wire::answer::{Conversation, Conversations, Operation};
use wire::{CallId, Code, Envelope, Kind, OperationId, Problem, WallTime};

const LANES: u32 = 4;

fn gateway() -> Arc<Gateway> {
    with(|_| {})
}

fn with(change: impl FnOnce(&mut GatewayLimits)) -> Arc<Gateway> {
    let mut options = GatewayOptions::new("flows", "hub", LANES);
    change(&mut options.limits);
    Arc::new(Gateway::new(options, Arc::new(ManualClock::default())))
}

fn submission<'a>(http_id: u128, key: &'a str, idempotency_key: Option<&'a str>) -> Submission<'a> {
    let request = json!({"flowid": key, "length": 10});
    Submission { idempotency_key, ..Submission::new("create-flow", key, request, Uuid::from_u128(http_id)) }
}

fn submit(gateway: &Arc<Gateway>, http_id: u128, idempotency_key: Option<&str>) -> Ticket {
    gateway.submit(submission(http_id, "test-01", idempotency_key)).unwrap()
}

fn deliver(gateway: &Gateway, record: Outgoing) {
    gateway.on_record(&read_at(0, record));
}

/// The view of a worker of one call of an operation; with attempt 0 its deletion.
fn conversation(operation: &OperationId, attempt: u32) -> Outgoing {
    let mut envelope = Envelope::new(Kind::View, "view", "/nave/flows/speaker/0");
    envelope.subject = Some("conversations".into());
    envelope.operation = Some(operation.clone());
    let call = CallId::new(operation.clone(), 1, 8);
    let said = Conversation { call, attempt, attempts: 3, doing: "sent".into(), until: None, rejected: None };
    let view = Conversations { operation: operation.clone(), calls: vec![said] };
    let value = if attempt == 0 { Vec::new() } else { serde_json::to_vec(&view).expect("a view can be written") };
    Outgoing::keyed(VIEW, format!("{operation}/speaker"), value).with(&envelope)
}

/// The record as read, appended at `ms`.
fn read_at(ms: u64, record: Outgoing) -> Record {
    let Outgoing { topic, key, headers, value, .. } = record;
    Record { topic, partition: 0, offset: 0, time: WallTime(ms), key, headers, value }
}

fn answer_of(ticket: &mut Ticket) -> Option<Operation> {
    ticket.answer.try_recv().ok().map(Result::unwrap)
}

#[test]
fn a_request_becomes_a_record_in_the_lane_of_its_key() {
    let gateway = gateway();
    let submission = Submission { trace: Some("00-4b-f9-01".into()), ..submission(7, "test-01", None) };
    let ticket = gateway.submit(submission).unwrap();
    let record = &ticket.record;
    let envelope = record.headers.envelope().unwrap();
    let id = Uuid::from_u128(7).to_string();
    assert_eq!((&*record.topic, record.key.as_deref()), (INBOX, Some(&b"test-01"[..])));
    assert_eq!(record.route, Route::To(wire::routing::lane_of(b"test-01", LANES)));
    assert_eq!(
        (envelope.kind, envelope.id.as_str(), envelope.source.as_str()),
        (Kind::Request, &*id, "/nave/northbound")
    );
    assert_eq!(envelope.requested_operation("flows", "test-01"), ticket.operation, "the hub derives the same id");
    assert_eq!((envelope.subject.as_deref(), envelope.trace.as_deref()), (Some("test-01"), Some("00-4b-f9-01")));
    assert_eq!(record.value, r#"{"workflow":"create-flow","request":{"flowid":"test-01","length":10}}"#);
}

#[test]
fn a_repeat_with_the_same_key_is_the_same_operation_and_another_request() {
    let gateway = gateway();
    let [first, again] = [1, 2].map(|id| submit(&gateway, id, Some("monday")));
    assert_eq!(first.operation, again.operation);
    assert_ne!(first.id(), again.id());
    assert_ne!(submit(&gateway, 3, Some("tuesday")).operation, first.operation);
    assert_ne!(gateway.submit(submission(4, "test-02", Some("monday"))).unwrap().operation, first.operation);
    assert_ne!(submit(&gateway, 5, None).operation, submit(&gateway, 6, None).operation);
    assert_eq!(first.operation.as_str(), "7b3e7942-f893-57b0-bca9-713d5bc15c6c", "the id never changes");
}

/// The other request may have another body: then its answer is that its key was used.
#[test]
fn an_answer_goes_only_to_the_request_that_it_names() {
    let gateway = gateway();
    let [mut first, mut again] = [1, 2].map(|id| submit(&gateway, id, Some("monday")));
    let answer = ended(&first.operation, up(&first.operation, false));
    deliver(&gateway, about(Kind::Answer, &answer, first.id()));
    assert_eq!(answer_of(&mut first), Some(answer.clone()));
    assert_eq!(again.answer.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(gateway.operation(&first.operation), Some(answer.clone()));
    let reused = ended(&first.operation, refused(Code::KeyReused));
    deliver(&gateway, about(Kind::Answer, &reused, again.id()));
    assert_eq!(answer_of(&mut again), Some(reused));
    assert_eq!(gateway.operation(&first.operation), Some(answer));
}

#[test]
fn a_refusal_that_is_an_outcome_is_not_replaced_by_a_view() {
    let gateway = gateway();
    let mut first = submit(&gateway, 1, Some("monday"));
    deliver(&gateway, about(Kind::View, &running(&first.operation, 1), first.id()));
    let outcome = ended(&first.operation, refused(Code::Cancelled));
    deliver(&gateway, about(Kind::Answer, &outcome, first.id()));
    assert_eq!(answer_of(&mut first), Some(outcome.clone()));
    deliver(&gateway, about(Kind::View, &running(&first.operation, 2), first.id()));
    assert_eq!(gateway.operation(&first.operation), Some(outcome));
}

#[test]
fn a_refusal_concerns_only_the_request_that_it_names() {
    let gateway = gateway();
    let [mut first, mut again] = [1, 2].map(|id| submit(&gateway, id, Some("monday")));
    deliver(&gateway, about(Kind::View, &running(&first.operation, 2), first.id()));
    deliver(&gateway, about(Kind::Answer, &ended(&first.operation, refused(Code::KeyReused)), again.id()));
    assert!(answer_of(&mut again).is_some());
    assert_eq!(first.answer.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        gateway.operation(&first.operation),
        Some(running(&first.operation, 2)),
        "the view of the first request is kept"
    );
}

/// The limit of requests that wait for one answer is reached, which concerns only the refused
/// request.
#[test]
fn a_refused_request_does_not_change_the_view_of_its_live_operation() {
    let gateway = gateway();
    let [first, mut again] = [1, 2].map(|id| submit(&gateway, id, Some("monday")));
    let works = running(&first.operation, 1);
    let busy = Operation { answer: Some(refused(Code::Busy)), ..works.clone() };
    deliver(&gateway, about(Kind::Answer, &busy, again.id()));
    assert_eq!((answer_of(&mut again), gateway.operation(&first.operation)), (Some(busy), None));
    deliver(&gateway, about(Kind::View, &works, first.id()));
    assert_eq!(gateway.operation(&first.operation), Some(works));
}

#[test]
fn a_view_is_not_an_answer() {
    let gateway = gateway();
    let mut ticket = submit(&gateway, 1, None);
    deliver(&gateway, about(Kind::View, &running(&ticket.operation, 1), ticket.id()));
    assert_eq!(ticket.answer.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_lane_with_too_many_unanswered_requests_is_busy_but_no_other_lane() {
    let gateway = with(|limits| limits.max_unanswered_per_lane = 2);
    let waiting = [1, 2].map(|id| submit(&gateway, id, None));
    let busy = gateway.submit(submission(3, "test-01", None)).unwrap_err();
    assert_eq!(busy.code, Code::Busy);
    let other_lane = (0..100)
        .map(|n| format!("flow-{n}"))
        .find(|key| wire::routing::lane_of(key.as_bytes(), LANES) != wire::routing::lane_of(b"test-01", LANES));
    gateway.submit(submission(4, &other_lane.unwrap(), None)).unwrap();
    drop(waiting);
    assert_eq!(gateway.unanswered(), 0);
    submit(&gateway, 5, None);
}

#[test]
fn only_a_lane_that_does_not_react_to_a_request_is_silent() {
    let clock = Arc::new(ManualClock::default());
    let options = GatewayOptions::new("flows", "hub", LANES);
    let gateway = Arc::new(Gateway::new(options, Arc::clone(&clock) as Arc<dyn Clock>));
    let mut ticket = submit(&gateway, 1, None);
    let (inbox, lane) = gateway.lane_of("create-flow", "test-01").unwrap();
    assert_eq!((inbox, ticket.record.route), (INBOX, Route::To(lane)));
    assert_eq!(gateway.silent_lanes(), []);
    clock.advance_ms(5_000);
    let line = format!("lane {lane}: silent for 5.0 s; it has no owner, or its owner cannot commit");
    assert_eq!(gateway.silent_lanes(), [Waiting::of_lane(INBOX, lane, line)]);
    let answer = about(Kind::Answer, &ended(&ticket.operation, up(&ticket.operation, false)), ticket.id());
    gateway.on_record(&Record { partition: lane, ..read_at(0, answer) });
    assert_eq!((gateway.silent_lanes(), answer_of(&mut ticket).is_some()), (vec![], true));
}

#[test]
fn a_dropped_ticket_gives_back_only_its_own_place() {
    let gateway = gateway();
    let [first, mut again] = [1, 2].map(|id| submit(&gateway, id, Some("monday")));
    drop(first);
    assert_eq!(gateway.unanswered(), 1);
    deliver(&gateway, about(Kind::Answer, &ended(&again.operation, up(&again.operation, false)), again.id()));
    assert!(answer_of(&mut again).is_some());
}

#[test]
fn a_failed_write_is_reported_only_to_its_own_request() {
    let gateway = gateway();
    let [mut first, mut again] = [1, 2].map(|id| submit(&gateway, id, Some("monday")));
    let problem = Problem::new(Code::NotReady, "unknown");
    gateway.fail(&first.operation, first.id(), &problem);
    assert_eq!(first.answer.try_recv(), Ok(Err(problem)));
    assert_eq!(again.answer.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_view_never_replaces_a_final_answer() {
    let gateway = gateway();
    let id = OperationId::new("7f3a").unwrap();
    let last = ended(&id, up(&id, false));
    deliver(&gateway, about(Kind::Answer, &last, "7f3a"));
    deliver(&gateway, about(Kind::View, &running(&id, 9), "7f3a"));
    assert_eq!(gateway.operation(&id), Some(last));
}

#[test]
fn an_operation_that_cleans_up_is_updated_until_its_end() {
    let gateway = gateway();
    let id = OperationId::new("7f3a").unwrap();
    let end = ended(&id, failed(&id, codes::INSTALL_FAILED));
    let degraded = Operation { state: "degraded".into(), live: true, ..end.clone() };
    let trying = Operation { state: "cleaning".into(), ..degraded.clone() };
    let deliver = |ms, kind, operation: &Operation| gateway.on_record(&read_at(ms, about(kind, operation, "7f3a")));
    deliver(1, Kind::Answer, &degraded);
    deliver(2, Kind::View, &running(&id, 9));
    assert_eq!(gateway.operation(&id), Some(degraded.clone()), "an older view is read after the answer");
    deliver(3, Kind::View, &trying);
    assert_eq!(gateway.operation(&id), Some(trying));
    deliver(4, Kind::View, &end);
    deliver(1, Kind::Answer, &degraded);
    assert_eq!(gateway.operation(&id), Some(end), "after a restart, the answer may be read after the end");
}

#[test]
fn views_of_workers_appear_with_their_calls() {
    let gateway = gateway();
    let id = OperationId::new("7f3a").unwrap();
    let attempt = || Some(gateway.operation(&id)?.step?.pending[0].conversation.as_ref()?.attempt);
    deliver(&gateway, conversation(&id, 1));
    assert_eq!(gateway.operation(&id), None, "the view of a worker alone is not an operation");
    deliver(&gateway, about(Kind::View, &running(&id, 1), "7f3a"));
    assert_eq!(attempt(), Some(1));
    deliver(&gateway, conversation(&id, 2));
    assert_eq!(attempt(), Some(2));
    deliver(&gateway, conversation(&id, 0));
    assert_eq!(attempt(), None);
}

#[test]
fn a_deleted_view_is_dropped_and_an_answer_is_kept() {
    let gateway = gateway();
    let deleted = |id: &OperationId| {
        let record = about(Kind::View, &running(id, 1), "7f3a");
        deliver(&gateway, Outgoing { value: bytes::Bytes::new(), ..record });
        gateway.operation(id)
    };
    let [lives, done] = ["7f3a", "7f3b"].map(|id| OperationId::new(id).unwrap());
    deliver(&gateway, about(Kind::View, &running(&lives, 1), "7f3a"));
    deliver(&gateway, about(Kind::Answer, &ended(&done, up(&done, false)), "7f3b"));
    assert_eq!(deleted(&lives), None);
    assert!(deleted(&done).is_some());
}

#[test]
fn only_the_newest_operations_are_cached() {
    let gateway = with(|limits| limits.cached_operations = 2);
    let ids = ["a", "b", "c"].map(|id| OperationId::new(id).unwrap());
    for id in ids.iter().chain(&ids[1..]) {
        deliver(&gateway, about(Kind::View, &running(id, 1), id.as_str()));
    }
    assert_eq!(ids.map(|id| gateway.operation(&id).is_some()), [false, true, true]);
}

#[test]
fn unreadable_records_are_skipped() {
    let gateway = gateway();
    let id = OperationId::new("7f3a").unwrap();
    let good = about(Kind::Answer, &ended(&id, up(&id, false)), "7f3a");
    let bare = Outgoing::keyed(EGRESS, "k", "{}");
    let wrong_body = Outgoing { value: "null".into(), ..good.clone() };
    let wrong_kind = about(Kind::Owner, &running(&id, 1), "7f3a");
    for record in [bare, wrong_body, wrong_kind] {
        deliver(&gateway, record);
    }
    assert_eq!(gateway.operation(&id), None);
    deliver(&gateway, good);
    assert!(gateway.operation(&id).is_some());
}

#[test]
fn requests_and_answers_may_come_from_many_threads() {
    let gateway = gateway();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let gateway = &gateway;
            threads.spawn(move || {
                for n in 0..500 {
                    // Two threads share each operation.
                    let key = format!("{}-{n}", thread / 2);
                    let ticket = submit(gateway, thread * 1_000 + n, Some(&key));
                    deliver(gateway, about(Kind::View, &running(&ticket.operation, 1), "x"));
                    let answer = ended(&ticket.operation, up(&ticket.operation, false));
                    deliver(gateway, about(Kind::Answer, &answer, ticket.id()));
                    assert!(ticket.answer.blocking_recv().is_ok());
                }
            });
        }
    });
    assert_eq!(gateway.unanswered(), 0);
}
