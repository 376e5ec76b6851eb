//! Middleware before each route: correlation id, token and limits.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;
use wire::Code;

use super::Northbound;
use super::preferences::name;
use super::problem::ProblemResponse;
use crate::{Limits, metrics};

/// The header with the client's id for a group of requests.
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");

/// The client's `X-Correlation-ID`, or a generated one.
#[derive(Debug, Clone, Default)]
pub(super) struct Correlation(pub(super) String);

/// Adds the correlation id to log lines and to the answer; counts and times the request.
pub(super) async fn correlated(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let given = name(request.headers(), CORRELATION.as_str()).map(|given| given.map(str::to_owned));
    let id = given.as_ref().ok().cloned().flatten().unwrap_or_else(|| Uuid::new_v4().to_string());
    let span = tracing::debug_span!("request", correlation = id, method = %request.method(), route);
    let mut response = async {
        match given {
            Ok(_) => {
                request.extensions_mut().insert(Correlation(id.clone()));
                let response = next.run(request).await;
                tracing::debug!(status = response.status().as_u16(), "answered");
                response
            }
            Err(problem) => ProblemResponse::from(problem).into_response(),
        }
    }
    .instrument(span)
    .await;
    response.headers_mut().insert(CORRELATION, HeaderValue::from_str(&id).expect("it was checked or generated here"));
    metrics::request(&route, response.status().as_u16(), begun.elapsed().as_secs_f64());
    response
}

/// Refuses requests without the token.
pub(super) async fn authorized(State(state): State<Northbound>, request: Request, next: Next) -> Response {
    if state.access.admits(request.headers()) {
        return next.run(request).await;
    }
    metrics::unauthorized();
    let refused =
        ProblemResponse::new(Code::Unauthorized, "send `Authorization: Bearer` with the token of this interface");
    refused.into_response()
}

/// Refuses a request at once if its headers are too large or too many requests are running; nothing
/// is queued here.
pub(super) async fn limited(State(state): State<Northbound>, request: Request, next: Next) -> Response {
    if let Err(refused) = headers_fit(request.headers(), &state.limits) {
        return refused.into_response();
    }
    let Ok(_place) = state.places.try_acquire() else {
        metrics::shed();
        let most = state.limits.requests;
        let refused = ProblemResponse::new(
            Code::Overloaded,
            format!("the limit of {most} concurrent requests is reached; try again later"),
        );
        return refused.into_response();
    };
    next.run(request).await
}

fn headers_fit(headers: &HeaderMap, limits: &Limits) -> Result<(), ProblemResponse> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > limits.headers || bytes > limits.header_bytes {
        let (most, most_bytes) = (limits.headers, limits.header_bytes);
        let detail = format!(
            "the request has {} headers with {bytes} bytes; the limit is {most} headers with {most_bytes} bytes",
            headers.len()
        );
        return Err(ProblemResponse::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}
