//! Handlers of flows: create, remove, show and list.
//!
//! | request | result | status |
//! |---|---|---|
//! | `POST /flow` | the flow was created | 201 |
//! | | it existed and was verified | 200 |
//! | `POST /v1/flows` | the flow was created | 201, with its `Location` |
//! | | it existed | 409 |
//! | `DELETE /v1/flows/{flowid}` | the flow was removed | 200 |
//! | | it did not exist | 404 |
//! | | rules of it are left | 502, with these rules |
//! | any of them | the client stopped waiting | 202, with the `Location` of the operation |
//! | | any other result | a problem; see [`status_of`](super::problem::status_of) |

use std::sync::Arc;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use flow_messages::client::{
    CreateFlow, FLOW_KIND, FlowFailed, FlowGone, FlowUp, FlowView, NAME_ALLOWED, RemoveFlow, is_name,
};
use serde::Serialize;
use serde_json::{Value, json};
use wire::answer::Answer;
use wire::{Code, OperationId, Problem};

use super::Northbound;
use super::problem::ProblemResponse;
use super::route::ApiRequest;
use super::start::{StartOutcome, start, unreadable};
use crate::directory::TopologyEntry;

/// The topology of flows.
const TOPOLOGY: &str = "flows";
/// The workflow that creates them.
const CREATE: &str = "create-flow";
/// The workflow that removes them.
const REMOVE: &str = "remove-flow";

/// `POST /flow`: creates the flow if it does not exist.
pub(super) async fn ensure_flow(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    create(&state, &req, CreateFlow::from_json(&req.json(None)?)?).await
}

/// `POST /v1/flows`: an existing flow is a conflict.
pub(super) async fn create_flow(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let body = req.json(None)?;
    if body.get("strict").is_some() {
        return Err(Problem::field(
            "strict",
            "given",
            "only the fields flowid, length, error: this path is always strict",
        )
        .into());
    }
    let flow = CreateFlow { strict: true, ..CreateFlow::from_json(&body)? };
    create(&state, &req, flow).await
}

async fn create(state: &Northbound, req: &ApiRequest, flow: CreateFlow) -> Result<Response, ProblemResponse> {
    let entry = flow_topology(state, CREATE)?;
    // In normalised form, so that two notations of the same request are equal.
    let request = serde_json::to_value(&flow).expect("a request can be written as JSON");
    match start(state, req, &entry, CREATE, &flow.flowid, request).await? {
        StartOutcome::Pending(response) => Ok(response),
        StartOutcome::Answered(id, Answer::Done(body)) => {
            let up: FlowUp = read(&id, body)?;
            let body = json!({"message": up.message, "flowid": up.flowid, "operation": up.operation});
            if up.existed {
                return Ok((StatusCode::OK, Json(body)).into_response());
            }
            let location = [(header::LOCATION, format!("/v1/flows/{}", up.flowid))];
            Ok((StatusCode::CREATED, location, Json(body)).into_response())
        }
        StartOutcome::Answered(id, Answer::Failed(body)) => Err(failed(read(&id, body)?)),
        StartOutcome::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
    }
}

/// `DELETE /v1/flows/{flowid}`.
pub(super) async fn remove(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let entry = flow_topology(&state, REMOVE)?;
    let flowid = flowid(&req)?.to_owned();
    let request = serde_json::to_value(RemoveFlow { flowid: flowid.clone() }).expect("a request is plain data");
    match start(&state, &req, &entry, REMOVE, &flowid, request).await? {
        StartOutcome::Pending(response) => Ok(response),
        StartOutcome::Answered(id, Answer::Done(body)) => Ok(Json(read::<FlowGone>(&id, body)?).into_response()),
        StartOutcome::Answered(id, Answer::Failed(body)) => Err(failed(read(&id, body)?)),
        StartOutcome::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
    }
}

/// `GET /v1/flows/{flowid}`.
pub(super) async fn show(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let entry = flow_topology(&state, CREATE)?;
    let flowid = flowid(&req)?;
    let shown = entry.gateway.resources();
    let resource = shown.get(FLOW_KIND, flowid).and_then(|resource| parsed(&resource));
    let complete = shown.page(FLOW_KIND, None, 0).complete;
    let known = if complete { "" } else { "; the cache of this northbound is full and lacks some flows" };
    resource
        .map(|resource| Json(resource).into_response())
        .ok_or_else(|| ProblemResponse::new(Code::UnknownFlow, format!("flow `{flowid}` does not exist{known}")))
}

/// A page of flows.
#[derive(Serialize)]
struct FlowPage {
    flows: Vec<FlowView>,
    /// False if the cache lacks some flows.
    complete: bool,
    /// Path of the next page; none on the last one.
    next: Option<String>,
}

/// `GET /v1/flows`: by name.
pub(super) async fn list(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let entry = flow_topology(&state, CREATE)?;
    let limit = limit_of(&req);
    let page = entry.gateway.resources().page(FLOW_KIND, req.query("after"), limit);
    let last = page.resources.last().map(|(flowid, _)| flowid.clone()).filter(|_| page.more);
    let next = last.map(|flowid| format!("/v1/flows?limit={limit}&after={flowid}"));
    let flows = page.resources.iter().filter_map(|(_, resource)| parsed(resource)).collect();
    Ok(Json(FlowPage { flows, complete: page.complete, next }).into_response())
}

/// The page size: `limit`, or 100.
pub(super) fn limit_of(req: &ApiRequest) -> usize {
    req.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100)
}

/// The topology of flows, if it has this workflow.
fn flow_topology(state: &Northbound, workflow: &str) -> Result<Arc<TopologyEntry>, ProblemResponse> {
    let entry = state.directory.required(TOPOLOGY)?;
    let options = entry.gateway.options();
    if options.stage_of(workflow).is_none() {
        let detail = format!("topology `{TOPOLOGY}` has no workflow `{workflow}`");
        return Err(ProblemResponse::new(Code::UnknownWorkflow, detail));
    }
    Ok(entry)
}

fn flowid(req: &ApiRequest) -> Result<&str, ProblemResponse> {
    let flowid = req.path("flowid");
    is_name(flowid).then_some(flowid).ok_or_else(|| {
        ProblemResponse::new(Code::UnknownFlow, format!("the flow does not exist: a flow name has {NAME_ALLOWED}"))
    })
}

/// A flow of the cache; none if it cannot be parsed.
fn parsed(resource: &str) -> Option<FlowView> {
    serde_json::from_str(resource).inspect_err(|error| tracing::error!(%error, "cannot parse the state of a flow")).ok()
}

fn read<T: serde::de::DeserializeOwned>(id: &OperationId, body: Value) -> Result<T, ProblemResponse> {
    serde_json::from_value(body).map_err(|error| unreadable(id, &error))
}

/// A failed flow as a problem with all details.
fn failed(failed: FlowFailed) -> ProblemResponse {
    let more = [
        ("message", json!(failed.message)),
        ("flowid", json!(failed.flowid)),
        ("operation", json!(failed.operation)),
        ("origin", json!(failed.origin)),
        ("step", json!(failed.step)),
        ("degraded", json!(failed.degraded)),
        ("left", json!(failed.left)),
    ];
    let more = more.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    ProblemResponse::new(failed.code, failed.detail).of(&failed.operation).with(more)
}
