//! Topologies and spokes: which there are, how they stand, and the end of one.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use wire::control::{Mode, Submitted, Wish};
use wire::{Code, Problem, WallTime};

use super::Northbound;
use super::problem::Refused;
use super::route::Asked;
use crate::GatewayLimits;
use crate::directory::{Entry, State};
use crate::spokes::Service;

/// A topology has so long to finish what it has, in milliseconds, where the client does not say.
const KILL_MS: u64 = 30_000;

/// A topology in a list.
#[derive(Serialize)]
struct Line {
    name: String,
    state: State,
    /// When it was submitted, in milliseconds since 1970.
    at: WallTime,
    workflows: Vec<String>,
}

/// A whole topology.
#[derive(Serialize)]
struct Whole {
    name: String,
    state: State,
    at: WallTime,
    /// When it ends, finished or not, where it is being killed.
    ends: Option<WallTime>,
    graph: String,
    build: String,
    stages: Vec<Stage>,
    workflows: Vec<Workflow>,
    services: Vec<String>,
    description: String,
}

#[derive(Serialize)]
struct Stage {
    name: String,
    lanes: u32,
    mode: Mode,
}

#[derive(Serialize)]
struct Workflow {
    name: String,
    stage: String,
    /// What a request has to look like, as a JSON Schema.
    request: Value,
}

impl Whole {
    fn new(submitted: Submitted, state: State) -> Self {
        let ends = match submitted.wish {
            Wish::Run => None,
            Wish::Kill { by } => Some(by),
        };
        let stage =
            |stage: wire::control::SubmittedStage| Stage { name: stage.name, lanes: stage.lanes, mode: stage.mode };
        let workflow = |workflow: wire::control::WorkflowType| Workflow {
            name: workflow.name,
            stage: workflow.stage,
            request: workflow.request,
        };
        Self {
            name: submitted.name,
            state,
            at: submitted.at,
            ends,
            graph: submitted.graph.to_string(),
            build: submitted.build,
            stages: submitted.stages.into_iter().map(stage).collect(),
            workflows: submitted.workflows.into_iter().map(workflow).collect(),
            services: submitted.services,
            description: submitted.description,
        }
    }
}

/// `GET /v1/topologies`: all of them; there are 256 at most.
pub(super) async fn list(state: Northbound, _: Asked) -> Result<Response, Refused> {
    let line = |entry: &Entry| Line {
        name: entry.name(),
        state: entry.state(),
        at: entry.submitted.at,
        workflows: entry.submitted.workflows.iter().map(|workflow| workflow.name.clone()).collect(),
    };
    let topologies: Vec<Line> = state.directory.all().iter().map(|entry| line(entry)).collect();
    Ok(Json(serde_json::json!({"topologies": topologies})).into_response())
}

/// `GET /v1/topologies/{topology}`.
pub(super) async fn show(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let entry = state.directory.required(asked.path("topology"))?;
    Ok(Json(Whole::new(entry.submitted.clone(), entry.state())).into_response())
}

/// `DELETE /v1/topologies/{topology}`: it takes nothing new, finishes what it has, and ends.
pub(super) async fn kill(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let entry = state.directory.required(asked.path("topology"))?;
    let (record, submitted) = state.directory.kill(&entry, asked.number("wait_ms").unwrap_or(KILL_MS));
    tracing::warn!(topology = submitted.name, correlation = asked.correlation.0, "a topology is to end");
    let mut written = state.inlet.write(record)?;
    let patience = GatewayLimits::default().patience;
    timeout(patience, written.durable()).await.unwrap_or_else(|_| {
        let detail = "it waits to be written for too long; the topology may yet be killed";
        Err(Problem::new(Code::NotReady, detail))
    })?;
    Ok((StatusCode::ACCEPTED, Json(Whole::new(submitted, State::Ending))).into_response())
}

/// `GET /v1/spokes`: the services that topologies use.
pub(super) async fn spokes(state: Northbound, _: Asked) -> Result<Response, Refused> {
    let services = state.directory.services();
    let spokes: Vec<Service> = services.iter().map(|service| state.directory.spoke(service)).collect();
    Ok(Json(serde_json::json!({"spokes": spokes})).into_response())
}

/// `GET /v1/spokes/{service}`.
pub(super) async fn spoke(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let service = asked.path("service");
    if !state.directory.services().contains(service) {
        let shown: String = service.chars().take(80).collect();
        return Err(Refused::new(Code::UnknownService, format!("no topology uses a service `{shown}`")));
    }
    Ok(Json(state.directory.spoke(service)).into_response())
}
