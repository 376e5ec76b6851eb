//! Several topologies, several northbounds, and their spokes.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::time::Duration;

use axum::body::Body;
use bus::{Bus, Cleanup, Clock, Outgoing, Task, TopicSpec};
use northbound::{Northbound, control_record, router};
use serde_json::json;
use tower::ServiceExt;
use wire::alive::Heartbeat;
use wire::control::{DesiredState, Submitted};
use wire::graph::{Component, ComponentKind};
use wire::topics::Topics;
use wire::{Code, Envelope, Kind};

use crate::harness::{
    GOOD, Harness, LANES, assert_problem, bare, flow, get, northbound, poll_once, poll_pending, post, request,
    request_headers, submitted,
};
use crate::support::{about, ended, up};

fn submit(harness: &mut Harness, name: &str, desired: DesiredState) {
    let submitted = wire::control::Submitted { desired, ..submitted(name, &["trip"]) };
    harness.write(&[control_record(&Topics::default(), &submitted)]);
    for _ in 0..3 {
        harness.outlet.poll(Duration::ZERO).unwrap();
    }
}

fn topics(harness: &Harness, name: &str) {
    for end in ["in", "out", "view"] {
        harness.bus.ensure_topic(&TopicSpec::log(&format!("nave.{name}.hub.{end}"), LANES)).unwrap();
    }
}

fn start(name: &str) -> axum::http::Request<Body> {
    request("POST", &format!("/v1/topologies/{name}/workflows/trip/k")).body(Body::from("{}")).unwrap()
}

#[tokio::test]
async fn a_submitted_topology_accepts_requests_once_its_answers_are_read() {
    let mut harness = Harness::new();
    assert_problem(&harness.send_local(get("/v1/topologies/trips")).await, 404, &Code::UnknownTopology);
    submit(&mut harness, "trips", DesiredState::Run);
    assert_eq!(harness.send_local(get("/v1/topologies/trips")).await.body["state"], "starting");
    assert_problem(&harness.send_local(start("trips")).await, 503, &Code::NotReady);
    topics(&harness, "trips");
    harness.clock.advance_ms(1_000);
    harness.outlet.poll(Duration::ZERO).unwrap();
    let reply = harness.send_local(get("/v1/topologies/trips")).await;
    assert_eq!((&reply.body["state"], &reply.body["stages"][0]["lanes"]), (&json!("running"), &json!(LANES)));
    assert_eq!(reply.body["workflows"][0]["request"], json!({"type": "object"}));
    let list = harness.send_local(get("/v1/topologies")).await.body;
    let names: Vec<&str> =
        list["topologies"].as_array().unwrap().iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["flows", "trips"]);

    // Its requests go to its own inbox, and its answers come from its own topics.
    let mut inbox = harness.bus.reader().unwrap();
    (0..LANES).for_each(|lane| inbox.assign("nave.trips.hub.in", lane, 0).unwrap());
    let mut response = std::pin::pin!(router(harness.state.clone()).oneshot(start("trips")));
    poll_pending(&mut response).await;
    harness.inlet.poll(Duration::ZERO).unwrap();
    let mut records = Vec::new();
    inbox.poll(9, Duration::ZERO, &mut records).unwrap();
    let req = request_headers(&records[0], "trips");
    let operation = req.operation.unwrap();
    let mut answer = about(Kind::Answer, &ended(&operation, up(&operation, false)), &req.id);
    answer.topic = "nave.trips.hub.out".into();
    harness.write(&[answer]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    let reply = harness.send_local(get("/v1/operations?topology=trips")).await;
    assert_eq!(reply.body["operations"][0]["operation"], json!(operation));
}

