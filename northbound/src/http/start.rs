//! Starts an operation and waits for its answer as long as the client wants.

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
use super::preferences::{idempotency_key, trace};
use super::problem::ProblemResponse;
use super::route::ApiRequest;
use crate::Submission;
use crate::directory::TopologyEntry;

/// The view of an operation with its topology.
#[derive(Debug, Clone, Serialize)]
pub(super) struct OperationView {
    pub(super) topology: String,
    #[serde(flatten)]
    pub(super) operation: Operation,
}

/// The result of a start when the client's wait ends.
pub(super) enum StartOutcome {
    /// The operation has its answer.
    Answered(OperationId, Answer),
    /// It has no answer yet: this 202 is sent.
    Pending(Response),
}

/// Starts `workflow` of `entry` with `request` for `key`.
pub(super) async fn start(
    state: &Northbound,
    req: &ApiRequest,
    entry: &Arc<TopologyEntry>,
    workflow: &str,
    key: &str,
    request: Value,
) -> Result<StartOutcome, ProblemResponse> {
    entry.takes_requests()?;
    state.check_ready(entry, workflow, key)?;
    let (gateway, now) = (&entry.gateway, state.directory.wall());
    let deadline = req.preferences.deadline().map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    let mut ticket = gateway.submit(Submission {
        idempotency_key: idempotency_key(&req.headers)?,
        route: &req.route(),
        trace: trace(&req.headers),
        correlation: Some(&req.correlation.0),
        expires: deadline.map(|ms| now.plus_ms(ms)),
        ..Submission::new(workflow, key, request, Uuid::new_v4())
    })?;
    let id = ticket.operation.clone();
    tracing::debug!(operation = %id, workflow, key, "submitted");
    let mut written = state.inlet.send(&ticket)?;

    // The client may disconnect at any time: its place is given back, and the operation continues.
    let patience = req.preferences.patience(gateway.options().limits.patience);
    // A 202 promises a durable request, so a client that does not wait for its answer waits for the
    // write.
    let safe = if patience.is_zero() { gateway.options().limits.patience } else { patience };
    let begun = Instant::now();
    let durable = timeout_at(begun + safe, written.durable()).await;
    durable.map_err(|_| not_written(&id, safe))?.map_err(|problem| ProblemResponse::from(problem).of(&id))?;
    // A client that does not wait always gets a 202, even if the hub is fast.
    let told = if patience.is_zero() { None } else { timeout_at(begun + patience, &mut ticket.answer).await.ok() };
    let told = match told {
        Some(Ok(told)) => told.map_err(|problem| ProblemResponse::from(problem).of(&id))?,
        // The gateway keeps the sender as long as the ticket lives.
        Some(Err(_)) => return Err(ProblemResponse::new(Code::NotReady, "the gateway was closed").of(&id)),
        None => {
            let shown = OperationView { topology: entry.name(), operation: gateway.progress(&ticket, workflow, key) };
            tracing::debug!(operation = %id, "the client's wait has ended");
            if patience.is_zero() {
                ticket.detach();
            }
            let location = [(header::LOCATION, operation_path(&id))];
            return Ok(StartOutcome::Pending((StatusCode::ACCEPTED, location, Json(shown)).into_response()));
        }
    };
    match told.answer {
        // A request refused by a limit has no operation to point to.
        Some(Answer::Refused(problem)) if problem.code.is_temporary() => Err(problem.into()),
        Some(Answer::Refused(problem)) => Err(ProblemResponse::from(problem).of(&id)),
        Some(answer) => Ok(StartOutcome::Answered(id, answer)),
        None => Err(ProblemResponse::new(Code::Parked, "the hub sent an answer without an outcome").of(&id)),
    }
}

/// The path of an operation.
pub(super) fn operation_path(operation: &OperationId) -> String {
    format!("/v1/operations/{operation}")
}

fn not_written(id: &OperationId, waited: Duration) -> ProblemResponse {
    let seconds = waited.as_secs_f64();
    let detail = format!(
        "the bus did not confirm the request within {seconds} s; it may still be processed. GET /v1/operations/{id} shows it \
         once it runs; the same request can be repeated with the same Idempotency-Key"
    );
    ProblemResponse::new(Code::NotReady, detail).of(id)
}

/// An answer with an unexpected body.
pub(super) fn unreadable(operation: &OperationId, error: &serde_json::Error) -> ProblemResponse {
    tracing::error!(%operation, %error, "cannot parse the answer of a workflow");
    ProblemResponse::new(Code::Parked, format!("cannot parse the answer of the workflow: {error}")).of(operation)
}
