//! What bodies look like, as JSON Schema: the components of the document.

use serde_json::{Value, json};
use wire::Code;
use wire::flow::{Drill, MAX_LENGTH, MAX_NAME, NAME_PATTERN};

/// The pattern of an operation's id.
const OPERATION_ID: &str = "^[A-Za-z0-9._:-]+$";

/// Every component, by name.
pub(super) fn components() -> Vec<(&'static str, Value)> {
    vec![
        ("Anything", json!({"description": "any JSON"})),
        ("Problem", problem()),
        (
            "Health",
            object(
                &json!({
                    "status": {"type": "string", "enum": ["alive", "ready"]},
                    "held_up": {"type": "array", "items": {"type": "string"}, "description": "What stops for a while because an inbox is full."},
                }),
                &["status"],
            ),
        ),
        ("FlowToLetBe", flow_to_create(true)),
        ("FlowToCreate", flow_to_create(false)),
        ("FlowMade", flow_made()),
        ("FlowGone", flow_gone()),
        ("Flow", flow()),
        ("Flows", flows()),
        ("Operation", operation()),
        ("Event", event()),
        ("OperationLine", operation_line()),
        ("Operations", page("operations", "OperationLine")),
        ("Topologies", topologies()),
        ("Topology", topology()),
        ("Spoke", spoke()),
        ("Spokes", object(&json!({"spokes": {"type": "array", "items": reference("Spoke")}}), &["spokes"])),
    ]
}

/// The schema of a part of a path, and what it is.
pub(super) fn path_part(name: &str) -> (Value, &'static str) {
    match name {
        "id" => (operation_id(), "The operation"),
        "flowid" => (flow_name(), "The flow's name"),
        "key" => {
            let mut key = text(super::workflows::LONGEST_KEY);
            key["not"] = json!({"enum": [".", ".."]});
            (key, "What the operation is about: its key")
        }
        "signal" => (text(64), "The signal that the operation waits for"),
        "topology" => (text(128), "The topology's name"),
        "workflow" => (text(128), "The workflow's name"),
        _ => (text(128), "The service's name"),
    }
}

/// A text of 1 to so many characters, none of them a control character.
pub(super) fn text(longest: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
}

/// A reference to a component.
fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn page(name: &str, line: &str) -> Value {
    object(
        &json!({
            name: {"type": "array", "items": reference(line)},
            "next": {"type": ["string", "null"], "description": "where the next page is"},
        }),
        &[name, "next"],
    )
}

fn operation_id() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": wire::ids::MAX_OPERATION_ID, "pattern": OPERATION_ID})
}

fn flow_name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": NAME_PATTERN})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn when(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": format!("{about}, in milliseconds since 1970")})
}

fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let mut problem = object(
        &json!({
            "type": {"type": "string", "description": "`urn:nave:` and the code"},
            "title": {"type": "string", "description": "what happened, the same for each occurrence"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "this occurrence"},
            "code": {"type": "string", "enum": codes},
            "field": {"type": "string", "description": "the field, header or parameter at fault"},
            "instance": {"type": "string", "description": "the operation that it happened in"},
        }),
        &["type", "title", "status", "detail", "code"],
    );
    problem["description"] = "a problem as RFC 9457 has it; a workflow that failed adds what it says".into();
    problem
}

fn flow_to_create(strict: bool) -> Value {
    let mut properties = json!({
        "flowid": flow_name(),
        "length": {
            "type": "integer", "minimum": 1, "maximum": MAX_LENGTH,
            "description": "how many rules it has: rule i stands on switch of:i",
        },
        "error": {
            "enum": [null, 0, 1, 2, "IN_HUB", "IN_WORKER", "IN_FL"],
            "description": format!("a fault to rehearse: {}", Drill::ALLOWED),
        },
    });
    if strict {
        properties["strict"] = json!({
            "type": ["boolean", "null"], "description": "true: a flow that is there already is a fault",
        });
    }
    let mut flow = object(&properties, &["flowid", "length"]);
    flow["additionalProperties"] = false.into();
    flow
}

fn flow_made() -> Value {
    let properties = json!({"message": {"type": "string"}, "flowid": flow_name(), "operation": operation_id()});
    object(&properties, &["message", "flowid", "operation"])
}

fn flow_gone() -> Value {
    let mut gone = flow_made();
    gone["properties"]["removed"] = count();
    gone["required"] = json!(["message", "flowid", "operation", "removed"]);
    gone
}

fn flow() -> Value {
    object(
        &json!({
            "flowid": flow_name(),
            "length": count(),
            "cookie": count(),
            "state": {"type": "string", "enum": ["up", "degraded"]},
            "left": {"type": "array", "items": count(), "description": "the rules that are left of one that is degraded"},
            "operation": operation_id(),
        }),
        &["flowid", "length", "cookie", "state", "operation"],
    )
}

fn flows() -> Value {
    let mut flows = page("flows", "Flow");
    flows["properties"]["complete"] =
        json!({"type": "boolean", "description": "false where there are more than are known here"});
    flows["required"] = json!(["flows", "complete", "next"]);
    flows
}

