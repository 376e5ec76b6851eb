//! What a process without a northbound shows of itself.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/healthz` | GET | 200 while the process lives |
//! | `/readyz` | GET | 200 while what it runs gets on, else 503 with the reason |
//! | `/metrics` | GET | what is counted, for Prometheus |

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use wire::Code;

use crate::Waiting;
use crate::http::problem::Refused;

/// What the paths work with.
#[derive(Clone)]
pub struct Health {
    /// The reasons for which its stages do not go on.
    pub waiting: Arc<dyn Fn() -> Vec<Waiting> + Send + Sync>,
    /// All counters and histograms, as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

const PATHS: &str = "known are GET /healthz, /readyz and /metrics: this process has no northbound";

/// The paths, over `health`.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({"status": "alive"}))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || Refused::new(Code::UnknownPath, PATHS))
        .method_not_allowed_fallback(async || Refused::new(Code::WrongMethod, PATHS))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Result<Json<Value>, Refused> {
    Waiting::readiness(&(health.waiting)()).map(Json).map_err(|why| Refused::new(Code::NotReady, why))
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (health.metrics)())
}
