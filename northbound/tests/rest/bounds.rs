//! What bounds a client: time, room, and the size of everything.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use northbound::{Limits, router, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::yield_now;
use tower::ServiceExt;
use wire::Code;

use crate::support::up;
use crate::world::{GOOD, World, assert_problem, flow, get, post, request};

/// Of virtual time: the clock is paused, and jumps where nothing else is to do.
async fn a_second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn who_sends_headers_slowly_is_cut_off_in_time() {
    let world = World::new();
    let (mut client, stream) = duplex(1_024);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let limits = Limits::default();
    let begun = tokio::time::Instant::now();
    let served = server::connection(stream, router(world.state.clone()), &limits, stopped);
    let slow = async {
        // A byte a second, as slowloris does.
        for byte in b"GET /healthz HTTP/1.1\r\nhost: slow.example\r\n" {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            a_second().await;
        }
    };
    tokio::select! {
        () = served => {}
        () = slow => panic!("it was heard to its end"),
    }
    assert_eq!(begun.elapsed().as_secs(), limits.header_time.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_more_comes_is_closed() {
    let world = World::new();
    let (mut client, stream) = duplex(4_096);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let limits = Limits::default();
    let served = server::connection(stream, router(world.state.clone()), &limits, stopped);
    let idle = async {
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: n\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert!(said.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&said));
    };
    tokio::join!(served, idle);
}

/// Returns everything that a connection answers to these bytes.
async fn answer_to(bytes: &[u8], limits: &Limits) -> String {
    let world = World::new();
    let (client, stream) = duplex(16 * 1_024);
    let (mut answers, mut requests) = tokio::io::split(client);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let served = server::connection(stream, router(world.state.clone()), limits, stopped);
    // The server may close the connection before it has read everything.
    let asked = async { requests.write_all(bytes).await.is_ok() };
    let answered = async {
        let mut said = Vec::new();
        answers.read_to_end(&mut said).await.expect("the server answers and closes");
        String::from_utf8(said).expect("text")
    };
    tokio::join!(served, asked, answered).2
}

#[tokio::test(start_paused = true)]
async fn the_parser_refuses_with_a_problem_body() {
    let limits = Limits { header_bytes: 256 * 1_024, ..Limits::default() };
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: n\r\n\r\n", "x".repeat(65_600));
    let many_headers = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(300));
    let long_header = format!("GET /healthz HTTP/1.1\r\nx-a: {}\r\n\r\n", "b".repeat(300 * 1_024));
    for (bytes, status, code, detail) in [
        ("NOT HTTP AT ALL\r\n\r\n", 400, Code::BadRequest, "the request line or a header is not HTTP/1.1"),
        (&long_path, 414, Code::UriTooLong, "at most 65534 bytes"),
        (&many_headers, 431, Code::HeadersTooLarge, "at most 256 headers"),
        (&long_header, 431, Code::HeadersTooLarge, "at most 262144 bytes"),
    ] {
        let answer = answer_to(bytes.as_bytes(), &limits).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(head.contains("content-type: application/problem+json"), "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&status.into(), &code.as_str().into()));
        assert!(body["detail"].as_str().unwrap().contains(detail), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_body_slowly_is_told_so_in_time() {
    let mut world = World::new();
    let begun = tokio::time::Instant::now();
    let drops = stream::unfold((), |()| async {
        a_second().await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    });
    let told = world.stopped(post().body(Body::from_stream(drops)).unwrap()).await;
    assert_problem(&told, 408, Code::TooSlow);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_body_is_bounded_whatever_its_headers_say() {
    let mut world = World::new();
    world.state = world.state.with_limits(Limits { body_bytes: 100, ..Limits::default() });
    assert_eq!(world.create(|operation| up(operation, false)).await.status, 201);
    let long = format!("{GOOD}{}", " ".repeat(100));
    let told = world.stopped(flow(&long)).await;
    assert_problem(&told, 413, Code::TooLarge);
    assert_eq!(told.body["detail"], "the body is longer than the limit of 100 bytes");
    let endless = stream::unfold((), |()| async { Some((Ok::<_, Infallible>(Bytes::from_static(b"    ")), ())) });
    assert_problem(&world.stopped(post().body(Body::from_stream(endless)).unwrap()).await, 413, Code::TooLarge);
}

#[tokio::test]
async fn headers_are_bounded_by_number_and_by_size() {
    let mut world = World::new();
    let many = (0..65).fold(request("GET", "/v1/flows"), |asked, n| asked.header(format!("x-{n}"), "y"));
    let long = request("GET", "/v1/flows").header("x-long", "y".repeat(17_000));
    for asked in [many, long] {
        assert_problem(&world.stopped(asked.body(Body::empty()).unwrap()).await, 431, Code::HeadersTooLarge);
    }
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_back_and_health_is_answered_all_the_same() {
    let mut world = World::new();
    world.state = world.state.with_limits(Limits { requests: 2, ..Limits::default() });
    let mut open: Vec<_> = (0..2).map(|_| Box::pin(router(world.state.clone()).oneshot(flow(GOOD)))).collect();
    for response in &mut open {
        tokio::select! {
            biased;
            _ = response => panic!("nobody answers"),
            () = yield_now() => {}
        }
    }
    bus::Part::turn(&mut *world.inlet, Duration::ZERO).unwrap();
    assert_eq!(world.came().len(), 2);
    for _ in 0..100 {
        assert_problem(&world.stopped(get("/v1/flows")).await, 503, Code::Overloaded);
    }
    assert_eq!(world.stopped(get("/healthz")).await.status, 200);
    drop(open);
    assert_eq!(world.stopped(get("/v1/flows")).await.status, 200, "there is room again");
}

#[tokio::test]
async fn a_correlation_id_comes_back_travels_on_and_is_made_where_there_is_none() {
    let mut world = World::new();
    let asked = post().header("X-Correlation-ID", "order-7").body(Body::from(GOOD)).unwrap();
    let mut response = std::pin::pin!(router(world.state.clone()).oneshot(asked));
    tokio::select! {
        biased;
        _ = &mut response => panic!("nobody answers"),
        () = yield_now() => {}
    }
    bus::Part::turn(&mut *world.inlet, Duration::ZERO).unwrap();
    let [record] = &world.came()[..] else { panic!("one request") };
    assert_eq!(record.headers.get("ce_correlationid"), Some(&b"order-7"[..]));

    let given = request("GET", "/nothing").header("X-Correlation-ID", "order-8").body(Body::empty()).unwrap();
    assert_eq!(world.stopped(given).await.headers["x-correlation-id"], "order-8");
    let [made, other] = [world.stopped(get("/healthz")).await, world.stopped(get("/healthz")).await]
        .map(|told| told.headers["x-correlation-id"].clone());
    assert!(made != other && made.len() == 36);
    let long = "x".repeat(129);
    for bad in ["", "two words", "k\u{e9}y", &long] {
        let asked = request("GET", "/v1/flows").header("X-Correlation-ID", bad.as_bytes());
        let told = world.stopped(asked.body(Body::empty()).unwrap()).await;
        assert_problem(&told, 422, Code::InvalidField);
        assert_eq!(told.headers["x-correlation-id"].len(), 36);
    }
}
