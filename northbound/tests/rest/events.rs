//! Server-sent events: the newest wins, the answer is the last, and nothing is made for operations nobody watches.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use bus::Part;
use futures_util::StreamExt;
use northbound::router;
use serde_json::Value;
use tokio::task::yield_now;
use tower::ServiceExt;
use wire::{Code, Kind, OperationId};

use crate::support::{about, ended, running, up};
use crate::world::{World, assert_problem, bare, get, request};

const PATH: &str = "/v1/operations/7f3a/events";

fn id() -> OperationId {
    OperationId::new("7f3a").unwrap()
}

struct Said {
    event: String,
    id: String,
    data: Value,
}

fn parse(bytes: &Bytes) -> Said {
    let text = std::str::from_utf8(bytes).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().to_owned()
    };
    Said { event: field("event:"), id: field("id:"), data: serde_json::from_str(&field("data:")).unwrap() }
}

type Events = std::pin::Pin<Box<dyn futures_util::Stream<Item = Bytes> + Send>>;

async fn watch(world: &World, asked: Request<Body>) -> Events {
    let response = router(world.state.clone()).oneshot(asked).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Box::pin(response.into_body().into_data_stream().map(Result::unwrap))
}

/// True where nothing is there to be read.
async fn is_quiet(events: &mut Events) -> bool {
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = events.next() => return false,
            () = yield_now() => {}
        }
    }
    true
}

fn view(world: &mut World, happened: u32) {
    world.write(&[about(Kind::View, &running(&id(), happened), "x")]);
    world.outlet.turn(Duration::ZERO).unwrap();
}

fn answer(world: &mut World) {
    world.write(&[about(Kind::Answer, &ended(&id(), up(&id(), false)), "x")]);
    world.outlet.turn(Duration::ZERO).unwrap();
}

#[tokio::test]
async fn progress_comes_as_it_happens_then_the_answer_then_the_end() {
    let mut world = World::new();
    view(&mut world, 1);
    let mut events = watch(&world, get(PATH)).await;
    let first = parse(&events.next().await.unwrap());
    assert_eq!((first.event.as_str(), &first.data["state"]), ("progress", &Value::from("installing")));
    assert!(first.id.starts_with("1-"), "{}", first.id);
    assert!(is_quiet(&mut events).await, "nothing happened");
    view(&mut world, 1);
    assert!(is_quiet(&mut events).await, "the same view again is no news");
    for happened in 2..=50 {
        view(&mut world, happened);
    }
    let newest = parse(&events.next().await.unwrap());
    assert!(newest.id.starts_with("50-"), "the newest wins: {}", newest.id);
    assert!(is_quiet(&mut events).await);
    answer(&mut world);
    let last = parse(&events.next().await.unwrap());
    assert_eq!((last.event.as_str(), &last.data["outcome"]), ("answer", &Value::from("done")));
    assert!(events.next().await.is_none(), "the stream ends");
    assert_eq!(world.gateway.watchers().watching(), 0);
}

#[tokio::test]
async fn who_comes_back_is_sent_what_is_new_and_told_when_there_is_nothing_more() {
    let mut world = World::new();
    view(&mut world, 1);
    let mut events = watch(&world, get(PATH)).await;
    let first = parse(&events.next().await.unwrap());
    drop(events);
    let back = |id: &str| request("GET", PATH).header("Last-Event-ID", id).body(Body::empty()).unwrap();
    let mut events = watch(&world, back(&first.id)).await;
    assert!(is_quiet(&mut events).await, "it has seen that");
    answer(&mut world);
    let last = parse(&events.next().await.unwrap());
    let told = world.stopped(back(&last.id)).await;
    assert_eq!(told.status, 204);
    let mut events = watch(&world, back("of-another-time")).await;
    assert_eq!(parse(&events.next().await.unwrap()).id, last.id);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive() {
    let mut world = World::new();
    view(&mut world, 1);
    let mut events = watch(&world, get(PATH)).await;
    events.next().await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(events.next().await.unwrap().starts_with(b":"), "a comment");
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn watchers_are_bounded_and_an_operation_that_is_not_known_cannot_be_watched() {
    let mut world = World::new();
    assert_problem(&world.stopped(get(PATH)).await, 404, Code::UnknownOperation);
    view(&mut world, 1);
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(watch(&world, get(PATH)).await);
    }
    assert_problem(&world.stopped(get(PATH)).await, 503, Code::Overloaded);
    assert_eq!(world.stopped(get("/v1/operations/7f3a")).await.status, 200);
    open.clear();
    assert_eq!(world.gateway.watchers().watching(), 0);
    drop(watch(&world, bare("GET", PATH)).await);
}

#[tokio::test]
async fn a_view_that_is_deleted_before_its_answer_is_read_does_not_end_the_stream() {
    let mut world = World::new();
    view(&mut world, 1);
    let mut events = watch(&world, get(PATH)).await;
    events.next().await.unwrap();
    let gone = about(Kind::View, &running(&id(), 1), "x");
    world.write(&[bus::Outgoing { value: Bytes::new(), ..gone }]);
    world.outlet.turn(Duration::ZERO).unwrap();
    assert!(is_quiet(&mut events).await, "a deleted view is followed by an answer");
    answer(&mut world);
    assert_eq!(parse(&events.next().await.unwrap()).event, "answer");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_is_lost_ends_its_stream_in_time() {
    let mut world = World::new();
    view(&mut world, 1);
    let mut events = watch(&world, get(PATH)).await;
    events.next().await.unwrap();
    let gone = about(Kind::View, &running(&id(), 1), "x");
    world.write(&[bus::Outgoing { value: Bytes::new(), ..gone }]);
    world.outlet.turn(Duration::ZERO).unwrap();
    let begun = tokio::time::Instant::now();
    assert!(events.next().await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 10);
}
