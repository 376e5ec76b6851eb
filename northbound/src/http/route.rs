//! A route: method, path, parameters, responses and handler. The `OpenAPI` document is generated
//! from it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::Value;
use tokio::time::timeout;
use wire::rest::Method;
use wire::{Code, Problem};

use super::Northbound;
use super::middleware::Correlation;
use super::preferences::Preferences;
use super::problem::{ProblemResponse, body_problem};
use crate::Limits;

/// The interface of a route.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Its operation id in the document.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) query: Vec<Param>,
    /// The schema of its body, if any, and whether the body is required.
    pub(super) body: Option<(&'static str, bool)>,
    /// Status and schema of each successful response. A name with a slash is a media type without a
    /// schema.
    pub(super) responses: &'static [(u16, &'static str)],
    /// Statuses of problems, in addition to those of every route.
    pub(super) problems: &'static [u16],
    /// It starts an operation: it accepts preferences, a deadline and an idempotency key.
    pub(super) starts: bool,
    /// It requires no token.
    pub(super) public: bool,
}

/// A query parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: ParamKind,
    pub(super) about: &'static str,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy)]
pub(super) enum ParamKind {
    /// A whole number.
    Number { min: u64, max: u64 },
    /// `true` or `false`.
    Flag,
    /// 1 to `max` characters without control characters.
    Text { max: usize },
    /// A position in a list: the pattern for the document, and the check.
    Cursor { pattern: &'static str, is: fn(&str) -> bool },
}

impl Param {
    fn check(&self, value: &str) -> Result<(), Problem> {
        let fault = |allowed: &str| {
            let shown: String = value.chars().take(80).collect();
            Problem::field(self.name, &format!("\"{shown}\""), allowed)
        };
        match self.kind {
            ParamKind::Number { min, max } => {
                // Digits only: `+1` would be a second notation of a value.
                let number =
                    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse::<u64>().ok()).flatten();
                let allowed = || fault(&format!("a whole number from {min} to {max}"));
                number.filter(|number| (min..=max).contains(number)).map(|_| ()).ok_or_else(allowed)
            }
            ParamKind::Flag if matches!(value, "true" | "false") => Ok(()),
            ParamKind::Flag => Err(fault("true or false")),
            ParamKind::Text { max } if is_text(value, max) => Ok(()),
            ParamKind::Text { max } => Err(fault(&format!("1 to {max} characters without control characters"))),
            ParamKind::Cursor { is, .. } if is(value) => Ok(()),
            ParamKind::Cursor { .. } => Err(fault("the value in `next` of the previous page")),
        }
    }
}

/// True for 1 to `max` characters without control characters.
pub(super) fn is_text(value: &str, max: usize) -> bool {
    (1..=max).contains(&value.chars().count()) && !value.chars().any(char::is_control)
}

/// A request, checked against its route.
#[derive(Debug)]
pub(super) struct ApiRequest {
    spec: Arc<Spec>,
    pub(super) headers: HeaderMap,
    pub(super) preferences: Preferences,
    pub(super) correlation: Correlation,
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    body: Bytes,
}

impl ApiRequest {
    async fn read(spec: &Arc<Spec>, limits: &Limits, request: Request) -> Result<Self, ProblemResponse> {
        let (mut parts, body) = request.into_parts();
        let raw = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|error| ProblemResponse::new(Code::BadRequest, error.body_text()))?;
        let path = raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let query = query(spec, &parts.uri)?;
        let preferences = if spec.starts { Preferences::read(&parts.headers)? } else { Preferences::default() };
        let correlation = parts.extensions.get().cloned().unwrap_or_default();
        let headers = parts.headers.clone();
        let body =
            if spec.body.is_some() { whole(limits, Request::from_parts(parts, body)).await? } else { Bytes::new() };
        Ok(Self { spec: Arc::clone(spec), headers, preferences, correlation, path, query, body })
    }

    /// Method and path of the route.
    pub(super) fn route(&self) -> String {
        format!("{} {}", self.spec.method.as_str(), self.spec.path)
    }

    /// A parameter of the path, which the route defines.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// All parameters of the path.
    pub(super) fn path_parameters(&self) -> &BTreeMap<String, String> {
        &self.path
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A numeric parameter of the query.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.query(name).and_then(|value| value.parse().ok())
    }

    /// The page size: `limit`, or 100.
    pub(super) fn limit(&self) -> usize {
        self.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100)
    }

    /// The body as JSON, or `empty` if there is no body.
    pub(super) fn json(&self, empty: Option<Value>) -> Result<Value, ProblemResponse> {
        match empty {
            Some(empty) if self.body.is_empty() => Ok(empty),
            Some(_) | None => wire::json::read(&self.body).map_err(ProblemResponse::from),
        }
    }
}

