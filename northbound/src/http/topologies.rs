//! Handlers of topologies and spokes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use wire::control::{DeliveryMode, DesiredState, Submitted};
use wire::graph::Graph;
use wire::{Code, Problem, WallTime};

use super::Northbound;
use super::problem::ProblemResponse;
use super::route::ApiRequest;
use crate::GatewayLimits;
use crate::directory::{TopologyEntry, TopologyState, control_record};
use crate::spokes::Service;

/// Default time to complete running operations, in milliseconds.
const KILL_MS: u64 = 30_000;

/// A topology in a list.
#[derive(Serialize)]
struct TopologyLine {
    name: String,
    state: TopologyState,
    /// Time of submission, in milliseconds since 1970.
    at: WallTime,
    workflows: Vec<String>,
}

/// The details of a topology.
#[derive(Serialize)]
struct TopologyBody {
    name: String,
    state: TopologyState,
    at: WallTime,
    /// The time at which it ends, finished or not, if it is being killed.
    ends: Option<WallTime>,
    /// The number of threads that a rebalance has set, for each stage in each process.
    threads: Option<u32>,
    graph: Graph,
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
    mode: DeliveryMode,
}

#[derive(Serialize)]
struct Workflow {
    name: String,
    stage: String,
    /// JSON Schema of a request.
    request: Value,
}

impl TopologyBody {
    fn new(submitted: Submitted, state: TopologyState) -> Self {
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
            ends: submitted.desired.ends(),
            threads: submitted.threads,
            graph: submitted.graph,
            build: submitted.build,
            stages: submitted.stages.into_iter().map(stage).collect(),
            workflows: submitted.workflows.into_iter().map(workflow).collect(),
            services: submitted.services,
            description: submitted.description,
        }
    }
}

/// `GET /v1/topologies`: all topologies, at most 256.
pub(super) async fn list(state: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    let line = |entry: &TopologyEntry| TopologyLine {
        name: entry.name(),
        state: entry.state(),
        at: entry.submitted.at,
        workflows: entry.submitted.workflows.iter().map(|workflow| workflow.name.clone()).collect(),
    };
    let topologies: Vec<TopologyLine> = state.directory.all().iter().map(|entry| line(entry)).collect();
    Ok(Json(serde_json::json!({"topologies": topologies})).into_response())
}

/// `GET /v1/topologies/{topology}`.
pub(super) async fn show(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let entry = state.directory.required(req.path("topology"))?;
    Ok(Json(TopologyBody::new(entry.submitted.clone(), entry.state())).into_response())
}

/// `DELETE /v1/topologies/{topology}`: it accepts no new requests, completes its operations and
/// ends.
pub(super) async fn kill(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let by = state.directory.wall().plus_ms(req.number("wait_ms").unwrap_or(KILL_MS));
    change(&state, &req, |submitted| Submitted { desired: DesiredState::Kill { by }, ..submitted }).await
}

/// `POST /v1/topologies/{topology}/activate`: its spouts continue, and it accepts requests.
pub(super) async fn activate(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    change(&state, &req, |submitted| Submitted { desired: DesiredState::Run, ..submitted }).await
}

/// `POST /v1/topologies/{topology}/deactivate`: its spouts pause, and it accepts no new requests.
pub(super) async fn deactivate(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    change(&state, &req, |submitted| Submitted { desired: DesiredState::Inactive, ..submitted }).await
}

/// `POST /v1/topologies/{topology}/rebalance`: each process changes its number of threads.
pub(super) async fn rebalance(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let threads = req.number("threads").and_then(|threads| u32::try_from(threads).ok());
    change(&state, &req, |submitted| Submitted { threads, ..submitted }).await
}

/// Writes another state of a topology to the control topic. A kill is final.
async fn change(
    state: &Northbound,
    req: &ApiRequest,
    change: impl FnOnce(Submitted) -> Submitted,
) -> Result<Response, ProblemResponse> {
    let entry = state.directory.required(req.path("topology"))?;
    let submitted = change(entry.submitted.clone());
    let (desired, threads) = (submitted.desired, submitted.threads);
    if entry.submitted.desired.ends().is_some() && (desired.ends().is_none() || threads != entry.submitted.threads) {
        return Err(entry.is_being_killed().into());
    }
    tracing::warn!(
        topology = submitted.name,
        ?desired,
        ?threads,
        correlation = req.correlation.0,
        "changing a topology"
    );
    let mut written = state.inlet.write(control_record(state.directory.topics(), &submitted))?;
    let patience = GatewayLimits::default().patience;
    timeout(patience, written.durable()).await.unwrap_or_else(|_| {
        let detail = "the bus did not confirm the request in time; the topology may still change";
        Err(Problem::new(Code::NotReady, detail))
    })?;
    state.directory.changed(&submitted);
    let changed = state.directory.required(&submitted.name)?;
    Ok((StatusCode::ACCEPTED, Json(TopologyBody::new(submitted, changed.state()))).into_response())
}

/// `GET /v1/spokes`: the services of all topologies.
pub(super) async fn spokes(state: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    let services = state.directory.services();
    let spokes: Vec<Service> = services.iter().map(|service| state.directory.spoke(service)).collect();
    Ok(Json(serde_json::json!({"spokes": spokes})).into_response())
}

/// `GET /v1/spokes/{service}`.
pub(super) async fn spoke(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let service = req.path("service");
    if !state.directory.services().contains(service) {
        let shown: String = service.chars().take(80).collect();
        return Err(ProblemResponse::new(Code::UnknownService, format!("no topology uses the service `{shown}`")));
    }
    Ok(Json(state.directory.spoke(service)).into_response())
}
