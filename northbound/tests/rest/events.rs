//! Server-sent events: only the newest view is sent, and the answer is the last event.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use bus::Task;
use futures_util::StreamExt;
use northbound::router;
use serde_json::Value;
use tower::ServiceExt;
use wire::{Code, Kind, OperationId};

use crate::harness::{Harness, assert_problem, bare, get, request};
use crate::support::{about, ended, running, up};

const PATH: &str = "/v1/operations/7f3a/events";

fn id() -> OperationId {
    OperationId::new("7f3a").unwrap()
}

struct SseEvent {
    event: String,
    id: String,
    data: Value,
}

fn parse(bytes: &Bytes) -> SseEvent {
    let text = std::str::from_utf8(bytes).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().to_owned()
    };
    SseEvent { event: field("event:"), id: field("id:"), data: serde_json::from_str(&field("data:")).unwrap() }
}

type Events = std::pin::Pin<Box<dyn futures_util::Stream<Item = Bytes> + Send>>;

async fn watch(harness: &Harness, req: Request<Body>) -> Events {
    let response = router(harness.state.clone()).oneshot(req).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Box::pin(response.into_body().into_data_stream().map(Result::unwrap))
}

/// True if there is no event for a second of paused time. Paused time passes only while all tasks
/// are idle.
async fn is_quiet(events: &mut Events) -> bool {
    tokio::time::timeout(Duration::from_secs(1), events.next()).await.is_err()
}

fn view(harness: &mut Harness, happened: u32) {
    harness.write(&[about(Kind::View, &running(&id(), happened), "x")]);
    harness.outlet.poll(Duration::ZERO).unwrap();
}

fn answer(harness: &mut Harness) {
    harness.write(&[about(Kind::Answer, &ended(&id(), up(&id(), false)), "x")]);
    harness.outlet.poll(Duration::ZERO).unwrap();
}

#[tokio::test(start_paused = true)]
async fn progress_is_streamed_then_the_answer_then_the_stream_ends() {
    let mut harness = Harness::new();
    view(&mut harness, 1);
    let mut events = watch(&harness, get(PATH)).await;
    let first = parse(&events.next().await.unwrap());
    assert_eq!((first.event.as_str(), &first.data["state"]), ("progress", &Value::from("installing")));
    assert!(first.id.starts_with("1-"), "{}", first.id);
    assert!(is_quiet(&mut events).await, "no change");
    view(&mut harness, 1);
    assert!(is_quiet(&mut events).await, "a repeated view is not an event");
    for happened in 2..=50 {
        view(&mut harness, happened);
    }
    let newest = parse(&events.next().await.unwrap());
    assert!(newest.id.starts_with("50-"), "only the newest view is sent: {}", newest.id);
    assert!(is_quiet(&mut events).await);
    answer(&mut harness);
    let last = parse(&events.next().await.unwrap());
    assert_eq!((last.event.as_str(), &last.data["outcome"]), ("answer", &Value::from("done")));
    assert!(events.next().await.is_none(), "the stream ends");
    assert_eq!(harness.gateway.watchers().watching(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reconnecting_client_gets_only_new_events_or_a_204() {
    let mut harness = Harness::new();
    view(&mut harness, 1);
    let mut events = watch(&harness, get(PATH)).await;
    let first = parse(&events.next().await.unwrap());
    drop(events);
    let back = |id: &str| request("GET", PATH).header("Last-Event-ID", id).body(Body::empty()).unwrap();
    let mut events = watch(&harness, back(&first.id)).await;
    assert!(is_quiet(&mut events).await, "it has this event already");
    answer(&mut harness);
    let last = parse(&events.next().await.unwrap());
    let reply = harness.send_local(back(&last.id)).await;
    assert_eq!(reply.status, 204);
    let mut events = watch(&harness, back("of-another-time")).await;
    assert_eq!(parse(&events.next().await.unwrap()).id, last.id);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive() {
    let mut harness = Harness::new();
    view(&mut harness, 1);
    let mut events = watch(&harness, get(PATH)).await;
    events.next().await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(events.next().await.unwrap().starts_with(b":"), "a comment");
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn watchers_are_limited_and_an_unknown_operation_cannot_be_watched() {
    let mut harness = Harness::new();
    assert_problem(&harness.send_local(get(PATH)).await, 404, &Code::UnknownOperation);
    view(&mut harness, 1);
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(watch(&harness, get(PATH)).await);
    }
    assert_problem(&harness.send_local(get(PATH)).await, 503, &Code::Overloaded);
    assert_eq!(harness.send_local(get("/v1/operations/7f3a")).await.status, 200);
    open.clear();
    assert_eq!(harness.gateway.watchers().watching(), 0);
    drop(watch(&harness, bare("GET", PATH)).await);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_view_without_an_answer_yet_does_not_end_the_stream() {
    let mut harness = Harness::new();
    view(&mut harness, 1);
    let mut events = watch(&harness, get(PATH)).await;
    events.next().await.unwrap();
    let gone = about(Kind::View, &running(&id(), 1), "x");
    harness.write(&[bus::Outgoing { value: Bytes::new(), ..gone }]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    assert!(is_quiet(&mut events).await, "an answer may follow a deleted view");
    answer(&mut harness);
    assert_eq!(parse(&events.next().await.unwrap()).event, "answer");
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_lost_operation_ends_after_ten_seconds() {
    let mut harness = Harness::new();
    view(&mut harness, 1);
    let mut events = watch(&harness, get(PATH)).await;
    events.next().await.unwrap();
    let gone = about(Kind::View, &running(&id(), 1), "x");
    harness.write(&[bus::Outgoing { value: Bytes::new(), ..gone }]);
    harness.outlet.poll(Duration::ZERO).unwrap();
    let begun = tokio::time::Instant::now();
    assert!(events.next().await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 10);
}
