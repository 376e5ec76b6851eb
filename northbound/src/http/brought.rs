//! The routes that topologies bring: see [`wire::rest`].

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wire::answer::Answer;
use wire::rest::{RestAction, RestDone, RestRoute, RestRoutes, RestStart};

use super::operations::escaped;
use super::problem::ProblemResponse;
use super::route::{ApiRequest, Param, ParamKind, Route};
use super::start::{StartOutcome, start, unreadable};
use super::{FROM, LIMIT, Northbound, workflows};

/// The routes of a topology.
pub(super) fn routes(of: &RestRoutes) -> impl Iterator<Item = Route> + '_ {
    of.routes.iter().map(|route| make(of.topology, *route))
}

fn make(topology: &'static str, route: RestRoute) -> Route {
    let RestRoute { method, path, name, about, body, responses, action } = route;
    let answer = move |state, req| handle(topology, route, state, req);
    let made = Route::new(method, path, answer).named(name, about).responds(responses).fails_with(&[404]);
    let made = body.into_iter().fold(made, Route::body);
    match action {
        RestAction::Start { .. } => made.starts_operation(),
        RestAction::Show { .. } => made,
        RestAction::List { pattern, is_key, .. } => {
            let kind = ParamKind::Cursor { pattern, is: is_key };
            made.query(&[LIMIT, Param { name: "after", kind, about: FROM }])
        }
    }
}

async fn handle(
    topology: &str,
    route: RestRoute,
    state: Northbound,
    req: ApiRequest,
) -> Result<Response, ProblemResponse> {
    match route.action {
        RestAction::Start { workflow, request, done } => {
            let body = req.json(route.body.is_none().then_some(Value::Null))?;
            let RestStart { key, request } = request(req.path_parameters(), &body)?;
            let entry = state.directory.required(topology)?;
            match start(&state, &req, &entry, workflow, &key, request).await? {
                StartOutcome::Pending(response) => Ok(response),
                StartOutcome::Answered(id, Answer::Done(body)) => {
                    let RestDone { body, created } = done(body).map_err(|error| unreadable(&id, &error))?;
                    Ok(match created {
                        Some(path) => (StatusCode::CREATED, [(header::LOCATION, path)], Json(body)).into_response(),
                        None => Json(body).into_response(),
                    })
                }
                StartOutcome::Answered(id, Answer::Failed(body)) => Err(workflows::failed(&id, workflow, body)),
                StartOutcome::Answered(_, Answer::Refused(problem)) => Err(problem.into()),
            }
        }
        RestAction::Show { kind, parameter, unknown } => {
            let entry = state.directory.required(topology)?;
            let (key, cache) = (req.path(parameter), entry.gateway.resources());
            if let Some(resource) = cache.get(kind, key).and_then(|resource| parsed(&resource)) {
                return Ok(Json(resource).into_response());
            }
            let mut problem = unknown(key);
            if !cache.page(kind, None, 0).complete {
                problem.detail += "; the cache of this northbound is full and lacks some of them";
            }
            Err(problem.into())
        }
        RestAction::List { kind, field, .. } => {
            let (entry, limit) = (state.directory.required(topology)?, req.limit());
            let page = entry.gateway.resources().page(kind, req.query("after"), limit);
            let last = page.resources.last().map(|(key, _)| key).filter(|_| page.more);
            let next = last.map(|key| format!("{}?limit={limit}&after={}", route.path, escaped(key)));
            let resources: Vec<Value> = page.resources.iter().filter_map(|(_, resource)| parsed(resource)).collect();
            Ok(Json(json!({field: resources, "complete": page.complete, "next": next})).into_response())
        }
    }
}

/// A resource of the cache; none if it cannot be parsed.
fn parsed(resource: &str) -> Option<Value> {
    serde_json::from_str(resource).inspect_err(|error| tracing::error!(%error, "cannot parse a resource")).ok()
}
