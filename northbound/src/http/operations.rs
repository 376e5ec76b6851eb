//! Operations: which there are, how one stands, and what it is told.

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
use super::flow::limit_of;
use super::problem::Refused;
use super::route::Asked;
use super::start::{Shown, place_of};
use crate::Order;
use crate::directory::Entry;
use crate::known::Begun;

/// `GET /v1/operations/{id}`.
pub(super) async fn show(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let (entry, operation) = known(&state, &asked)?;
    Ok(Json(Shown { topology: entry.name(), operation }).into_response())
}

/// The operation of the path, and its topology.
pub(super) fn known(state: &Northbound, asked: &Asked) -> Result<(Arc<Entry>, Operation), Refused> {
    let id = OperationId::new(asked.path("id")).ok();
    let entry = id.as_ref().and_then(|id| state.directory.of_operation(id));
    let operation = entry.as_ref().zip(id.as_ref()).and_then(|(entry, id)| entry.gateway.operation(id));
    entry.zip(operation).ok_or_else(|| {
        let shown: String = asked.path("id").chars().take(128).collect();
        Refused::new(Code::UnknownOperation, format!("`{shown}` is not among the newest operations of any topology"))
    })
}

/// An operation in a list.
#[derive(Serialize)]
struct Line {
    operation: OperationId,
    topology: String,
    workflow: String,
    key: String,
    state: String,
    live: bool,
    /// When it began, in milliseconds since 1970.
    begun: WallTime,
    /// The signal that it waits for, where it waits for a person.
    signal: Option<String>,
    /// How it was answered: done, failed, refused; none where it was not yet.
    outcome: Option<&'static str>,
}

#[derive(Serialize)]
struct Lines {
    operations: Vec<Line>,
    next: Option<String>,
}

/// `GET /v1/operations`: the newest first.
pub(super) async fn list(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let limit = limit_of(&asked);
    let after = asked.query("after").and_then(cursor);
    let is = |name: &str, value: &str| asked.query(name).is_none_or(|wanted| wanted == value);
    let live = asked.query("live").map(|live| live == "true");
    let matches = |view: &Operation| {
        is("state", &view.state)
            && is("workflow", &view.workflow)
            && is("key", &view.key)
            && live.is_none_or(|live| live == view.live)
    };
    let mut lines: Vec<(Begun, Line)> = Vec::new();
    let mut more = false;
    for entry in state.directory.all().into_iter().filter(|entry| is("topology", &entry.submitted.name)) {
        let (page, rest) = entry.gateway.known().page(after.as_ref(), limit, matches);
        more |= rest;
        lines.extend(page.into_iter().map(|(begun, view)| (begun.clone(), line(&entry, begun.0, view))));
    }
    lines.sort_by(|(a, _), (b, _)| b.cmp(a));
    more |= lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|((begun, id), _)| next_page(&asked, limit, *begun, id));
    Ok(Json(Lines { operations: lines.into_iter().map(|(_, line)| line).collect(), next }).into_response())
}

fn line(entry: &Entry, begun: WallTime, view: Operation) -> Line {
    let outcome = view.answer.as_ref().map(|answer| match answer {
        Answer::Done(_) => "done",
        Answer::Failed(_) => "failed",
        Answer::Refused(_) => "refused",
    });
    let Operation { operation, key, workflow, state, live, signal, .. } = view;
    Line { operation, topology: entry.name(), workflow, key, state, live, begun, signal, outcome }
}

/// A place in the list: when the operation began, in milliseconds since 1970, and its id.
pub(super) fn cursor(after: &str) -> Option<Begun> {
    let (at, id) = after.split_once('.')?;
    let digits = (1..=15).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_digit());
    Some((WallTime(at.parse().ok().filter(|_| digits)?), OperationId::new(id).ok()?))
}

fn next_page(asked: &Asked, limit: usize, begun: WallTime, id: &OperationId) -> String {
    let mut next = vec![format!("/v1/operations?limit={limit}&after={}.{id}", begun.0)];
    for name in ["state", "live", "workflow", "key", "topology"] {
        next.extend(asked.query(name).map(|value| format!("{name}={}", escaped(value))));
    }
    next.join("&")
}

