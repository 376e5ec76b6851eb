//! The REST routes of flows.
//!
//! | request | result | status |
//! |---|---|---|
//! | `POST /flow` | the flow was created | 201, with its `Location` |
//! | | it existed and was verified | 200 |
//! | `POST /v1/flows` | the flow was created | 201, with its `Location` |
//! | | it existed | 409 |
//! | `DELETE /v1/flows/{flowid}` | the flow was removed | 200 |
//! | | it did not exist | 404 |
//! | | rules of it are left | 502, with these rules |
//! | any of them | the client stopped waiting | 202, with the `Location` of the operation |
//! | | any other result | a problem with the status of its code |

use std::collections::BTreeMap;

use flow_messages::client::{
    self, FLOW_KIND, FlowGone, FlowUp, InjectedFault, MAX_LENGTH, MAX_NAME_CHARS, NAME_ALLOWED, NAME_PATTERN, is_name,
};
use hub::Workflow;
use serde_json::{Value, json};
use wire::rest::{Method, PathParameter, RestAction, RestDone, RestRoute, RestRoutes, RestStart};
use wire::{Code, Problem};

use crate::create::CreateFlow;
use crate::remove::RemoveFlow;
use crate::steps::to_value;
use crate::topology::NAME;

/// The REST routes of flows.
pub fn rest_routes() -> RestRoutes {
    let made: &[(u16, &str)] = &[(200, "FlowMade"), (201, "FlowMade")];
    let create = |request| RestAction::Start { workflow: CreateFlow::NAME, request, done: created };
    let routes = vec![
        RestRoute {
            method: Method::Post,
            path: "/flow",
            name: "ensureFlow",
            about: "Creates a flow if it does not exist, and verifies an existing one",
            body: Some("FlowToEnsure"),
            responses: made,
            action: create(ensure),
        },
        RestRoute {
            method: Method::Post,
            path: "/v1/flows",
            name: "createFlow",
            about: "Creates a flow; fails with a conflict if it exists",
            body: Some("FlowToCreate"),
            responses: made,
            action: create(create_strictly),
        },
        RestRoute {
            method: Method::Get,
            path: "/v1/flows",
            name: "listFlows",
            about: "Lists the flows by name",
            body: None,
            responses: &[(200, "Flows")],
            action: RestAction::List {
                kind: FLOW_KIND,
                field: "flows",
                item: "Flow",
                pattern: NAME_PATTERN,
                is_key: is_name,
            },
        },
        RestRoute {
            method: Method::Get,
            path: "/v1/flows/{flowid}",
            name: "getFlow",
            about: "Returns the state of a flow",
            body: None,
            responses: &[(200, "Flow")],
            action: RestAction::Show { kind: FLOW_KIND, parameter: "flowid", unknown },
        },
        RestRoute {
            method: Method::Delete,
            path: "/v1/flows/{flowid}",
            name: "deleteFlow",
            about: "Removes a flow: removes and verifies every rule, and releases its resources",
            body: None,
            responses: &[(200, "FlowGone")],
            action: RestAction::Start { workflow: RemoveFlow::NAME, request: remove, done: removed },
        },
    ];
    let parameters = vec![PathParameter { name: "flowid", about: "The flow's name", schema: flow_name() }];
    let schemas = vec![
        ("FlowToEnsure", flow_to_create(true)),
        ("FlowToCreate", flow_to_create(false)),
        ("FlowMade", flow_made()),
        ("FlowGone", flow_gone()),
        ("Flow", flow()),
    ];
    RestRoutes { topology: NAME, routes, parameters, schemas }
}

/// `POST /flow`.
fn ensure(_: &BTreeMap<String, String>, body: &Value) -> Result<RestStart, Problem> {
    Ok(start(client::CreateFlow::from_json(body)?))
}

/// `POST /v1/flows`: an existing flow is a conflict.
fn create_strictly(_: &BTreeMap<String, String>, body: &Value) -> Result<RestStart, Problem> {
    if body.get("strict").is_some() {
        let allowed = "only the fields flowid, length, error: this path is always strict";
        return Err(Problem::field("strict", "given", allowed));
    }
    Ok(start(client::CreateFlow { strict: true, ..client::CreateFlow::from_json(body)? }))
}

/// The request of a creation, in normalised form, so that two notations of the same request are
/// equal.
fn start(flow: client::CreateFlow) -> RestStart {
    RestStart { request: to_value(&flow), key: flow.flowid }
}

/// `DELETE /v1/flows/{flowid}`.
fn remove(path: &BTreeMap<String, String>, _: &Value) -> Result<RestStart, Problem> {
    let flowid = path.get("flowid").cloned().unwrap_or_default();
    if !is_name(&flowid) {
        return Err(unknown(&flowid));
    }
    Ok(RestStart { key: flowid.clone(), request: to_value(&client::RemoveFlow { flowid }) })
}

fn created(body: Value) -> Result<RestDone, serde_json::Error> {
    let up: FlowUp = serde_json::from_value(body)?;
    let created = (!up.existed).then(|| format!("/v1/flows/{}", up.flowid));
    let body = json!({"message": up.message, "flowid": up.flowid, "operation": up.operation});
    Ok(RestDone { body, created })
}

fn removed(body: Value) -> Result<RestDone, serde_json::Error> {
    let gone: FlowGone = serde_json::from_value(body)?;
    Ok(RestDone { body: to_value(&gone), created: None })
}

fn unknown(flowid: &str) -> Problem {
    let detail = if is_name(flowid) {
        format!("flow `{flowid}` does not exist")
    } else {
        format!("the flow does not exist: a flow name has {NAME_ALLOWED}")
    };
    Problem::new(Code::UnknownFlow, detail)
}

fn flow_to_create(strict: bool) -> Value {
    let mut properties = json!({
        "flowid": flow_name(),
        "length": {
            "type": "integer", "minimum": 1, "maximum": MAX_LENGTH,
            "description": "number of rules: rule i belongs on switch of:i",
        },
        "error": {
            "enum": [null, 0, 1, 2, "IN_HUB", "IN_WORKER", "IN_FL"],
            "description": format!("a fault to inject: {}", InjectedFault::ALLOWED),
        },
    });
    if strict {
        properties["strict"] = json!({
            "type": ["boolean", "null"], "description": "true: fails if the flow exists",
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
            "left": {"type": "array", "items": count(), "description": "the rules that are left of a degraded flow"},
            "operation": operation_id(),
        }),
        &["flowid", "length", "cookie", "state", "operation"],
    )
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn flow_name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": NAME_PATTERN})
}

fn operation_id() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": wire::ids::MAX_OPERATION_ID,
        "pattern": wire::ids::OPERATION_ID_PATTERN,
    })
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}
