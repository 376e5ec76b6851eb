//! Starts an operation, and waits for its answer as long as the client wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::{Code, OperationId};

use super::Northbound;
use super::prefer::{idempotency_key, trace};
use super::problem::Refused;
use super::route::Asked;
use crate::Submission;
use crate::directory::Entry;

/// An operation as it is shown: with the topology that it belongs to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Shown {
    pub(super) topology: String,
    #[serde(flatten)]
    pub(super) operation: Operation,
}

/// How far it came while the client waited.
pub(super) enum Came {
    /// To its answer: done, or failed.
    Answered(OperationId, Answer),
    /// Not so far: this is what the client is told.
    GoesOn(Response),
}

/// Asks `workflow` of `entry` for `request` about `key`.
pub(super) async fn start(
    state: &Northbound,
    asked: &Asked,
    entry: &Arc<Entry>,
    workflow: &str,
    key: &str,
    request: Value,
) -> Result<Came, Refused> {
    entry.takes_requests()?;
    state.takes(entry, workflow, key)?;
    let (gateway, now) = (&entry.gateway, state.directory.wall());
    let deadline = asked.wishes.deadline().map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    let mut ticket = gateway.submit(Submission {
        idempotency_key: idempotency_key(&asked.headers)?,
        route: &asked.route(),
        trace: trace(&asked.headers),
        correlation: Some(&asked.correlation.0),
        expires: deadline.map(|ms| now.plus_ms(ms)),
        ..Submission::new(workflow, key, request, Uuid::new_v4())
    })?;
    let id = ticket.operation.clone();
    tracing::debug!(operation = %id, workflow, key, "submitted");
    let mut written = state.inlet.send(&ticket)?;

    // The client may go away at any point of this: its place is given back, and the operation goes on.
    let patience = asked.wishes.patience(gateway.options().limits.patience);
    // A 202 says that the request is safe, so a client that does not wait for its answer waits for that.
    let safe = if patience.is_zero() { gateway.options().limits.patience } else { patience };
    let begun = Instant::now();
    let durable = timeout_at(begun + safe, written.durable()).await;
    durable.map_err(|_| not_written(&id, safe))?.map_err(|problem| Refused::from(problem).of(&id))?;
    // A client that does not wait always gets a 202, however fast the hub is.
    let told = if patience.is_zero() { None } else { timeout_at(begun + patience, &mut ticket.answer).await.ok() };
    let told = match told {
        Some(Ok(told)) => told.map_err(|problem| Refused::from(problem).of(&id))?,
        // The gateway keeps the other end as long as the ticket lives.
        Some(Err(_)) => return Err(Refused::new(Code::NotReady, "the gateway is gone").of(&id)),
        None => {
            let shown = Shown { topology: entry.name(), operation: gateway.so_far(&ticket, workflow, key) };
            tracing::debug!(operation = %id, "the client waits no longer");
            if patience.is_zero() {
                ticket.detach();
            }
            let location = [(header::LOCATION, place_of(&id))];
            return Ok(Came::GoesOn((StatusCode::ACCEPTED, location, Json(shown)).into_response()));
        }
    };
    match told.answer {
        // A request that found no room has no operation that could be looked at.
        Some(Answer::Refused(problem)) if problem.code.is_temporary() => Err(problem.into()),
        Some(Answer::Refused(problem)) => Err(Refused::from(problem).of(&id)),
        Some(answer) => Ok(Came::Answered(id, answer)),
        None => Err(Refused::new(Code::Parked, "the hub sent an answer without an outcome").of(&id)),
    }
}

/// Where an operation is shown.
pub(super) fn place_of(operation: &OperationId) -> String {
    format!("/v1/operations/{operation}")
}

fn not_written(id: &OperationId, waited: Duration) -> Refused {
    let seconds = waited.as_secs_f64();
    let detail = format!(
        "the bus did not confirm the request within {seconds} s, so it may still be carried out; GET /v1/operations/{id} shows it \
         once it runs, and the same request with the same Idempotency-Key can be sent again"
    );
    Refused::new(Code::NotReady, detail).of(id)
}

/// An answer that is not what the workflow promised.
pub(super) fn unreadable(operation: &OperationId, error: &serde_json::Error) -> Refused {
    tracing::error!(%operation, %error, "the answer of a workflow cannot be read");
    Refused::new(Code::Parked, format!("the answer of the workflow cannot be read: {error}")).of(operation)
}
