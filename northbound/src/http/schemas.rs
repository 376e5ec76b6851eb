//! JSON Schemas of bodies: the components of the document.

use serde_json::{Value, json};
use wire::Code;
use wire::rest::{RestAction, RestRoutes};

/// All components, by name.
pub(super) fn components(brought: &[RestRoutes]) -> Vec<(&'static str, Value)> {
    let pages = brought.iter().flat_map(|of| &of.routes).filter_map(|route| match route.action {
        RestAction::List { field, item, .. } => Some((route.responses.first()?.1, resources(field, item))),
        RestAction::Start { .. } | RestAction::Show { .. } => None,
    });
    let schemas = brought.iter().flat_map(|of| of.schemas.iter().cloned());
    pages.chain(schemas).chain(own_components(brought)).collect()
}

fn own_components(brought: &[RestRoutes]) -> Vec<(&'static str, Value)> {
    vec![
        ("Anything", json!({"description": "any JSON"})),
        ("Problem", problem(brought)),
        (
            "Health",
            object(
                &json!({
                    "status": {"type": "string", "enum": ["alive", "ready"]},
                    "held_up": {"type": "array", "items": {"type": "string"}, "description": "What is paused because an inbox is full."},
                }),
                &["status"],
            ),
        ),
        ("Operation", operation()),
        ("Event", event()),
        ("OperationLine", operation_line()),
        ("Operations", page("operations", "OperationLine")),
        (
            "PostedTuple",
            object(
                &json!({"id": {"type": "string", "format": "uuid", "description": "The id of its record."}}),
                &["id"],
            ),
        ),
        ("Topologies", topologies()),
        ("Topology", topology()),
        ("Spoke", spoke()),
        ("Spokes", object(&json!({"spokes": {"type": "array", "items": reference("Spoke")}}), &["spokes"])),
    ]
}

/// The schema and description of a path parameter.
pub(super) fn path_part(name: &str) -> (Value, &'static str) {
    match name {
        "id" => (operation_id(), "The operation"),
        "key" => {
            let mut key = text(super::workflows::MAX_KEY_CHARS);
            key["not"] = json!({"enum": [".", ".."]});
            (key, "The key of the operation")
        }
        "signal" => (text(64), "The name of the signal"),
        "source" => (text(64), "The source's name"),
        "topology" => (text(128), "The topology's name"),
        "workflow" => (text(128), "The workflow's name"),
        _ => (text(128), "The service's name"),
    }
}

/// A text of 1 to `longest` characters without control characters.
pub(super) fn text(longest: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
}

/// A reference to a component.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn page(name: &str, line: &str) -> Value {
    object(
        &json!({
            name: {"type": "array", "items": reference(line)},
            "next": {"type": ["string", "null"], "description": "path of the next page"},
        }),
        &[name, "next"],
    )
}

/// A page of resources.
fn resources(field: &str, item: &str) -> Value {
    let mut resources = page(field, item);
    let about = format!("false if the cache lacks some {field}");
    resources["properties"]["complete"] = json!({"type": "boolean", "description": about});
    resources["required"] = json!([field, "complete", "next"]);
    resources
}

fn operation_id() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": wire::ids::MAX_OPERATION_ID, "pattern": wire::ids::OPERATION_ID_PATTERN})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn when(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": format!("{about}, in milliseconds since 1970")})
}

fn problem(brought: &[RestRoutes]) -> Value {
    let codes = Code::ALL.iter().chain(brought.iter().flat_map(|of| of.codes));
    let codes: Vec<&str> = codes.map(Code::as_str).collect();
    let mut problem = object(
        &json!({
            "type": {"type": "string", "description": "`urn:nave:` and the code"},
            "title": {"type": "string", "description": "what happened, the same for each occurrence"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "this occurrence"},
            "code": {"type": "string", "enum": codes},
            "field": {"type": "string", "description": "the wrong field, header or parameter"},
            "instance": {"type": "string", "description": "the path of the operation"},
        }),
        &["type", "title", "status", "detail", "code"],
    );
    problem["description"] = "a problem (RFC 9457); a failed workflow adds its own members".into();
    problem
}

