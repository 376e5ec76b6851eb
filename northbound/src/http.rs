//! The REST interface: one table of routes, used for the router and for the `OpenAPI` document.
//!
//! Every answer from status 400 up is a problem (RFC 9457) with a stable code and its status; see
//! [`wire::Code`].
//!
//! Reading order: `route` (a row of the table), `middleware` (checks before each route),
//! `preferences` (headers with preferences), `start` (start of an operation), then the handlers:
//! `workflows`, `operations`, `events`, `topologies`, and `brought` (the routes that topologies
//! bring); then [`problem`] (errors), [`document`] (`OpenAPI`) and its `schemas`.

mod brought;
pub mod document;
mod events;
mod middleware;
mod operations;
mod preferences;
pub mod problem;
mod route;
mod schemas;
mod sources;
mod start;
mod topologies;
mod workflows;

use std::fmt;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::Semaphore;
use wire::rest::RestRoutes;
use wire::{Code, Problem};

pub use self::brought::check_routes;
use self::problem::ProblemResponse;
use self::route::{ApiRequest, Param, ParamKind, Route};
use crate::directory::TopologyEntry;
use crate::{Access, Directory, InletHandle, Limits, Waiting};

/// All routes: those that topologies bring, and those of every topology.
fn routes(brought: &[RestRoutes]) -> Vec<Route> {
    brought.iter().flat_map(brought::routes).chain(own_routes()).collect()
}

/// The table of the routes of every topology.
fn own_routes() -> Vec<Route> {
    vec![
        Route::get("/", index).named("index", "Lists the paths of this interface").responds(&[(200, "text/plain")]),
        Route::get("/v1/operations", operations::list)
            .named("listOperations", "Lists the cached operations, newest first")
            .query(&[LIMIT, AFTER_OPERATION, STATE, LIVE, WORKFLOW, KEY, TOPOLOGY])
            .responds(&[(200, "Operations")]),
        Route::get("/v1/operations/{id}", operations::show)
            .named("getOperation", "Returns the state of an operation: what it waits for, until when, and its history")
            .responds(&[(200, "Operation")])
            .fails_with(&[404]),
        Route::delete("/v1/operations/{id}", operations::cancel)
            .named("cancelOperation", "Cancels an operation: undoes its changes and ends it")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .responds(&[(200, "Operation"), (202, "Operation")])
            .fails_with(&[404, 409, 429]),
        Route::get("/v1/operations/{id}/events", events::watch)
            .named("watchOperation", "Streams the progress of an operation as server-sent events, up to its answer")
            .responds(&[(200, "text/event-stream"), (204, "")])
            .fails_with(&[404]),
        Route::post("/v1/operations/{id}/signals/{signal}", operations::signal)
            .named("signalOperation", "Sends a signal to an operation that waits for it")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .optional_body("Anything")
            .responds(&[(200, "Operation"), (202, "Operation")])
            .fails_with(&[404, 409, 429]),
        Route::post("/v1/operations/{id}/resume", operations::resume)
            .named("resumeOperation", "Continues a parked operation from its current state")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .responds(&[(200, "Operation"), (202, "Operation")])
            .fails_with(&[404, 409, 429]),
        Route::post("/v1/operations/{id}/abort", operations::abort)
            .named("abortOperation", "Ends a parked operation without undoing its changes")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .responds(&[(200, "Operation"), (202, "Operation")])
            .fails_with(&[404, 409, 429]),
        Route::get("/v1/topologies", topologies::list)
            .named("listTopologies", "Lists the submitted topologies")
            .responds(&[(200, "Topologies")]),
        Route::get("/v1/topologies/{topology}", topologies::show)
            .named(
                "getTopology",
                "Returns a topology: its stages, its workflows with the schemas of their requests, and its description",
            )
            .responds(&[(200, "Topology")])
            .fails_with(&[404]),
        Route::delete("/v1/topologies/{topology}", topologies::kill)
            .named("killTopology", "Kills a topology: it accepts no new requests, completes its operations and ends")
            .query(&[WAIT_MS])
            .responds(&[(202, "Topology")])
            .fails_with(&[404, 429]),
        Route::post("/v1/topologies/{topology}/activate", topologies::activate)
            .named("activateTopology", "Activates a topology: its spouts continue, and it accepts requests")
            .responds(&[(202, "Topology")])
            .fails_with(&[404, 409, 429]),
        Route::post("/v1/topologies/{topology}/deactivate", topologies::deactivate)
            .named("deactivateTopology", "Deactivates a topology: its spouts pause, and it accepts no new requests")
            .responds(&[(202, "Topology")])
            .fails_with(&[404, 409, 429]),
        Route::post("/v1/topologies/{topology}/rebalance", topologies::rebalance)
            .named("rebalanceTopology", "Changes the number of threads of a topology in each process; its lanes stay")
            .query(&[THREADS])
            .responds(&[(202, "Topology")])
            .fails_with(&[404, 409, 429]),
        Route::post("/v1/topologies/{topology}/workflows/{workflow}/{key}", workflows::begin)
            .named(
                "startWorkflow",
                "Starts a workflow and returns its answer; the topology has the schema of the request",
            )
            .body("Anything")
            .responds(&[(200, "Anything")])
            .fails_with(&[402, 403, 404])
            .starts_operation(),
        Route::post("/v1/topologies/{topology}/sources/{source}", sources::post)
            .named("postTuple", "Emits a tuple from a source of a topology, once the bus has it")
            .query(&[TUPLE_KEY])
            .body("Anything")
            .responds(&[(202, "PostedTuple")])
            .fails_with(&[404, 409, 429]),
        Route::get("/v1/spokes", topologies::spokes)
            .named("listSpokes", "Lists the services of all topologies with their instances")
            .responds(&[(200, "Spokes")]),
        Route::get("/v1/spokes/{service}", topologies::spoke)
            .named("getSpoke", "Returns a service: its instances and their last heartbeats")
            .responds(&[(200, "Spoke")])
            .fails_with(&[404]),
        Route::get("/metrics", metrics).named("metrics", "Metrics for Prometheus").responds(&[(200, "text/plain")]),
        Route::get("/openapi.json", openapi).named("openapi", "This document").responds(&[(200, "Anything")]),
        Route::get("/healthz", healthz)
            .named("healthz", "200 while the process lives")
            .responds(&[(200, "Health")])
            .public(),
        Route::get("/readyz", readyz)
            .named("readyz", "200 while requests are accepted, otherwise 503 with the reasons")
            .responds(&[(200, "Health")])
            .public(),
    ]
}

