//! The paths: one table, which the router and the document are both made of.
//!
//! Every answer from 400 up is a problem as RFC 9457 has it, with a stable code; see [`problem::status_of`].
//!
//! Read in this order: `route` (what a row of the table says), `door` (what every request passes), `prefer` (what clients say
//! beside a request), `start` (an operation begins), then the answers: [`flow`], `workflows`, `operations`, `events`,
//! `topologies`; [`problem`] (faults), [`document`] (`OpenAPI`) and its `schemas`.

pub mod document;
mod door;
mod events;
pub mod flow;
mod operations;
mod prefer;
pub mod problem;
mod route;
mod schemas;
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
use wire::flow::{NAME_PATTERN, is_name};
use wire::{Code, Problem};

use self::problem::Refused;
use self::route::{Asked, Kind, Param, Route};
use crate::directory::Entry;
use crate::{Access, Directory, InletHandle, Limits, Waiting};

/// The table of all routes.
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn routes() -> Vec<Route> {
    vec![
        Route::get("/", index).named("index", "What there is, in a few lines").gives(&[(200, "text/plain")]),
        Route::post("/flow", flow::create_or_keep)
            .named("letFlowBe", "Lets a flow be there: creates it, or makes sure of it where it stands")
            .takes("FlowToLetBe")
            .gives(&[(200, "FlowMade"), (201, "FlowMade")])
            .refuses(&[404])
            .starts(),
        Route::post("/v1/flows", flow::create_new)
            .named("createFlow", "Creates a flow; one that is there already is a conflict")
            .takes("FlowToCreate")
            .gives(&[(200, "FlowMade"), (201, "FlowMade")])
            .refuses(&[404])
            .starts(),
        Route::get("/v1/flows", flow::list)
            .named("listFlows", "Which flows there are, in the order of their names")
            .query(&[LIMIT, AFTER_FLOW])
            .gives(&[(200, "Flows")])
            .refuses(&[404]),
        Route::get("/v1/flows/{flowid}", flow::show)
            .named("getFlow", "How a flow stands")
            .gives(&[(200, "Flow")])
            .refuses(&[404]),
        Route::delete("/v1/flows/{flowid}", flow::remove)
            .named("deleteFlow", "Removes a flow: every rule of it, validated, and what it held is free again")
            .gives(&[(200, "FlowGone")])
            .refuses(&[404])
            .starts(),
        Route::get("/v1/operations", operations::list)
            .named("listOperations", "Which operations are known, the newest first")
            .query(&[LIMIT, AFTER_OPERATION, STATE, LIVE, WORKFLOW, KEY, TOPOLOGY])
            .gives(&[(200, "Operations")]),
        Route::get("/v1/operations/{id}", operations::show)
            .named("getOperation", "How an operation stands: its state, what it waits for and until when, its history")
            .gives(&[(200, "Operation")])
            .refuses(&[404]),
        Route::delete("/v1/operations/{id}", operations::cancel)
            .named("cancelOperation", "Cancels an operation: what it did is undone, and it ends")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .gives(&[(200, "Operation"), (202, "Operation")])
            .refuses(&[404, 409, 429]),
        Route::get("/v1/operations/{id}/events", events::watch)
            .named("watchOperation", "The progress of an operation as server-sent events, up to its answer")
            .gives(&[(200, "text/event-stream"), (204, "")])
            .refuses(&[404]),
        Route::post("/v1/operations/{id}/signals/{signal}", operations::signal)
            .named("signalOperation", "Answers an operation that waits for a person")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .may_take("Anything")
            .gives(&[(200, "Operation"), (202, "Operation")])
            .refuses(&[404, 409, 429]),
        Route::post("/v1/operations/{id}/resume", operations::resume)
            .named("resumeOperation", "Lets a parked operation go on from where it stood")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .gives(&[(200, "Operation"), (202, "Operation")])
            .refuses(&[404, 409, 429]),
        Route::post("/v1/operations/{id}/abort", operations::abort)
            .named("abortOperation", "Ends a parked operation; what it did stays done")
            .query(&[KEY, TOPOLOGY, WORKFLOW])
            .gives(&[(200, "Operation"), (202, "Operation")])
            .refuses(&[404, 409, 429]),
        Route::get("/v1/topologies", topologies::list)
            .named("listTopologies", "Which topologies were submitted")
            .gives(&[(200, "Topologies")]),
        Route::get("/v1/topologies/{topology}", topologies::show)
            .named(
                "getTopology",
                "A topology: its stages, its workflows with the schemas of their requests, and how it is drawn",
            )
            .gives(&[(200, "Topology")])
            .refuses(&[404]),
        Route::delete("/v1/topologies/{topology}", topologies::kill)
            .named("killTopology", "Kills a topology: it takes nothing new, finishes what it has, and ends")
            .query(&[WAIT_MS])
            .gives(&[(202, "Topology")])
            .refuses(&[404, 429]),
        Route::post("/v1/topologies/{topology}/workflows/{workflow}/{key}", workflows::begin)
            .named(
                "startWorkflow",
                "Starts a workflow and answers as it answers; its topology has the schema of its request",
            )
            .takes("Anything")
            .gives(&[(200, "Anything")])
            .refuses(&[402, 403, 404])
            .starts(),
        Route::get("/v1/spokes", topologies::spokes)
            .named("listSpokes", "The services that topologies use, and who serves them")
            .gives(&[(200, "Spokes")]),
        Route::get("/v1/spokes/{service}", topologies::spoke)
            .named("getSpoke", "A service: which instances live, and when each was heard of")
            .gives(&[(200, "Spoke")])
            .refuses(&[404]),
        Route::get("/metrics", metrics)
            .named("metrics", "What is counted, for Prometheus")
            .gives(&[(200, "text/plain")]),
        Route::get("/openapi.json", openapi).named("openapi", "This document").gives(&[(200, "Anything")]),
        Route::get("/healthz", healthz)
            .named("healthz", "200 while the process lives")
            .gives(&[(200, "Health")])
            .open(),
        Route::get("/readyz", readyz)
            .named("readyz", "200 while requests are taken, else 503 with the reason")
            .gives(&[(200, "Health")])
            .open(),
    ]
}

