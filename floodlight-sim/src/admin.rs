//! The HTTP interface: rules, audit log and fault injection.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/switches` | GET | the switches with rules, and the number of rules of each |
//! | `/switches/{id}/rules` | GET | the rules of a switch, by cookie; an empty list if there are none |
//! | `/audit` | GET | the newest 1,000 entries; with `?after=SEQ` the first 1,000 after that one |
//! | `/faults` | GET | the seed, the active faults with their counters, and counters by kind |
//! | `/faults` | POST | injects one fault; or `{"seed": 7, "faults": [...]}`, all of them or none |
//! | `/faults` | DELETE | removes all faults |
//! | `/seed` | POST | `{"seed": 7}`: sets the seed of random choices |
//! | `/heartbeats` | POST | `{"stopped": true}`: stops heartbeats; the speaker still answers |
//! | `/crash` | POST | crashes after the next poll; with `{"answered": true}`, after sending all answers |
//! | `/restart` | POST | replaces a crashed process |
//! | `/healthz` | GET | 200 while the speaker runs, 503 after a crash |
//!
//! Errors are RFC 9457 problems with the field, its value and the allowed values.

mod problem;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use flow_messages::speaker::{Rule, SwitchId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wire::{Code, Problem};

use self::problem::ProblemResponse;
use crate::faults::ActiveFault;
use crate::{AuditEntry, Fault, SpeakerHandle};

/// The maximum number of audit entries in one response: about 300 KB.
const PAGE: usize = 1_000;

/// The maximum size of a request body, in bytes: 1,000 faults of a few hundred bytes each.
const MAX_BODY_BYTES: usize = 512 * 1024;

const PATHS: &str = "/switches, /switches/{id}/rules, /audit, /faults, /seed, /heartbeats, /crash, /restart, /healthz";

/// Returns the router of the HTTP interface of `speaker`.
pub fn admin(speaker: SpeakerHandle) -> Router {
    Router::new()
        .route("/switches", get(switches))
        .route("/switches/{id}/rules", get(rules))
        .route("/audit", get(audit))
        .route("/faults", get(faults).post(inject).delete(clear))
        .route("/seed", post(seed))
        .route("/heartbeats", post(heartbeats))
        .route("/crash", post(crash))
        .route("/restart", post(restart))
        .route("/healthz", get(health))
        .fallback(|| async { ProblemResponse::new(Code::UnknownPath, format!("the paths are {PATHS}")) })
        .method_not_allowed_fallback(|| async {
            let allowed =
                "/faults accepts GET, POST and DELETE; /seed, /heartbeats, /crash and /restart POST; other paths GET";
            ProblemResponse::new(Code::WrongMethod, allowed)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(speaker)
}

async fn switches(State(speaker): State<SpeakerHandle>) -> Json<Value> {
    let switches = speaker.switches().into_iter().map(|(id, rules)| json!({"id": id, "rules": rules}));
    Json(switches.collect())
}

async fn rules(
    State(speaker): State<SpeakerHandle>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<Rule>>, ProblemResponse> {
    let Path(id) = id.map_err(|error| ProblemResponse::new(Code::BadRequest, error.body_text()))?;
    Ok(Json(speaker.rules(&SwitchId(id.into()))))
}

async fn audit(
    State(speaker): State<SpeakerHandle>,
    query: RawQuery,
) -> Result<Json<Vec<AuditEntry>>, ProblemResponse> {
    let Some(query) = query.0.filter(|query| !query.is_empty()) else { return Ok(Json(speaker.audit_newest(PAGE))) };
    match query.strip_prefix("after=").map(str::parse) {
        Some(Ok(seq)) => Ok(Json(speaker.audit_after(seq, PAGE))),
        Some(Err(_)) | None => Err(Problem::field("query", &query, "after= and the `seq` of an entry").into()),
    }
}

/// An active fault, as clients see it.
#[derive(Serialize)]
struct FaultView {
    #[serde(flatten)]
    fault: Fault,
    /// The number of commands it was applied to.
    struck: u64,
}

async fn faults(State(speaker): State<SpeakerHandle>) -> Json<Value> {
    let view = |ActiveFault { fault, struck, .. }| FaultView { fault, struck };
    let faults: Vec<FaultView> = speaker.active().into_iter().map(view).collect();
    let struck: Map<String, Value> =
        speaker.struck().into_iter().map(|(kind, count)| (kind.to_owned(), count.into())).collect();
    Json(json!({"seed": speaker.seed(), "faults": faults, "struck": struck}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultBatch {
    seed: Option<u64>,
    faults: Vec<Fault>,
}

async fn inject(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), ProblemResponse> {
    let body = json_of(body)?;
    let FaultBatch { seed, faults } = if body.get("faults").is_some() {
        read(body.clone())?
    } else {
        FaultBatch { seed: None, faults: vec![read(body.clone())?] }
    };
    let kinds: Vec<&str> = faults.iter().map(|fault| fault.kind.as_str()).collect();
    tracing::info!(?kinds, seed, "injecting faults");
    speaker.inject_all(faults)?;
    if let Some(seed) = seed {
        speaker.set_seed(seed);
    }
    Ok((StatusCode::CREATED, Json(body)))
}

async fn clear(State(speaker): State<SpeakerHandle>) -> StatusCode {
    speaker.clear_faults();
    tracing::info!("removed all faults");
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSeed {
    seed: u64,
}

async fn seed(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ProblemResponse> {
    let SetSeed { seed } = read(json_of(body)?)?;
    speaker.set_seed(seed);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetHeartbeats {
    stopped: bool,
}

async fn heartbeats(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ProblemResponse> {
    let SetHeartbeats { stopped } = read(json_of(body)?)?;
    speaker.stop_heartbeats(stopped);
    tracing::info!(stopped, "switched heartbeats");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CrashRequest {
    #[serde(default)]
    answered: bool,
}

async fn crash(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ProblemResponse> {
    let empty = matches!(&body, Ok(body) if body.is_empty());
    let CrashRequest { answered } = if empty { CrashRequest { answered: false } } else { read(json_of(body)?)? };
    speaker.crash(answered);
    Ok(StatusCode::ACCEPTED)
}

async fn restart(State(speaker): State<SpeakerHandle>) -> Result<StatusCode, ProblemResponse> {
    speaker.restart().map_err(|error| ProblemResponse::new(Code::NotReady, error.to_string()))?;
    tracing::info!("restarted the speaker");
    Ok(StatusCode::NO_CONTENT)
}

async fn health(State(speaker): State<SpeakerHandle>) -> Result<Json<Value>, ProblemResponse> {
    if speaker.is_down() {
        return Err(ProblemResponse::new(
            Code::NotReady,
            "the speaker crashed by fault injection; POST /restart restarts it",
        ));
    }
    let heartbeats = if speaker.heartbeats_stopped() { "stopped" } else { "as configured" };
    Ok(Json(
        json!({"status": "up", "kept": speaker.is_persistent(), "heartbeats": heartbeats, "delayed": speaker.waiting()}),
    ))
}

fn json_of(body: Result<Bytes, BytesRejection>) -> Result<Value, ProblemResponse> {
    let body = body.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ProblemResponse::new(
                Code::TooLarge,
                format!("the body exceeds the limit of {MAX_BODY_BYTES} bytes"),
            );
        }
        ProblemResponse::new(Code::BadRequest, error.body_text())
    })?;
    let body = wire::json::read(&body)?;
    if body.is_object() { Ok(body) } else { Err(Problem::field("body", "something else", "a JSON object").into()) }
}

/// Deserializes a body. An error names the path of the invalid field.
fn read<T: DeserializeOwned>(body: Value) -> Result<T, ProblemResponse> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        let detail = format!("`{field}`: {}", error.inner());
        Problem { field: Some(field), ..Problem::new(Code::InvalidField, detail) }.into()
    })
}
