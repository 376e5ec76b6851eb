//! A northbound with a token, and clients without it.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use northbound::{Access, Limits, router, serve};
use wire::Code;

use crate::harness::{Harness, assert_problem, bare, get, request};

const TOKEN: &str = "k3Jq-9sdf-Xw2m-77Tz";

fn guarded() -> Harness {
    let mut harness = Harness::new();
    harness.state.access = Access::with_token(TOKEN).unwrap();
    harness
}

const PATHS: &[(&str, &str)] = &[
    ("GET", "/"),
    ("POST", "/flow"),
    ("GET", "/v1/flows"),
    ("POST", "/v1/flows"),
    ("DELETE", "/v1/flows/test-01"),
    ("GET", "/v1/operations"),
    ("GET", "/v1/operations/7f3a"),
    ("GET", "/v1/operations/7f3a/events"),
    ("DELETE", "/v1/operations/7f3a"),
    ("POST", "/v1/operations/7f3a/abort"),
    ("GET", "/v1/topologies"),
    ("DELETE", "/v1/topologies/flows"),
    ("POST", "/v1/topologies/flows/workflows/create-flow/k"),
    ("GET", "/v1/spokes"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("PATCH", "/flow"),
    ("get", "/v1/flows"),
    ("GET", "/healthz/"),
    ("GET", "//healthz"),
    ("GET", "/healthz/../v1/flows"),
    ("GET", "/%68ealthz/..%2fv1/flows"),
    ("GET", "/HEALTHZ"),
    ("GET", "http://127.0.0.1/v1/flows"),
    ("OPTIONS", "*"),
];

#[tokio::test]
async fn without_the_token_only_health_is_answered_and_nothing_is_disclosed() {
    let mut harness = guarded();
    for (method, path) in PATHS {
        let reply = harness.send_local(bare(method, path)).await;
        assert_problem(&reply, 401, &Code::Unauthorized);
        assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"nave\"", "{method} {path}");
        assert!(!reply.body.to_string().contains(TOKEN) && !reply.body.to_string().contains("test-01"));
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(harness.send_local(get(path)).await.status, 200);
        assert_problem(&harness.send_local(bare("POST", path)).await, 405, &Code::WrongMethod);
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_however_often_it_is_tried() {
    let mut harness = guarded();
    let almost = format!("Bearer {}y", &TOKEN[..TOKEN.len() - 1]);
    let longer = format!("Bearer {TOKEN}{TOKEN}");
    let basic = format!("Basic {TOKEN}");
    for value in ["", "Bearer", "Bearer ", TOKEN, "Token x", &almost, &longer, &basic, "Bearer \u{fc}"] {
        let req = request("GET", "/v1/flows").header("authorization", value.as_bytes());
        assert_problem(
            &harness.send_local(req.body(axum::body::Body::empty()).unwrap()).await,
            401,
            &Code::Unauthorized,
        );
    }
    for n in 0..1_000 {
        let req = request("GET", "/v1/flows").header("authorization", format!("Bearer {TOKEN}{n}"));
        assert_eq!(harness.send_local(req.body(axum::body::Body::empty()).unwrap()).await.status, 401);
    }
    // In the query, in another header, twice, or next to another one.
    for req in [
        request("GET", &format!("/v1/flows?access_token={TOKEN}")),
        request("GET", "/v1/flows").header("x-authorization", format!("Bearer {TOKEN}")),
        request("GET", "/v1/flows").header("cookie", format!("token={TOKEN}")),
        request("GET", "/v1/flows")
            .header("authorization", "Bearer x")
            .header("authorization", format!("Bearer {TOKEN}")),
    ] {
        assert_eq!(harness.send_local(req.body(axum::body::Body::empty()).unwrap()).await.status, 401);
    }
    let req = request("GET", "/v1/flows").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(
        harness.send_local(req.body(axum::body::Body::empty()).unwrap()).await.status,
        200,
        "the right token is accepted"
    );
}

/// The status of the first answer to these bytes; 0 if the connection was cut. A cut may lose the
/// answer if not everything was read.
fn first_status(address: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).ok();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
    // Reads until the first answer has begun: after closing its write side, a client may count as
    // gone for the server.
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
    // The server may have cut the connection already.
    stream.shutdown(std::net::Shutdown::Write).ok();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

#[tokio::test]
async fn malformed_http_is_never_answered_with_data() {
    let harness = guarded();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = serve(listener, router(harness.state.clone()), Limits::default(), async { stopped.await.unwrap() });
    let client = tokio::task::spawn_blocking(move || {
        let huge = format!("GET /v1/flows HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {}\r\n\r\n", "x".repeat(20_000));
        let monstrous = huge.replace("xxxx", &"x".repeat(64));
        let many = format!("GET /v1/flows HTTP/1.1\r\nhost: n\r\n{}\r\n", "a: b\r\n".repeat(1_000));
        let smuggled = "POST /healthz HTTP/1.1\r\nhost: n\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                        0\r\n\r\nGET /v1/flows HTTP/1.1\r\nhost: n\r\n\r\n";
        for (bytes, allowed) in [
            ("GET /v1/flows HTTP/1.0\r\n\r\n", &[401][..]),
            ("GET http://n/v1/flows HTTP/1.1\r\nhost: n\r\n\r\n", &[401]),
            ("GET //healthz/../v1/flows HTTP/1.1\r\nhost: n\r\n\r\n", &[401]),
            ("get /v1/flows HTTP/1.1\r\nhost: n\r\n\r\n", &[401]),
            ("GET /v1/flows HTTP/1.1\r\nhost: n\r\nauthorization:\r\n\r\n", &[401]),
            ("GET /v1/flows HTTP/1.1\r\nhost: n\r\n authorization: x\r\n\r\n", &[400, 401]),
            ("GET /v1/flows\r\n\r\n", &[400]),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400, 505]),
            ("\0\u{1}\u{16}\u{3}nothing at all\r\n\r\n", &[0, 400]),
            (&huge, &[0, 401, 431]),
            (&monstrous, &[0, 431]),
            (&many, &[0, 400, 431]),
            (smuggled, &[0, 400, 405]),
        ] {
            let (status, answer) = first_status(address, bytes.as_bytes());
            let shown: String = bytes.chars().take(60).collect();
            assert!(allowed.contains(&status), "{shown:?} -> {answer}");
            assert!(!answer.contains("200 OK") && !answer.contains(TOKEN), "{shown:?} -> {answer}");
        }
        let good = format!("GET /v1/flows HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        assert_eq!(first_status(address, good.as_bytes()).0, 200, "the server still works and accepts the token");
        stop.send(()).unwrap();
    });
    let (served, client) = tokio::join!(served, client);
    served.unwrap();
    client.unwrap();
}