fn query(spec: &Spec, uri: &axum::http::Uri) -> Result<BTreeMap<String, String>, ProblemResponse> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| ProblemResponse::new(Code::BadRequest, error.body_text()))?;
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        let Some(param) = spec.query.iter().find(|param| param.name == name) else {
            let known: Vec<&str> = spec.query.iter().map(|param| param.name).collect();
            let known = if known.is_empty() { "no query".to_owned() } else { known.join(", ") };
            let shown: String = name.chars().take(80).collect();
            return Err(Problem::field(&shown, "not a parameter of this path", &known).into());
        };
        param.check(&value)?;
        if query.insert(name, value).is_some() {
            return Err(Problem::field(param.name, "given twice", "to give it once").into());
        }
    }
    Ok(query)
}

/// Reads the whole body within the time limit.
async fn whole(limits: &Limits, request: Request) -> Result<Bytes, ProblemResponse> {
    let body: Result<Result<Bytes, BytesRejection>, _> =
        timeout(limits.body_time, Bytes::from_request(request, &())).await;
    if let Ok(body) = body {
        return body.map_err(|error| body_problem(&error, limits.body_bytes));
    }
    let seconds = limits.body_time.as_secs();
    Err(ProblemResponse::new(Code::TooSlow, format!("the body did not arrive within {seconds} s")))
}

/// A route with its handler.
pub(super) struct Route {
    pub(super) spec: Spec,
    make: Box<dyn FnOnce(Arc<Spec>) -> MethodRouter<Northbound>>,
}

impl Route {
    pub(super) fn get<A, F>(path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, ApiRequest) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, ProblemResponse>> + Send + 'static,
    {
        Self::new(Method::Get, path, answer)
    }

    pub(super) fn post<A, F>(path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, ApiRequest) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, ProblemResponse>> + Send + 'static,
    {
        Self::new(Method::Post, path, answer)
    }

    pub(super) fn delete<A, F>(path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, ApiRequest) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, ProblemResponse>> + Send + 'static,
    {
        Self::new(Method::Delete, path, answer)
    }

    pub(super) fn new<A, F>(method: Method, path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, ApiRequest) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, ProblemResponse>> + Send + 'static,
    {
        let filter = match method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Delete => MethodFilter::DELETE,
        };
        let make = move |spec: Arc<Spec>| {
            on(filter, move |State(state): State<Northbound>, request: Request| {
                let (spec, answer) = (Arc::clone(&spec), answer.clone());
                async move {
                    match ApiRequest::read(&spec, &state.limits, request).await {
                        Ok(req) => {
                            let preferences = req.preferences;
                            applied(preferences, answer(state, req).await.into_response())
                        }
                        Err(refused) => refused.into_response(),
                    }
                }
            })
        };
        let spec = Spec {
            method,
            path,
            name: "",
            about: "",
            query: Vec::new(),
            body: None,
            responses: &[],
            problems: &[],
            starts: false,
            public: false,
        };
        Self { spec, make: Box::new(make) }
    }

    /// Sets its operation id and summary.
    pub(super) fn named(mut self, name: &'static str, about: &'static str) -> Self {
        (self.spec.name, self.spec.about) = (name, about);
        self
    }

    pub(super) fn query(mut self, query: &[Param]) -> Self {
        self.spec.query = query.to_vec();
        self
    }

    pub(super) fn body(mut self, schema: &'static str) -> Self {
        self.spec.body = Some((schema, true));
        self
    }

    pub(super) fn optional_body(mut self, schema: &'static str) -> Self {
        self.spec.body = Some((schema, false));
        self
    }

    pub(super) fn responds(mut self, responses: &'static [(u16, &'static str)]) -> Self {
        self.spec.responses = responses;
        self
    }

    pub(super) fn fails_with(mut self, problems: &'static [u16]) -> Self {
        self.spec.problems = problems;
        self
    }

    pub(super) fn starts_operation(mut self) -> Self {
        self.spec.starts = true;
        self
    }

    pub(super) fn public(mut self) -> Self {
        self.spec.public = true;
        self
    }

    /// Path and handler, for a router.
    pub(super) fn mounted(self) -> (&'static str, MethodRouter<Northbound>) {
        let path = self.spec.path;
        (path, (self.make)(Arc::new(self.spec)))
    }
}

fn applied(preferences: Preferences, mut response: Response) -> Response {
    let good = response.status() < StatusCode::BAD_REQUEST;
    if let Some((name, value)) = preferences.applied(response.status()).filter(|_| good) {
        response.headers_mut().insert(name, value);
    }
    response
}
