//! Several topologies, several northbounds, and the spokes of all.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::time::Duration;

use axum::body::Body;
use bus::{Bus, Cleanup, Clock, Outgoing, Part, TopicSpec};
use northbound::{Northbound, control_record, router};
use serde_json::json;
use tokio::task::yield_now;
use tower::ServiceExt;
use wire::alive::Heartbeat;
use wire::control::Wish;
use wire::topics::Topics;
use wire::{Code, Envelope, Kind};

use crate::support::{about, ended, up};
use crate::world::{GOOD, LANES, World, asked, assert_problem, bare, flow, get, northbound, post, request, submitted};

fn submit(world: &mut World, name: &str, wish: Wish) {
    let submitted = wire::control::Submitted { wish, ..submitted(name, &["trip"]) };
    world.write(&[control_record(&Topics::default(), &submitted)]);
    for _ in 0..3 {
        world.outlet.turn(Duration::ZERO).unwrap();
    }
}

fn topics(world: &World, name: &str) {
    for end in ["in", "out", "view"] {
        world.bus.ensure_topic(&TopicSpec::log(&format!("nave.{name}.hub.{end}"), LANES)).unwrap();
    }
}

fn start(name: &str) -> axum::http::Request<Body> {
    request("POST", &format!("/v1/topologies/{name}/workflows/trip/k")).body(Body::from("{}")).unwrap()
}

#[tokio::test]
async fn a_topology_is_there_from_its_submission_on_and_takes_requests_once_its_answers_are_read() {
    let mut world = World::new();
    assert_problem(&world.stopped(get("/v1/topologies/trips")).await, 404, Code::UnknownTopology);
    submit(&mut world, "trips", Wish::Run);
    assert_eq!(world.stopped(get("/v1/topologies/trips")).await.body["state"], "starting");
    assert_problem(&world.stopped(start("trips")).await, 503, Code::NotReady);
    topics(&world, "trips");
    world.clock.advance_ms(1_000);
    world.outlet.turn(Duration::ZERO).unwrap();
    let told = world.stopped(get("/v1/topologies/trips")).await;
    assert_eq!((&told.body["state"], &told.body["stages"][0]["lanes"]), (&json!("running"), &json!(LANES)));
    assert_eq!(told.body["workflows"][0]["request"], json!({"type": "object"}));
    let list = world.stopped(get("/v1/topologies")).await.body;
    let names: Vec<&str> =
        list["topologies"].as_array().unwrap().iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["flows", "trips"]);

    // Its requests go to its own inbox, and its answers come from its own topics.
    let mut inbox = world.bus.reader().unwrap();
    (0..LANES).for_each(|lane| inbox.assign("nave.trips.hub.in", lane, 0).unwrap());
    let mut response = std::pin::pin!(router(world.state.clone()).oneshot(start("trips")));
    tokio::select! {
        biased;
        _ = &mut response => panic!("nobody answers"),
        () = yield_now() => {}
    }
    world.inlet.turn(Duration::ZERO).unwrap();
    let mut records = Vec::new();
    inbox.poll(9, Duration::ZERO, &mut records).unwrap();
    let asked = asked(&records[0], "trips");
    let operation = asked.operation.unwrap();
    let mut answer = about(Kind::Answer, &ended(&operation, up(&operation, false)), &asked.id);
    answer.topic = "nave.trips.hub.out".into();
    world.write(&[answer]);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    let told = world.stopped(get("/v1/operations?topology=trips")).await;
    assert_eq!(told.body["operations"][0]["operation"], json!(operation));
}

