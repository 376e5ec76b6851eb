//! Every request of `rest-api.http`, sent to a running `nave up`: status, body and rules.

use std::io::{Read, Write};

use crate::process::Up;
use serde_json::{Value, json};

/// The bodies of the first four requests of the file.
fn requests() -> Vec<Value> {
    let file = include_str!("../../../rest-api.http");
    let (first_part, _) = file.split_once("### Create a new flow").unwrap();
    let bodies: Vec<Value> = first_part
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    assert_eq!(bodies.len(), first_part.matches("POST http://127.0.0.1:8088/flow").count());
    assert_eq!(bodies.len(), 4);
    bodies
}

fn check_outcomes(up: &Up) {
    // Twice, since the answers differ once the flow exists.
    let mut exists = false;
    for body in requests().iter().rev().chain(&requests()) {
        let (status, answer) = up.post("/flow", body, &[]);
        let (expected, message) = match body["error"].as_u64() {
            None if exists => (200, "all operation is successful"),
            None => (201, "all operation is successful"),
            Some(0) => (504, "error in hub by timeout"),
            Some(_) => (502, "error in worker on rule install"),
        };
        exists |= body["error"].is_null();
        assert_eq!((status, answer["message"].as_str()), (expected, Some(message)), "{body} -> {answer}");
        assert_eq!(answer["flowid"], "test-01", "{answer}");
        if status >= 400 {
            assert_eq!(answer["status"], json!(status), "{answer}");
            assert!(answer["code"].as_str().unwrap().starts_with("NAVE-01"), "{answer}");
            assert_eq!((&answer["degraded"], &answer["left"]), (&json!(false), &json!([])), "{answer}");
        }
        let rules: Vec<String> =
            (1..=10).map(|i| format!("of:{i:02}")).filter(|switch| !up.rules(switch).is_empty()).collect();
        assert_eq!(rules.len(), if exists { 10 } else { 0 }, "after {body}: {rules:?}");

        let (status, operation) = up.get(&format!("/v1/operations/{}", answer["operation"].as_str().unwrap()));
        assert_eq!((status, &operation["live"]), (200, &json!(false)), "{operation}");
        let seqs: Vec<u64> =
            operation["history"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b) && !seqs.is_empty(), "{operation}");
    }
}

fn check_bad_requests(up: &Up) {
    for (body, status, code) in [
        (json!({"flowid": "a", "length": 0}), 422, "NAVE-0002"),
        (json!({"flowid": "a", "length": 1001}), 422, "NAVE-0002"),
        (json!({"flowid": "a", "length": 3, "error": 7}), 422, "NAVE-0002"),
        (json!({"flowid": "test-01", "length": 4}), 422, "NAVE-0002"),
    ] {
        let (got, problem) = up.post("/flow", &body, &[]);
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{body} -> {problem}");
    }
    assert_eq!(up.post_text("/flow", "not json").0, 400);
    assert_eq!(up.get("/nothing").0, 404);
    assert_eq!(up.get("/v1/operations/unknown").0, 404);
}

fn check_repeats(up: &Up) {
    let key = [("Idempotency-Key", "monday")];
    let body = json!({"flowid": "repeat", "length": 3});
    let first = up.post("/flow", &body, &key);
    assert_eq!(first.0, 201);
    assert_eq!(up.post("/flow", &body, &key), first);
    assert_eq!(up.post("/flow", &json!({"flowid": "repeat", "length": 4}), &key).0, 422);
    assert_eq!(up.post("/flow", &body, &[]).0, 200, "a request without the key is a new one");
}

fn check_health_and_metrics(up: &Up) {
    assert_eq!(up.get("/healthz").0, 200);
    assert_eq!(up.get("/readyz").0, 200);
    let metrics = up.text("/metrics");
    for name in [
        "nave_operations_done_total",
        "nave_operations_failed_total",
        "nave_calls_sent_total",
        "nave_timer_lateness_seconds",
    ] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
}

fn check_readme_requests(up: &Up) {
    check_outcomes(up);
    check_bad_requests(up);
    check_repeats(up);
    check_health_and_metrics(up);
    let said = up.interrupt();
    assert!(said.contains("nothing unfinished"), "{said}");
}

#[test]
fn the_readme_requests_work_on_the_embedded_bus() {
    check_readme_requests(&Up::embedded());
}

#[test]
fn the_readme_requests_work_on_kafka() {
    check_readme_requests(&Up::kafka());
}

#[test]
fn a_second_interrupt_ends_the_process_at_once() {
    let up = Up::embedded();
    let (status, answer) = up.post_to("switches", "/faults", &json!({"kind": "silence"}));
    assert!(status < 300, "{answer}");
    // The flow fails after two seconds, and an orderly shutdown would wait for it.
    let (status, _) = up.post("/flow", &json!({"flowid": "f", "length": 1}), &[("Prefer", "respond-async")]);
    assert_eq!(status, 202);
    let (code, said) = up.interrupt_twice();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("stopped immediately: second signal"), "{said}");
}

/// The HTTP parser answers such a request by itself, before any route.
#[test]
fn every_port_explains_a_request_that_is_not_http() {
    let up = Up::embedded();
    for port in ["REST", "switches"] {
        let address = up.address(port);
        let mut stream = std::net::TcpStream::connect(address.trim_start_matches("http://")).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("NAVE-0011"), "{port}: {answer}");
    }
}
