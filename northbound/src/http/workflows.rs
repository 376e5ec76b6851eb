//! `POST /v1/topologies/{topology}/workflows/{workflow}/{key}`: starts any workflow and returns its
//! answer.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize as _;
use serde_json::{Map, Value};
use wire::answer::Answer;
use wire::{Code, OperationId, Problem};

use super::Northbound;
use super::problem::ProblemResponse;
use super::route::{ApiRequest, is_text};
use super::start::{StartOutcome, operation_path, start};

/// Maximum length of a key in characters. It becomes the key of a record and appears in log lines.
pub(super) const MAX_KEY_CHARS: usize = 256;

pub(super) async fn begin(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let entry = state.directory.required(req.path("topology"))?;
    let (workflow, key) = (req.path("workflow"), req.path("key"));
    // URL libraries resolve these two path segments before sending (RFC 3986, section 5.2.4).
    if !is_text(key, MAX_KEY_CHARS) || [".", ".."].contains(&key) {
        let allowed = format!("1 to {MAX_KEY_CHARS} characters without control characters, and neither `.` nor `..`");
        let shown: String = key.chars().take(80).collect();
        return Err(Problem::field("key", &format!("{shown:?}"), &allowed).into());
    }
    let request = req.json(None)?;
    match start(&state, &req, &entry, workflow, key, request).await? {
        StartOutcome::Pending(response) => Ok(response),
        StartOutcome::Answered(id, Answer::Done(body)) => {
            let place = HeaderValue::from_str(&operation_path(&id)).expect("an operation id is a valid header value");
            Ok(([(header::CONTENT_LOCATION, place)], Json(body)).into_response())
        }
        StartOutcome::Answered(id, Answer::Failed(body)) => Err(failed(&id, workflow, body)),
        StartOutcome::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
    }
}

/// The answer of a failed workflow with all members of its body. Its code decides the status,
/// except for a temporary code: 429 and 503 invite a repeat, but the outcome of this operation is
/// final.
pub(super) fn failed(id: &OperationId, workflow: &str, body: Value) -> ProblemResponse {
    let code = Code::deserialize(&body).ok().filter(|code| !code.is_temporary());
    let detail = Answer::reason(&body).map_or_else(|| format!("`{workflow}` failed"), str::to_owned);
    let more = match body {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        other => Map::from_iter([("body".to_owned(), other)]),
    };
    ProblemResponse::new(code.unwrap_or(Code::WorkflowFailed), detail).of(id).with(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use serde_json::json;

    #[tokio::test]
    async fn a_failure_has_the_status_of_its_code_and_keeps_its_members() {
        let id = OperationId::new("7f3a").unwrap();
        let coded = |code, detail| json!(Answer::failed(code, detail, json!({"at": "hotel"})))["body"].take();
        for (body, status, detail) in [
            (coded(Code::PaymentRequired, "declined"), 402, "declined"),
            (coded(Code::NotFound, ""), 404, "`trip` failed"),
            (coded(Code::new("TRIP-0001", 410, "the hotel is gone"), "no hotel"), 410, "no hotel"),
            (coded(Code::QueueFull, ""), 502, "`trip` failed"),
            (json!({"message": "no car", "status": 200, "type": "x"}), 502, "no car"),
            (json!({"code": "E42", "status": 200, "title": "x"}), 502, "`trip` failed"),
            (json!({"code": "E42"}), 502, "`trip` failed"),
            (json!(["no", "car"]), 502, "`trip` failed"),
            (json!(null), 502, "`trip` failed"),
        ] {
            let response = failed(&id, "trip", body.clone()).into_response();
            assert_eq!(response.status(), status, "{body}");
            let told = to_bytes(response.into_body(), 10_000).await.unwrap();
            let told: Value = serde_json::from_slice(&told).unwrap();
            assert_eq!((&told["status"], &told["detail"]), (&json!(status), &json!(detail)));
            assert_eq!(told["instance"], "/v1/operations/7f3a");
            assert!(told["type"].as_str().unwrap().starts_with("urn:nave:"), "{told}");
            assert_eq!(told.get("at"), body.get("at"));
        }
    }
}
