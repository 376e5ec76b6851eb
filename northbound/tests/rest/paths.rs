//! The paths of flows, health and metrics, with a hub that answers as each test needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use bus::Part;
use northbound::{Inlet, Limits, Waiting, router, serve};
use serde_json::{Value, json};
use tokio::task::yield_now;
use wire::answer::Answer;
use wire::{Code, Kind};

use crate::support::{INBOX, about, ended, failed, refused, running, up};
use crate::world::{GOOD, World, assert_problem, flow, get, post};
use tower::ServiceExt;

#[tokio::test]
async fn a_flow_that_comes_up_is_201_and_one_that_existed_is_200() {
    let mut world = World::new();
    for (existed, status) in [(false, 201), (true, 200)] {
        let told = world.create(|operation| up(operation, existed)).await;
        assert_eq!((told.status, &told.headers["content-type"]), (status, &"application/json".parse().unwrap()));
        assert_eq!(told.body["message"], "all operation is successful");
        assert_eq!((&told.body["flowid"], told.body.as_object().unwrap().len()), (&json!("test-01"), 3));
        let path = format!("/v1/operations/{}", told.body["operation"].as_str().unwrap());
        let view = world.stopped(get(&path)).await;
        assert_eq!((view.status, &view.body["outcome"]), (200, &json!("done")));
    }
}