#[tokio::test]
async fn a_killed_topology_accepts_no_requests_and_is_dropped_after_its_time() {
    let mut harness = Harness::new();
    topics(&harness, "trips");
    submit(&mut harness, "trips", DesiredState::Run);
    let reply = harness.send_local(bare("DELETE", "/v1/topologies/trips?wait_ms=5000")).await;
    assert_eq!((reply.status, &reply.body["state"]), (202, &json!("ending")));
    assert_problem(&harness.send_local(start("trips")).await, 409, &Code::TopologyEnds);
    assert_eq!(harness.send_local(get("/v1/topologies/trips")).await.body["ends"], reply.body["ends"]);
    harness.clock.advance_ms(5_000);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_problem(&harness.send_local(get("/v1/topologies/trips")).await, 404, &Code::UnknownTopology);
    assert_problem(&harness.send_local(start("trips")).await, 404, &Code::UnknownTopology);
    assert_eq!(harness.create(|operation| up(operation, false)).await.status, 201, "other topologies continue");

    // A new northbound does not open a topology that has ended; a new submission brings it back.
    let (_, _, late) = northbound(&harness.bus);
    assert!(late.directory.topology("trips").is_none());
    submit(&mut harness, "trips", DesiredState::Run);
    assert_eq!(harness.send_local(get("/v1/topologies/trips")).await.body["state"], "running");
    harness.write(&[Outgoing::keyed("nave.control", "trips", "")]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_problem(&harness.send_local(get("/v1/topologies/trips")).await, 404, &Code::UnknownTopology);
    for bad in ["wait_ms=-1", "wait_ms=soon", "wait_ms=3600001"] {
        let reply = harness.send_local(bare("DELETE", &format!("/v1/topologies/flows?{bad}"))).await;
        assert_problem(&reply, 422, &Code::InvalidField);
    }
}

/// The northbound that confirms a kill applies it before it reads the control record back.
#[tokio::test]
async fn a_kill_holds_as_soon_as_it_is_confirmed() {
    let mut harness = Harness::new();
    topics(&harness, "trips");
    submit(&mut harness, "trips", DesiredState::Run);
    let app = router(harness.state.clone());
    let mut kill = std::pin::pin!(app.clone().oneshot(bare("DELETE", "/v1/topologies/trips")));
    poll_pending(&mut kill).await;
    harness.inlet.poll(Duration::ZERO).unwrap();
    assert_eq!(kill.await.unwrap().status(), 202);
    let mut late = std::pin::pin!(app.oneshot(start("trips")));
    let refused = poll_once(&mut late).await.expect("it is not accepted").unwrap();
    assert_eq!(refused.status(), 409);
}

#[tokio::test]
async fn an_inactive_topology_refuses_requests_until_it_is_activated() {
    let mut harness = Harness::new();
    topics(&harness, "trips");
    submit(&mut harness, "trips", DesiredState::Run);
    let change = |command: &str| bare("POST", &format!("/v1/topologies/trips/{command}"));
    for _ in 0..2 {
        let reply = harness.send_local(change("deactivate")).await;
        assert_eq!((reply.status, &reply.body["state"]), (202, &json!("inactive")));
    }
    assert_problem(&harness.send_local(start("trips")).await, 503, &Code::TopologyInactive);
    // Another northbound reads the state from the control topic.
    let (_, _, other) = northbound(&harness.bus);
    assert_eq!(other.directory.topology("trips").unwrap().submitted.desired, DesiredState::Inactive);
    let reply = harness.send_local(change("activate")).await;
    assert_eq!((reply.status, &reply.body["state"]), (202, &json!("running")));
    assert!(harness.state.directory.topology("trips").unwrap().takes_requests().is_ok());

    harness.send_local(bare("DELETE", "/v1/topologies/trips")).await;
    for command in ["activate", "deactivate"] {
        assert_problem(&harness.send_local(change(command)).await, 409, &Code::TopologyEnds);
    }
    assert_problem(&harness.send_local(bare("POST", "/v1/topologies/x/activate")).await, 404, &Code::UnknownTopology);
}

#[tokio::test]
async fn a_rebalance_sets_the_number_of_threads_until_the_next_one() {
    let mut harness = Harness::new();
    topics(&harness, "trips");
    submit(&mut harness, "trips", DesiredState::Run);
    let rebalance = |query: &str| bare("POST", &format!("/v1/topologies/trips/rebalance{query}"));
    for (query, threads) in [("?threads=3", json!(3)), ("", json!(null)), ("?threads=64", json!(64))] {
        let reply = harness.send_local(rebalance(query)).await;
        assert_eq!((reply.status, &reply.body["state"], &reply.body["threads"]), (202, &json!("running"), &threads));
    }
    let reply = harness.send_local(bare("POST", "/v1/topologies/trips/deactivate")).await;
    assert_eq!(reply.body["threads"], json!(64), "another change keeps it");
    for bad in ["?threads=0", "?threads=65", "?threads=two"] {
        assert_problem(&harness.send_local(rebalance(bad)).await, 422, &Code::InvalidField);
    }
    harness.send_local(bare("DELETE", "/v1/topologies/trips")).await;
    assert_problem(&harness.send_local(rebalance("?threads=2")).await, 409, &Code::TopologyEnds);
}

#[tokio::test]
async fn a_posted_tuple_is_a_record_of_the_inbox_of_its_source() {
    let mut harness = Harness::new();
    topics(&harness, "trips");
    let source = Component {
        name: "orders".into(),
        kind: ComponentKind::HttpSource,
        stage: "hub".into(),
        saves: None,
        tracks: false,
    };
    let mut trips = submitted("trips", &[]);
    trips.graph.components.push(source);
    let put = |harness: &mut Harness, desired| {
        harness.write(&[control_record(&Topics::default(), &Submitted { desired, ..trips.clone() })]);
        for _ in 0..3 {
            harness.outlet.poll(Duration::ZERO).unwrap();
        }
    };
    put(&mut harness, DesiredState::Run);
    let tuple = |source: &str, body: &'static str| {
        request("POST", &format!("/v1/topologies/trips/sources/{source}")).body(Body::from(body)).unwrap()
    };
    let reply = harness.send_local(tuple("orders?key=c7", r#"{"cents": 250}"#)).await;
    assert_eq!(reply.status, 202, "{}", reply.body);
    let mut inbox = harness.bus.reader().unwrap();
    let lane = wire::routing::lane_of(b"c7", LANES);
    inbox.assign("nave.trips.hub.in", lane, 0).unwrap();
    let mut records = Vec::new();
    inbox.poll(9, Duration::ZERO, &mut records).unwrap();
    let head = records[0].headers.head().unwrap();
    assert_eq!((head.kind, head.subject, head.id), (Kind::Tuple, Some("orders"), reply.body["id"].as_str().unwrap()));
    assert_eq!((&records[0].value[..], records.len()), (&br#"{"cents":250}"#[..], 1));

    let unknown = harness.send_local(tuple("parcels", "1")).await;
    assert_problem(&unknown, 404, &Code::UnknownSource);
    assert!(unknown.body["detail"].as_str().unwrap().ends_with("it has: orders"), "{}", unknown.body);
    assert_problem(&harness.send_local(tuple("orders", "{")).await, 400, &Code::NotJson);
    put(&mut harness, DesiredState::Inactive);
    assert_problem(&harness.send_local(tuple("orders", "1")).await, 503, &Code::TopologyInactive);
}

#[tokio::test]
async fn without_the_flow_topology_flows_are_not_found() {
    let mut harness = Harness::new();
    harness.write(&[Outgoing::keyed("nave.control", "flows", "")]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    for req in [flow(GOOD), get("/v1/flows"), get("/v1/flows/a"), bare("DELETE", "/v1/flows/a")] {
        assert_problem(&harness.send_local(req).await, 404, &Code::UnknownTopology);
    }
}

#[tokio::test]
async fn an_invalid_submission_is_skipped() {
    let mut harness = Harness::new();
    let mut no_lanes = submitted("bad", &["trip"]);
    no_lanes.stages[0].lanes = 0;
    let mut no_stage = submitted("bad", &["trip"]);
    no_stage.stages.clear();
    let misnamed =
        Outgoing { key: Some("good".into()), ..control_record(&Topics::default(), &submitted("bad", &["trip"])) };
    let records =
        [control_record(&Topics::default(), &no_lanes), control_record(&Topics::default(), &no_stage), misnamed];
    harness.write(&records);
    harness.write(&[Outgoing::keyed("nave.control", "bad", "{")]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_problem(&harness.send_local(get("/v1/topologies/bad")).await, 404, &Code::UnknownTopology);
    assert_eq!(harness.create(|operation| up(operation, false)).await.status, 201);
}

/// Sends a request to a northbound and polls it until it waits for its answer.
macro_rules! asks {
    ($state:expr, $inlet:expr, $key:expr) => {{
        let state: &Northbound = $state;
        let request = post().header("Idempotency-Key", $key).body(Body::from(GOOD)).unwrap();
        let mut response = Box::pin(router(state.clone()).oneshot(request));
        poll_pending(&mut response).await;
        $inlet.poll(Duration::ZERO).unwrap();
        response
    }};
}

#[tokio::test]
async fn each_of_two_northbounds_gets_its_own_answers_and_repeats_agree() {
    let mut harness = Harness::new();
    let (mut inlet, mut outlet, other) = northbound(&harness.bus);
    let here = asks!(&harness.state, harness.inlet, "monday");
    let there = asks!(&other, inlet, "monday");
    let elsewhere = asks!(&other, inlet, "tuesday");
    let req: Vec<Envelope> = harness.new_requests().iter().map(|record| request_headers(record, "flows")).collect();
    let [first, again, another] = &req[..] else { panic!("three requests") };
    assert_eq!(first.operation, again.operation, "the same key is the same operation at any northbound");
    assert_ne!(first.operation, another.operation);

    // An answer to each request; both northbounds read both.
    let operation = first.operation.clone().unwrap();
    let answer = ended(&operation, up(&operation, false));
    harness.write(&[about(Kind::Answer, &answer, &first.id), about(Kind::Answer, &answer, &again.id)]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    outlet.poll(Duration::ZERO).unwrap();
    let [here, there] = [here.await.unwrap(), there.await.unwrap()];
    assert_eq!((here.status(), there.status()), (201.try_into().unwrap(), 201.try_into().unwrap()));
    let [here, there] = [here, there].map(axum::response::Response::into_body);
    let bodies = [axum::body::to_bytes(here, 9_999).await.unwrap(), axum::body::to_bytes(there, 9_999).await.unwrap()];
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(
        (harness.gateway.unanswered(), other.directory.unanswered()),
        (0, 1),
        "the request of tuesday still waits"
    );
    drop(elsewhere);

    // A northbound that started after the answer shows the operation too.
    let (_, _, late) = northbound(&harness.bus);
    let path = format!("/v1/operations/{operation}");
    let shown = router(late).oneshot(get(&path)).await.unwrap();
    assert_eq!(shown.status(), 200);
}

#[tokio::test]
async fn a_spoke_is_up_while_its_heartbeats_arrive() {
    let mut harness = Harness::new();
    let reply = harness.send_local(get("/v1/spokes/speaker")).await;
    assert_eq!((&reply.body["up"], &reply.body["instances"]), (&json!(null), &json!([])));
    assert_problem(&harness.send_local(get("/v1/spokes/hotel")).await, 404, &Code::UnknownService);

    harness.bus.ensure_topic(&TopicSpec::log("nave.spoke.speaker.alive", 1).with_cleanup(Cleanup::Compact)).unwrap();
    let beat = |instance: &str, bye| {
        let envelope = Envelope::new(Kind::Heartbeat, instance, "/spoke/speaker");
        let body = serde_json::to_vec(&Heartbeat { instance: instance.into(), every_ms: 500, bye }).unwrap();
        Outgoing::keyed("nave.spoke.speaker.alive", instance.to_owned(), body).with(&envelope)
    };
    harness.write(&[
        beat("a", false),
        beat("b", false),
        beat("b", true),
        Outgoing::keyed("nave.spoke.speaker.alive", "c", "{"),
    ]);
    // Missing topics are checked once per second; older records have the age of their timestamps.
    harness.clock.advance_ms(1_000);
    for _ in 0..2 {
        harness.outlet.poll(Duration::ZERO).unwrap();
    }
    // Three heartbeats of half a second are missing.
    for (later_ms, up) in [(0, true), (499, true), (1, false)] {
        harness.clock.advance_ms(later_ms);
        let reply = harness.send_local(get("/v1/spokes")).await;
        let speaker = &reply.body["spokes"][0];
        assert_eq!((&speaker["service"], &speaker["up"]), (&json!("speaker"), &json!(up)), "{later_ms}");
        let ups: Vec<_> = speaker["instances"].as_array().unwrap().iter().map(|instance| &instance["up"]).collect();
        assert_eq!(ups, [&json!(up)], "b said bye");
    }
    // The clock of the broker differs: a heartbeat that is read when it is sent is fresh anyway.
    harness.clock.step_wall_ms(-3_600_000);
    harness.write(&[beat("a", false)]);
    harness.clock.step_wall_ms(3_600_000);
    harness.outlet.poll(Duration::ZERO).unwrap();
    let reply = harness.send_local(get("/v1/spokes/speaker")).await;
    assert_eq!(
        (&reply.body["up"], &reply.body["instances"][0]["heard"]),
        (&json!(true), &json!(harness.clock.wall().0))
    );
}