const LIMIT: Param = Param {
    name: "limit",
    kind: ParamKind::Number { min: 1, max: 1_000 },
    about: "Maximum number of entries; default 100",
};
const FROM: &str = "Start after this entry; from `next` of the previous page";
const AFTER_OPERATION: Param = Param {
    name: "after",
    kind: ParamKind::Cursor {
        pattern: "^[0-9]{1,15}\\.[A-Za-z0-9._:-]{1,128}$",
        is: |after| operations::cursor(after).is_some(),
    },
    about: FROM,
};
const STATE: Param = Param {
    name: "state",
    kind: ParamKind::Text { max: 64 },
    about: "Only operations in this state, such as `parked`",
};
const LIVE: Param =
    Param { name: "live", kind: ParamKind::Flag, about: "true: only live operations; false: only ended ones" };
const WORKFLOW: Param = Param { name: "workflow", kind: ParamKind::Text { max: 128 }, about: "Only this workflow" };
const KEY: Param =
    Param { name: "key", kind: ParamKind::Text { max: workflows::MAX_KEY_CHARS }, about: "Only this key" };
const TOPOLOGY: Param = Param { name: "topology", kind: ParamKind::Text { max: 128 }, about: "Only this topology" };
const THREADS: Param = Param {
    name: "threads",
    kind: ParamKind::Number { min: 1, max: 64 },
    about: "Threads for each stage in each process; default: as each process is configured",
};
const TUPLE_KEY: Param = Param {
    name: "key",
    kind: ParamKind::Text { max: workflows::MAX_KEY_CHARS },
    about: "The key of the record: tuples with the same key go to the same lane, in order; default: a random lane",
};
const WAIT_MS: Param = Param {
    name: "wait_ms",
    kind: ParamKind::Number { min: 0, max: 3_600_000 },
    about: "Time to complete running operations, in milliseconds; default 30,000",
};

