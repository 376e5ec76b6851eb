//! Start of operations: any workflow, strict flows, preferences and deadlines.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::request::Builder;
use bus::{Clock, Task};
use flow_messages::codes;
use northbound::router;
use serde_json::json;
use tower::ServiceExt;
use wire::answer::Answer;
use wire::{Code, Kind};

use crate::harness::{GOOD, Harness, assert_problem, bare, get, poll_pending, post, request};
use crate::support::{about, ended, failed, refused, running, up};

const TRIP: &str = "/v1/topologies/flows/workflows/trip/t-1";

fn trip(body: &str) -> Request<Body> {
    request("POST", TRIP).body(Body::from(body.to_owned())).unwrap()
}

fn good(req: Builder) -> Request<Body> {
    req.body(Body::from(GOOD)).unwrap()
}

#[tokio::test]
async fn any_workflow_is_started_with_any_json_and_its_answer_returned() {
    let mut harness = Harness::new();
    for body in [json!({"room": 12}), json!([1, "b"]), json!("done"), json!(null)] {
        let reply = harness.send_answered(trip(&body.to_string()), |_| Answer::Done(body.clone())).await;
        assert_eq!((reply.status, &reply.body), (200, &body));
        let place = reply.headers["content-location"].to_str().unwrap().to_owned();
        let operation = harness.send_local(get(&place)).await;
        assert_eq!((&operation.body["topology"], &operation.body["body"]), (&json!("flows"), &body));
    }
    let reply =
        harness.send_answered(trip("{}"), |_| Answer::Failed(json!({"message": "no car", "at": "garage"}))).await;
    assert_problem(&reply, 502, &Code::WorkflowFailed);
    assert_eq!((&reply.body["detail"], &reply.body["at"]), (&json!("no car"), &json!("garage")));
    let reply = harness.send_answered(trip("{}"), |id| failed(id, codes::HUB_TIMEOUT)).await;
    assert_problem(&reply, 504, &codes::HUB_TIMEOUT);
    let reply = harness.send_answered(trip("{}"), |_| refused(Code::QueueFull)).await;
    assert_problem(&reply, 429, &Code::QueueFull);
}

#[tokio::test]
async fn an_unknown_topology_workflow_or_path_is_named() {
    let mut harness = Harness::new();
    for (path, code) in [
        ("/v1/topologies/trips/workflows/trip/k", Code::UnknownTopology),
        ("/v1/topologies/flows/workflows/tea/k", Code::UnknownWorkflow),
        ("/v1/topologies/flows/workflows/trip/a/b", Code::UnknownPath),
        ("/v1/topologies/flows/workflows/trip/", Code::UnknownPath),
    ] {
        let req = request("POST", path).body(Body::from("{}")).unwrap();
        assert_problem(&harness.send_local(req).await, 404, &code);
    }
    for (path, status) in [
        (TRIP.replace("t-1", "%0a"), 422),
        (TRIP.replace("t-1", "."), 422),
        (TRIP.replace("t-1", "%2e%2e"), 422),
        (TRIP.replace("t-1", &"k".repeat(257)), 422),
        (TRIP.replace("t-1", "%ff"), 400),
        (format!("{TRIP}?wait=3"), 422),
    ] {
        let req = request("POST", &path).body(Body::from("{}")).unwrap();
        assert_eq!(harness.send_local(req).await.status, status, "{path}");
    }
    assert_problem(&harness.send_local(trip("{")).await, 400, &Code::NotJson);
    assert_problem(&harness.send_local(bare("GET", TRIP)).await, 405, &Code::WrongMethod);
}

#[tokio::test]
async fn a_strict_flow_is_a_201_with_its_location_or_a_conflict() {
    let mut harness = Harness::new();
    let req = || good(request("POST", "/v1/flows"));
    let mut seen = None;
    let reply = harness.send(req(), |request| {
        seen.clone_from(&request.operation);
        let operation = request.operation.unwrap();
        vec![about(Kind::Answer, &ended(&operation, up(&operation, false)), &request.id)]
    });
    let reply = reply.await;
    assert_eq!((reply.status, &reply.headers["location"]), (201, &"/v1/flows/test-01".parse().unwrap()));
    assert!(seen.is_some());
    assert_problem(&harness.send_answered(req(), |_| refused(codes::FLOW_EXISTS)).await, 409, &codes::FLOW_EXISTS);
    let body = r#"{"flowid": "a", "length": 1, "strict": false}"#;
    let reply = harness.send_local(request("POST", "/v1/flows").body(Body::from(body)).unwrap()).await;
    assert_problem(&reply, 422, &Code::InvalidField);
    assert_eq!(reply.body["field"], "strict");
}

