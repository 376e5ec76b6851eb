//! Paths of flows, health and metrics. The tests play the hub.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use bus::Task;
use flow_messages::codes;
use northbound::{Inlet, Limits, Waiting, router, serve};
use serde_json::{Value, json};
use wire::answer::Answer;
use wire::{Code, Kind};

use crate::harness::{GOOD, Harness, assert_problem, flow, get, poll_pending, post};
use crate::support::{INBOX, about, ended, failed, refused, running, up};
use tower::ServiceExt;

#[tokio::test]
async fn a_new_flow_is_a_201_and_an_existing_one_a_200() {
    let mut harness = Harness::new();
    for (existed, status) in [(false, 201), (true, 200)] {
        let reply = harness.create(|operation| up(operation, existed)).await;
        assert_eq!((reply.status, &reply.headers["content-type"]), (status, &"application/json".parse().unwrap()));
        assert_eq!(reply.body["message"], "all operation is successful");
        assert_eq!((&reply.body["flowid"], reply.body.as_object().unwrap().len()), (&json!("test-01"), 3));
        let path = format!("/v1/operations/{}", reply.body["operation"].as_str().unwrap());
        let view = harness.send_local(get(&path)).await;
        assert_eq!((view.status, &view.body["outcome"]), (200, &json!("done")));
    }
}