fn operation() -> Value {
    let conversation = object(
        &json!({
            "call": {"type": "string"}, "attempt": count(), "attempts": count(), "doing": {"type": "string"},
            "until": when("the next action of the worker"),
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
        &json!({"seq": count(), "at": when("the time of the event"), "what": {"type": "string"}}),
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
            "body": {"description": "the answer of the workflow"},
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
            "begun": when("the start"),
            "signal": {"type": ["string", "null"]},
            "outcome": {"enum": ["done", "failed", "refused", null]},
        }),
        &["operation", "topology", "workflow", "key", "state", "live", "begun", "signal", "outcome"],
    )
}

fn topologies() -> Value {
    let line = object(
        &json!({
            "name": {"type": "string"}, "state": state(), "at": when("the submission"),
            "workflows": {"type": "array", "items": {"type": "string"}},
        }),
        &["name", "state", "at", "workflows"],
    );
    object(&json!({"topologies": {"type": "array", "items": line}}), &["topologies"])
}

fn state() -> Value {
    json!({"type": "string", "enum": ["starting", "running", "inactive", "ending"]})
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
            "request": {"description": "JSON Schema of a request"},
        }),
        &["name", "stage", "request"],
    );
    object(
        &json!({
            "name": {"type": "string"},
            "state": state(),
            "at": when("the submission"),
            "ends": {"type": ["integer", "null"], "minimum": 0, "description": "the time at which it ends, finished or not"},
            "threads": {"type": ["integer", "null"], "minimum": 1, "description": "the number of threads that a rebalance has set"},
            "graph": graph(),
            "build": {"type": "string"},
            "stages": {"type": "array", "items": stage},
            "workflows": {"type": "array", "items": workflow},
            "services": {"type": "array", "items": {"type": "string"}},
            "description": {"type": "string"},
        }),
        &["name", "state", "at", "ends", "threads", "graph", "build", "stages", "workflows", "services", "description"],
    )
}

/// The components and edges of a topology.
fn graph() -> Value {
    let text = || json!({"type": "string"});
    let component = object(
        &json!({
            "name": text(),
            "kind": {"type": "string", "enum": ["spout", "inbox-spout", "bolt"]},
            "stage": text(),
            "saves": {"type": "array", "items": text(), "description": "the names of its saved states, if any"},
        }),
        &["name", "kind", "stage"],
    );
    let edge = object(
        &json!({
            "from": text(), "stream": text(), "to": text(),
            "grouping": {"type": "string", "description": "local if tuples stay in their lane, otherwise they pass a topic"},
        }),
        &["from", "stream", "to", "grouping"],
    );
    object(
        &json!({"components": {"type": "array", "items": component}, "edges": {"type": "array", "items": edge}}),
        &["components", "edges"],
    )
}

/// Rejected replies, which name no call.
fn rejected() -> Value {
    object(
        &json!({
            "replies": count(),
            "last": {"type": "string", "description": "reason for the last rejection, with the wrong header"},
        }),
        &["replies", "last"],
    )
}

fn spoke() -> Value {
    let instance = object(
        &json!({
            "instance": {"type": "string"}, "up": {"type": "boolean"},
            "heard": when("the last heartbeat"), "every_ms": count(),
        }),
        &["instance", "up", "heard", "every_ms"],
    );
    let worker = object(
        &json!({
            "service": {"type": "string"}, "stage": {"type": "string"}, "lane": count(),
            "judged": {
                "enum": ["by_answers", "up", "down"],
                "description": "the verdict of the worker of this lane; if it is down, calls are refused at once",
            },
            "rejected": rejected(),
        }),
        &["service", "stage", "lane", "judged"],
    );
    object(
        &json!({
            "service": {"type": "string"},
            "up": {"type": ["boolean", "null"], "description": "null without a heartbeat in the last ten minutes, or after the `bye` of every instance"},
            "instances": {"type": "array", "items": instance},
            "workers": {"type": "array", "items": worker},
        }),
        &["service", "up", "instances", "workers"],
    )
}