#[tokio::test]
async fn a_removal_succeeds_or_lists_what_is_left() {
    let mut harness = Harness::new();
    let req = || bare("DELETE", "/v1/flows/test-01");
    let gone = |id: &wire::OperationId| {
        Answer::Done(json!({"message": "gone", "flowid": "test-01", "operation": id, "removed": 10}))
    };
    let reply = harness.send_answered(req(), gone).await;
    assert_eq!((reply.status, &reply.body["removed"]), (200, &json!(10)));
    assert_problem(&harness.send_answered(req(), |_| refused(codes::UNKNOWN_FLOW)).await, 404, &codes::UNKNOWN_FLOW);
    let reply = harness.send_answered(req(), |id| failed(id, codes::REMOVAL_FAILED)).await;
    assert_problem(&reply, 502, &codes::REMOVAL_FAILED);
    assert_eq!(reply.body["left"], json!([]));
    assert_problem(&harness.send_local(bare("DELETE", "/v1/flows/a%20b")).await, 404, &codes::UNKNOWN_FLOW);
}

#[tokio::test]
async fn a_client_that_does_not_wait_gets_a_202_once_the_request_is_durable() {
    let mut harness = Harness::new();
    let req = good(post().header("Prefer", "respond-async"));
    let mut response = std::pin::pin!(router(harness.state.clone()).oneshot(req));
    poll_pending(&mut response).await;
    harness.inlet.poll(Duration::ZERO).unwrap();
    assert_eq!(harness.new_requests().len(), 1, "the request is durable");
    let response = response.await.unwrap();
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["preference-applied"], "respond-async");
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let reply = harness.send_local(get(&place)).await;
    assert_eq!((&reply.body["state"], &reply.body["live"]), (&json!("requested"), &json!(true)));
}

