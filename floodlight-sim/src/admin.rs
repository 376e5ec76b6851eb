//! The HTTP side: what stands on the switches, what was done, and what is to go wrong.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/switches` | GET | the switches that have rules, and how many |
//! | `/switches/{id}/rules` | GET | the rules of a switch, by cookie; none is an empty list |
//! | `/audit` | GET | the newest 1,000 lines; with `?after=SEQ` the first 1,000 after that one |
//! | `/faults` | GET, POST, DELETE | the faults that stand; one more; none |

use std::future::Future;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use wire::speaker::{Rule, SwitchId};
use wire::{Code, Problem};

use crate::{Entry, Fault, SpeakerHandle};

/// So many lines of the audit log go into one answer: some 300 KB.
const PAGE: usize = 1_000;

/// The longest body, in bytes. A fault has a few hundred.
const LONGEST_BODY: usize = 64 * 1024;

/// The paths, over `speaker`.
pub fn admin(speaker: SpeakerHandle) -> Router {
    Router::new()
        .route("/switches", get(switches))
        .route("/switches/{id}/rules", get(rules))
        .route("/audit", get(audit))
        .route("/faults", get(faults).post(inject).delete(clear))
        .fallback(|| async {
            Refused::new(Code::UnknownPath, "known are /switches, /switches/{id}/rules, /audit, /faults")
        })
        .method_not_allowed_fallback(|| async {
            Refused::new(Code::WrongMethod, "the paths know GET; /faults knows GET, POST and DELETE")
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(speaker)
}

/// Serves `router` until `shutdown` is done, then lets the requests that are open end.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn switches(State(speaker): State<SpeakerHandle>) -> Json<Value> {
    let switches = speaker.switches().into_iter().map(|(id, rules)| json!({"id": id, "rules": rules}));
    Json(switches.collect())
}

async fn rules(
    State(speaker): State<SpeakerHandle>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<Rule>>, Refused> {
    let Path(id) = id.map_err(|error| Refused::new(Code::BadRequest, error.body_text()))?;
    Ok(Json(speaker.rules(&SwitchId(id))))
}

async fn audit(State(speaker): State<SpeakerHandle>, query: RawQuery) -> Result<Json<Vec<Entry>>, Refused> {
    let Some(query) = query.0.filter(|query| !query.is_empty()) else { return Ok(Json(speaker.audit_newest(PAGE))) };
    match query.strip_prefix("after=").map(str::parse) {
        Some(Ok(seq)) => Ok(Json(speaker.audit_after(seq, PAGE))),
        Some(Err(_)) | None => Err(Problem::field("query", &query, "after= and the `seq` of a line").into()),
    }
}

async fn faults(State(speaker): State<SpeakerHandle>) -> Json<Vec<Fault>> {
    Json(speaker.faults())
}

async fn inject(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Fault>), Refused> {
    let body = body.map_err(|error| {
        let too_large = error.status() == StatusCode::PAYLOAD_TOO_LARGE;
        Refused::new(if too_large { Code::TooLarge } else { Code::BadRequest }, error.body_text())
    })?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| Refused::new(Code::NotJson, error.to_string()))?;
    let fault: Fault =
        serde_json::from_value(body).map_err(|error| Refused::new(Code::InvalidField, error.to_string()))?;
    speaker.inject(fault.clone())?;
    tracing::info!(kind = %fault.kind, times = fault.times, "a fault was put in");
    Ok((StatusCode::CREATED, Json(fault)))
}

async fn clear(State(speaker): State<SpeakerHandle>) -> StatusCode {
    speaker.clear_faults();
    tracing::info!("all faults were taken away");
    StatusCode::NO_CONTENT
}

/// A problem as RFC 9457 has it.
struct Refused(Problem);

impl Refused {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = match problem.code {
            Code::UnknownPath => StatusCode::NOT_FOUND,
            Code::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::InvalidField => StatusCode::UNPROCESSABLE_ENTITY,
            // The rest of what can be wrong with a request to this server.
            _ => StatusCode::BAD_REQUEST,
        };
        let mut body = json!({
            "type": format!("urn:nave:{}", problem.code),
            "title": problem.code.title(),
            "status": status.as_u16(),
            "detail": problem.detail,
            "code": problem.code,
        });
        if let Some(field) = problem.field {
            body["field"] = field.into();
        }
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}