const LIMIT: Param =
    Param { name: "limit", kind: Kind::Number { min: 1, max: 1_000 }, about: "So many at most; 100 unless said" };
const FROM: &str = "From after here on, as `next` of the page before says";
const AFTER_FLOW: Param =
    Param { name: "after", kind: Kind::Cursor { pattern: NAME_PATTERN, is: is_name }, about: FROM };
const AFTER_OPERATION: Param = Param {
    name: "after",
    kind: Kind::Cursor {
        pattern: "^[0-9]{1,15}\\.[A-Za-z0-9._:-]{1,128}$",
        is: |after| operations::cursor(after).is_some(),
    },
    about: FROM,
};
const STATE: Param =
    Param { name: "state", kind: Kind::Text { max: 64 }, about: "Those in this state of their machine, like `parked`" };
const LIVE: Param = Param { name: "live", kind: Kind::Flag, about: "Those that live, or those that are over" };
const WORKFLOW: Param = Param { name: "workflow", kind: Kind::Text { max: 128 }, about: "Of this workflow" };
const KEY: Param = Param { name: "key", kind: Kind::Text { max: workflows::LONGEST_KEY }, about: "About this key" };
const TOPOLOGY: Param = Param { name: "topology", kind: Kind::Text { max: 128 }, about: "Of this topology" };
const WAIT_MS: Param = Param {
    name: "wait_ms",
    kind: Kind::Number { min: 0, max: 3_600_000 },
    about: "It has so many milliseconds to finish what it has; 30,000 unless said",
};

