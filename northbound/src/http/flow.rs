//! `POST /flow`: let this flow be there.
//!
//! | what became of it | status |
//! |---|---|
//! | the flow came up | 201 |
//! | it existed, and was made sure of | 200 |
//! | patience ended before the operation did | 202, with its `Location` |
//! | anything else | a problem; see [`status_of`](super::problem::status_of) |

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::flow::{CreateFlow, FlowFailed, FlowUp};
use wire::{Code, OperationId, Problem};

use super::Northbound;
use super::problem::Refused;
use crate::{Submission, metrics};

/// The workflow that creates flows.
const WORKFLOW: &str = "create-flow";

/// The header by which a client names a request, so that it can be sent again.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

pub(super) async fn create(
    State(state): State<Northbound>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let start = Instant::now();
    let response = match handle(&state, &headers, body).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    };
    metrics::request(response.status().as_u16(), start.elapsed().as_secs_f64());
    response
}

async fn handle(
    state: &Northbound,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let body = body.map_err(|error| super::problem::unread_body(&error))?;
    let request: Value =
        serde_json::from_slice(&body).map_err(|error| Refused::new(Code::NotJson, error.to_string()))?;
    let flow = CreateFlow::from_json(&request)?;
    let idempotency_key = idempotency_key(headers)?;
    (state.ready)().map_err(|why| Refused::new(Code::NotReady, why))?;

    let mut ticket = state.gateway.submit(Submission {
        workflow: WORKFLOW,
        key: &flow.flowid,
        // As it was understood, so that two ways to write the same request are the same request.
        request: serde_json::to_value(&flow).expect("a request can be written as JSON"),
        idempotency_key,
        trace: trace(headers),
        http_id: Uuid::new_v4(),
    })?;
    tracing::debug!(operation = %ticket.operation, flow = flow.flowid, "submitted");
    state.inlet.send(&ticket)?;

    // Nothing is lost where this is dropped midway: the place is given back, and the operation goes on.
    match timeout(state.gateway.options().patience, &mut ticket.answer).await {
        Ok(Ok(Ok(operation))) => answered(operation),
        Ok(Ok(Err(problem))) => Err(Refused::from(problem).of(&ticket.operation)),
        // The gateway keeps the other end as long as the ticket lives.
        Ok(Err(_)) => Err(Refused::new(Code::NotReady, "the gateway is gone").of(&ticket.operation)),
        Err(_) => {
            let so_far = state.gateway.so_far(&ticket, WORKFLOW, &flow.flowid);
            let location = format!("/v1/operations/{}", ticket.operation);
            tracing::debug!(operation = %ticket.operation, "patience ended");
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(so_far)).into_response())
        }
    }
}

/// The answer of an operation that has one.
fn answered(operation: Operation) -> Result<Response, Refused> {
    let id = operation.operation;
    match operation.answer {
        Some(Answer::Done(body)) => {
            let up: FlowUp = serde_json::from_value(body).map_err(|error| unreadable(&id, &error))?;
            let status = if up.existed { StatusCode::OK } else { StatusCode::CREATED };
            let body = json!({"message": up.message, "flowid": up.flowid, "operation": up.operation});
            Ok((status, Json(body)).into_response())
        }
        Some(Answer::Failed(body)) => {
            let failed: FlowFailed = serde_json::from_value(body).map_err(|error| unreadable(&id, &error))?;
            Err(refused(failed))
        }
        Some(Answer::Refused(problem)) if shows_operation(problem.code) => Err(Refused::from(problem).of(&id)),
        Some(Answer::Refused(problem)) => Err(problem.into()),
        None => Err(Refused::new(Code::Parked, "the hub sent an answer without an outcome").of(&id)),
    }
}

/// A flow that failed, as a problem with all that is known of it.
fn refused(failed: FlowFailed) -> Refused {
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

/// True where a refused request has an operation that can be looked at: the one that had the key first, or one that was
/// parked. A request that found no place has none.
fn shows_operation(code: Code) -> bool {
    matches!(code, Code::KeyReused | Code::Parked)
}

fn unreadable(operation: &OperationId, error: &serde_json::Error) -> Refused {
    tracing::error!(%operation, %error, "the answer of a workflow cannot be read");
    Refused::new(Code::Parked, format!("the answer of the workflow cannot be read: {error}")).of(operation)
}

/// The client's name for its request, if it gave one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::field(IDEMPOTENCY_KEY, "given twice", "to give it once"));
    }
    let key = value.to_str().unwrap_or_default();
    if (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(key));
    }
    let shown: String = String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect();
    Err(Problem::field(IDEMPOTENCY_KEY, &format!("\"{shown}\""), "1 to 128 visible ASCII characters"))
}

/// `traceparent`, where it is one: version, trace, parent and flags have 55 characters in all.
fn trace(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    (value.len() == 55 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then(|| value.to_owned())
}