#[tokio::test]
async fn a_client_that_does_not_wait_holds_a_place_until_the_hub_publishes() {
    let mut harness = Harness::new();
    let req = || good(post().header("Prefer", "respond-async"));
    let mut first = None;
    for _ in 0..256 {
        let reply = harness.send(req(), |request| {
            first.get_or_insert((request.operation.unwrap(), request.id));
            Vec::new()
        });
        assert_eq!(reply.await.status, 202);
    }
    assert_problem(&harness.send_local(req()).await, 429, &Code::Busy);
    let (operation, id) = first.unwrap();
    harness.write(&[about(Kind::View, &running(&operation, 1), &id)]);
    assert_eq!(harness.gateway.unanswered(), 256);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_eq!(harness.gateway.unanswered(), 255);
    harness.write(&[about(Kind::Answer, &ended(&operation, up(&operation, false)), &id)]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_eq!(harness.gateway.unanswered(), 255, "the place is given back only once");
    let reply = harness.send_answered(req(), |operation| up(operation, false)).await;
    assert_eq!((reply.status, harness.gateway.unanswered()), (202, 255));
}

#[tokio::test]
async fn an_operation_that_was_refused_after_its_202_is_shown_as_refused() {
    let mut harness = Harness::new();
    let reply =
        harness.send_answered(good(post().header("Prefer", "respond-async")), |_| refused(codes::POOL_EMPTY)).await;
    assert_eq!(reply.status, 202);
    let shown = harness.send_local(get(reply.headers["location"].to_str().unwrap())).await;
    assert_eq!((&shown.body["outcome"], &shown.body["live"]), (&json!("refused"), &json!(false)));
    assert_eq!((&shown.body["body"]["code"], harness.gateway.unanswered()), (&json!("NAVE-0103"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_as_long_as_it_says_and_its_deadline_is_passed_on() {
    for (header, value, waits, deadline_ms) in [
        ("Prefer", "wait=3", 3, Some(3_000)),
        ("Prefer", "wait=0", 0, None),
        ("Prefer", "respond-async, wait=3", 3, None),
        ("X-Request-Timeout-Ms", "2500", 2, Some(2_500)),
        ("Prefer", "unknown=preference", 10, None),
    ] {
        let mut harness = Harness::new();
        let begun = tokio::time::Instant::now();
        let mut expires = None;
        let reply = harness.send(good(post().header(header, value)), |request| {
            expires = request.expires;
            Vec::new()
        });
        assert_eq!((reply.await.status, begun.elapsed().as_secs()), (202, waits), "{value}");
        let now = harness.clock.wall();
        assert_eq!(expires, deadline_ms.map(|ms| now.plus_ms(ms)), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_no_longer_than_it_says_for_an_unavailable_bus() {
    for (header, value, waits) in [
        ("Prefer", "wait=3", 3),
        ("Prefer", "wait=0", 10),
        ("X-Request-Timeout-Ms", "2000", 2),
        ("Prefer", "unknown=preference", 10),
    ] {
        let harness = Harness::new();
        let begun = tokio::time::Instant::now();
        // The inlet is not polled, as if its writer waited for a broker.
        let response = router(harness.state.clone()).oneshot(good(post().header(header, value))).await.unwrap();
        assert_eq!((response.status().as_u16(), begun.elapsed().as_secs()), (503, waits), "{value}");
    }
}

#[tokio::test]
async fn a_duplicate_json_field_is_refused_by_name() {
    let mut harness = Harness::new();
    for (req, field) in [
        (request("POST", "/flow").body(Body::from(r#"{"flowid": "a", "length": 1, "length": 2}"#)), "length"),
        (request("POST", TRIP).body(Body::from(r#"{"rooms": [{"bed": 1, "bed": 1}]}"#)), "bed"),
    ] {
        let reply = harness.send_local(req.unwrap()).await;
        assert_problem(&reply, 422, &Code::InvalidField);
        assert_eq!(reply.body["field"], field);
        assert_eq!(reply.body["detail"], format!("`{field}` is given twice; allowed is to give it once"));
    }
}

#[tokio::test]
async fn a_request_after_its_deadline_is_not_written() {
    let mut harness = Harness::new();
    let req = good(post().header("X-Request-Timeout-Ms", "50"));
    let mut response = std::pin::pin!(router(harness.state.clone()).oneshot(req));
    poll_pending(&mut response).await;
    harness.clock.advance_ms(50);
    harness.inlet.poll(Duration::ZERO).unwrap();
    // No hub has seen it, so it has no outcome: not a 504.
    assert_eq!(response.await.unwrap().status(), 503);
    assert_eq!((harness.new_requests().len(), harness.gateway.unanswered()), (0, 0));
}

#[tokio::test]
async fn a_request_contains_its_method_and_path() {
    let mut harness = Harness::new();
    for (req, route) in [
        (good(post()), "POST /flow"),
        (good(request("POST", "/v1/flows")), "POST /v1/flows"),
        (bare("DELETE", "/v1/flows/test-01"), "DELETE /v1/flows/{flowid}"),
        (trip("{}"), "POST /v1/topologies/{topology}/workflows/{workflow}/{key}"),
    ] {
        assert!(route.chars().count() <= wire::request::MAX_ROUTE_CHARS);
        let mut response = std::pin::pin!(router(harness.state.clone()).oneshot(req));
        poll_pending(&mut response).await;
        harness.inlet.poll(Duration::ZERO).unwrap();
        let [record] = &harness.new_requests()[..] else { panic!("one request") };
        let body: wire::request::Request = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(body.route, route);
    }
}

#[tokio::test]
async fn a_repeated_request_is_not_shown_with_its_earlier_refusal() {
    let mut harness = Harness::new();
    let req = || good(post().header("Idempotency-Key", "k").header("Prefer", "respond-async"));
    let reply = harness.send_answered(req(), |_| refused(Code::QueueFull)).await;
    let place = reply.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(harness.send_local(get(&place)).await.body["state"], "ended");
    let reply = harness.send(req(), |_| Vec::new()).await;
    assert_eq!((reply.status, &reply.body["state"], &reply.body["live"]), (202, &json!("requested"), &json!(true)));
}
