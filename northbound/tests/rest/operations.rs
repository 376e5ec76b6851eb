//! Operations and flows: paged lists and commands.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use axum::body::Body;
use bus::{Outgoing, Task};
use flow_messages::codes;
use serde_json::{Value, json};
use std::time::Duration;
use wire::answer::{Answer, HistoryEntry, Operation, Resource};
use wire::command::{Command, Outcome};
use wire::{Code, Envelope, Kind, OperationId, Problem, WallTime};

use crate::harness::{Harness, assert_problem, bare, get, poll_pending, request};
use crate::support::{EGRESS, VIEW, about, ended, running, up};

fn id(name: &str) -> OperationId {
    OperationId::new(name).unwrap()
}

fn begun(name: &str, at: u64) -> Operation {
    let line = HistoryEntry { seq: 1, at: WallTime(at), what: "requested".into() };
    Operation { history: vec![line], ..running(&id(name), 1) }
}

fn shown(harness: &mut Harness, operations: &[Operation]) {
    for operation in operations {
        let kind = if operation.answer.is_some() { Kind::Answer } else { Kind::View };
        harness.write(&[about(kind, operation, "x")]);
    }
    harness.outlet.poll(Duration::ZERO).unwrap();
}

fn ids(body: &Value) -> Vec<&str> {
    body["operations"].as_array().unwrap().iter().map(|line| line["operation"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn operations_are_listed_newest_first_filtered_and_in_pages() {
    let mut harness = Harness::new();
    let parked = Operation { state: "parked".into(), workflow: "trip".into(), ..begun("b", 2) };
    let over = Operation { live: false, answer: Some(up(&id("c"), false)), key: "k 1&2".into(), ..begun("c", 3) };
    shown(&mut harness, &[begun("a", 1), parked, over, begun("d", 4)]);
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
        let reply = harness.send_local(get(&format!("/v1/operations{query}"))).await;
        assert_eq!((reply.status, ids(&reply.body)), (200, expected.to_vec()), "{query}");
    }
    let (mut seen, mut next) = (Vec::new(), Some("/v1/operations?limit=1&topology=flows".to_owned()));
    while let Some(path) = next {
        let reply = harness.send_local(get(&path)).await;
        seen.extend(ids(&reply.body).into_iter().map(str::to_owned));
        next = reply.body["next"].as_str().map(str::to_owned);
        shown(&mut harness, &[begun(&format!("new-{}", seen.len()), 9)]);
    }
    assert_eq!(seen, ["d", "c", "b", "a"], "new operations do not shift the pages");
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
        let reply = harness.send_local(get(&format!("/v1/operations?{query}"))).await;
        assert_problem(&reply, 422, &Code::InvalidField);
        assert_eq!(reply.body["field"], field, "{query}");
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
async fn flows_are_listed_by_name_in_pages_until_they_are_removed() {
    let mut harness = Harness::new();
    harness.write(&[resource("c", Some("up")), resource("a", Some("degraded")), resource("b", Some("up"))]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    let names = |body: &Value| -> Vec<String> {
        body["flows"].as_array().unwrap().iter().map(|flow| flow["flowid"].as_str().unwrap().to_owned()).collect()
    };
    let reply = harness.send_local(get("/v1/flows?limit=2")).await;
    assert_eq!((names(&reply.body), &reply.body["complete"]), (vec!["a".into(), "b".into()], &json!(true)));
    let reply = harness.send_local(get(reply.body["next"].as_str().unwrap())).await;
    assert_eq!((names(&reply.body), &reply.body["next"]), (vec!["c".into()], &json!(null)));
    assert_eq!(harness.send_local(get("/v1/flows/a")).await.body["state"], "degraded");
    harness.write(&[resource("a", None)]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert_problem(&harness.send_local(get("/v1/flows/a")).await, 404, &codes::UNKNOWN_FLOW);
    assert_eq!(names(&harness.send_local(get("/v1/flows")).await.body), ["b", "c"]);
    assert_problem(&harness.send_local(get("/v1/flows?after=a%20b")).await, 422, &Code::InvalidField);
}

/// The hub's answer to a command.
fn command_answer(request: &Envelope, outcome: &Outcome) -> Outgoing {
    let mut envelope = Envelope::new(Kind::Answer, "reply", "/nave/flows/hub/0");
    envelope.subject = Some("command".into());
    envelope.operation.clone_from(&request.operation);
    envelope.causation = Some(request.id.clone());
    Outgoing::keyed(EGRESS, "7f3a", serde_json::to_vec(outcome).unwrap()).with(&envelope)
}

#[tokio::test]
async fn a_command_reaches_the_operation_and_its_answer_the_client() {
    let mut harness = Harness::new();
    shown(&mut harness, &[begun("7f3a", 1)]);
    let live = Outcome::Taken(Box::new(running(&id("7f3a"), 2)));
    let over = Outcome::Taken(Box::new(ended(&id("7f3a"), up(&id("7f3a"), false))));
    let refused = |code| Outcome::Refused(Problem::new(code, "for a reason"));
    for (method, path, body, command, outcome, status) in [
        ("DELETE", "", "", Command::Cancel, live.clone(), 202),
        ("DELETE", "", "", Command::Cancel, refused(Code::NotNow), 409),
        ("POST", "/resume", "", Command::Resume, live.clone(), 202),
        ("POST", "/abort", "", Command::Abort, over, 200),
        ("POST", "/signals/ok", r#"{"by": "ann"}"#, signal(json!({"by": "ann"})), live.clone(), 202),
        ("POST", "/signals/ok", "", signal(json!(null)), refused(Code::InvalidField), 422),
        ("POST", "/signals/ok", "7", signal(json!(7)), refused(Code::UnknownOperation), 404),
    ] {
        let req = request(method, &format!("/v1/operations/7f3a{path}")).body(Body::from(body)).unwrap();
        let mut commands = Vec::new();
        let answer = harness.send(req, |request| {
            commands.push(request.clone());
            vec![command_answer(&request, &outcome)]
        });
        let answer = answer.await;
        assert_eq!(answer.status, status, "{path} {}", answer.body);
        let [received] = &commands[..] else { panic!("one command") };
        assert_eq!(
            (received.kind, received.operation.as_ref(), received.subject.as_deref()),
            (Kind::Command, Some(&id("7f3a")), Some("test-01"))
        );
        assert_eq!(command.as_str(), commanded(&command), "{path}");
        assert_eq!(harness.gateway.unanswered(), 0);
    }
    assert_problem(
        &harness.send_local(request("POST", "/v1/operations/7f3a/signals/ok").body(Body::from("{")).unwrap()).await,
        400,
        &Code::NotJson,
    );
}

fn signal(body: Value) -> Command {
    Command::Signal { name: "ok".into(), body }
}

fn commanded(command: &Command) -> String {
    serde_json::to_value(command).unwrap()["command"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_command_goes_to_the_lane_of_its_operation() {
    let mut harness = Harness::new();
    shown(&mut harness, &[begun("7f3a", 1)]);
    let req = request("POST", "/v1/operations/7f3a/signals/ok").body(Body::from("{}")).unwrap();
    let mut response = std::pin::pin!(tower::ServiceExt::oneshot(northbound::router(harness.state.clone()), req));
    poll_pending(&mut response).await;
    harness.inlet.poll(Duration::ZERO).unwrap();
    let [record] = &harness.new_requests()[..] else { panic!("one command") };
    assert_eq!(record.partition, wire::routing::lane_of(b"test-01", crate::harness::LANES));
    assert_eq!(serde_json::from_slice::<Command>(&record.value).unwrap(), signal(json!({})));
}

#[tokio::test]
async fn an_uncached_operation_accepts_commands_with_its_key_and_topology() {
    let mut harness = Harness::new();
    for path in ["/v1/operations/old", "/v1/operations/old?key=test-01", "/v1/operations/old?topology=flows"] {
        let reply = harness.send_local(bare("DELETE", path)).await;
        assert_problem(&reply, 404, &Code::UnknownOperation);
        assert!(reply.body["hint"].is_string());
    }
    let outcome = Outcome::Taken(Box::new(running(&id("old"), 2)));
    let req = bare("DELETE", "/v1/operations/old?key=test-01&topology=flows&workflow=trip");
    assert_eq!(harness.send(req, |request| vec![command_answer(&request, &outcome)]).await.status, 202);
    let req = bare("DELETE", "/v1/operations/elder?key=k&topology=trips");
    assert_problem(&harness.send_local(req).await, 404, &Code::UnknownTopology);
}

#[tokio::test(start_paused = true)]
async fn a_command_without_an_answer_is_a_503_after_ten_seconds() {
    let mut harness = Harness::new();
    shown(&mut harness, &[begun("7f3a", 1)]);
    let begun = tokio::time::Instant::now();
    let reply = harness.send(bare("DELETE", "/v1/operations/7f3a"), |_| Vec::new()).await;
    assert_problem(&reply, 503, &Code::NotReady);
    assert_eq!((begun.elapsed().as_secs(), harness.gateway.unanswered()), (10, 0));
    assert_eq!(reply.body["instance"], "/v1/operations/7f3a");
}

#[tokio::test]
async fn an_answer_with_an_unexpected_body_is_a_500() {
    let mut harness = Harness::new();
    let answer = |_: &OperationId| Answer::Done(json!({"removed": "all"}));
    let reply = harness.send_answered(bare("DELETE", "/v1/flows/test-01"), answer).await;
    assert_problem(&reply, 500, &Code::Parked);
}