#[tokio::test]
async fn a_topology_that_is_killed_takes_nothing_new_and_is_forgotten_when_its_time_is_over() {
    let mut world = World::new();
    topics(&world, "trips");
    submit(&mut world, "trips", Wish::Run);
    let told = world.stopped(bare("DELETE", "/v1/topologies/trips?wait_ms=5000")).await;
    assert_eq!((told.status, &told.body["state"]), (202, &json!("ending")));
    assert_problem(&world.stopped(start("trips")).await, 409, Code::TopologyEnds);
    assert_eq!(world.stopped(get("/v1/topologies/trips")).await.body["ends"], told.body["ends"]);
    world.clock.advance_ms(5_000);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_problem(&world.stopped(get("/v1/topologies/trips")).await, 404, Code::UnknownTopology);
    assert_problem(&world.stopped(start("trips")).await, 404, Code::UnknownTopology);
    assert_eq!(world.create(|operation| up(operation, false)).await.status, 201, "the others go on");

    // What was killed before a northbound began is not opened by it; what is submitted again is there again.
    let (_, _, late) = northbound(&world.bus);
    assert!(late.directory.topology("trips").is_none());
    submit(&mut world, "trips", Wish::Run);
    assert_eq!(world.stopped(get("/v1/topologies/trips")).await.body["state"], "running");
    world.write(&[Outgoing::keyed("nave.control", "trips", "")]);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_problem(&world.stopped(get("/v1/topologies/trips")).await, 404, Code::UnknownTopology);
    for bad in ["wait_ms=-1", "wait_ms=soon", "wait_ms=3600001"] {
        let told = world.stopped(bare("DELETE", &format!("/v1/topologies/flows?{bad}"))).await;
        assert_problem(&told, 422, Code::InvalidField);
    }
}

#[tokio::test]
async fn without_the_topology_of_flows_there_are_no_flows() {
    let mut world = World::new();
    world.write(&[Outgoing::keyed("nave.control", "flows", "")]);
    world.outlet.turn(Duration::ZERO).unwrap();
    for asked in [flow(GOOD), get("/v1/flows"), get("/v1/flows/a"), bare("DELETE", "/v1/flows/a")] {
        assert_problem(&world.stopped(asked).await, 404, Code::UnknownTopology);
    }
}

#[tokio::test]
async fn what_cannot_be_a_topology_is_passed_over() {
    let mut world = World::new();
    let mut no_lanes = submitted("bad", &["trip"]);
    no_lanes.stages[0].lanes = 0;
    let mut no_stage = submitted("bad", &["trip"]);
    no_stage.stages.clear();
    let misnamed =
        Outgoing { key: Some("good".into()), ..control_record(&Topics::default(), &submitted("bad", &["trip"])) };
    let records =
        [control_record(&Topics::default(), &no_lanes), control_record(&Topics::default(), &no_stage), misnamed];
    world.write(&records);
    world.write(&[Outgoing::keyed("nave.control", "bad", "{")]);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_problem(&world.stopped(get("/v1/topologies/bad")).await, 404, Code::UnknownTopology);
    assert_eq!(world.create(|operation| up(operation, false)).await.status, 201);
}

/// A request at a northbound, until it waits for its answer.
macro_rules! asks {
    ($state:expr, $inlet:expr, $key:expr) => {{
        let state: &Northbound = $state;
        let request = post().header("Idempotency-Key", $key).body(Body::from(GOOD)).unwrap();
        let mut response = Box::pin(router(state.clone()).oneshot(request));
        tokio::select! {
            biased;
            _ = &mut response => panic!("nobody answers"),
            () = yield_now() => {}
        }
        $inlet.turn(Duration::ZERO).unwrap();
        response
    }};
}

