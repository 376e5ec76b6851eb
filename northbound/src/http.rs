//! The paths.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/flow` | POST | creates a flow; see [`flow`] |
//! | `/v1/operations/{id}` | GET | how an operation stands |
//! | `/metrics` | GET | what is counted, for Prometheus |
//! | `/healthz` | GET | 200 while the process lives |
//! | `/readyz` | GET | 200 while requests are taken, else 503 with the reason |
//!
//! Every answer from 400 up is a problem as RFC 9457 has it, with a stable code.

pub mod flow;
pub mod problem;

use std::future::Future;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use wire::answer::Operation;
use wire::{Code, OperationId};

use self::problem::Refused;
use crate::{Gateway, InletHandle};

/// The longest body, in bytes. A request to create a flow has a hundred.
pub const LONGEST_BODY: usize = 64 * 1024;

/// What the paths work with.
#[derive(Clone)]
pub struct Northbound {
    /// Tickets and views.
    pub gateway: Arc<Gateway>,
    /// Where records are handed in.
    pub inlet: InletHandle,
    /// Whether requests are taken; else why not.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// All counters and histograms, as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The paths, over `state`.
pub fn router(state: Northbound) -> Router {
    Router::new()
        .route("/flow", post(flow::create))
        .route("/v1/operations/{id}", get(operation))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(async || Refused::new(Code::UnknownPath, PATHS))
        .method_not_allowed_fallback(async || Refused::new(Code::WrongMethod, PATHS))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(state)
}

const PATHS: &str = "known are POST /flow, and GET /v1/operations/{id}, /metrics, /healthz, /readyz";

/// Serves `router` until `shutdown` is done, then lets the requests that are open end.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // An answer is one small packet: it must not wait for the next one.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn operation(
    State(state): State<Northbound>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Operation>, Refused> {
    let Path(id) = id.map_err(|error| Refused::new(Code::BadRequest, error.body_text()))?;
    let known = OperationId::new(&id).ok().and_then(|id| state.gateway.operation(&id));
    known.map(Json).ok_or_else(|| {
        let newest = state.gateway.options().known_operations;
        Refused::new(Code::UnknownOperation, format!("`{id}` is not among the newest {newest} operations"))
    })
}

async fn metrics(State(state): State<Northbound>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (state.metrics)())
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

async fn readyz(State(state): State<Northbound>) -> Result<Json<Value>, Refused> {
    (state.ready)().map_err(|why| Refused::new(Code::NotReady, why))?;
    Ok(Json(json!({"status": "ready"})))
}
