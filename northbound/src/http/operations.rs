//! Handlers of operations: list, show and commands.

use std::sync::Arc;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::{Code, OperationId, Problem, WallTime};

use super::Northbound;
use super::problem::ProblemResponse;
use super::route::ApiRequest;
use super::start::{OperationView, operation_path};
use crate::OperationCommand;
use crate::directory::TopologyEntry;
use crate::operation_cache::ListPosition;

/// `GET /v1/operations/{id}`.
pub(super) async fn show(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let (entry, operation) = find_operation(&state, &req)?;
    Ok(Json(OperationView { topology: entry.name(), operation }).into_response())
}

/// The operation of the path and its topology.
pub(super) fn find_operation(
    state: &Northbound,
    req: &ApiRequest,
) -> Result<(Arc<TopologyEntry>, Operation), ProblemResponse> {
    let id = OperationId::new(req.path("id")).ok();
    let entry = id.as_ref().and_then(|id| state.directory.of_operation(id));
    let operation = entry.as_ref().zip(id.as_ref()).and_then(|(entry, id)| entry.gateway.operation(id));
    entry.zip(operation).ok_or_else(|| {
        let shown: String = req.path("id").chars().take(128).collect();
        ProblemResponse::new(Code::UnknownOperation, format!("operation `{shown}` is not in the cache of any topology"))
    })
}

/// An operation in a list.
#[derive(Serialize)]
struct OperationLine {
    operation: OperationId,
    topology: String,
    workflow: String,
    key: String,
    state: String,
    live: bool,
    /// Start time, in milliseconds since 1970.
    begun: WallTime,
    /// The signal that it waits for, if any.
    signal: Option<String>,
    /// The result of its answer; none before the answer.
    outcome: Option<&'static str>,
}

#[derive(Serialize)]
struct OperationPage {
    operations: Vec<OperationLine>,
    next: Option<String>,
}

/// `GET /v1/operations`: newest first.
pub(super) async fn list(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let limit = req.limit();
    let after = req.query("after").and_then(cursor);
    let is = |name: &str, value: &str| req.query(name).is_none_or(|wanted| wanted == value);
    let live = req.query("live").map(|live| live == "true");
    let matches = |view: &Operation| {
        is("state", &view.state)
            && is("workflow", &view.workflow)
            && is("key", &view.key)
            && live.is_none_or(|live| live == view.live)
    };
    let mut lines: Vec<(ListPosition, OperationLine)> = Vec::new();
    let mut more = false;
    for entry in state.directory.all().into_iter().filter(|entry| is("topology", &entry.submitted.name)) {
        let (page, rest) = entry.gateway.operations().page(after.as_ref(), limit, matches);
        more |= rest;
        lines.extend(page.into_iter().map(|(begun, view)| (begun.clone(), line(&entry, begun.0, view))));
    }
    lines.sort_by(|(a, _), (b, _)| b.cmp(a));
    more |= lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|((begun, id), _)| next_page(&req, limit, *begun, id));
    Ok(Json(OperationPage { operations: lines.into_iter().map(|(_, line)| line).collect(), next }).into_response())
}

fn line(entry: &TopologyEntry, begun: WallTime, view: Operation) -> OperationLine {
    let outcome = view.answer.as_ref().map(|answer| match answer {
        Answer::Done(_) => "done",
        Answer::Failed(_) => "failed",
        Answer::Refused(_) => "refused",
    });
    let Operation { operation, key, workflow, state, live, signal, .. } = view;
    OperationLine { operation, topology: entry.name(), workflow, key, state, live, begun, signal, outcome }
}

/// Parses a position in the list: start time in milliseconds since 1970, and id.
pub(super) fn cursor(after: &str) -> Option<ListPosition> {
    let (at, id) = after.split_once('.')?;
    let digits = (1..=15).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_digit());
    Some((WallTime(at.parse().ok().filter(|_| digits)?), OperationId::new(id).ok()?))
}

fn next_page(req: &ApiRequest, limit: usize, begun: WallTime, id: &OperationId) -> String {
    let mut next = vec![format!("/v1/operations?limit={limit}&after={}.{id}", begun.0)];
    for name in ["state", "live", "workflow", "key", "topology"] {
        next.extend(req.query(name).map(|value| format!("{name}={}", escaped(value))));
    }
    next.join("&")
}

