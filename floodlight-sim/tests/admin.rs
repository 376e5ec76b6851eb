//! The HTTP side, without a socket.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use axum::body::{Body, to_bytes};
use axum::http::Request;
use floodlight_sim::{SpeakerHandle, admin};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Status, content type and body.
async fn ask(speaker: &SpeakerHandle, method: &str, path: &str, body: &str) -> (u16, String, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = admin(speaker.clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, kind, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn faults_are_put_in_listed_and_taken_away() {
    let speaker = SpeakerHandle::new();
    let fault =
        json!({"when": {"switch": "of:08", "command": "install"}, "kind": {"delay_reply": {"ms": 500}}, "times": 2});
    let (status, _, body) = ask(&speaker, "POST", "/faults", &fault.to_string()).await;
    assert_eq!((status, &body), (201, &fault));
    assert_eq!(ask(&speaker, "GET", "/faults", "").await.2, json!([fault]));
    assert_eq!(ask(&speaker, "DELETE", "/faults", "").await.0, 204);
    assert_eq!(ask(&speaker, "GET", "/faults", "").await.2, json!([]));
}

#[tokio::test]
async fn a_switch_without_rules_has_an_empty_table() {
    let speaker = SpeakerHandle::new();
    assert_eq!(ask(&speaker, "GET", "/switches/of:08/rules", "").await.2, json!([]));
    assert_eq!(ask(&speaker, "GET", "/switches", "").await.2, json!([]));
    assert_eq!(ask(&speaker, "GET", "/audit", "").await.2, json!([]));
    assert_eq!(ask(&speaker, "GET", "/audit?after=7", "").await.2, json!([]));
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let speaker = SpeakerHandle::new();
    let large = "x".repeat(70_000);
    for (method, path, body, status, code) in [
        ("GET", "/rules", "", 404, "NAVE-0008"),
        ("POST", "/audit", "", 405, "NAVE-0009"),
        ("GET", "/switches/%ff/rules", "", 400, "NAVE-0011"),
        ("GET", "/audit?since=7", "", 422, "NAVE-0002"),
        ("POST", "/faults", "{", 400, "NAVE-0001"),
        ("POST", "/faults", &large, 413, "NAVE-0010"),
        ("POST", "/faults", r#"{"kind":"noise"}"#, 422, "NAVE-0002"),
        ("POST", "/faults", r#"{"kind":"mute","times":0}"#, 422, "NAVE-0002"),
    ] {
        let (found, kind, problem) = ask(&speaker, method, path, body).await;
        assert_eq!((found, kind.as_str()), (status, "application/problem+json"), "{method} {path}");
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{method} {path}");
    }
}
