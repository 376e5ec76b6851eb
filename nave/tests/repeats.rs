//! The same `Idempotency-Key` gets the same answer, whatever that answer was: over REST, with a running `nave up`.

mod process;

use process::Up;
use serde_json::{Value, json};

/// A process in which a switch that stays silent keeps a flow busy for a minute: as long as a test needs. More than two
/// operations that wait for one flow are refused.
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

/// The same, for a client that does not wait.
fn later(key: &str) -> [(&str, &str); 2] {
    [("Idempotency-Key", key), ("Prefer", "respond-async")]
}

fn flow(name: &str) -> Value {
    json!({"flowid": name, "length": 2})
}

/// Starts to create a flow that is busy until [`release`].
fn busy(up: &Up, name: &str) {
    let (status, told) = up.post_to("switches", "/faults", &json!({"kind": "silence"}));
    assert!(status < 300, "{told}");
    assert_eq!(up.post("/flow", &flow(name), &later("busy")).0, 202);
}

/// Lets the flow of [`busy`] come up, and waits until it has.
fn release(up: &Up, name: &str) {
    up.delete_at("switches", "/faults");
    let (status, told) = up.post("/flow", &flow(name), &key("busy"));
    assert_eq!(status, 201, "{told}");
}

fn has_code(told: &(u16, Value), status: u16, code: &str) {
    assert_eq!((told.0, &told.1["code"]), (status, &json!(code)), "{}", told.1);
}

fn stands(up: &Up, name: &str) -> bool {
    up.get(&format!("/v1/flows/{name}")).0 == 200
}

#[test]
fn an_operation_cancelled_before_its_turn_is_never_run_by_a_repeat() {
    let up = up();
    busy(&up, "h");
    let (status, queued) = up.delete("/v1/flows/h", &later("kk"));
    assert_eq!((status, &queued["live"]), (202, &json!(true)), "{queued}");
    let path = format!("/v1/operations/{}", queued["operation"].as_str().expect("it names its operation"));

    let cancelled = up.delete(&path, &[]);
    let (status, body) = &cancelled;
    assert_eq!((*status, &body["state"], &body["live"]), (200, &json!("cancelled"), &json!(false)), "{body}");
    assert_eq!((&body["outcome"], &body["body"]["code"]), (&json!("refused"), &json!("NAVE-0041")), "{body}");
    assert_eq!(up.get(&path), cancelled, "it is shown as it was answered");
    assert_eq!(up.delete(&path, &[]), cancelled, "cancelling twice is cancelling once");
    let (_, list) = up.get("/v1/operations?state=cancelled&key=h");
    assert_eq!(list["operations"][0]["operation"], queued["operation"], "{list}");
    assert_eq!(list["operations"][0]["outcome"], "refused", "{list}");

    let told = up.delete("/v1/flows/h", &key("kk"));
    has_code(&told, 409, "NAVE-0041");
    assert_eq!(told.1["instance"], path);
    release(&up, "h");
    assert_eq!(up.delete("/v1/flows/h", &key("kk")), told, "its turn has come and gone");
    let (status, body) = up.delete("/v1/flows/h", &later("kk"));
    assert_eq!((status, &body["state"], &body["live"]), (202, &json!("cancelled"), &json!(false)), "{body}");
    assert!(stands(&up, "h"), "nobody has removed it");
    assert_eq!(up.rules("of:01").len(), 1);
}

#[test]
fn a_running_operation_that_is_cancelled_twice_is_cancelled_once() {
    let up = up();
    busy(&up, "h");
    let (_, body) = up.post("/flow", &flow("h"), &later("busy"));
    let path = format!("/v1/operations/{}", body["operation"].as_str().expect("it names its operation"));
    for _ in 0..2 {
        let (status, body) = up.delete(&path, &[]);
        assert_eq!((status, &body["state"], &body["live"]), (202, &json!("removing"), &json!(true)), "{body}");
    }
    up.delete_at("switches", "/faults");
    let told = up.post("/flow", &flow("h"), &key("busy"));
    has_code(&told, 409, "NAVE-0041");
    for _ in 0..2 {
        let (status, body) = up.delete(&path, &[]);
        assert_eq!((status, &body["live"], &body["outcome"]), (200, &json!(false), &json!("failed")), "{body}");
    }
    assert_eq!(up.post("/flow", &flow("h"), &key("busy")), told);
}

#[test]
fn a_refusal_is_the_answer_to_every_repeat() {
    let up = up();
    let missing = up.delete("/v1/flows/r", &key("remove"));
    has_code(&missing, 404, "NAVE-0104");
    assert_eq!(up.post("/flow", &flow("r"), &[]).0, 201);
    assert_eq!(up.delete("/v1/flows/r", &key("remove")), missing);
    assert!(stands(&up, "r"), "the repeat has removed nothing");

    let conflict = up.post("/v1/flows", &flow("r"), &key("create"));
    has_code(&conflict, 409, "NAVE-0105");
    assert_eq!(up.delete("/v1/flows/r", &[]).0, 200);
    assert_eq!(up.post("/v1/flows", &flow("r"), &key("create")), conflict);
    assert!(!stands(&up, "r"), "the repeat has created nothing");

    let other = up.post("/v1/flows", &json!({"flowid": "r", "length": 3}), &key("create"));
    has_code(&other, 422, "NAVE-0003");
    assert!(other.1["detail"].as_str().is_some_and(|detail| detail.contains("another body")), "{}", other.1);
    assert_eq!(up.post("/v1/flows", &flow("r"), &key("create")), conflict, "the first request keeps its answer");
}

