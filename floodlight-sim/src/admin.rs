//! The HTTP side: what stands on the switches, what was done, and what is to go wrong.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/switches` | GET | the switches that have rules, and how many |
//! | `/switches/{id}/rules` | GET | the rules of a switch, by cookie; none is an empty list |
//! | `/audit` | GET | the newest 1,000 lines; with `?after=SEQ` the first 1,000 after that one |
//! | `/faults` | GET | the seed, the faults that stand with what is left of them and how often each struck, and counts by kind |
//! | `/faults` | POST | one more; or `{"seed": 7, "faults": [...]}`, all of them or none |
//! | `/faults` | DELETE | all are taken away |
//! | `/seed` | POST | `{"seed": 7}`: what chance is drawn from |
//! | `/heart` | POST | `{"stopped": true}`: no heartbeats, while it goes on answering |
//! | `/crash` | POST | it dies at the end of its next turn; with `{"told": true}`, after what it owes is told |
//! | `/restart` | POST | a new process in place of one that died |
//! | `/healthz` | GET | 200 while it lives, 503 after a crash |
//!
//! A refusal is a problem as RFC 9457 has it, and names field, value, and what is allowed.

mod refused;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wire::speaker::{Rule, SwitchId};
use wire::{Code, Problem};

use self::refused::Refused;
use crate::faults::Standing;
use crate::{Entry, Fault, SpeakerHandle};

/// So many lines of the audit log go into one answer: some 300 KB.
const PAGE: usize = 1_000;

/// The longest body, in bytes: as many faults as may stand, of a few hundred each.
const LONGEST_BODY: usize = 512 * 1024;

const PATHS: &str = "/switches, /switches/{id}/rules, /audit, /faults, /seed, /heart, /crash, /restart, /healthz";

/// The paths, over `speaker`.
pub fn admin(speaker: SpeakerHandle) -> Router {
    Router::new()
        .route("/switches", get(switches))
        .route("/switches/{id}/rules", get(rules))
        .route("/audit", get(audit))
        .route("/faults", get(faults).post(inject).delete(clear))
        .route("/seed", post(seed))
        .route("/heart", post(heart))
        .route("/crash", post(crash))
        .route("/restart", post(restart))
        .route("/healthz", get(health))
        .fallback(|| async { Refused::new(Code::UnknownPath, format!("known are {PATHS}")) })
        .method_not_allowed_fallback(|| async {
            let allowed =
                "/faults knows GET, POST and DELETE; /seed, /heart, /crash and /restart know POST; others GET";
            Refused::new(Code::WrongMethod, allowed)
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(speaker)
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
    Ok(Json(speaker.rules(&SwitchId(id.into()))))
}

async fn audit(State(speaker): State<SpeakerHandle>, query: RawQuery) -> Result<Json<Vec<Entry>>, Refused> {
    let Some(query) = query.0.filter(|query| !query.is_empty()) else { return Ok(Json(speaker.audit_newest(PAGE))) };
    match query.strip_prefix("after=").map(str::parse) {
        Some(Ok(seq)) => Ok(Json(speaker.audit_after(seq, PAGE))),
        Some(Err(_)) | None => Err(Problem::field("query", &query, "after= and the `seq` of a line").into()),
    }
}

/// A fault that stands.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    fault: Fault,
    /// How often it has struck.
    struck: u64,
}

async fn faults(State(speaker): State<SpeakerHandle>) -> Json<Value> {
    let shown = |Standing { fault, struck, .. }| Shown { fault, struck };
    let faults: Vec<Shown> = speaker.standing().into_iter().map(shown).collect();
    let struck: Map<String, Value> =
        speaker.struck().into_iter().map(|(kind, count)| (kind.to_owned(), count.into())).collect();
    Json(json!({"seed": speaker.seed(), "faults": faults, "struck": struck}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    seed: Option<u64>,
    faults: Vec<Fault>,
}

async fn inject(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Refused> {
    let body = json_of(body)?;
    let Several { seed, faults } = if body.get("faults").is_some() {
        read(body.clone())?
    } else {
        Several { seed: None, faults: vec![read(body.clone())?] }
    };
    let kinds: Vec<&str> = faults.iter().map(|fault| fault.kind.as_str()).collect();
    tracing::info!(?kinds, seed, "faults are put in");
    speaker.inject_all(faults)?;
    if let Some(seed) = seed {
        speaker.set_seed(seed);
    }
    Ok((StatusCode::CREATED, Json(body)))
}

async fn clear(State(speaker): State<SpeakerHandle>) -> StatusCode {
    speaker.clear_faults();
    tracing::info!("all faults were taken away");
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    seed: u64,
}

async fn seed(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refused> {
    let Seed { seed } = read(json_of(body)?)?;
    speaker.set_seed(seed);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Heart {
    stopped: bool,
}

async fn heart(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refused> {
    let Heart { stopped } = read(json_of(body)?)?;
    speaker.stop_heart(stopped);
    tracing::info!(stopped, "heartbeats");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Crash {
    #[serde(default)]
    told: bool,
}

async fn crash(
    State(speaker): State<SpeakerHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refused> {
    let empty = matches!(&body, Ok(body) if body.is_empty());
    let Crash { told } = if empty { Crash { told: false } } else { read(json_of(body)?)? };
    speaker.crash(told);
    Ok(StatusCode::ACCEPTED)
}

async fn restart(State(speaker): State<SpeakerHandle>) -> Result<StatusCode, Refused> {
    speaker.restart().map_err(|error| Refused::new(Code::NotReady, error.to_string()))?;
    tracing::info!("the speaker was started again");
    Ok(StatusCode::NO_CONTENT)
}

async fn health(State(speaker): State<SpeakerHandle>) -> Result<Json<Value>, Refused> {
    if speaker.is_down() {
        return Err(Refused::new(Code::NotReady, "the speaker died of a fault; POST /restart starts it again"));
    }
    let heart = if speaker.heart_is_stopped() { "stopped" } else { "as configured" };
    Ok(Json(json!({"status": "up", "kept": speaker.is_kept(), "heartbeats": heart, "delayed": speaker.waiting()})))
}

fn json_of(body: Result<Bytes, BytesRejection>) -> Result<Value, Refused> {
    let body = body.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Refused::new(Code::TooLarge, format!("the body is longer than the limit of {LONGEST_BODY} bytes"));
        }
        Refused::new(Code::BadRequest, error.body_text())
    })?;
    let body = wire::json::read(&body)?;
    if body.is_object() { Ok(body) } else { Err(Problem::field("body", "something else", "a JSON object").into()) }
}

/// Reads what is said; a field that cannot be read is named by its path.
fn read<T: DeserializeOwned>(body: Value) -> Result<T, Refused> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        let detail = format!("`{field}`: {}", error.inner());
        Problem { field: Some(field), ..Problem::new(Code::InvalidField, detail) }.into()
    })
}
