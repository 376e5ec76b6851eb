//! The same `Idempotency-Key` gets the same answer, whatever the answer was: over REST, with a
//! running `nave up`.

mod process;

use process::Up;
use serde_json::{Value, json};

/// Starts a process in which a silent switch keeps a flow busy for a minute. At most two operations
/// may wait for one flow.
fn up() -> Up {
    let settings = [
        "worker-speaker.attempts=600",
        "worker-speaker.timeout_ms=100",
        "worker-speaker.backoff_ms=1",
        "worker-speaker.backoff_cap_ms=1",
        "flows.call_ms=61000",
        "flows.step_ms=62000",
        "flows.request_ms=250000",
        "hub.waiting_per_key=2",
    ];
    let settings = settings.map(|setting| format!("topologies.flows.settings.{setting}"));
    let mut args = vec!["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    Up::start(&args)
}

/// The headers of a request with this key.
fn key(key: &str) -> [(&str, &str); 1] {
    [("Idempotency-Key", key)]
}

/// The headers of a request with this key whose client does not wait.
fn async_key(key: &str) -> [(&str, &str); 2] {
    [("Idempotency-Key", key), ("Prefer", "respond-async")]
}

fn flow(name: &str) -> Value {
    json!({"flowid": name, "length": 2})
}

/// Starts to create a flow, which stays busy until [`release`].
fn busy(up: &Up, name: &str) {
    let (status, answer) = up.post_to("switches", "/faults", &json!({"kind": "silence"}));
    assert!(status < 300, "{answer}");
    assert_eq!(up.post("/flow", &flow(name), &async_key("busy")).0, 202);
}

/// Completes the flow of [`busy`] and waits for it.
fn release(up: &Up, name: &str) {
    up.delete_at("switches", "/faults");
    let (status, answer) = up.post("/flow", &flow(name), &key("busy"));
    assert_eq!(status, 201, "{answer}");
}

fn assert_code(answer: &(u16, Value), status: u16, code: &str) {
    assert_eq!((answer.0, &answer.1["code"]), (status, &json!(code)), "{}", answer.1);
}

fn exists(up: &Up, name: &str) -> bool {
    up.get(&format!("/v1/flows/{name}")).0 == 200
}

#[test]
fn a_repeat_does_not_run_an_operation_cancelled_in_the_queue() {
    let up = up();
    busy(&up, "h");
    let (status, queued) = up.delete("/v1/flows/h", &async_key("kk"));
    assert_eq!((status, &queued["live"]), (202, &json!(true)), "{queued}");
    let path = format!("/v1/operations/{}", queued["operation"].as_str().expect("the answer names its operation"));

    let cancelled = up.delete(&path, &[]);
    let (status, body) = &cancelled;
    assert_eq!((*status, &body["state"], &body["live"]), (200, &json!("cancelled"), &json!(false)), "{body}");
    assert_eq!((&body["outcome"], &body["body"]["code"]), (&json!("refused"), &json!("NAVE-0041")), "{body}");
    assert_eq!(up.get(&path), cancelled, "the operation is shown like its answer");
    assert_eq!(up.delete(&path, &[]), cancelled, "a repeated cancel has the same answer");
    let (_, list) = up.get("/v1/operations?state=cancelled&key=h");
    assert_eq!(list["operations"][0]["operation"], queued["operation"], "{list}");
    assert_eq!(list["operations"][0]["outcome"], "refused", "{list}");

    let answer = up.delete("/v1/flows/h", &key("kk"));
    assert_code(&answer, 409, "NAVE-0041");
    assert_eq!(answer.1["instance"], path);
    release(&up, "h");
    assert_eq!(up.delete("/v1/flows/h", &key("kk")), answer, "the answer stays the same when its turn comes");
    let (status, body) = up.delete("/v1/flows/h", &async_key("kk"));
    assert_eq!((status, &body["state"], &body["live"]), (202, &json!("cancelled"), &json!(false)), "{body}");
    assert!(exists(&up, "h"), "the flow is not removed");
    assert_eq!(up.rules("of:01").len(), 1);
}

#[test]
fn cancelling_a_running_operation_is_idempotent() {
    let up = up();
    busy(&up, "h");
    let (_, body) = up.post("/flow", &flow("h"), &async_key("busy"));
    let path = format!("/v1/operations/{}", body["operation"].as_str().expect("the answer names its operation"));
    for _ in 0..2 {
        let (status, body) = up.delete(&path, &[]);
        assert_eq!((status, &body["state"], &body["live"]), (202, &json!("removing"), &json!(true)), "{body}");
    }
    up.delete_at("switches", "/faults");
    let answer = up.post("/flow", &flow("h"), &key("busy"));
    assert_code(&answer, 409, "NAVE-0041");
    for _ in 0..2 {
        let (status, body) = up.delete(&path, &[]);
        assert_eq!((status, &body["live"], &body["outcome"]), (200, &json!(false), &json!("failed")), "{body}");
    }
    assert_eq!(up.post("/flow", &flow("h"), &key("busy")), answer);
}

#[test]
fn a_refusal_is_the_answer_to_every_repeat() {
    let up = up();
    let missing = up.delete("/v1/flows/r", &key("remove"));
    assert_code(&missing, 404, "NAVE-0104");
    assert_eq!(up.post("/flow", &flow("r"), &[]).0, 201);
    assert_eq!(up.delete("/v1/flows/r", &key("remove")), missing);
    assert!(exists(&up, "r"), "the repeat has removed nothing");

    let conflict = up.post("/v1/flows", &flow("r"), &key("create"));
    assert_code(&conflict, 409, "NAVE-0105");
    assert_eq!(up.delete("/v1/flows/r", &[]).0, 200);
    assert_eq!(up.post("/v1/flows", &flow("r"), &key("create")), conflict);
    assert!(!exists(&up, "r"), "the repeat has created nothing");

    let other = up.post("/v1/flows", &json!({"flowid": "r", "length": 3}), &key("create"));
    assert_code(&other, 422, "NAVE-0003");
    assert!(other.1["detail"].as_str().is_some_and(|detail| detail.contains("another body")), "{}", other.1);
    assert_eq!(up.post("/v1/flows", &flow("r"), &key("create")), conflict, "the first request keeps its answer");
}

#[test]
fn a_body_refused_by_the_workflow_uses_up_its_key() {
    let up = up();
    let path = "/v1/topologies/flows/workflows/create-flow/w";
    let bad = json!({"flowid": "w", "length": 0});
    let refused = up.post(path, &bad, &key("k"));
    assert_code(&refused, 422, "NAVE-0002");
    assert_code(&up.post(path, &flow("w"), &key("k")), 422, "NAVE-0003");
    assert_eq!(up.post(path, &bad, &key("k")), refused);
    assert!(!exists(&up, "w"));

    // A request that the northbound itself refuses does not use its key.
    assert_code(&up.post("/flow", &bad, &key("free")), 422, "NAVE-0002");
    assert_eq!(up.post("/flow", &flow("w"), &key("free")).0, 201);
}

#[test]
fn a_key_reused_with_another_path_or_method_is_refused() {
    let up = up();
    assert_eq!(up.post("/flow", &flow("p"), &key("k")).0, 201);
    let body = json!({"flowid": "p", "length": 2, "error": null});
    let workflow = "/v1/topologies/flows/workflows/create-flow/p";
    for (answer, route) in [
        (up.post("/v1/flows", &flow("p"), &key("k")), "`POST /v1/flows`"),
        (up.delete("/v1/flows/p", &key("k")), "`DELETE /v1/flows/{flowid}`"),
        (up.post(workflow, &body, &key("k")), "`POST /v1/topologies/{topology}/workflows/{workflow}/{key}`"),
    ] {
        assert_code(&answer, 422, "NAVE-0003");
        let detail = answer.1["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("`POST /flow`") && detail.contains(route), "{detail}");
        assert!(detail.contains("another path or method"), "{detail}");
    }
    assert!(exists(&up, "p"));
    // The same path with another workflow in it.
    assert_eq!(up.post(workflow, &body, &key("w")).0, 200);
    let answer = up.post(&workflow.replace("create", "remove"), &json!({"flowid": "p"}), &key("w"));
    assert_code(&answer, 422, "NAVE-0003");
    assert!(answer.1["detail"].as_str().is_some_and(|detail| detail.contains("`remove-flow`")), "{}", answer.1);
    assert_eq!(up.delete("/v1/flows/p", &key("gone")).0, 200);
    assert_code(&up.post("/flow", &flow("p"), &key("gone")), 422, "NAVE-0003");
    assert!(!exists(&up, "p"));
}

#[test]
fn a_repeat_does_not_run_a_request_that_expired_in_the_queue() {
    let up = up();
    busy(&up, "h");
    let in_time = [("Idempotency-Key", "late"), ("X-Request-Timeout-Ms", "100")];
    let (status, body) = up.delete("/v1/flows/h", &in_time);
    assert_eq!((status, &body["live"]), (202, &json!(true)), "the client times out: {body}");
    release(&up, "h");
    let answer = up.delete("/v1/flows/h", &key("late"));
    assert_code(&answer, 504, "NAVE-0043");
    assert_eq!(up.delete("/v1/flows/h", &key("late")), answer);
    assert!(exists(&up, "h"));
}

/// The client repeats a queued request with a longer deadline.
#[test]
fn a_repeat_with_more_time_extends_the_deadline_of_a_queued_operation() {
    let up = up();
    busy(&up, "h");
    let in_time = [("Idempotency-Key", "more"), ("X-Request-Timeout-Ms", "100")];
    assert_eq!(up.delete("/v1/flows/h", &in_time).0, 202);
    assert_eq!(up.delete("/v1/flows/h", &async_key("more")).0, 202);
    release(&up, "h");
    let (status, answer) = up.delete("/v1/flows/h", &key("more"));
    assert_eq!((status, &answer["removed"]), (200, &json!(2)), "{answer}");
}

#[test]
fn a_request_that_found_no_room_may_be_repeated_with_its_key() {
    let up = up();
    busy(&up, "h");
    for n in 0..2 {
        assert_eq!(up.post("/flow", &flow("h"), &async_key(&format!("waits-{n}"))).0, 202);
    }
    assert_code(&up.delete("/v1/flows/h", &key("full")), 429, "NAVE-0004");
    release(&up, "h");
    assert_eq!(up.post("/flow", &flow("h"), &key("waits-1")).0, 200, "there is room again");
    let (status, answer) = up.delete("/v1/flows/h", &async_key("full"));
    assert_eq!(status, 202, "{answer}");
    assert_ne!(answer["state"], "refused", "the operation must not show the old refusal: {answer}");
    let (status, answer) = up.delete("/v1/flows/h", &key("full"));
    assert_eq!((status, &answer["removed"]), (200, &json!(2)), "{answer}");
}
