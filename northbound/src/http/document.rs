//! The `OpenAPI` document, generated from the table of routes, so that both always agree.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use wire::rest::RestRoutes;

use super::preferences::{IDEMPOTENCY_KEY, MAX_DEADLINE_MS, TIMEOUT};
use super::route::{ParamKind, Route, Spec};
use super::schemas::reference;
use super::{routes, schemas};

/// Statuses of problems of every route: bad query, bad header, no token, too large, overloaded.
const ALWAYS: &[u16] = &[400, 401, 414, 422, 431, 503];
/// Further statuses of routes with a body.
const WITH_BODY: &[u16] = &[408, 413];
/// Further statuses of routes that start an operation: conflicts, busy lanes, failed workflows.
const WHEN_STARTING: &[u16] = &[409, 429, 500, 502, 504];

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// The document, with the routes that topologies bring.
pub fn document(brought: &[RestRoutes]) -> Value {
    let (mut paths, routes) = (Map::new(), routes(brought));
    for Route { spec, .. } in &routes {
        let methods = paths.entry(spec.path).or_insert_with(|| json!({}));
        methods[spec.method.as_str().to_lowercase()] = operation(spec, brought);
    }
    let statuses: BTreeSet<u16> = routes.iter().flat_map(|route| problems(&route.spec)).collect();
    let responses: Map<String, Value> =
        statuses.into_iter().map(|status| (problem_name(status), problem(status))).collect();
    let schemas: Map<String, Value> =
        schemas::components(brought).into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Nave",
            "version": env!("CARGO_PKG_VERSION"),
            "description":
                "Workflows that talk to the outside world. Every answer from status 400 up is a problem (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "the token of this interface"},
            },
        },
        // The operator decides whether a token is required, so the document allows both.
        "security": [{}, {"token": []}],
    })
}

/// The document as indented JSON, with a final line break.
pub fn document_json(brought: &[RestRoutes]) -> String {
    format!("{:#}\n", document(brought))
}

fn operation(spec: &Spec, brought: &[RestRoutes]) -> Value {
    let mut parameters = Vec::new();
    for name in spec.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let known = brought.iter().flat_map(|of| &of.parameters).find(|parameter| parameter.name == name);
        let (part, about) = known.map_or_else(|| schemas::path_part(name), |known| (known.schema.clone(), known.about));
        parameters.push(parameter("path", name, about, &part));
    }
    for param in &spec.query {
        let value = match param.kind {
            ParamKind::Number { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            ParamKind::Flag => json!({"type": "boolean"}),
            ParamKind::Text { max } => schemas::text(max),
            ParamKind::Cursor { pattern, .. } => json!({"type": "string", "pattern": pattern}),
        };
        parameters.push(parameter("query", param.name, param.about, &value));
    }
    for (name, about, value) in headers(spec) {
        parameters.push(parameter("header", name, about, &value));
    }
    let mut responses: Map<String, Value> =
        spec.responses.iter().map(|(status, name)| (status.to_string(), good(spec, *status, name))).collect();
    if spec.starts {
        responses.insert("202".into(), good(spec, 202, "Operation"));
    }
    for status in problems(spec) {
        let problem = json!({"$ref": format!("#/components/responses/{}", problem_name(status))});
        responses.insert(status.to_string(), problem);
    }
    let mut operation =
        json!({"operationId": spec.name, "summary": spec.about, "parameters": parameters, "responses": responses});
    if let Some((name, required)) = spec.body {
        let content = json!({"application/json": {"schema": reference(name)}});
        operation["requestBody"] = json!({"content": content, "required": required});
    }
    operation
}

/// The component name of a problem with this status.
fn problem_name(status: u16) -> String {
    format!("Problem{status}")
}

fn problem(status: u16) -> Value {
    let mut problem = described(status);
    problem["content"] = json!({"application/problem+json": {"schema": reference("Problem")}});
    problem
}

/// The optional request headers.
fn headers(spec: &Spec) -> Vec<(&'static str, &'static str, Value)> {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"});
    let mut headers =
        vec![("X-Correlation-ID", "Client-defined id, returned in the answer and written to the logs", name.clone())];
    if spec.starts {
        let ms = json!({"type": "integer", "minimum": 1, "maximum": MAX_DEADLINE_MS});
        headers.push((IDEMPOTENCY_KEY, "Client-defined name of the request; makes it safe to repeat", name));
        headers.push((
            TIMEOUT,
            "The client's deadline in milliseconds; the request is refused if it cannot start before",
            ms,
        ));
        headers.push((
            "Prefer",
            "`respond-async`: do not wait for the answer; `wait=N`: wait at most N seconds, maximum 60 (RFC 7240)",
            json!({"type": "string"}),
        ));
    }
    if spec.path.ends_with("/events") {
        headers.push(("Last-Event-ID", "Id of the last received event", json!({"type": "string"})));
    }
    headers
}

fn parameter(place: &str, name: &str, about: &str, schema: &Value) -> Value {
    json!({"name": name, "in": place, "description": about, "required": place == "path", "schema": schema})
}

fn good(spec: &Spec, status: u16, name: &str) -> Value {
    let mut response = described(status);
    if name.contains('/') {
        // For a stream, the schema describes one event.
        let body = if name == EVENT_STREAM { reference("Event") } else { json!({"type": "string"}) };
        response["content"] = json!({name: {"schema": body}});
    } else if !name.is_empty() {
        response["content"] = json!({"application/json": {"schema": reference(name)}});
    }
    // The answer to a start has the id of its operation, except that of an unknown workflow.
    if name == "Operation" || (spec.starts && name != "Anything") {
        for to in ["getOperation", "watchOperation", "cancelOperation"] {
            response["links"][to] = json!({"operationId": to, "parameters": {"id": "$response.body#/operation"}});
        }
    }
    response
}

/// A response with the common header.
fn described(status: u16) -> Value {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("other");
    json!({"description": reason, "headers": {"X-Correlation-ID": {"schema": {"type": "string"}}}})
}

/// All statuses of problems of a route.
fn problems(spec: &Spec) -> BTreeSet<u16> {
    let mut problems: BTreeSet<u16> = spec.problems.iter().copied().collect();
    if spec.public {
        // Health paths skip the token and the limits.
        problems.extend([400, 422, 503]);
        return problems;
    }
    problems.extend(ALWAYS);
    if spec.body.is_some() {
        problems.extend(WITH_BODY);
    }
    if spec.starts {
        problems.extend(WHEN_STARTING);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_unique_name_a_summary_and_responses() {
        let mut names = BTreeSet::new();
        for Route { spec, .. } in routes(&[]) {
            assert!(names.insert(spec.name) && !spec.name.is_empty(), "{:?} {}", spec.method, spec.path);
            assert!(!spec.about.is_empty() && !spec.responses.is_empty(), "{}", spec.name);
        }
        let document = document(&[]);
        let paths = document["paths"].as_object().unwrap();
        let count: usize = paths.values().map(|methods| methods.as_object().unwrap().len()).sum();
        assert_eq!(count, names.len());
    }

    #[test]
    fn every_status_of_a_code_is_documented() {
        let named: BTreeSet<u16> = routes(&[]).iter().flat_map(|route| problems(&route.spec)).collect();
        for code in wire::Code::ALL {
            let status = code.status();
            // 405 belongs to no route.
            assert!(named.contains(&status) || status == 405, "{code}: {status}");
        }
    }
}