/// A value in a query: everything but what RFC 3986 calls unreserved is escaped.
fn escaped(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(byte).collect()
}

// ---- commands -----------------------------------------------------------------------------------------------------------

/// `DELETE /v1/operations/{id}`: what was done is undone, and the operation ends.
pub(super) async fn cancel(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    command(&state, &asked, Command::Cancel).await
}

/// `POST /v1/operations/{id}/signals/{signal}`.
pub(super) async fn signal(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let name = asked.path("signal").to_owned();
    if !super::route::is_text(&name, 64) {
        return Err(Problem::field("signal", "another", "1 to 64 characters without control characters").into());
    }
    let body = asked.json(Some(Value::Null))?;
    command(&state, &asked, Command::Signal { name, body }).await
}

/// `POST /v1/operations/{id}/resume`.
pub(super) async fn resume(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    command(&state, &asked, Command::Resume).await
}

/// `POST /v1/operations/{id}/abort`.
pub(super) async fn abort(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    command(&state, &asked, Command::Abort).await
}

/// Tells an operation something, and the client what its hub made of it: 202 where the operation goes on, 200 where it is
/// over.
async fn command(state: &Northbound, asked: &Asked, command: Command) -> Result<Response, Refused> {
    let target = target(state, asked)?;
    let (gateway, id) = (&target.entry.gateway, &target.id);
    state.takes(&target.entry, &target.workflow, &target.key)?;
    let mut ticket = gateway.command(&Order {
        operation: id,
        workflow: &target.workflow,
        key: &target.key,
        command: &command,
        correlation: Some(&asked.correlation.0),
        http_id: Uuid::new_v4(),
    })?;
    tracing::info!(operation = %id, command = command.as_str(), correlation = asked.correlation.0, "a command");
    let mut written = state.inlet.order(&ticket)?;
    let told = timeout(gateway.options().limits.patience, async {
        written.durable().await?;
        let gone = || Problem::new(Code::NotReady, "the gateway is gone");
        (&mut ticket.outcome).await.unwrap_or_else(|_| Err(gone()))
    });
    let told = told.await.unwrap_or_else(|_| {
        let detail = "its hub has not said yet what it made of the command, which may yet be taken";
        Err(Problem::new(Code::NotReady, detail))
    });
    match told.map_err(|problem| Refused::from(problem).of(id))? {
        Outcome::Taken(operation) => Ok(stands(&target.entry, *operation)),
        Outcome::Refused(problem) => Err(Refused::from(problem).of(id)),
    }
}

fn stands(entry: &Entry, operation: Operation) -> Response {
    let status = if operation.live { StatusCode::ACCEPTED } else { StatusCode::OK };
    let location = [(header::CONTENT_LOCATION, place_of(&operation.operation))];
    (status, location, Json(Shown { topology: entry.name(), operation })).into_response()
}

/// Whom a command is for.
struct Target {
    entry: Arc<Entry>,
    id: OperationId,
    workflow: String,
    key: String,
}

/// As the operation is known; or as the client says, for one that is older than what is known here.
fn target(state: &Northbound, asked: &Asked) -> Result<Target, Refused> {
    let unknown = match known(state, asked) {
        Ok((entry, operation)) => {
            let Operation { operation: id, workflow, key, .. } = operation;
            return Ok(Target { entry, id, workflow, key });
        }
        Err(unknown) => unknown,
    };
    let (Some(key), Some(topology), Ok(id)) =
        (asked.query("key"), asked.query("topology"), OperationId::new(asked.path("id")))
    else {
        let hint = json!("give `key` and `topology` in the query where you know them");
        return Err(unknown.with([("hint".to_owned(), hint)].into_iter().collect()));
    };
    let entry = state.directory.required(topology)?;
    let workflows = &entry.gateway.options().workflows;
    let workflow = asked.query("workflow").or_else(|| workflows.keys().next().map(String::as_str));
    let (workflow, key) = (workflow.unwrap_or_default().to_owned(), key.to_owned());
    Ok(Target { entry, id, workflow, key })
}
