//! `POST /v1/topologies/{topology}/workflows/{workflow}/{key}`: starts any workflow, and answers as it answers.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize as _;
use serde_json::{Map, Value};
use wire::answer::Answer;
use wire::{Code, OperationId, Problem};

use super::Northbound;
use super::problem::Refused;
use super::route::{Asked, is_text};
use super::start::{Came, place_of, start};

/// The longest key, in characters. It becomes the key of a record and stands in log lines.
pub(super) const LONGEST_KEY: usize = 256;

pub(super) async fn begin(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let entry = state.directory.required(asked.path("topology"))?;
    let (workflow, key) = (asked.path("workflow"), asked.path("key"));
    // A URL library resolves these two steps of a path before it sends them (RFC 3986, section 5.2.4).
    if !is_text(key, LONGEST_KEY) || [".", ".."].contains(&key) {
        let allowed = format!("1 to {LONGEST_KEY} characters without control characters, and neither `.` nor `..`");
        let shown: String = key.chars().take(80).collect();
        return Err(Problem::field("key", &format!("{shown:?}"), &allowed).into());
    }
    let request = asked.json(None)?;
    match start(&state, &asked, &entry, workflow, key, request).await? {
        Came::GoesOn(response) => Ok(response),
        Came::Answered(id, Answer::Done(body)) => {
            let place = HeaderValue::from_str(&place_of(&id)).expect("an operation's id fits into a header");
            Ok(([(header::CONTENT_LOCATION, place)], Json(body)).into_response())
        }
        Came::Answered(id, Answer::Failed(body)) => Err(failed(&id, workflow, body)),
        Came::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
    }
}

/// The answer of a workflow that failed, with all members of its body. Its code decides the status, except for a temporary
/// one: 429 and 503 tell a client to ask again, and the outcome of this operation stays as it is.
fn failed(id: &OperationId, workflow: &str, body: Value) -> Refused {
    let code = body.get("code").and_then(|code| Code::deserialize(code).ok()).filter(|code| !code.is_temporary());
    let detail = Answer::reason(&body).map_or_else(|| format!("`{workflow}` failed"), str::to_owned);
    let more = match body {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        other => Map::from_iter([("body".to_owned(), other)]),
    };
    Refused::new(code.unwrap_or(Code::WorkflowFailed), detail).of(id).with(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use serde_json::json;

    #[tokio::test]
    async fn a_failure_has_the_status_of_its_code_and_keeps_what_it_says() {
        let id = OperationId::new("7f3a").unwrap();
        for (body, status, detail) in [
            (json!({"code": "NAVE-0046", "detail": "declined", "at": "hotel"}), 402, "declined"),
            (json!({"code": "NAVE-0047", "detail": "not you", "message": "no"}), 403, "not you"),
            (json!({"code": Code::NotFound}), 404, "`trip` failed"),
            (json!({"code": Code::Conflict}), 409, "`trip` failed"),
            (json!({"code": Code::Unprocessable}), 422, "`trip` failed"),
            (json!({"code": Code::WorkflowTimeout}), 504, "`trip` failed"),
            (json!({"code": Code::QueueFull, "detail": ""}), 502, "`trip` failed"),
            (json!({"message": "no car", "status": 200, "type": "x"}), 502, "no car"),
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
            assert!(told["type"].as_str().unwrap().starts_with("urn:nave:NAVE-"), "{told}");
            assert_eq!(told.get("at"), body.get("at"));
        }
    }
}
