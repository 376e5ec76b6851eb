//! Starting operations: any workflow, strict flows, preferences and deadlines.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::request::Builder;
use bus::{Clock, Part};
use northbound::router;
use serde_json::json;
use tokio::task::yield_now;
use tower::ServiceExt;
use wire::answer::Answer;
use wire::{Code, Kind};

use crate::support::{about, ended, failed, refused, running, up};
use crate::world::{GOOD, World, assert_problem, bare, get, post, request};

const TRIP: &str = "/v1/topologies/flows/workflows/trip/t-1";

fn trip(body: &str) -> Request<Body> {
    request("POST", TRIP).body(Body::from(body.to_owned())).unwrap()
}

fn good(asked: Builder) -> Request<Body> {
    asked.body(Body::from(GOOD)).unwrap()
}

#[tokio::test]
async fn any_workflow_is_started_with_any_json_and_answers_as_it_answers() {
    let mut world = World::new();
    for body in [json!({"room": 12}), json!([1, "b"]), json!("done"), json!(null)] {
        let told = world.answered(trip(&body.to_string()), |_| Answer::Done(body.clone())).await;
        assert_eq!((told.status, &told.body), (200, &body));
        let place = told.headers["content-location"].to_str().unwrap().to_owned();
        let operation = world.stopped(get(&place)).await;
        assert_eq!((&operation.body["topology"], &operation.body["body"]), (&json!("flows"), &body));
    }
    let told = world.answered(trip("{}"), |_| Answer::Failed(json!({"message": "no car", "at": "garage"}))).await;
    assert_problem(&told, 502, Code::WorkflowFailed);
    assert_eq!((&told.body["detail"], &told.body["at"]), (&json!("no car"), &json!("garage")));
    let told = world.answered(trip("{}"), |id| failed(id, Code::HubTimeout)).await;
    assert_problem(&told, 504, Code::HubTimeout);
    let told = world.answered(trip("{}"), |_| refused(Code::QueueFull)).await;
    assert_problem(&told, 429, Code::QueueFull);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let mut world = World::new();
    for (path, code) in [
        ("/v1/topologies/trips/workflows/trip/k", Code::UnknownTopology),
        ("/v1/topologies/flows/workflows/tea/k", Code::UnknownWorkflow),
        ("/v1/topologies/flows/workflows/trip/a/b", Code::UnknownPath),
        ("/v1/topologies/flows/workflows/trip/", Code::UnknownPath),
    ] {
        let asked = request("POST", path).body(Body::from("{}")).unwrap();
        assert_problem(&world.stopped(asked).await, 404, code);
    }
    for (path, status) in [
        (TRIP.replace("t-1", "%0a"), 422),
        (TRIP.replace("t-1", "."), 422),
        (TRIP.replace("t-1", "%2e%2e"), 422),
        (TRIP.replace("t-1", &"k".repeat(257)), 422),
        (TRIP.replace("t-1", "%ff"), 400),
        (format!("{TRIP}?wait=3"), 422),
    ] {
        let asked = request("POST", &path).body(Body::from("{}")).unwrap();
        assert_eq!(world.stopped(asked).await.status, status, "{path}");
    }
    assert_problem(&world.stopped(trip("{")).await, 400, Code::NotJson);
    assert_problem(&world.stopped(bare("GET", TRIP)).await, 405, Code::WrongMethod);
}

#[tokio::test]
async fn a_strict_flow_is_201_with_its_place_or_a_conflict() {
    let mut world = World::new();
    let asked = || good(request("POST", "/v1/flows"));
    let mut seen = None;
    let told = world.send(asked(), |request| {
        seen.clone_from(&request.operation);
        let operation = request.operation.unwrap();
        vec![about(Kind::Answer, &ended(&operation, up(&operation, false)), &request.id)]
    });
    let told = told.await;
    assert_eq!((told.status, &told.headers["location"]), (201, &"/v1/flows/test-01".parse().unwrap()));
    assert!(seen.is_some());
    assert_problem(&world.answered(asked(), |_| refused(Code::FlowExists)).await, 409, Code::FlowExists);
    let body = r#"{"flowid": "a", "length": 1, "strict": false}"#;
    let told = world.stopped(request("POST", "/v1/flows").body(Body::from(body)).unwrap()).await;
    assert_problem(&told, 422, Code::InvalidField);
    assert_eq!(told.body["field"], "strict");
}

