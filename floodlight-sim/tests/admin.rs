//! The HTTP interface, without a socket.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use bus::{Bus as _, Task as _};
use floodlight_sim::{SpeakerHandle, admin};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Sends a request. Returns status, content type and body.
async fn send(speaker: &SpeakerHandle, method: &str, path: &str, body: &str) -> (u16, String, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = admin(speaker.clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, kind, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn faults_are_injected_listed_and_removed() {
    let speaker = SpeakerHandle::new();
    let fault =
        json!({"when": {"switch": "of:08", "command": "install"}, "kind": {"delay_reply": {"ms": 500}}, "times": 2});
    let (status, _, body) = send(&speaker, "POST", "/faults", &fault.to_string()).await;
    assert_eq!((status, &body), (201, &fault));
    let mut listed = fault.clone();
    listed["struck"] = 0.into();
    assert_eq!(send(&speaker, "GET", "/faults", "").await.2, json!({"seed": 0, "faults": [listed], "struck": {}}));
    assert_eq!(send(&speaker, "DELETE", "/faults", "").await.0, 204);
    assert_eq!(send(&speaker, "GET", "/faults", "").await.2["faults"], json!([]));
}

#[tokio::test]
async fn a_batch_of_faults_with_a_seed_is_injected_as_a_whole_or_not_at_all() {
    let speaker = SpeakerHandle::new();
    let by_chance = json!({"when": {"percent": 12.5}, "kind": {"corrupt": {"what": "body"}}});
    let crash = json!({"when": {}, "kind": {"crash": {"after": 3, "answered": true}}, "times": 1});
    let batch = json!({"seed": 42, "faults": [by_chance, crash]});
    assert_eq!(send(&speaker, "POST", "/faults", &batch.to_string()).await.0, 201);
    let listed = send(&speaker, "GET", "/faults", "").await.2;
    assert_eq!((&listed["seed"], &listed["faults"][0]["when"]), (&json!(42), &by_chance["when"]));
    assert_eq!(listed["faults"][1]["kind"], crash["kind"]);

    let wrong = json!({"seed": 1, "faults": [by_chance, {"kind": "lie", "times": 0}]});
    let (status, _, problem) = send(&speaker, "POST", "/faults", &wrong.to_string()).await;
    assert_eq!((status, &problem["field"]), (422, &json!("times")));
    assert_eq!(send(&speaker, "GET", "/faults", "").await.2, listed);
}

#[tokio::test]
async fn hits_are_counted_by_fault_and_by_kind() {
    let speaker = SpeakerHandle::new();
    let bus = bus::Embedded::open(Arc::new(bus::ManualClock::default()), bus::EmbeddedOptions::default());
    let names = wire::topics::Topics::default();
    let topic = names.spoke("speaker");
    bus.ensure_topic(&bus::TopicSpec::log(&topic, 1)).unwrap();
    let mut task = speaker.join(&bus, &names, "speaker", "speaker-0").unwrap();
    for kind in [r#"{"kind":"silence","times":1}"#, r#"{"kind":"mute"}"#] {
        assert_eq!(send(&speaker, "POST", "/faults", kind).await.0, 201);
    }
    let mut envelope = wire::Envelope::new(wire::Kind::Call, "7f3a/1/1/speaker/1", "/test");
    envelope.call = "7f3a/1/1".parse().ok();
    let read = bus::Outgoing::keyed(&topic, "of:01", r#"{"command":"read","switch":"of:01","cookie":17}"#);
    bus.writer("test").unwrap().append(&vec![read.with(&envelope); 3]).unwrap();
    while task.poll(std::time::Duration::ZERO).unwrap().worked {}
    let listed = send(&speaker, "GET", "/faults", "").await.2;
    assert_eq!(listed["struck"], json!({"mute": 2, "silence": 1}));
    assert_eq!(listed["faults"], json!([{"when": {}, "kind": "mute", "struck": 2}]));

    assert_eq!(send(&speaker, "POST", "/crash", "").await.0, 202);
    task.poll(std::time::Duration::ZERO).unwrap();
    let (status, _, problem) = send(&speaker, "GET", "/healthz", "").await;
    assert_eq!((status, &problem["code"]), (503, &json!("NAVE-0006")));
    assert_eq!(send(&speaker, "POST", "/restart", "").await.0, 204);
    assert_eq!(send(&speaker, "GET", "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn the_seed_and_the_heartbeats_can_be_set() {
    let speaker = SpeakerHandle::new();
    assert_eq!(send(&speaker, "POST", "/seed", r#"{"seed": 7}"#).await.0, 204);
    assert_eq!(send(&speaker, "GET", "/faults", "").await.2["seed"], 7);
    assert_eq!(send(&speaker, "POST", "/heartbeats", r#"{"stopped": true}"#).await.0, 204);
    let up = json!({"status": "up", "kept": false, "heartbeats": "stopped", "delayed": 0});
    assert_eq!(send(&speaker, "GET", "/healthz", "").await.2, up);
}

#[tokio::test]
async fn an_invalid_field_is_named_by_its_path() {
    let speaker = SpeakerHandle::new();
    for (path, body, field, detail) in [
        (
            "/faults",
            json!({"kind": "mute", "when": {"rule": "x"}}),
            "when.rule",
            r#"invalid type: string "x", expected u32"#,
        ),
        (
            "/faults",
            json!({"kind": "mute", "when": {"percent": 0}}),
            "when.percent",
            "percent is `0`; allowed is a number above 0",
        ),
        (
            "/faults",
            json!({"faults": [{"kind": {"wrong_key": {"what": "door"}}}]}),
            "faults[0].kind.wrong_key.what",
            "unknown variant `door`, expected one of `call`",
        ),
        ("/faults", json!([]), "body", "allowed is a JSON object"),
        ("/seed", json!({"seed": -1}), "seed", "integer `-1`, expected u64"),
        ("/heartbeats", json!({"stop": true}), "stop", "unknown field `stop`, expected `stopped`"),
        ("/crash", json!({"answered": 1}), "answered", "integer `1`, expected a boolean"),
    ] {
        let (status, kind, problem) = send(&speaker, "POST", path, &body.to_string()).await;
        assert_eq!((status, kind.as_str()), (422, "application/problem+json"), "{path} {body}");
        assert_eq!(problem["field"], field, "{path} {body}");
        let found = problem["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{path} {body}: {found}");
    }
}

#[tokio::test]
async fn a_switch_without_rules_has_an_empty_table() {
    let speaker = SpeakerHandle::new();
    assert_eq!(send(&speaker, "GET", "/switches/of:08/rules", "").await.2, json!([]));
    assert_eq!(send(&speaker, "GET", "/switches", "").await.2, json!([]));
    assert_eq!(send(&speaker, "GET", "/audit", "").await.2, json!([]));
    assert_eq!(send(&speaker, "GET", "/audit?after=7", "").await.2, json!([]));
}

#[tokio::test]
async fn every_error_response_is_a_problem() {
    let speaker = SpeakerHandle::new();
    let large = "x".repeat(600_000);
    for (method, path, body, status, code) in [
        ("GET", "/rules", "", 404, "NAVE-0008"),
        ("POST", "/audit", "", 405, "NAVE-0009"),
        ("GET", "/switches/%ff/rules", "", 400, "NAVE-0011"),
        ("GET", "/audit?since=7", "", 422, "NAVE-0002"),
        ("POST", "/faults", "{", 400, "NAVE-0001"),
        ("POST", "/faults", &large, 413, "NAVE-0010"),
        ("POST", "/faults", r#"{"kind":"noise"}"#, 422, "NAVE-0002"),
        ("POST", "/faults", r#"{"kind":"mute","times":0}"#, 422, "NAVE-0002"),
        ("POST", "/faults", r#"{"kind":"mute","when":{"switch":"x"}}"#, 422, "NAVE-0002"),
        ("POST", "/faults", r#"{"kind":"mute","when":{"command":"erase"}}"#, 422, "NAVE-0002"),
        ("POST", "/faults", r#"{"kind":"mute","when":{"percent":0}}"#, 422, "NAVE-0002"),
        ("GET", "/crash", "", 405, "NAVE-0009"),
        ("POST", "/crash", "answered", 400, "NAVE-0001"),
        ("DELETE", "/healthz", "", 405, "NAVE-0009"),
    ] {
        let (found, kind, problem) = send(&speaker, method, path, body).await;
        assert_eq!((found, kind.as_str()), (status, "application/problem+json"), "{method} {path}");
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{method} {path}");
    }
}