#[tokio::test]
async fn with_two_northbounds_each_answer_finds_the_one_that_asked_and_a_repeat_at_the_other_is_answered_alike() {
    let mut world = World::new();
    let (mut inlet, mut outlet, other) = northbound(&world.bus);
    let here = asks!(&world.state, world.inlet, "monday");
    let there = asks!(&other, inlet, "monday");
    let elsewhere = asks!(&other, inlet, "tuesday");
    let asked: Vec<Envelope> = world.came().iter().map(|record| asked(record, "flows")).collect();
    let [first, again, another] = &asked[..] else { panic!("three requests") };
    assert_eq!(first.operation, again.operation, "the same name, the same operation, at any northbound");
    assert_ne!(first.operation, another.operation);

    // An answer to each request; both northbounds read both.
    let operation = first.operation.clone().unwrap();
    let answer = ended(&operation, up(&operation, false));
    world.write(&[about(Kind::Answer, &answer, &first.id), about(Kind::Answer, &answer, &again.id)]);
    world.outlet.turn(Duration::ZERO).unwrap();
    outlet.turn(Duration::ZERO).unwrap();
    let [here, there] = [here.await.unwrap(), there.await.unwrap()];
    assert_eq!((here.status(), there.status()), (201.try_into().unwrap(), 201.try_into().unwrap()));
    let [here, there] = [here, there].map(axum::response::Response::into_body);
    let bodies = [axum::body::to_bytes(here, 9_999).await.unwrap(), axum::body::to_bytes(there, 9_999).await.unwrap()];
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!((world.gateway.unanswered(), other.directory.unanswered()), (0, 1), "tuesday's still waits");
    drop(elsewhere);

    // One that was away when an operation was answered shows it all the same.
    let (_, _, late) = northbound(&world.bus);
    let path = format!("/v1/operations/{operation}");
    let shown = router(late).oneshot(get(&path)).await.unwrap();
    assert_eq!(shown.status(), 200);
}

#[tokio::test]
async fn spokes_are_up_while_their_heartbeats_come() {
    let mut world = World::new();
    let told = world.stopped(get("/v1/spokes/speaker")).await;
    assert_eq!((&told.body["up"], &told.body["instances"]), (&json!(null), &json!([])));
    assert_problem(&world.stopped(get("/v1/spokes/hotel")).await, 404, Code::UnknownService);

    world.bus.ensure_topic(&TopicSpec::log("nave.spoke.speaker.alive", 1).cleaned(Cleanup::Compact)).unwrap();
    let beat = |instance: &str, bye| {
        let envelope = Envelope::new(Kind::Heartbeat, instance, "/spoke/speaker");
        let body = serde_json::to_vec(&Heartbeat { instance: instance.into(), every_ms: 500, bye }).unwrap();
        Outgoing::keyed("nave.spoke.speaker.alive", instance.to_owned(), body).with(&envelope)
    };
    world.write(&[
        beat("a", false),
        beat("b", false),
        beat("b", true),
        Outgoing::keyed("nave.spoke.speaker.alive", "c", "{"),
    ]);
    // The topic is looked for once a second; what stood in it is as old as its records say.
    world.clock.advance_ms(1_000);
    for _ in 0..2 {
        world.outlet.turn(Duration::ZERO).unwrap();
    }
    // Three heartbeats of half a second are missing.
    for (later_ms, up) in [(0, true), (499, true), (1, false)] {
        world.clock.advance_ms(later_ms);
        let told = world.stopped(get("/v1/spokes")).await;
        let speaker = &told.body["spokes"][0];
        assert_eq!((&speaker["service"], &speaker["up"]), (&json!("speaker"), &json!(up)), "{later_ms}");
        let ups: Vec<_> = speaker["instances"].as_array().unwrap().iter().map(|instance| &instance["up"]).collect();
        assert_eq!(ups, [&json!(up)], "b said goodbye");
    }
    // The time of day of the broker is another one: what is heard at once is new all the same.
    world.clock.step_wall_ms(-3_600_000);
    world.write(&[beat("a", false)]);
    world.clock.step_wall_ms(3_600_000);
    world.outlet.turn(Duration::ZERO).unwrap();
    let told = world.stopped(get("/v1/spokes/speaker")).await;
    assert_eq!((&told.body["up"], &told.body["instances"][0]["heard"]), (&json!(true), &json!(world.clock.wall().0)));
}
