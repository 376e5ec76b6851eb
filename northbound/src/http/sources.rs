//! `POST /v1/topologies/{topology}/sources/{source}`: emits a tuple.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use uuid::Uuid;
use wire::graph::ComponentKind;
use wire::{Code, Problem};

use super::Northbound;
use super::preferences::trace;
use super::problem::ProblemResponse;
use super::route::ApiRequest;
use crate::PostedTuple;
use crate::directory::TopologyEntry;

/// Answers once the bus has the tuple.
pub(super) async fn post(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let entry = state.directory.required(req.path("topology"))?;
    let source = req.path("source");
    let stage = stage_of(&entry, source)?;
    let body = req.json(None)?;
    entry.takes_requests()?;
    let http_id = Uuid::new_v4();
    let id = http_id.to_string();
    let record = entry.gateway.tuple(
        stage,
        PostedTuple {
            source,
            // Without a key the tuples are distributed at random.
            key: req.query("key").unwrap_or(&id),
            body: &body,
            trace: trace(&req.headers),
            correlation: Some(&req.correlation.0),
            http_id,
        },
    )?;
    let mut written = state.inlet.write(record)?;
    let patience = entry.gateway.options().limits.patience;
    timeout(patience, written.durable()).await.unwrap_or_else(|_| {
        let detail = "the bus did not confirm the tuple in time; it may still be processed";
        Err(Problem::new(Code::NotReady, detail))
    })?;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({"id": id}))).into_response())
}

/// Returns the stage of a source.
fn stage_of<'a>(entry: &'a TopologyEntry, source: &str) -> Result<&'a str, Problem> {
    let components = entry.submitted.graph.components.iter();
    let sources = components.filter(|component| component.kind == ComponentKind::HttpSource);
    if let Some(found) = sources.clone().find(|component| component.name == source) {
        return Ok(&found.stage);
    }
    let known: Vec<&str> = sources.map(|component| component.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let (topology, shown) = (&entry.submitted.name, source.chars().take(80).collect::<String>());
    let detail = format!("topology `{topology}` has no source `{shown}` that takes tuples of clients; it has: {known}");
    Err(Problem::new(Code::UnknownSource, detail))
}