/// What the paths work with.
#[derive(Clone)]
pub struct Northbound {
    /// Which topologies there are.
    pub directory: Arc<Directory>,
    /// Where records are handed in.
    pub inlet: InletHandle,
    /// What requests have to wait for.
    pub waiting: Arc<dyn Fn() -> Vec<Waiting> + Send + Sync>,
    /// All counters and histograms, as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Who may ask.
    pub access: Access,
    /// How much.
    pub limits: Limits,
    /// The requests that are being answered.
    places: Arc<Semaphore>,
}

impl Northbound {
    /// For everybody who reaches it, with the usual limits, with nothing to wait for, and without metrics: the fields say what else there is.
    pub fn new(directory: Arc<Directory>, inlet: InletHandle) -> Self {
        let (waiting, metrics) = (Arc::new(Vec::new), Arc::new(String::new));
        let (access, limits) = (Access::open(), Limits::default());
        let places = Arc::new(Semaphore::new(limits.requests));
        Self { directory, inlet, waiting, metrics, access, limits, places }
    }

    /// The same with these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.places = Arc::new(Semaphore::new(limits.requests));
        self.limits = limits;
        self
    }

    /// Refuses what would only wait: requests about `key` to `workflow` of `entry`.
    fn takes(&self, entry: &Entry, workflow: &str, key: &str) -> Result<(), Problem> {
        let (inbox, lane) = entry.gateway.lane_of(workflow, key)?;
        let (name, waiting) = (entry.name(), (self.waiting)());
        let concerns = waiting.iter().filter(|waiting| waiting.concerns(&name, inbox, lane));
        Waiting::nothing(concerns).map_err(|why| Problem::new(Code::NotReady, why))
    }
}

impl fmt::Debug for Northbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, access, limits, .. } = self;
        let mut shown = f.debug_struct("Northbound");
        shown.field("directory", directory).field("access", access).field("limits", limits).finish_non_exhaustive()
    }
}

/// The paths, over `state`.
pub fn router(state: Northbound) -> Router {
    let (open, closed): (Vec<Route>, Vec<Route>) = routes().into_iter().partition(|route| route.spec.open);
    let mount = |routes: Vec<Route>| {
        routes.into_iter().map(Route::mounted).fold(Router::new(), |router, (path, answer)| router.route(path, answer))
    };
    // Whatever is not one of the open paths, letter by letter, stands behind the token: other paths and methods as well.
    let closed = mount(closed)
        .fallback(async || Refused::new(Code::UnknownPath, "GET / says which paths there are"))
        .method_not_allowed_fallback(async || Refused::new(Code::WrongMethod, "GET / says which methods there are"))
        .layer(from_fn_with_state(state.clone(), door::bounded))
        .layer(from_fn_with_state(state.clone(), door::admitted));
    let open = mount(open)
        .method_not_allowed_fallback(async || Refused::new(Code::WrongMethod, "GET / says which methods there are"));
    Router::new()
        .merge(open)
        .merge(closed)
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        .layer(from_fn(door::named))
        .with_state(state)
}

async fn index(_: Northbound, _: Asked) -> Result<Response, Refused> {
    let mut lines = vec!["nave: workflows that talk to the outside world".to_owned(), String::new()];
    lines.extend(
        routes().iter().map(|Route { spec, .. }| format!("{:<6} {:<55} {}", spec.method, spec.path, spec.about)),
    );
    lines.push(String::new());
    Ok(lines.join("\n").into_response())
}

async fn metrics(state: Northbound, _: Asked) -> Result<Response, Refused> {
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (state.metrics)()).into_response())
}

async fn openapi(_: Northbound, _: Asked) -> Result<Response, Refused> {
    Ok(([(header::CONTENT_TYPE, "application/json")], document::document_json()).into_response())
}

async fn healthz(_: Northbound, _: Asked) -> Result<Response, Refused> {
    Ok(Json(json!({"status": "alive"})).into_response())
}

async fn readyz(state: Northbound, _: Asked) -> Result<Response, Refused> {
    let ready = Waiting::readiness(&(state.waiting)()).map_err(|why| Refused::new(Code::NotReady, why))?;
    Ok((StatusCode::OK, Json(ready)).into_response())
}
