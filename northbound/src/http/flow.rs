//! Flows: let one be there, or be gone; which there are.
//!
//! | request | what became of it | status |
//! |---|---|---|
//! | `POST /flow` | the flow came up | 201 |
//! | | it existed, and was made sure of | 200 |
//! | `POST /v1/flows` | the flow came up | 201, with its `Location` |
//! | | it existed | 409 |
//! | `DELETE /v1/flows/{flowid}` | it is gone | 200 |
//! | | it was not there | 404 |
//! | | something of it is left | 502, with what is left |
//! | any of them | the client waited no longer | 202, with the `Location` of the operation |
//! | | anything else | a problem; see [`status_of`](super::problem::status_of) |

use std::sync::Arc;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use wire::answer::Answer;
use wire::flow::{CreateFlow, FlowFailed, FlowGone, FlowShown, FlowUp, NAME_ALLOWED, RemoveFlow, SHOWN_AS, is_name};
use wire::{Code, OperationId, Problem};

use super::Northbound;
use super::problem::Refused;
use super::route::Asked;
use super::start::{Came, start, unreadable};
use crate::directory::Entry;

/// The topology that makes flows.
const TOPOLOGY: &str = "flows";
/// The workflow that creates them.
const CREATE: &str = "create-flow";
/// The workflow that removes them.
const REMOVE: &str = "remove-flow";

/// `POST /flow`: a flow that is there already is as good as one that was made.
pub(super) async fn create_or_keep(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    create(&state, &asked, CreateFlow::from_json(&asked.json(None)?)?).await
}

/// `POST /v1/flows`: a flow that is there already is a conflict.
pub(super) async fn create_new(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let body = asked.json(None)?;
    if body.get("strict").is_some() {
        return Err(Problem::field("strict", "given", "only the fields flowid, length, error: it is strict").into());
    }
    let flow = CreateFlow { strict: true, ..CreateFlow::from_json(&body)? };
    create(&state, &asked, flow).await
}

async fn create(state: &Northbound, asked: &Asked, flow: CreateFlow) -> Result<Response, Refused> {
    let entry = mounted(state, CREATE)?;
    // As it was understood, so that two ways to write the same request are the same request.
    let request = serde_json::to_value(&flow).expect("a request can be written as JSON");
    match start(state, asked, &entry, CREATE, &flow.flowid, request).await? {
        Came::GoesOn(response) => Ok(response),
        Came::Answered(id, Answer::Done(body)) => {
            let up: FlowUp = read(&id, body)?;
            let body = json!({"message": up.message, "flowid": up.flowid, "operation": up.operation});
            if up.existed {
                return Ok((StatusCode::OK, Json(body)).into_response());
            }
            let location = [(header::LOCATION, format!("/v1/flows/{}", up.flowid))];
            Ok((StatusCode::CREATED, location, Json(body)).into_response())
        }
        Came::Answered(id, Answer::Failed(body)) => Err(failed(read(&id, body)?)),
        Came::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
    }
}

/// `DELETE /v1/flows/{flowid}`.
pub(super) async fn remove(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let entry = mounted(&state, REMOVE)?;
    let flowid = flowid(&asked)?.to_owned();
    let request = serde_json::to_value(RemoveFlow { flowid: flowid.clone() }).expect("a request is plain data");
    match start(&state, &asked, &entry, REMOVE, &flowid, request).await? {
        Came::GoesOn(response) => Ok(response),
        Came::Answered(id, Answer::Done(body)) => Ok(Json(read::<FlowGone>(&id, body)?).into_response()),
        Came::Answered(id, Answer::Failed(body)) => Err(failed(read(&id, body)?)),
        Came::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
    }
}

/// `GET /v1/flows/{flowid}`.
pub(super) async fn show(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let entry = mounted(&state, CREATE)?;
    let flowid = flowid(&asked)?;
    let shown = entry.gateway.shown();
    let thing = shown.get(SHOWN_AS, flowid).and_then(|thing| parsed(&thing));
    let complete = shown.page(SHOWN_AS, None, 0).complete;
    let known = if complete { "" } else { "; there are more flows than are known here" };
    thing
        .map(|thing| Json(thing).into_response())
        .ok_or_else(|| Refused::new(Code::UnknownFlow, format!("there is no flow `{flowid}`{known}")))
}

/// A page of flows.
#[derive(Serialize)]
struct FlowPage {
    flows: Vec<FlowShown>,
    /// False where there are more flows than are known here.
    complete: bool,
    /// Where the next page is; none where this is the last.
    next: Option<String>,
}

/// `GET /v1/flows`: in the order of their names.
pub(super) async fn list(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let entry = mounted(&state, CREATE)?;
    let limit = limit_of(&asked);
    let page = entry.gateway.shown().page(SHOWN_AS, asked.query("after"), limit);
    let last = page.things.last().map(|(flowid, _)| flowid.clone()).filter(|_| page.more);
    let next = last.map(|flowid| format!("/v1/flows?limit={limit}&after={flowid}"));
    let flows = page.things.iter().filter_map(|(_, thing)| parsed(thing)).collect();
    Ok(Json(FlowPage { flows, complete: page.complete, next }).into_response())
}

/// So many a page has.
pub(super) fn limit_of(asked: &Asked) -> usize {
    asked.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100)
}

/// The topology of flows, where it runs and has this workflow.
fn mounted(state: &Northbound, workflow: &str) -> Result<Arc<Entry>, Refused> {
    let entry = state.directory.required(TOPOLOGY)?;
    let options = entry.gateway.options();
    if options.stage_of(workflow).is_none() {
        let detail = format!("topology `{TOPOLOGY}` has no workflow `{workflow}`");
        return Err(Refused::new(Code::UnknownWorkflow, detail));
    }
    Ok(entry)
}

fn flowid(asked: &Asked) -> Result<&str, Refused> {
    let flowid = asked.path("flowid");
    is_name(flowid).then_some(flowid).ok_or_else(|| {
        Refused::new(Code::UnknownFlow, format!("there is no such flow: its name would be {NAME_ALLOWED}"))
    })
}

/// A flow as it is shown; none where a workflow shows what is none.
fn parsed(thing: &str) -> Option<FlowShown> {
    serde_json::from_str(thing).inspect_err(|error| tracing::error!(%error, "a flow that is shown cannot be read")).ok()
}

fn read<T: serde::de::DeserializeOwned>(id: &OperationId, body: Value) -> Result<T, Refused> {
    serde_json::from_value(body).map_err(|error| unreadable(id, &error))
}

/// A flow that failed, as a problem with all that is known of it.
fn failed(failed: FlowFailed) -> Refused {
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
    Refused::new(failed.code, failed.detail).of(&failed.operation).with(more)
}