#[tokio::test]
async fn a_flow_that_failed_is_a_problem_with_all_that_is_known() {
    for (code, status) in
        [(Code::HubTimeout, 504), (Code::InstallFailed, 502), (Code::ValidationFailed, 502), (Code::PoolEmpty, 503)]
    {
        let told = World::new().create(|operation| failed(operation, code)).await;
        assert_problem(&told, status, code);
        assert_eq!(told.body["message"], "error in hub by timeout");
        assert_eq!((&told.body["flowid"], &told.body["origin"]), (&json!("test-01"), &json!("hub")));
        assert_eq!(
            (&told.body["step"], &told.body["degraded"], &told.body["left"]),
            (&json!("installing"), &json!(false), &json!([]))
        );
        assert_eq!((&told.body["detail"]), &json!("rule 5 was lost"));
        assert_eq!(told.body["instance"], format!("/v1/operations/{}", told.body["operation"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_request_that_the_hub_refuses_has_the_status_of_its_code() {
    for (code, status, has_instance) in [
        (Code::KeyReused, 422, true),
        (Code::InvalidField, 422, true),
        (Code::Cancelled, 409, true),
        (Code::TooLate, 504, true),
        (Code::PoolEmpty, 503, false),
        (Code::QueueFull, 429, false),
        (Code::Busy, 429, false),
        (Code::NotReady, 503, false),
        (Code::Parked, 500, true),
    ] {
        let told = World::new().create(|_| refused(code)).await;
        assert_problem(&told, status, code);
        assert_eq!(told.body.get("instance").is_some(), has_instance, "{code}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_a_500_that_names_its_operation() {
    let told = World::new().create(|_| Answer::Done(json!({"message": 7}))).await;
    assert_problem(&told, 500, Code::Parked);
    assert!(told.body["instance"].is_string());
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_at_once() {
    let mut world = World::new();
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
        let told = world.stopped(flow(body)).await;
        assert_problem(&told, status, code);
        assert_eq!(told.body.get("field").and_then(Value::as_str), field);
    }
    for (request, status, code) in [
        (get("/flows"), 404, Code::UnknownPath),
        (get("/flow"), 405, Code::WrongMethod),
        (get("/v1/operations/7f3a"), 404, Code::UnknownOperation),
        (get("/v1/operations/a%2Fb"), 404, Code::UnknownOperation),
        (get("/v1/operations/%ff"), 400, Code::BadRequest),
    ] {
        assert_problem(&world.stopped(request).await, status, code);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_visible_ascii_and_given_once() {
    let mut world = World::new();
    let long = "x".repeat(129);
    for key in ["", "two words", "k\u{e9}y", &long] {
        let request = post().header("Idempotency-Key", key.as_bytes()).body(Body::from(GOOD)).unwrap();
        let told = world.stopped(request).await;
        assert_problem(&told, 422, Code::InvalidField);
        assert_eq!(told.body["field"], "Idempotency-Key");
    }
    let twice = post().header("Idempotency-Key", "a").header("Idempotency-Key", "b").body(Body::from(GOOD)).unwrap();
    assert_problem(&world.stopped(twice).await, 422, Code::InvalidField);
}

#[tokio::test]
async fn a_repeat_with_its_key_is_the_same_operation_and_one_without_is_not() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for key in [Some("monday"), Some("monday"), None, None] {
        let request = key.into_iter().fold(post(), |request, key| request.header("Idempotency-Key", key));
        let told = world.send(request.body(Body::from(GOOD)).unwrap(), |request| {
            let operation = request.operation.unwrap();
            let answer = about(Kind::Answer, &ended(&operation, up(&operation, false)), &request.id);
            seen.push((operation, request.id));
            vec![answer]
        });
        assert_eq!(told.await.status, 201);
    }
    let [(first, a), (again, b), (third, _), (fourth, _)] = &seen[..] else { panic!("four requests") };
    assert!(first == again && a != b, "the same operation, asked for twice");
    assert!(first != third && third != fourth);
}

#[tokio::test(start_paused = true)]
async fn when_patience_ends_the_client_is_told_where_to_look_and_never_an_outcome() {
    let mut world = World::new();
    let start = tokio::time::Instant::now();
    let told = world
        .send(flow(GOOD), |request| vec![about(Kind::View, &running(&request.operation.unwrap(), 1), &request.id)])
        .await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!((told.status, &told.body["state"], &told.body["live"]), (202, &json!("installing"), &json!(true)));
    assert_eq!(told.body.get("outcome"), None);
    let view = world.stopped(get(told.headers["location"].to_str().unwrap())).await;
    assert_eq!((view.status, view.body), (200, told.body));
    assert_eq!(world.gateway.unanswered(), 0, "its place is free again");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_nobody_has_seen_can_be_looked_at_when_patience_ends() {
    let mut world = World::new();
    let told = world.send(flow(GOOD), |_| Vec::new()).await;
    assert_eq!((told.status, &told.body["state"]), (202, &json!("requested")));
    assert_eq!(world.stopped(get(told.headers["location"].to_str().unwrap())).await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_back() {
    let world = World::new();
    let mut response = Box::pin(router(world.state.clone()).oneshot(flow(GOOD)));
    tokio::select! {
        biased;
        _ = &mut response => panic!("nobody answers"),
        () = yield_now() => {}
    }
    assert_eq!(world.gateway.unanswered(), 1);
    drop(response);
    assert_eq!(world.gateway.unanswered(), 0);
}

#[tokio::test]
async fn a_lane_that_is_busy_is_429_and_an_inlet_that_has_stopped_is_503() {
    let mut world = World::new();
    let open: Vec<_> = (0..256)
        .map(|_| {
            let request = serde_json::from_str(GOOD).unwrap();
            let http_id = uuid::Uuid::new_v4();
            let submission = northbound::Submission::new("create-flow", "test-01", request, http_id);
            world.gateway.submit(submission).unwrap()
        })
        .collect();
    assert_problem(&world.stopped(flow(GOOD)).await, 429, Code::Busy);
    drop(open);
    assert_eq!(world.inlet.stop(), [""; 0]);
    world.inlet = Box::new(Inlet::open(&world.bus).unwrap());
    assert_problem(&world.stopped(flow(GOOD)).await, 503, Code::NotReady);
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let mut world = World::new();
    assert_eq!(world.stopped(get("/healthz")).await.status, 200);
    assert_eq!(world.stopped(get("/readyz")).await.status, 200);
    assert_eq!(world.stopped(get("/metrics")).await.body, "nave_up 1\n");
    let answers = Arc::new(AtomicBool::new(false));
    let read = Arc::clone(&answers);
    let line = "answers: they are not read yet";
    world.state.waiting =
        Arc::new(move || if read.load(Ordering::Relaxed) { vec![] } else { vec![Waiting::all(line)] });
    for request in [get("/readyz"), flow(GOOD)] {
        let told = world.stopped(request).await;
        assert_problem(&told, 503, Code::NotReady);
        assert_eq!(told.body["detail"], line);
    }
    answers.store(true, Ordering::Relaxed);
    assert_eq!(world.stopped(get("/readyz")).await.status, 200);
    assert_eq!(world.stopped(get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_lane_that_stands_still_stops_nobody_but_those_who_ask_it() {
    let mut world = World::new();
    let (inbox, mine) = world.gateway.lane_of("create-flow", "test-01").unwrap();
    assert_eq!(inbox, INBOX);
    let lines =
        [Waiting::of_lane(INBOX, 1 - mine, "the other lane: silent"), Waiting::of_topology("other", "not here")];
    world.state.waiting = Arc::new(move || lines.to_vec());
    let told = world.stopped(get("/readyz")).await;
    assert_eq!((told.status, &told.body["detail"]), (503, &json!("the other lane: silent; not here")));
    assert_eq!(world.create(|operation| up(operation, false)).await.status, 201, "it is another lane's request");

    world.state.waiting = Arc::new(move || vec![Waiting::of_lane(INBOX, mine, "this lane: silent")]);
    let told = world.stopped(flow(GOOD)).await;
    assert_problem(&told, 503, Code::NotReady);
    assert_eq!(told.body["detail"], "this lane: silent");
}

#[tokio::test]
async fn a_server_that_is_shut_down_ends_although_a_connection_is_open() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = serve(listener, router(world.state.clone()), Limits::default(), async { stopped.await.unwrap() });
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: nave\r\n\r\n").unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        stop.send(()).unwrap();
        // The connection is kept alive by us, and ended by the server.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        start
    });
    let (served, start) = tokio::join!(served, client);
    assert_eq!((served.is_ok(), &start.unwrap()), (true, b"HTTP/1.1 200 OK"));
}