#[tokio::test]
async fn a_failed_flow_is_a_problem_with_all_details() {
    for (code, status) in [(codes::HUB_TIMEOUT, 504), (codes::INSTALL_FAILED, 502), (codes::VALIDATION_FAILED, 502)] {
        let reply = Harness::new().create(|operation| failed(operation, code.clone())).await;
        assert_problem(&reply, status, &code);
        assert_eq!(reply.body["message"], "error in hub by timeout");
        assert_eq!((&reply.body["flowid"], &reply.body["origin"]), (&json!("test-01"), &json!("hub")));
        assert_eq!(
            (&reply.body["step"], &reply.body["degraded"], &reply.body["left"]),
            (&json!("installing"), &json!(false), &json!([]))
        );
        assert_eq!((&reply.body["detail"]), &json!("rule 5 was lost"));
        assert_eq!(reply.body["instance"], format!("/v1/operations/{}", reply.body["operation"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_request_that_the_hub_refuses_has_the_status_of_its_code() {
    for (code, status, has_instance) in [
        (Code::KeyReused, 422, true),
        (Code::InvalidField, 422, true),
        (Code::Cancelled, 409, true),
        (Code::TooLate, 504, true),
        (codes::POOL_EMPTY, 503, false),
        (Code::QueueFull, 429, false),
        (Code::Busy, 429, false),
        (Code::NotReady, 503, false),
        (Code::Parked, 500, true),
    ] {
        let reply = Harness::new().create(|_| refused(code.clone())).await;
        assert_problem(&reply, status, &code);
        assert_eq!(reply.body.get("instance").is_some(), has_instance, "{code}");
    }
}

#[tokio::test]
async fn an_unreadable_answer_is_a_500_that_names_its_operation() {
    let reply = Harness::new().create(|_| Answer::Done(json!({"message": 7}))).await;
    assert_problem(&reply, 500, &Code::Parked);
    assert!(reply.body["instance"].is_string());
}

#[tokio::test]
async fn an_invalid_request_is_refused_at_once() {
    let mut harness = Harness::new();
    for (body, status, code, field) in [
        ("{", 400, Code::NotJson, None),
        ("", 400, Code::NotJson, None),
        ("null", 422, Code::InvalidField, Some("body")),
        (r#"{"flowid": "test-01", "length": 0}"#, 422, Code::InvalidField, Some("length")),
        (r#"{"flowid": "a b", "length": 1}"#, 422, Code::InvalidField, Some("flowid")),
        (r#"{"flowid": "a", "length": 1, "error": 3}"#, 422, Code::InvalidField, Some("error")),
        (r#"{"flowid": "a", "length": 1, "lenght": 1}"#, 422, Code::InvalidField, Some("lenght")),
        (&" ".repeat(70_000), 413, Code::TooLarge, None),
    ] {
        let reply = harness.send_local(flow(body)).await;
        assert_problem(&reply, status, &code);
        assert_eq!(reply.body.get("field").and_then(Value::as_str), field);
    }
    for (request, status, code) in [
        (get("/flows"), 404, Code::UnknownPath),
        (get("/flow"), 405, Code::WrongMethod),
        (get("/v1/operations/7f3a"), 404, Code::UnknownOperation),
        (get("/v1/operations/a%2Fb"), 404, Code::UnknownOperation),
        (get("/v1/operations/%ff"), 400, Code::BadRequest),
    ] {
        assert_problem(&harness.send_local(request).await, status, &code);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_visible_ascii_and_given_once() {
    let mut harness = Harness::new();
    let long = "x".repeat(129);
    for key in ["", "two words", "k\u{e9}y", &long] {
        let request = post().header("Idempotency-Key", key.as_bytes()).body(Body::from(GOOD)).unwrap();
        let reply = harness.send_local(request).await;
        assert_problem(&reply, 422, &Code::InvalidField);
        assert_eq!(reply.body["field"], "Idempotency-Key");
    }
    let twice = post().header("Idempotency-Key", "a").header("Idempotency-Key", "b").body(Body::from(GOOD)).unwrap();
    assert_problem(&harness.send_local(twice).await, 422, &Code::InvalidField);
}

#[tokio::test]
async fn a_repeat_with_its_key_is_the_same_operation_and_one_without_is_not() {
    let mut harness = Harness::new();
    let mut seen = Vec::new();
    for key in [Some("monday"), Some("monday"), None, None] {
        let request = key.into_iter().fold(post(), |request, key| request.header("Idempotency-Key", key));
        let reply = harness.send(request.body(Body::from(GOOD)).unwrap(), |request| {
            let operation = request.operation.unwrap();
            let answer = about(Kind::Answer, &ended(&operation, up(&operation, false)), &request.id);
            seen.push((operation, request.id));
            vec![answer]
        });
        assert_eq!(reply.await.status, 201);
    }
    let [(first, a), (again, b), (third, _), (fourth, _)] = &seen[..] else { panic!("four requests") };
    assert!(first == again && a != b, "the same operation, requested twice");
    assert!(first != third && third != fourth);
}

#[tokio::test(start_paused = true)]
async fn after_its_wait_a_client_gets_the_path_of_the_operation_and_no_outcome() {
    let mut harness = Harness::new();
    let start = tokio::time::Instant::now();
    let reply = harness
        .send(flow(GOOD), |request| vec![about(Kind::View, &running(&request.operation.unwrap(), 1), &request.id)])
        .await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!((reply.status, &reply.body["state"], &reply.body["live"]), (202, &json!("installing"), &json!(true)));
    assert_eq!(reply.body.get("outcome"), None);
    let view = harness.send_local(get(reply.headers["location"].to_str().unwrap())).await;
    assert_eq!((view.status, view.body), (200, reply.body));
    assert_eq!(harness.gateway.unanswered(), 0, "its place was given back");
}

#[tokio::test(start_paused = true)]
async fn an_operation_without_a_view_is_visible_after_the_wait() {
    let mut harness = Harness::new();
    let reply = harness.send(flow(GOOD), |_| Vec::new()).await;
    assert_eq!((reply.status, &reply.body["state"]), (202, &json!("requested")));
    assert_eq!(harness.send_local(get(reply.headers["location"].to_str().unwrap())).await.status, 200);
}

#[tokio::test]
async fn a_client_that_disconnects_gives_its_place_back() {
    let harness = Harness::new();
    let mut response = Box::pin(router(harness.state.clone()).oneshot(flow(GOOD)));
    poll_pending(&mut response).await;
    assert_eq!(harness.gateway.unanswered(), 1);
    drop(response);
    assert_eq!(harness.gateway.unanswered(), 0);
}

#[tokio::test]
async fn a_busy_lane_is_a_429_and_a_stopped_inlet_a_503() {
    let mut harness = Harness::new();
    let open: Vec<_> = (0..256)
        .map(|_| {
            let request = serde_json::from_str(GOOD).unwrap();
            let http_id = uuid::Uuid::new_v4();
            let submission = northbound::Submission::new("create-flow", "test-01", request, http_id);
            harness.gateway.submit(submission).unwrap()
        })
        .collect();
    assert_problem(&harness.send_local(flow(GOOD)).await, 429, &Code::Busy);
    drop(open);
    assert_eq!(harness.inlet.stop(), [""; 0]);
    harness.inlet = Box::new(Inlet::open(&harness.bus).unwrap());
    assert_problem(&harness.send_local(flow(GOOD)).await, 503, &Code::NotReady);
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let mut harness = Harness::new();
    assert_eq!(harness.send_local(get("/healthz")).await.status, 200);
    assert_eq!(harness.send_local(get("/readyz")).await.status, 200);
    assert_eq!(harness.send_local(get("/metrics")).await.body, "nave_up 1\n");
    let answers = Arc::new(AtomicBool::new(false));
    let read = Arc::clone(&answers);
    let line = "answers: they are not read yet";
    harness.state.waiting =
        Arc::new(move || if read.load(Ordering::Relaxed) { vec![] } else { vec![Waiting::all(line)] });
    for request in [get("/readyz"), flow(GOOD)] {
        let reply = harness.send_local(request).await;
        assert_problem(&reply, 503, &Code::NotReady);
        assert_eq!(reply.body["detail"], line);
    }
    answers.store(true, Ordering::Relaxed);
    assert_eq!(harness.send_local(get("/readyz")).await.status, 200);
    assert_eq!(harness.send_local(get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_stalled_lane_stops_only_its_own_requests() {
    let mut harness = Harness::new();
    let (inbox, mine) = harness.gateway.lane_of("create-flow", "test-01").unwrap();
    assert_eq!(inbox, INBOX);
    let lines =
        [Waiting::of_lane(INBOX, 1 - mine, "the other lane: silent"), Waiting::of_topology("other", "not here")];
    harness.state.waiting = Arc::new(move || lines.to_vec());
    let reply = harness.send_local(get("/readyz")).await;
    assert_eq!((reply.status, &reply.body["detail"]), (503, &json!("the other lane: silent; not here")));
    assert_eq!(harness.create(|operation| up(operation, false)).await.status, 201, "the request is for another lane");

    harness.state.waiting = Arc::new(move || vec![Waiting::of_lane(INBOX, mine, "this lane: silent")]);
    let reply = harness.send_local(flow(GOOD)).await;
    assert_problem(&reply, 503, &Code::NotReady);
    assert_eq!(reply.body["detail"], "this lane: silent");
}

#[tokio::test]
async fn a_shutdown_ends_the_server_although_a_connection_is_open() {
    let harness = Harness::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = serve(listener, router(harness.state.clone()), Limits::default(), async { stopped.await.unwrap() });
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: nave\r\n\r\n").unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        stop.send(()).unwrap();
        // The client keeps the connection alive; the server closes it.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        start
    });
    let (served, start) = tokio::join!(served, client);
    assert_eq!((served.is_ok(), &start.unwrap()), (true, b"HTTP/1.1 200 OK"));
}