fn operation() -> Value {
    let conversation = object(
        &json!({
            "call": {"type": "string"}, "attempt": count(), "attempts": count(), "doing": {"type": "string"},
            "until": when("when the worker does the next thing by itself"),
        }),
        &["call", "attempt", "attempts", "doing"],
    );
    let pending = object(
        &json!({
            "call": {"type": "string"}, "what": {"type": "string"}, "service": {"type": "string"},
            "conversation": conversation,
        }),
        &["call", "what", "service"],
    );
    let step = object(
        &json!({
            "number": count(), "name": {"type": "string"}, "calls": count(), "done": count(),
            "pending": {"type": "array", "items": pending},
        }),
        &["number", "name", "calls", "done", "pending"],
    );
    let until = object(&json!({"what": {"type": "string"}, "at": when("the deadline")}), &["what"]);
    let mut queue = object(&json!({"behind": operation_id(), "ahead": count(), "limit": count()}), &["ahead"]);
    queue["description"] =
        "what an operation waits for that has not begun: the operation that has the turn on its key, or a place \
                            among those that work, of which a lane has `limit`"
            .into();
    let line = object(
        &json!({"seq": count(), "at": when("when it happened"), "what": {"type": "string"}}),
        &["seq", "at", "what"],
    );
    object(
        &json!({
            "operation": operation_id(),
            "topology": {"type": "string"},
            "key": {"type": "string"},
            "workflow": {"type": "string"},
            "state": {"type": "string"},
            "live": {"type": "boolean"},
            "queue": queue,
            "step": step,
            "until": until,
            "signal": {"type": "string", "description": "the signal that it waits for"},
            "history": {"type": "array", "items": line},
            "outcome": {"type": "string", "enum": ["done", "failed", "refused"]},
            "body": {"description": "what the workflow answered"},
        }),
        &["operation", "topology", "key", "workflow", "state", "live", "history"],
    )
}

fn event() -> Value {
    let mut event = object(
        &json!({
            "event": {"type": "string", "enum": ["progress", "answer"]},
            "id": {"type": "string", "pattern": "^[0-9]+-[0-9a-f]{16}$"},
            "data": {"type": "string", "description": "the operation, as JSON"},
        }),
        &["event", "id", "data"],
    );
    event["description"] = "an event of the stream; `answer` is the last one".into();
    event
}

fn operation_line() -> Value {
    object(
        &json!({
            "operation": operation_id(),
            "topology": {"type": "string"},
            "workflow": {"type": "string"},
            "key": {"type": "string"},
            "state": {"type": "string"},
            "live": {"type": "boolean"},
            "begun": when("when it began"),
            "signal": {"type": ["string", "null"]},
            "outcome": {"enum": ["done", "failed", "refused", null]},
        }),
        &["operation", "topology", "workflow", "key", "state", "live", "begun", "signal", "outcome"],
    )
}

fn topologies() -> Value {
    let line = object(
        &json!({
            "name": {"type": "string"}, "state": state(), "at": when("when it was submitted"),
            "workflows": {"type": "array", "items": {"type": "string"}},
        }),
        &["name", "state", "at", "workflows"],
    );
    object(&json!({"topologies": {"type": "array", "items": line}}), &["topologies"])
}

fn state() -> Value {
    json!({"type": "string", "enum": ["starting", "running", "ending"]})
}

fn topology() -> Value {
    let stage = object(
        &json!({
            "name": {"type": "string"}, "lanes": count(),
            "mode": {"type": "string", "enum": ["exactly-once", "at-least-once"]},
        }),
        &["name", "lanes", "mode"],
    );
    let workflow = object(
        &json!({
            "name": {"type": "string"}, "stage": {"type": "string"},
            "request": {"description": "what a request has to look like, as a JSON Schema"},
        }),
        &["name", "stage", "request"],
    );
    object(
        &json!({
            "name": {"type": "string"},
            "state": state(),
            "at": when("when it was submitted"),
            "ends": {"type": ["integer", "null"], "minimum": 0, "description": "when it ends, finished or not"},
            "graph": {"type": "string"},
            "build": {"type": "string"},
            "stages": {"type": "array", "items": stage},
            "workflows": {"type": "array", "items": workflow},
            "services": {"type": "array", "items": {"type": "string"}},
            "description": {"type": "string"},
        }),
        &["name", "state", "at", "ends", "graph", "build", "stages", "workflows", "services", "description"],
    )
}

/// Replies that name no call.
fn rejected() -> Value {
    object(
        &json!({
            "replies": count(),
            "last": {"type": "string", "description": "why the last one was rejected, with the header at fault"},
        }),
        &["replies", "last"],
    )
}

fn spoke() -> Value {
    let instance = object(
        &json!({
            "instance": {"type": "string"}, "up": {"type": "boolean"},
            "heard": when("when its last heartbeat came"), "every_ms": count(),
        }),
        &["instance", "up", "heard", "every_ms"],
    );
    let worker = object(
        &json!({
            "service": {"type": "string"}, "stage": {"type": "string"}, "lane": count(),
            "judged": {
                "enum": ["by_answers", "up", "down"],
                "description": "what the worker of this lane goes by; where it is down, calls are refused at once",
            },
            "rejected": rejected(),
        }),
        &["service", "stage", "lane", "judged"],
    );
    object(
        &json!({
            "service": {"type": "string"},
            "up": {"type": ["boolean", "null"], "description": "null where no heartbeat came in the last ten minutes, or every instance said goodbye"},
            "instances": {"type": "array", "items": instance},
            "workers": {"type": "array", "items": worker},
        }),
        &["service", "up", "instances", "workers"],
    )
}