#[tokio::test]
async fn a_flow_is_removed_or_it_is_said_what_is_left() {
    let mut world = World::new();
    let asked = || bare("DELETE", "/v1/flows/test-01");
    let gone = |id: &wire::OperationId| {
        Answer::Done(json!({"message": "gone", "flowid": "test-01", "operation": id, "removed": 10}))
    };
    let told = world.answered(asked(), gone).await;
    assert_eq!((told.status, &told.body["removed"]), (200, &json!(10)));
    assert_problem(&world.answered(asked(), |_| refused(Code::UnknownFlow)).await, 404, Code::UnknownFlow);
    let told = world.answered(asked(), |id| failed(id, Code::RemovalFailed)).await;
    assert_problem(&told, 502, Code::RemovalFailed);
    assert_eq!(told.body["left"], json!([]));
    assert_problem(&world.stopped(bare("DELETE", "/v1/flows/a%20b")).await, 404, Code::UnknownFlow);
}

#[tokio::test]
async fn who_does_not_wait_is_told_where_to_look_once_the_request_is_safe_and_not_before() {
    let mut world = World::new();
    let asked = good(post().header("Prefer", "respond-async"));
    let mut response = std::pin::pin!(router(world.state.clone()).oneshot(asked));
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = &mut response => panic!("nothing is written yet"),
            () = yield_now() => {}
        }
    }
    world.inlet.turn(Duration::ZERO).unwrap();
    assert_eq!(world.came().len(), 1, "it is durable");
    let response = response.await.unwrap();
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["preference-applied"], "respond-async");
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let told = world.stopped(get(&place)).await;
    assert_eq!((&told.body["state"], &told.body["live"]), (&json!("requested"), &json!(true)));
}

#[tokio::test]
async fn who_does_not_wait_holds_a_place_until_the_hub_has_spoken() {
    let mut world = World::new();
    let asked = || good(post().header("Prefer", "respond-async"));
    let mut first = None;
    for _ in 0..256 {
        let told = world.send(asked(), |request| {
            first.get_or_insert((request.operation.unwrap(), request.id));
            Vec::new()
        });
        assert_eq!(told.await.status, 202);
    }
    assert_problem(&world.stopped(asked()).await, 429, Code::Busy);
    let (operation, id) = first.unwrap();
    world.write(&[about(Kind::View, &running(&operation, 1), &id)]);
    assert_eq!(world.gateway.unanswered(), 256);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_eq!(world.gateway.unanswered(), 255);
    world.write(&[about(Kind::Answer, &ended(&operation, up(&operation, false)), &id)]);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_eq!(world.gateway.unanswered(), 255, "it is given back once");
    let told = world.answered(asked(), |operation| up(operation, false)).await;
    assert_eq!((told.status, world.gateway.unanswered()), (202, 255));
}

