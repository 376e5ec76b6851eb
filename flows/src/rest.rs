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
    self, FLOW_KIND, FlowGone, FlowMade, FlowUp, FlowView, NAME_ALLOWED, NAME_PATTERN, flow_name, is_name,
};
use flow_messages::codes;
use hub::Workflow;
use hub::schemars::{JsonSchema, SchemaGenerator, schema_for};
use serde_json::Value;
use wire::Problem;
use wire::rest::{Method, PathParameter, RestAction, RestDone, RestRoute, RestRoutes, RestStart};

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
    let parameters = vec![PathParameter {
        name: "flowid",
        about: "The flow's name",
        schema: flow_name(&mut SchemaGenerator::default()).to_value(),
    }];
    let schemas = vec![
        ("FlowToEnsure", schema_of::<client::CreateFlow>()),
        ("FlowToCreate", flow_to_create()),
        ("FlowMade", schema_of::<FlowMade>()),
        ("FlowGone", schema_of::<FlowGone>()),
        ("Flow", schema_of::<FlowView>()),
    ];
    RestRoutes { topology: NAME, routes, parameters, codes: codes::ALL, schemas }
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
    let made = FlowMade { message: up.message, flowid: up.flowid, operation: up.operation };
    Ok(RestDone { body: to_value(&made), created })
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
    Problem::new(codes::UNKNOWN_FLOW, detail)
}

/// The schema of `T`, without what only a document of its own has.
fn schema_of<T: JsonSchema>() -> Value {
    let mut schema = schema_for!(T);
    for member in ["$schema", "title", "description"] {
        schema.remove(member);
    }
    schema.to_value()
}

/// The body of `POST /v1/flows`, which is always strict.
fn flow_to_create() -> Value {
    let mut schema = schema_of::<client::CreateFlow>();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("strict");
    }
    schema
}
