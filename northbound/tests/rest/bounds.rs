//! Limits of a client: time, concurrency and sizes.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use northbound::{Limits, router, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tower::ServiceExt;
use wire::Code;

use crate::harness::{GOOD, Harness, assert_problem, flow, get, poll_pending, post, request};
use crate::support::up;

/// In virtual time: the paused clock jumps when all tasks are idle.
async fn a_second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_headers_slowly_is_disconnected() {
    let harness = Harness::new();
    let (mut client, stream) = duplex(1_024);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let limits = Limits::default();
    let begun = tokio::time::Instant::now();
    let served = server::connection(stream, router(harness.state.clone()), &limits, stopped);
    let slow = async {
        // One byte per second, like slowloris.
        for byte in b"GET /healthz HTTP/1.1\r\nhost: slow.example\r\n" {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            a_second().await;
        }
    };
    tokio::select! {
        () = served => {}
        () = slow => panic!("the connection was not cut"),
    }
    assert_eq!(begun.elapsed().as_secs(), limits.header_time.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let harness = Harness::new();
    let (mut client, stream) = duplex(4_096);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let limits = Limits::default();
    let served = server::connection(stream, router(harness.state.clone()), &limits, stopped);
    let idle = async {
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: n\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&bytes));
    };
    tokio::join!(served, idle);
}

/// Everything that a connection answers to these bytes.
async fn answer_to(bytes: &[u8], limits: &Limits) -> String {
    let harness = Harness::new();
    let (client, stream) = duplex(16 * 1_024);
    let (mut answers, mut requests) = tokio::io::split(client);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let served = server::connection(stream, router(harness.state.clone()), limits, stopped);
    // The server may close the connection before it has read everything.
    let req = async { requests.write_all(bytes).await.is_ok() };
    let answered = async {
        let mut bytes = Vec::new();
        answers.read_to_end(&mut bytes).await.expect("the server answers and closes");
        String::from_utf8(bytes).expect("text")
    };
    tokio::join!(served, req, answered).2
}

#[tokio::test(start_paused = true)]
async fn the_parser_refuses_with_a_problem_body() {
    let limits = Limits { header_bytes: 256 * 1_024, ..Limits::default() };
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: n\r\n\r\n", "x".repeat(65_600));
    let many_headers = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(300));
    let long_header = format!("GET /healthz HTTP/1.1\r\nx-a: {}\r\n\r\n", "b".repeat(300 * 1_024));
    for (bytes, status, code, detail) in [
        ("NOT HTTP AT ALL\r\n\r\n", 400, Code::BadRequest, "the request line or a header is not valid HTTP/1.1"),
        (&long_path, 414, Code::UriTooLong, "the limit is 65534 bytes"),
        (&many_headers, 431, Code::HeadersTooLarge, "the limits are 256 headers"),
        (&long_header, 431, Code::HeadersTooLarge, "262144 bytes with"),
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
async fn a_client_that_sends_a_body_slowly_gets_a_408() {
    let mut harness = Harness::new();
    let begun = tokio::time::Instant::now();
    let drops = stream::unfold((), |()| async {
        a_second().await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    });
    let reply = harness.send_local(post().body(Body::from_stream(drops)).unwrap()).await;
    assert_problem(&reply, 408, &Code::TooSlow);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_body_is_limited_whatever_its_headers_say() {
    let mut harness = Harness::new();
    harness.state = harness.state.with_limits(Limits { body_bytes: 100, ..Limits::default() });
    assert_eq!(harness.create(|operation| up(operation, false)).await.status, 201);
    let long = format!("{GOOD}{}", " ".repeat(100));
    let reply = harness.send_local(flow(&long)).await;
    assert_problem(&reply, 413, &Code::TooLarge);
    assert_eq!(reply.body["detail"], "the body is longer than the limit of 100 bytes");
    let endless = stream::unfold((), |()| async { Some((Ok::<_, Infallible>(Bytes::from_static(b"    ")), ())) });
    assert_problem(&harness.send_local(post().body(Body::from_stream(endless)).unwrap()).await, 413, &Code::TooLarge);
}

#[tokio::test]
async fn headers_are_limited_by_number_and_by_size() {
    let mut harness = Harness::new();
    let many = (0..65).fold(request("GET", "/v1/flows"), |req, n| req.header(format!("x-{n}"), "y"));
    let long = request("GET", "/v1/flows").header("x-long", "y".repeat(17_000));
    for req in [many, long] {
        assert_problem(&harness.send_local(req.body(Body::empty()).unwrap()).await, 431, &Code::HeadersTooLarge);
    }
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_but_health_is_answered() {
    let mut harness = Harness::new();
    harness.state = harness.state.with_limits(Limits { requests: 2, ..Limits::default() });
    let mut open: Vec<_> = (0..2).map(|_| Box::pin(router(harness.state.clone()).oneshot(flow(GOOD)))).collect();
    for response in &mut open {
        poll_pending(response).await;
    }
    bus::Task::poll(&mut *harness.inlet, Duration::ZERO).unwrap();
    assert_eq!(harness.new_requests().len(), 2);
    for _ in 0..100 {
        assert_problem(&harness.send_local(get("/v1/flows")).await, 503, &Code::Overloaded);
    }
    assert_eq!(harness.send_local(get("/healthz")).await.status, 200);
    drop(open);
    assert_eq!(harness.send_local(get("/v1/flows")).await.status, 200, "there are free places again");
}

#[tokio::test]
async fn a_correlation_id_is_returned_and_passed_on_or_generated() {
    let mut harness = Harness::new();
    let req = post().header("X-Correlation-ID", "order-7").body(Body::from(GOOD)).unwrap();
    let mut response = std::pin::pin!(router(harness.state.clone()).oneshot(req));
    poll_pending(&mut response).await;
    bus::Task::poll(&mut *harness.inlet, Duration::ZERO).unwrap();
    let [record] = &harness.new_requests()[..] else { panic!("one request") };
    assert_eq!(record.headers.get("ce_correlationid"), Some(&b"order-7"[..]));

    let given = request("GET", "/nothing").header("X-Correlation-ID", "order-8").body(Body::empty()).unwrap();
    assert_eq!(harness.send_local(given).await.headers["x-correlation-id"], "order-8");
    let [made, other] = [harness.send_local(get("/healthz")).await, harness.send_local(get("/healthz")).await]
        .map(|reply| reply.headers["x-correlation-id"].clone());
    assert!(made != other && made.len() == 36);
    let long = "x".repeat(129);
    for bad in ["", "two words", "k\u{e9}y", &long] {
        let req = request("GET", "/v1/flows").header("X-Correlation-ID", bad.as_bytes());
        let reply = harness.send_local(req.body(Body::empty()).unwrap()).await;
        assert_problem(&reply, 422, &Code::InvalidField);
        assert_eq!(reply.headers["x-correlation-id"].len(), 36);
    }
}
