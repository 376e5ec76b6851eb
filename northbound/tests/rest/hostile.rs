//! A northbound with a token, and clients that do not have it.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use northbound::{Access, Limits, router, serve};
use wire::Code;

use crate::world::{World, assert_problem, bare, get, request};

const TOKEN: &str = "k3Jq-9sdf-Xw2m-77Tz";

fn guarded() -> World {
    let mut world = World::new();
    world.state.access = Access::with_token(TOKEN).unwrap();
    world
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
async fn without_the_token_nothing_but_health_is_answered_and_nothing_is_told() {
    let mut world = guarded();
    for (method, path) in PATHS {
        let told = world.stopped(bare(method, path)).await;
        assert_problem(&told, 401, Code::Unauthorized);
        assert_eq!(told.headers["www-authenticate"], "Bearer realm=\"nave\"", "{method} {path}");
        assert!(!told.body.to_string().contains(TOKEN) && !told.body.to_string().contains("test-01"));
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.stopped(get(path)).await.status, 200);
        assert_problem(&world.stopped(bare("POST", path)).await, 405, Code::WrongMethod);
    }
}

#[tokio::test]
async fn a_wrong_token_is_as_good_as_none_however_often_it_is_tried() {
    let mut world = guarded();
    let almost = format!("Bearer {}y", &TOKEN[..TOKEN.len() - 1]);
    let longer = format!("Bearer {TOKEN}{TOKEN}");
    let basic = format!("Basic {TOKEN}");
    for value in ["", "Bearer", "Bearer ", TOKEN, "Token x", &almost, &longer, &basic, "Bearer \u{fc}"] {
        let asked = request("GET", "/v1/flows").header("authorization", value.as_bytes());
        assert_problem(&world.stopped(asked.body(axum::body::Body::empty()).unwrap()).await, 401, Code::Unauthorized);
    }
    for n in 0..1_000 {
        let asked = request("GET", "/v1/flows").header("authorization", format!("Bearer {TOKEN}{n}"));
        assert_eq!(world.stopped(asked.body(axum::body::Body::empty()).unwrap()).await.status, 401);
    }
    // In the query, in another header, twice, or beside another one.
    for asked in [
        request("GET", &format!("/v1/flows?access_token={TOKEN}")),
        request("GET", "/v1/flows").header("x-authorization", format!("Bearer {TOKEN}")),
        request("GET", "/v1/flows").header("cookie", format!("token={TOKEN}")),
        request("GET", "/v1/flows")
            .header("authorization", "Bearer x")
            .header("authorization", format!("Bearer {TOKEN}")),
    ] {
        assert_eq!(world.stopped(asked.body(axum::body::Body::empty()).unwrap()).await.status, 401);
    }
    let asked = request("GET", "/v1/flows").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(world.stopped(asked.body(axum::body::Body::empty()).unwrap()).await.status, 200, "its owner passes");
}

/// The status of the first answer to these bytes; 0 where the connection was cut, which may take the answer with it where
/// more was sent than was read.
fn says(address: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).ok();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut said, mut piece) = (Vec::new(), [0; 4_096]);
    // Until the first answer has begun: a client that has closed its side before may be gone for all that the server knows.
    while !said.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => said.extend_from_slice(&piece[..read]),
        }
    }
    // A server that has enough of a client may have cut the connection already.
    stream.shutdown(std::net::Shutdown::Write).ok();
    stream.read_to_end(&mut said).ok();
    let said = String::from_utf8_lossy(&said).into_owned();
    (said.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), said)
}

#[tokio::test]
async fn bytes_that_are_hardly_http_get_nothing_either() {
    let world = guarded();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = serve(listener, router(world.state.clone()), Limits::default(), async { stopped.await.unwrap() });
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
            let (status, said) = says(address, bytes.as_bytes());
            let shown: String = bytes.chars().take(60).collect();
            assert!(allowed.contains(&status), "{shown:?} -> {said}");
            assert!(!said.contains("200 OK") && !said.contains(TOKEN), "{shown:?} -> {said}");
        }
        let good = format!("GET /v1/flows HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        assert_eq!(says(address, good.as_bytes()).0, 200, "it lives, and its owner passes");
        stop.send(()).unwrap();
    });
    let (served, client) = tokio::join!(served, client);
    served.unwrap();
    client.unwrap();
}