#[tokio::test]
async fn an_operation_that_was_refused_after_its_202_is_shown_as_refused() {
    let mut world = World::new();
    let told = world.answered(good(post().header("Prefer", "respond-async")), |_| refused(Code::PoolEmpty)).await;
    assert_eq!(told.status, 202);
    let shown = world.stopped(get(told.headers["location"].to_str().unwrap())).await;
    assert_eq!((&shown.body["outcome"], &shown.body["live"]), (&json!("refused"), &json!(false)));
    assert_eq!((&shown.body["body"]["code"], world.gateway.unanswered()), (&json!("NAVE-0103"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_waited_for_as_long_as_it_says_and_its_deadline_travels_along() {
    for (header, value, waits, deadline_ms) in [
        ("Prefer", "wait=3", 3, Some(3_000)),
        ("Prefer", "wait=0", 0, None),
        ("Prefer", "respond-async, wait=3", 3, None),
        ("X-Request-Timeout-Ms", "2500", 2, Some(2_500)),
        ("Prefer", "nothing=we-know", 10, None),
    ] {
        let mut world = World::new();
        let begun = tokio::time::Instant::now();
        let mut expires = None;
        let told = world.send(good(post().header(header, value)), |request| {
            expires = request.expires;
            Vec::new()
        });
        assert_eq!((told.await.status, begun.elapsed().as_secs()), (202, waits), "{value}");
        let now = world.clock.wall();
        assert_eq!(expires, deadline_ms.map(|ms| now.plus_ms(ms)), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_no_longer_than_it_says_for_a_bus_that_is_away() {
    for (header, value, waits) in [
        ("Prefer", "wait=3", 3),
        ("Prefer", "wait=0", 10),
        ("X-Request-Timeout-Ms", "2000", 2),
        ("Prefer", "nothing=we-know", 10),
    ] {
        let world = World::new();
        let begun = tokio::time::Instant::now();
        // The inlet has no turns, as while its writer waits for a broker.
        let response = router(world.state.clone()).oneshot(good(post().header(header, value))).await.unwrap();
        assert_eq!((response.status().as_u16(), begun.elapsed().as_secs()), (503, waits), "{value}");
    }
}

#[tokio::test]
async fn a_json_field_that_is_given_twice_is_refused_by_name() {
    let mut world = World::new();
    for (asked, field) in [
        (request("POST", "/flow").body(Body::from(r#"{"flowid": "a", "length": 1, "length": 2}"#)), "length"),
        (request("POST", TRIP).body(Body::from(r#"{"rooms": [{"bed": 1, "bed": 1}]}"#)), "bed"),
    ] {
        let told = world.stopped(asked.unwrap()).await;
        assert_problem(&told, 422, Code::InvalidField);
        assert_eq!(told.body["field"], field);
        assert_eq!(told.body["detail"], format!("`{field}` is given twice; allowed is to give it once"));
    }
}

#[tokio::test]
async fn what_is_too_late_is_not_written() {
    let mut world = World::new();
    let asked = good(post().header("X-Request-Timeout-Ms", "50"));
    let mut response = std::pin::pin!(router(world.state.clone()).oneshot(asked));
    tokio::select! {
        biased;
        _ = &mut response => panic!("nobody answers"),
        () = yield_now() => {}
    }
    world.clock.advance_ms(50);
    world.inlet.turn(Duration::ZERO).unwrap();
    // No hub has seen it, so this is no outcome: 504 would be.
    assert_eq!(response.await.unwrap().status(), 503);
    assert_eq!((world.came().len(), world.gateway.unanswered()), (0, 0));
}

#[tokio::test]
async fn a_request_carries_its_method_and_path_so_that_its_key_is_for_them_alone() {
    let mut world = World::new();
    for (asked, route) in [
        (good(post()), "POST /flow"),
        (good(request("POST", "/v1/flows")), "POST /v1/flows"),
        (bare("DELETE", "/v1/flows/test-01"), "DELETE /v1/flows/{flowid}"),
        (trip("{}"), "POST /v1/topologies/{topology}/workflows/{workflow}/{key}"),
    ] {
        assert!(route.chars().count() <= wire::request::LONGEST_ROUTE);
        let mut response = std::pin::pin!(router(world.state.clone()).oneshot(asked));
        tokio::select! {
            biased;
            _ = &mut response => panic!("nobody answers"),
            () = yield_now() => {}
        }
        world.inlet.turn(Duration::ZERO).unwrap();
        let [record] = &world.came()[..] else { panic!("one request") };
        let body: wire::request::Request = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(body.route, route);
    }
}

#[tokio::test]
async fn an_operation_that_is_asked_for_again_is_not_shown_as_it_was_refused_before() {
    let mut world = World::new();
    let asked = || good(post().header("Idempotency-Key", "k").header("Prefer", "respond-async"));
    let told = world.answered(asked(), |_| refused(Code::QueueFull)).await;
    let place = told.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(world.stopped(get(&place)).await.body["state"], "ended");
    let told = world.send(asked(), |_| Vec::new()).await;
    assert_eq!((told.status, &told.body["state"], &told.body["live"]), (202, &json!("requested"), &json!(true)));
}
