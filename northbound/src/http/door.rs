//! What every request passes before its route: a name of its own, the token, and room.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;
use wire::Code;

use super::Northbound;
use super::prefer::name;
use super::problem::Refused;
use crate::{Limits, metrics};

/// The header that names what a client does with several requests.
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");

/// The client's `X-Correlation-ID`, or one that was made for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Correlation(pub(super) String);

/// Gives the request its name, in log lines and in the answer; counts and measures it.
pub(super) async fn named(mut request: Request, next: Next) -> Response {
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
            Err(problem) => Refused::from(problem).into_response(),
        }
    }
    .instrument(span)
    .await;
    response.headers_mut().insert(CORRELATION, HeaderValue::from_str(&id).expect("it was checked, or made here"));
    metrics::request(&route, response.status().as_u16(), begun.elapsed().as_secs_f64());
    response
}

/// Lets those pass who have the token. Stands before every path but those that need none.
pub(super) async fn admitted(State(state): State<Northbound>, request: Request, next: Next) -> Response {
    if state.access.admits(request.headers()) {
        return next.run(request).await;
    }
    metrics::unauthorized();
    let refused = Refused::new(Code::Unauthorized, "send `Authorization: Bearer` with the token of this interface");
    refused.into_response()
}

/// Lets a request pass where there is room for it. Who finds none is told so at once: nobody queues here.
pub(super) async fn bounded(State(state): State<Northbound>, request: Request, next: Next) -> Response {
    if let Err(refused) = headers_fit(request.headers(), &state.limits) {
        return refused.into_response();
    }
    let Ok(_place) = state.places.try_acquire() else {
        metrics::shed();
        let most = state.limits.requests;
        let refused = Refused::new(Code::Overloaded, format!("{most} requests are being answered; try again later"));
        return refused.into_response();
    };
    next.run(request).await
}

fn headers_fit(headers: &HeaderMap, limits: &Limits) -> Result<(), Refused> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > limits.headers || bytes > limits.header_bytes {
        let (most, most_bytes) = (limits.headers, limits.header_bytes);
        let detail =
            format!("{} headers with {bytes} bytes came; {most} with {most_bytes} bytes may come", headers.len());
        return Err(Refused::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}
