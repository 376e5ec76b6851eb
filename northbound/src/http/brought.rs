//! The routes that topologies bring: see [`wire::rest`].

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
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

/// Checks that the routes of several topologies can be served together, beside those of every
/// topology.
///
/// # Errors
/// The first conflict, with its routes.
pub fn check_routes(brought: &[RestRoutes]) -> Result<(), String> {
    // Two paths that differ only in the names of their parameters cannot be told apart.
    let shape = |path: &str| -> String {
        let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
        path.split('/').map(part).collect::<Vec<_>>().join("/")
    };
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let mut methods = BTreeSet::new();
    for route in super::routes(brought) {
        let (method, path) = (route.spec.method.as_str(), route.spec.path);
        match known.insert(shape(path), path) {
            Some(other) if other != path => {
                return Err(format!("the paths `{other}` and `{path}` differ only in the names of their parameters"));
            }
            Some(_) | None => {}
        }
        if !methods.insert((method, path)) {
            return Err(format!("two routes are `{method} {path}`"));
        }
    }
    for route in brought.iter().flat_map(|of| &of.routes) {
        if let RestAction::Show { parameter, .. } = route.action
            && !route.path.contains(&format!("{{{parameter}}}"))
        {
            return Err(format!("`{}` has no parameter `{parameter}`, the key of what it shows", route.path));
        }
    }
    let mut schemas = BTreeSet::new();
    match super::schemas::components(brought).into_iter().find(|(name, _)| !schemas.insert(*name)) {
        Some((name, _)) => Err(format!("two schemas have the name `{name}`")),
        None => Ok(()),
    }
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
                        Some(path) => created_at(&path, body),
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

/// The response with what an operation created at `path`. A path that fits no header is left out.
fn created_at(path: &str, body: Value) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::CREATED, [(header::LOCATION, path)], Json(body)).into_response(),
        Err(error) => {
            tracing::error!(path, %error, "the path of a created resource fits no header");
            (StatusCode::CREATED, Json(body)).into_response()
        }
    }
}

/// A resource of the cache; none if it cannot be parsed.
fn parsed(resource: &str) -> Option<Value> {
    serde_json::from_str(resource).inspect_err(|error| tracing::error!(%error, "cannot parse a resource")).ok()
}

#[cfg(test)]
mod tests {
    use wire::rest::Method;

    use super::*;

    fn shows(path: &'static str, parameter: &'static str) -> RestRoute {
        RestRoute {
            method: Method::Get,
            path,
            name: "show",
            about: "Shows it",
            body: None,
            responses: &[(200, "Anything")],
            action: RestAction::Show { kind: "thing", parameter, unknown: |_| unreachable!() },
        }
    }

    fn of(routes: Vec<RestRoute>, schemas: Vec<(&'static str, Value)>) -> RestRoutes {
        RestRoutes { topology: "things", routes, parameters: Vec::new(), codes: &[], schemas }
    }

    #[test]
    fn routes_that_cannot_be_served_together_are_refused() {
        let thing = || shows("/v1/things/{id}", "id");
        assert_eq!(check_routes(&[of(vec![thing()], Vec::new())]), Ok(()));
        for (brought, named) in [
            (
                vec![of(vec![thing()], Vec::new()), of(vec![thing()], Vec::new())],
                "two routes are `GET /v1/things/{id}`",
            ),
            (
                vec![of(vec![thing(), shows("/v1/things/{name}", "name")], Vec::new())],
                "the paths `/v1/things/{id}` and `/v1/things/{name}` differ only in the names of their parameters",
            ),
            (
                vec![of(vec![shows("/v1/operations/{id}", "id")], Vec::new())],
                "two routes are `GET /v1/operations/{id}`",
            ),
            (
                vec![of(vec![shows("/v1/things", "id")], Vec::new())],
                "`/v1/things` has no parameter `id`, the key of what it shows",
            ),
            (vec![of(Vec::new(), vec![("Problem", Value::Null)])], "two schemas have the name `Problem`"),
        ] {
            assert_eq!(check_routes(&brought), Err(named.to_owned()));
        }
    }
}
