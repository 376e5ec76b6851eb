//! The `OpenAPI` document, generated from the table of routes, so that both always agree.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ComponentsBuilder, ContentBuilder, HeaderBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder,
    PathItem, PathsBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};

use super::preferences::{IDEMPOTENCY_KEY, MAX_DEADLINE_MS, TIMEOUT};
use super::route::{ParamKind, Spec};
use super::{routes, schemas};

/// Statuses of problems of every route: bad query, bad header, no token, too large, overloaded.
const ALWAYS: &[u16] = &[400, 401, 414, 422, 431, 503];
/// Further statuses of routes with a body.
const WITH_BODY: &[u16] = &[408, 413];
/// Further statuses of routes that start an operation: conflicts, busy lanes, failed workflows.
const WHEN_STARTING: &[u16] = &[409, 429, 500, 502, 504];

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// Schemas of answers with the id of an operation.
const OF_AN_OPERATION: &[&str] = &["FlowMade", "FlowGone", "Operation"];

/// The document.
pub fn document() -> OpenApi {
    let paths = routes().into_iter().fold(PathsBuilder::new(), |paths, route| {
        paths.path(route.spec.path, PathItem::new(method(route.spec.method), operation(&route.spec)))
    });
    let info = InfoBuilder::new().title("Nave").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Workflows that talk to the outside world. Every answer from status 400 up is a problem (RFC 9457).",
    ));
    // The operator decides whether a token is required, so the document allows both.
    let security = [SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])];
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components()))
        .security(Some(security))
        .build()
}

/// The document as indented JSON, with a final line break.
///
/// # Panics
/// Never: the document is plain data.
pub fn document_json() -> String {
    let mut text = document().to_pretty_json().expect("the document is plain data");
    text.push('\n');
    text
}

fn components() -> Components {
    let statuses: BTreeSet<u16> = routes().iter().flat_map(|route| problems(&route.spec)).collect();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("the token of this interface"));
    let schemas = schemas::components().into_iter();
    let components =
        schemas.fold(ComponentsBuilder::new(), |components, (name, value)| components.schema(name, schema(value)));
    statuses
        .into_iter()
        .fold(components, |components, status| components.response(problem_name(status), problem(status)))
        .security_scheme("token", SecurityScheme::Http(token.build()))
        .build()
}

fn method(name: &str) -> HttpMethod {
    match name {
        "POST" => HttpMethod::Post,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn schema(mut value: Value) -> RefOr<Schema> {
    type_all(&mut value);
    serde_json::from_value(value).expect("every schema is valid OpenAPI")
}

/// utoipa requires a `type` and reads `null` as any type. It does not write the `null` again.
fn type_all(schema: &mut Value) {
    let Some(members) = schema.as_object_mut().filter(|members| !members.contains_key("$ref")) else { return };
    members.entry("type").or_insert(Value::Null);
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(type_all);
    }
    if let Some(items) = members.get_mut("items") {
        type_all(items);
    }
}

fn component(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

fn operation(spec: &Spec) -> OperationBuilder {
    let mut operation = OperationBuilder::new().operation_id(Some(spec.name)).summary(Some(spec.about));
    for name in spec.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let (part, about) = schemas::path_part(name);
        operation = operation.parameter(parameter(ParameterIn::Path, name, about, part));
    }
    for param in spec.query {
        let value = match param.kind {
            ParamKind::Number { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            ParamKind::Flag => json!({"type": "boolean"}),
            ParamKind::Text { max } => schemas::text(max),
            ParamKind::Cursor { pattern, .. } => json!({"type": "string", "pattern": pattern}),
        };
        operation = operation.parameter(parameter(ParameterIn::Query, param.name, param.about, value));
    }
    for (name, about, value) in headers(spec) {
        operation = operation.parameter(parameter(ParameterIn::Header, name, about, value));
    }
    if let Some((name, required)) = spec.body {
        let content = ContentBuilder::new().schema(Some(component(name))).build();
        let body = RequestBodyBuilder::new().content("application/json", content);
        let required = if required { Required::True } else { Required::False };
        operation = operation.request_body(Some(body.required(Some(required)).build()));
    }
    for (status, name) in spec.responses {
        operation = operation.response(status.to_string(), good(*status, name));
    }
    if spec.starts {
        operation = operation.response("202", good(202, "Operation"));
    }
    problems(spec).into_iter().fold(operation, |operation, status| {
        operation.response(status.to_string(), RefOr::Ref(Ref::from_response_name(problem_name(status))))
    })
}

/// The component name of a problem with this status.
fn problem_name(status: u16) -> String {
    format!("Problem{status}")
}

fn problem(status: u16) -> Response {
    let content = ContentBuilder::new().schema(Some(component("Problem"))).build();
    described(status).content("application/problem+json", content).build()
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

fn parameter(place: ParameterIn, name: &str, about: &str, value: Value) -> ParameterBuilder {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    parameter.description(Some(about)).schema(Some(schema(value)))
}

fn good(status: u16, name: &str) -> Response {
    let mut response = described(status);
    if name.contains('/') {
        let text = || schema(json!({"type": "string"}));
        // For a stream, the schema describes one event.
        let body = if name == EVENT_STREAM { component("Event") } else { text() };
        response = response.content(name, ContentBuilder::new().schema(Some(body)).build());
    } else if !name.is_empty() {
        let content = ContentBuilder::new().schema(Some(component(name))).build();
        response = response.content("application/json", content);
    }
    if OF_AN_OPERATION.contains(&name) {
        for to in ["getOperation", "watchOperation", "cancelOperation"] {
            let link = LinkBuilder::new().operation_id(to).parameter("id", "$response.body#/operation");
            response = response.link(to, link.build());
        }
    }
    response.build()
}

/// A response with the common header.
fn described(status: u16) -> ResponseBuilder {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("other");
    let id = HeaderBuilder::new().schema(Some(schema(json!({"type": "string"})))).build();
    ResponseBuilder::new().description(reason).header("X-Correlation-ID", id)
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

    /// No keyword is lost that utoipa does not know.
    #[test]
    fn schemas_appear_unchanged_in_the_document() {
        let document: Value = serde_json::from_str(&document_json()).unwrap();
        for (name, written) in schemas::components() {
            assert_eq!(document["components"]["schemas"][name], written, "{name}");
        }
    }

    #[test]
    fn every_route_has_a_unique_name_a_summary_and_responses() {
        let mut names = BTreeSet::new();
        for route in routes() {
            let spec = route.spec;
            assert!(names.insert(spec.name) && !spec.name.is_empty(), "{} {}", spec.method, spec.path);
            assert!(!spec.about.is_empty() && !spec.responses.is_empty(), "{}", spec.name);
        }
        let document = document();
        let count: usize = document
            .paths
            .paths
            .values()
            .map(|item| serde_json::to_value(item).unwrap().as_object().unwrap().len())
            .sum();
        assert_eq!(count, names.len());
    }

    #[test]
    fn every_status_of_a_code_is_documented() {
        let named: BTreeSet<u16> = routes().iter().flat_map(|route| problems(&route.spec)).collect();
        for &code in wire::Code::ALL {
            let status = super::super::problem::status_of(code).as_u16();
            // 405 belongs to no route.
            assert!(named.contains(&status) || status == 405, "{code}: {status}");
        }
    }
}
