//! Error responses.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use wire::{Code, Problem};

/// An RFC 9457 problem as a response.
pub(super) struct ProblemResponse(Problem);

impl ProblemResponse {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = match problem.code {
            Code::UnknownPath => StatusCode::NOT_FOUND,
            Code::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::InvalidField => StatusCode::UNPROCESSABLE_ENTITY,
            Code::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            // All other problems of a request to this server.
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
