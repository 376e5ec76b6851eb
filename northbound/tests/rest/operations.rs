//! Operations and flows: lists in pages, and what an operation is told.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use axum::body::Body;
use bus::{Outgoing, Part};
use serde_json::{Value, json};
use std::time::Duration;
use wire::answer::{Answer, Entry, Operation, Resource};
use wire::command::{Command, Outcome};
use wire::{Code, Envelope, Kind, OperationId, Problem, WallTime};

use crate::support::{EGRESS, VIEW, about, ended, running, up};
use crate::world::{World, assert_problem, bare, get, request};

fn id(name: &str) -> OperationId {
    OperationId::new(name).unwrap()
}

fn begun(name: &str, at: u64) -> Operation {
    let line = Entry { seq: 1, at: WallTime(at), what: "requested".into() };
    Operation { history: vec![line], ..running(&id(name), 1) }
}

fn shown(world: &mut World, operations: &[Operation]) {
    for operation in operations {
        let kind = if operation.answer.is_some() { Kind::Answer } else { Kind::View };
        world.write(&[about(kind, operation, "x")]);
    }
    world.outlet.turn(Duration::ZERO).unwrap();
}

fn ids(body: &Value) -> Vec<&str> {
    body["operations"].as_array().unwrap().iter().map(|line| line["operation"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn operations_are_listed_the_newest_first_filtered_and_in_pages() {
    let mut world = World::new();
    let parked = Operation { state: "parked".into(), workflow: "trip".into(), ..begun("b", 2) };
    let over = Operation { live: false, answer: Some(up(&id("c"), false)), key: "k 1&2".into(), ..begun("c", 3) };
    shown(&mut world, &[begun("a", 1), parked, over, begun("d", 4)]);
    for (query, expected) in [
        ("", &["d", "c", "b", "a"][..]),
        ("?state=parked", &["b"]),
        ("?live=true", &["d", "b", "a"]),
        ("?live=false", &["c"]),
        ("?workflow=trip&live=true", &["b"]),
        ("?key=k%201%262", &["c"]),
        ("?topology=flows&limit=2", &["d", "c"]),
        ("?topology=trips", &[]),
    ] {
        let told = world.stopped(get(&format!("/v1/operations{query}"))).await;
        assert_eq!((told.status, ids(&told.body)), (200, expected.to_vec()), "{query}");
    }
    let (mut seen, mut next) = (Vec::new(), Some("/v1/operations?limit=1&topology=flows".to_owned()));
    while let Some(path) = next {
        let told = world.stopped(get(&path)).await;
        seen.extend(ids(&told.body).into_iter().map(str::to_owned));
        next = told.body["next"].as_str().map(str::to_owned);
        shown(&mut world, &[begun(&format!("new-{}", seen.len()), 9)]);
    }
    assert_eq!(seen, ["d", "c", "b", "a"], "what is new does not move the pages");
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=+1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("live=yes", "live"),
        ("after=a", "after"),
        ("state=", "state"),
        ("colour=red", "colour"),
    ] {
        let told = world.stopped(get(&format!("/v1/operations?{query}"))).await;
        assert_problem(&told, 422, Code::InvalidField);
        assert_eq!(told.body["field"], field, "{query}");
    }
}

fn resource(flowid: &str, state: Option<&str>) -> Outgoing {
    let name = format!("resource/flow/{flowid}");
    let mut envelope = Envelope::new(Kind::View, name.as_str(), "/nave/flows/hub/0");
    envelope.subject = Some("resource".into());
    let value = state.map(|state| {
        let flow = json!({"flowid": flowid, "length": 3, "cookie": 1, "state": state, "operation": "7f3a"});
        serde_json::to_vec(&Resource { kind: "flow".into(), key: flowid.into(), value: Some(flow) }).unwrap()
    });
    Outgoing::keyed(VIEW, name, value.unwrap_or_default()).with(&envelope)
}

#[tokio::test]
async fn flows_are_listed_by_name_in_pages_and_are_gone_when_they_are_gone() {
    let mut world = World::new();
    world.write(&[resource("c", Some("up")), resource("a", Some("degraded")), resource("b", Some("up"))]);
    world.outlet.turn(Duration::ZERO).unwrap();
    let names = |body: &Value| -> Vec<String> {
        body["flows"].as_array().unwrap().iter().map(|flow| flow["flowid"].as_str().unwrap().to_owned()).collect()
    };
    let told = world.stopped(get("/v1/flows?limit=2")).await;
    assert_eq!((names(&told.body), &told.body["complete"]), (vec!["a".into(), "b".into()], &json!(true)));
    let told = world.stopped(get(told.body["next"].as_str().unwrap())).await;
    assert_eq!((names(&told.body), &told.body["next"]), (vec!["c".into()], &json!(null)));
    assert_eq!(world.stopped(get("/v1/flows/a")).await.body["state"], "degraded");
    world.write(&[resource("a", None)]);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert_problem(&world.stopped(get("/v1/flows/a")).await, 404, Code::UnknownFlow);
    assert_eq!(names(&world.stopped(get("/v1/flows")).await.body), ["b", "c"]);
    assert_problem(&world.stopped(get("/v1/flows?after=a%20b")).await, 422, Code::InvalidField);
}

/// What the hub makes of a command.
fn told(request: &Envelope, outcome: &Outcome) -> Outgoing {
    let mut envelope = Envelope::new(Kind::Answer, "told", "/nave/flows/hub/0");
    envelope.subject = Some("command".into());
    envelope.operation.clone_from(&request.operation);
    envelope.causation = Some(request.id.clone());
    Outgoing::keyed(EGRESS, "7f3a", serde_json::to_vec(outcome).unwrap()).with(&envelope)
}

#[tokio::test]
async fn an_operation_is_told_what_a_person_says_and_the_person_what_came_of_it() {
    let mut world = World::new();
    shown(&mut world, &[begun("7f3a", 1)]);
    let goes_on = Outcome::Taken(Box::new(running(&id("7f3a"), 2)));
    let over = Outcome::Taken(Box::new(ended(&id("7f3a"), up(&id("7f3a"), false))));
    let refused = |code| Outcome::Refused(Problem::new(code, "for a reason"));
    for (method, path, body, command, outcome, status) in [
        ("DELETE", "", "", Command::Cancel, goes_on.clone(), 202),
        ("DELETE", "", "", Command::Cancel, refused(Code::NotNow), 409),
        ("POST", "/resume", "", Command::Resume, goes_on.clone(), 202),
        ("POST", "/abort", "", Command::Abort, over, 200),
        ("POST", "/signals/ok", r#"{"by": "ann"}"#, signal(json!({"by": "ann"})), goes_on.clone(), 202),
        ("POST", "/signals/ok", "", signal(json!(null)), refused(Code::InvalidField), 422),
        ("POST", "/signals/ok", "7", signal(json!(7)), refused(Code::UnknownOperation), 404),
    ] {
        let asked = request(method, &format!("/v1/operations/7f3a{path}")).body(Body::from(body)).unwrap();
        let mut world_heard = Vec::new();
        let answer = world.send(asked, |request| {
            world_heard.push(request.clone());
            vec![told(&request, &outcome)]
        });
        let answer = answer.await;
        assert_eq!(answer.status, status, "{path} {}", answer.body);
        let [heard] = &world_heard[..] else { panic!("one command") };
        assert_eq!(
            (heard.kind, heard.operation.as_ref(), heard.subject.as_deref()),
            (Kind::Command, Some(&id("7f3a")), Some("test-01"))
        );
        assert_eq!(command.as_str(), commanded(&command), "{path}");
        assert_eq!(world.gateway.unanswered(), 0);
    }
    assert_problem(
        &world.stopped(request("POST", "/v1/operations/7f3a/signals/ok").body(Body::from("{")).unwrap()).await,
        400,
        Code::NotJson,
    );
}

fn signal(body: Value) -> Command {
    Command::Signal { name: "ok".into(), body }
}

fn commanded(command: &Command) -> String {
    serde_json::to_value(command).unwrap()["command"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_record_of_a_command_is_for_the_lane_of_its_operation() {
    let mut world = World::new();
    shown(&mut world, &[begun("7f3a", 1)]);
    let asked = request("POST", "/v1/operations/7f3a/signals/ok").body(Body::from("{}")).unwrap();
    let mut response = std::pin::pin!(tower::ServiceExt::oneshot(northbound::router(world.state.clone()), asked));
    tokio::select! {
        biased;
        _ = &mut response => panic!("nobody answers"),
        () = tokio::task::yield_now() => {}
    }
    world.inlet.turn(Duration::ZERO).unwrap();
    let [record] = &world.came()[..] else { panic!("one command") };
    assert_eq!(record.partition, wire::routing::lane_of(b"test-01", crate::world::LANES));
    assert_eq!(serde_json::from_slice::<Command>(&record.value).unwrap(), signal(json!({})));
}

#[tokio::test]
async fn an_operation_that_is_not_known_here_takes_commands_from_who_knows_its_key() {
    let mut world = World::new();
    for path in ["/v1/operations/old", "/v1/operations/old?key=test-01", "/v1/operations/old?topology=flows"] {
        let told = world.stopped(bare("DELETE", path)).await;
        assert_problem(&told, 404, Code::UnknownOperation);
        assert!(told.body["hint"].is_string());
    }
    let outcome = Outcome::Taken(Box::new(running(&id("old"), 2)));
    let asked = bare("DELETE", "/v1/operations/old?key=test-01&topology=flows&workflow=trip");
    assert_eq!(world.send(asked, |request| vec![told(&request, &outcome)]).await.status, 202);
    let asked = bare("DELETE", "/v1/operations/elder?key=k&topology=trips");
    assert_problem(&world.stopped(asked).await, 404, Code::UnknownTopology);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_no_hub_answers_is_503_in_time() {
    let mut world = World::new();
    shown(&mut world, &[begun("7f3a", 1)]);
    let begun = tokio::time::Instant::now();
    let told = world.send(bare("DELETE", "/v1/operations/7f3a"), |_| Vec::new()).await;
    assert_problem(&told, 503, Code::NotReady);
    assert_eq!((begun.elapsed().as_secs(), world.gateway.unanswered()), (10, 0));
    assert_eq!(told.body["instance"], "/v1/operations/7f3a");
}

#[tokio::test]
async fn an_answer_without_an_outcome_is_no_answer() {
    let mut world = World::new();
    let answer = |_: &OperationId| Answer::Done(json!({"removed": "all"}));
    let told = world.answered(bare("DELETE", "/v1/flows/test-01"), answer).await;
    assert_problem(&told, 500, Code::Parked);
}