/// State of the handlers.
#[derive(Clone)]
pub struct Northbound {
    /// The submitted topologies.
    pub directory: Arc<Directory>,
    /// Sends records to the inlet.
    pub inlet: InletHandle,
    /// The reasons why requests have to wait.
    pub waiting: Arc<dyn Fn() -> Vec<Waiting> + Send + Sync>,
    /// All metrics in the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The access rule.
    pub access: Access,
    /// The limits of the interface.
    pub limits: Limits,
    /// The routes that topologies bring.
    pub routes: Arc<[RestRoutes]>,
    /// Permits for concurrent requests.
    places: Arc<Semaphore>,
}

impl Northbound {
    /// A northbound without a token, with default limits, always ready, without metrics and without
    /// routes of topologies. Set the fields to change that.
    pub fn new(directory: Arc<Directory>, inlet: InletHandle) -> Self {
        let (waiting, metrics) = (Arc::new(Vec::new), Arc::new(String::new));
        let (access, limits) = (Access::open(), Limits::default());
        let places = Arc::new(Semaphore::new(limits.requests));
        Self { directory, inlet, waiting, metrics, access, limits, routes: [].into(), places }
    }

    /// Replaces the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.places = Arc::new(Semaphore::new(limits.requests));
        self.limits = limits;
        self
    }

    /// Checks that a request about `key` to `workflow` of `entry` need not wait.
    fn check_ready(&self, entry: &TopologyEntry, workflow: &str, key: &str) -> Result<(), Problem> {
        let (inbox, lane) = entry.gateway.lane_of(workflow, key)?;
        let (name, waiting) = (entry.name(), (self.waiting)());
        let concerns = waiting.iter().filter(|waiting| waiting.concerns(&name, inbox, lane));
        Waiting::check(concerns).map_err(|why| Problem::new(Code::NotReady, why))
    }
}

impl fmt::Debug for Northbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, access, limits, .. } = self;
        let mut shown = f.debug_struct("Northbound");
        shown.field("directory", directory).field("access", access).field("limits", limits).finish_non_exhaustive()
    }
}

/// The router of the REST interface.
pub fn router(state: Northbound) -> Router {
    let (open, closed): (Vec<Route>, Vec<Route>) =
        routes(&state.routes).into_iter().partition(|route| route.spec.public);
    let mount = |routes: Vec<Route>| {
        routes.into_iter().map(Route::mounted).fold(Router::new(), |router, (path, answer)| router.route(path, answer))
    };
    // Everything except the exact public paths requires the token, unknown paths and methods
    // included.
    let closed = mount(closed)
        .fallback(async || ProblemResponse::new(Code::UnknownPath, "unknown path; GET / lists the paths"))
        .method_not_allowed_fallback(async || {
            ProblemResponse::new(Code::WrongMethod, "the path does not support this method; GET / lists the methods")
        })
        .layer(from_fn_with_state(state.clone(), middleware::limited))
        .layer(from_fn_with_state(state.clone(), middleware::authorized));
    let open = mount(open).method_not_allowed_fallback(async || {
        ProblemResponse::new(Code::WrongMethod, "the path does not support this method; GET / lists the methods")
    });
    Router::new()
        .merge(open)
        .merge(closed)
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        .layer(from_fn(middleware::correlated))
        .with_state(state)
}

async fn index(state: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    let mut lines = vec!["nave: workflows that talk to the outside world".to_owned(), String::new()];
    lines.extend(
        routes(&state.routes)
            .iter()
            .map(|Route { spec, .. }| format!("{:<6} {:<55} {}", spec.method.as_str(), spec.path, spec.about)),
    );
    lines.push(String::new());
    Ok(lines.join("\n").into_response())
}

async fn metrics(state: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (state.metrics)()).into_response())
}

async fn openapi(state: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    Ok(([(header::CONTENT_TYPE, "application/json")], document::document_json(&state.routes)).into_response())
}

async fn healthz(_: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    Ok(Json(json!({"status": "alive"})).into_response())
}

async fn readyz(state: Northbound, _: ApiRequest) -> Result<Response, ProblemResponse> {
    let ready = Waiting::readiness(&(state.waiting)()).map_err(|why| ProblemResponse::new(Code::NotReady, why))?;
    Ok((StatusCode::OK, Json(ready)).into_response())
}