/// A percent-encoded query value: everything except the unreserved characters of RFC 3986.
pub(super) fn escaped(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(byte).collect()
}

// ---- commands ----------------------------------------------------------------------------------

/// `DELETE /v1/operations/{id}`: undoes the changes of the operation and ends it.
pub(super) async fn cancel(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    command(&state, &req, Command::Cancel).await
}

/// `POST /v1/operations/{id}/signals/{signal}`.
pub(super) async fn signal(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let name = req.path("signal").to_owned();
    if !super::route::is_text(&name, 64) {
        return Err(Problem::field("signal", "another", "1 to 64 characters without control characters").into());
    }
    let body = req.json(Some(Value::Null))?;
    command(&state, &req, Command::Signal { name, body }).await
}

/// `POST /v1/operations/{id}/resume`.
pub(super) async fn resume(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    command(&state, &req, Command::Resume).await
}

/// `POST /v1/operations/{id}/abort`.
pub(super) async fn abort(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    command(&state, &req, Command::Abort).await
}

/// Sends a command and returns the hub's answer: 202 while the operation lives, 200 if it has
/// ended.
async fn command(state: &Northbound, req: &ApiRequest, command: Command) -> Result<Response, ProblemResponse> {
    let target = target(state, req)?;
    let (gateway, id) = (&target.entry.gateway, &target.id);
    state.check_ready(&target.entry, &target.workflow, &target.key)?;
    let mut ticket = gateway.command(&OperationCommand {
        operation: id,
        workflow: &target.workflow,
        key: &target.key,
        command: &command,
        correlation: Some(&req.correlation.0),
        http_id: Uuid::new_v4(),
    })?;
    tracing::info!(operation = %id, command = command.as_str(), correlation = req.correlation.0, "sending a command");
    let mut written = state.inlet.send_command(&ticket)?;
    let told = timeout(gateway.options().limits.patience, async {
        written.durable().await?;
        let gone = || Problem::new(Code::NotReady, "the gateway was closed");
        (&mut ticket.outcome).await.unwrap_or_else(|_| Err(gone()))
    });
    let told = told.await.unwrap_or_else(|_| {
        let detail = "the hub did not answer the command in time; the command may still be accepted";
        Err(Problem::new(Code::NotReady, detail))
    });
    match told.map_err(|problem| ProblemResponse::from(problem).of(id))? {
        Outcome::Taken(operation) => Ok(operation_response(&target.entry, *operation)),
        Outcome::Refused(problem) => Err(ProblemResponse::from(problem).of(id)),
    }
}

fn operation_response(entry: &TopologyEntry, operation: Operation) -> Response {
    let status = if operation.live { StatusCode::ACCEPTED } else { StatusCode::OK };
    let location = [(header::CONTENT_LOCATION, operation_path(&operation.operation))];
    (status, location, Json(OperationView { topology: entry.name(), operation })).into_response()
}

/// The target of a command.
struct Target {
    entry: Arc<TopologyEntry>,
    id: OperationId,
    workflow: String,
    key: String,
}

/// From the cache, or from the query for an operation that is no longer cached.
fn target(state: &Northbound, req: &ApiRequest) -> Result<Target, ProblemResponse> {
    let unknown = match find_operation(state, req) {
        Ok((entry, operation)) => {
            let Operation { operation: id, workflow, key, .. } = operation;
            return Ok(Target { entry, id, workflow, key });
        }
        Err(unknown) => unknown,
    };
    let (Some(key), Some(topology), Ok(id)) =
        (req.query("key"), req.query("topology"), OperationId::new(req.path("id")))
    else {
        let hint = json!("add `key` and `topology` of the operation to the query");
        return Err(unknown.with([("hint".to_owned(), hint)].into_iter().collect()));
    };
    let entry = state.directory.required(topology)?;
    let workflows = &entry.gateway.options().workflows;
    let workflow = req.query("workflow").or_else(|| workflows.keys().next().map(String::as_str));
    let (workflow, key) = (workflow.unwrap_or_default().to_owned(), key.to_owned());
    Ok(Target { entry, id, workflow, key })
}
