//! Health interface of a process without a northbound.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/healthz` | GET | 200 while the process lives |
//! | `/readyz` | GET | 200 while its stages work, otherwise 503 with the reasons |
//! | `/metrics` | GET | metrics for Prometheus |

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use wire::Code;

use crate::Waiting;
use crate::http::problem::ProblemResponse;

/// State of the handlers.
#[derive(Clone)]
pub struct Health {
    /// The reasons why its stages do not work.
    pub waiting: Arc<dyn Fn() -> Vec<Waiting> + Send + Sync>,
    /// All metrics in the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

const PATHS: &str = "allowed are GET /healthz, /readyz and /metrics: this process has no northbound";

/// The router of the health interface.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({"status": "alive"}))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || ProblemResponse::new(Code::UnknownPath, PATHS))
        .method_not_allowed_fallback(async || ProblemResponse::new(Code::WrongMethod, PATHS))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Result<Json<Value>, ProblemResponse> {
    Waiting::readiness(&(health.waiting)()).map(Json).map_err(|why| ProblemResponse::new(Code::NotReady, why))
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (health.metrics)())
}