#[test]
fn a_body_that_the_workflow_refused_uses_its_key() {
    let up = up();
    let path = "/v1/topologies/flows/workflows/create-flow/w";
    let bad = json!({"flowid": "w", "length": 0});
    let refused = up.post(path, &bad, &key("k"));
    has_code(&refused, 422, "NAVE-0002");
    has_code(&up.post(path, &flow("w"), &key("k")), 422, "NAVE-0003");
    assert_eq!(up.post(path, &bad, &key("k")), refused);
    assert!(!stands(&up, "w"));

    // A request that the northbound refuses by itself has reached no workflow: its key is free.
    has_code(&up.post("/flow", &bad, &key("free")), 422, "NAVE-0002");
    assert_eq!(up.post("/flow", &flow("w"), &key("free")).0, 201);
}

#[test]
fn a_key_on_another_path_or_with_another_method_is_refused_by_name() {
    let up = up();
    assert_eq!(up.post("/flow", &flow("p"), &key("k")).0, 201);
    let body = json!({"flowid": "p", "length": 2, "error": null});
    let workflow = "/v1/topologies/flows/workflows/create-flow/p";
    for (told, route) in [
        (up.post("/v1/flows", &flow("p"), &key("k")), "`POST /v1/flows`"),
        (up.delete("/v1/flows/p", &key("k")), "`DELETE /v1/flows/{flowid}`"),
        (up.post(workflow, &body, &key("k")), "`POST /v1/topologies/{topology}/workflows/{workflow}/{key}`"),
    ] {
        has_code(&told, 422, "NAVE-0003");
        let detail = told.1["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("`POST /flow`") && detail.contains(route), "{detail}");
        assert!(detail.contains("another path or method"), "{detail}");
    }
    assert!(stands(&up, "p"));
    // The same path, and another workflow in it.
    assert_eq!(up.post(workflow, &body, &key("w")).0, 200);
    let told = up.post(&workflow.replace("create", "remove"), &json!({"flowid": "p"}), &key("w"));
    has_code(&told, 422, "NAVE-0003");
    assert!(told.1["detail"].as_str().is_some_and(|detail| detail.contains("`remove-flow`")), "{}", told.1);
    assert_eq!(up.delete("/v1/flows/p", &key("gone")).0, 200);
    has_code(&up.post("/flow", &flow("p"), &key("gone")), 422, "NAVE-0003");
    assert!(!stands(&up, "p"));
}

#[test]
fn a_request_whose_turn_came_too_late_is_not_run_by_a_repeat() {
    let up = up();
    busy(&up, "h");
    let in_time = [("Idempotency-Key", "late"), ("X-Request-Timeout-Ms", "100")];
    let (status, body) = up.delete("/v1/flows/h", &in_time);
    assert_eq!((status, &body["live"]), (202, &json!(true)), "its client waits no longer: {body}");
    release(&up, "h");
    let told = up.delete("/v1/flows/h", &key("late"));
    has_code(&told, 504, "NAVE-0043");
    assert_eq!(up.delete("/v1/flows/h", &key("late")), told);
    assert!(stands(&up, "h"));
}

/// The client asked again before its turn, and gave it more time: the operation is for the repeat as well.
#[test]
fn a_repeat_with_more_time_extends_the_deadline_of_a_queued_operation() {
    let up = up();
    busy(&up, "h");
    let in_time = [("Idempotency-Key", "more"), ("X-Request-Timeout-Ms", "100")];
    assert_eq!(up.delete("/v1/flows/h", &in_time).0, 202);
    assert_eq!(up.delete("/v1/flows/h", &later("more")).0, 202);
    release(&up, "h");
    let (status, told) = up.delete("/v1/flows/h", &key("more"));
    assert_eq!((status, &told["removed"]), (200, &json!(2)), "{told}");
}

#[test]
fn a_request_that_found_no_room_may_ask_again_with_its_key() {
    let up = up();
    busy(&up, "h");
    for n in 0..2 {
        assert_eq!(up.post("/flow", &flow("h"), &later(&format!("waits-{n}"))).0, 202);
    }
    has_code(&up.delete("/v1/flows/h", &key("full")), 429, "NAVE-0004");
    release(&up, "h");
    assert_eq!(up.post("/flow", &flow("h"), &key("waits-1")).0, 200, "there is room again");
    let (status, told) = up.delete("/v1/flows/h", &later("full"));
    assert_eq!(status, 202, "{told}");
    assert_ne!(told["state"], "refused", "the old refusal is not the state of the new try: {told}");
    let (status, told) = up.delete("/v1/flows/h", &key("full"));
    assert_eq!((status, &told["removed"]), (200, &json!(2)), "{told}");
}
