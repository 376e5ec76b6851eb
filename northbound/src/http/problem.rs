//! Problem details (RFC 9457).

use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use wire::{Code, OperationId, Problem};

/// A problem as an HTTP response.
#[derive(Debug)]
pub struct ProblemResponse {
    /// Boxed, because each handler returns it.
    problem: Box<Problem>,
    operation: Option<OperationId>,
    more: Map<String, Value>,
}

impl ProblemResponse {
    /// A problem with this code and this occurrence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// Adds the operation: its path becomes the `instance`.
    #[must_use]
    pub fn of(mut self, operation: &OperationId) -> Self {
        self.operation = Some(operation.clone());
        self
    }

    /// Adds more members.
    #[must_use]
    pub fn with(mut self, more: Map<String, Value>) -> Self {
        self.more = more;
        self
    }
}

/// The problem of a body that was not read completely; at most `limit` bytes are allowed.
pub(super) fn body_problem(error: &BytesRejection, limit: usize) -> ProblemResponse {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ProblemResponse::new(Code::TooLarge, format!("the body is longer than the limit of {limit} bytes"));
    }
    ProblemResponse::new(Code::BadRequest, error.body_text())
}

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), operation: None, more: Map::new() }
    }
}

impl ProblemResponse {
    /// The status and the body.
    pub(crate) fn into_parts(self) -> (StatusCode, String) {
        let Self { problem, operation, more } = self;
        let status = StatusCode::from_u16(problem.code.status()).expect("it is between 400 and 599");
        let mut body = more;
        body.extend(problem.document());
        body.extend(operation.map(|id| ("instance".to_owned(), format!("/v1/operations/{id}").into())));
        (status, Value::Object(body).to_string())
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let is_overloaded = self.problem.code == Code::Overloaded;
        let (status, body) = self.into_parts();
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (status, kind, body).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS || is_overloaded {
            // One second: a lane answers hundreds of requests in it.
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"nave\""));
        }
        response
    }
}
