//! A route: a method and a path, what it takes and gives, and who answers. The document is made of the same words.

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
use wire::{Code, Problem};

use super::Northbound;
use super::door::Correlation;
use super::prefer::Wishes;
use super::problem::{Refused, unread_body};
use crate::Limits;

/// What a route takes and gives.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Its name in the document.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) query: &'static [Param],
    /// The schema of its body, where it takes one, and whether there has to be one.
    pub(super) body: Option<(&'static str, bool)>,
    /// Status and schema of each good answer; one that begins with a word and a slash is a media type without a schema.
    pub(super) gives: &'static [(u16, &'static str)],
    /// Status of each problem, beside those that every route may answer with.
    pub(super) refuses: &'static [u16],
    /// It starts an operation, so it takes preferences, a deadline and an idempotency key.
    pub(super) starts: bool,
    /// It needs no token.
    pub(super) open: bool,
}

/// A parameter of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A whole number.
    Number { min: u64, max: u64 },
    /// `true` or `false`.
    Flag,
    /// Of 1 to so many characters, none of them a control character.
    Text { max: usize },
    /// A place in a list: the pattern in the document, and what reads it.
    Cursor { pattern: &'static str, is: fn(&str) -> bool },
}

impl Param {
    fn check(&self, value: &str) -> Result<(), Problem> {
        let fault = |allowed: &str| {
            let shown: String = value.chars().take(80).collect();
            Problem::field(self.name, &format!("\"{shown}\""), allowed)
        };
        match self.kind {
            Kind::Number { min, max } => {
                // Nothing but digits: `+1` is another way to write what has one.
                let number =
                    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse::<u64>().ok()).flatten();
                let allowed = || fault(&format!("a whole number from {min} to {max}"));
                number.filter(|number| (min..=max).contains(number)).map(|_| ()).ok_or_else(allowed)
            }
            Kind::Flag if matches!(value, "true" | "false") => Ok(()),
            Kind::Flag => Err(fault("true or false")),
            Kind::Text { max } if is_text(value, max) => Ok(()),
            Kind::Text { max } => Err(fault(&format!("1 to {max} characters without control characters"))),
            Kind::Cursor { is, .. } if is(value) => Ok(()),
            Kind::Cursor { .. } => Err(fault("what `next` of the page before says")),
        }
    }
}

/// True for 1 to `max` characters, none of them a control character.
pub(super) fn is_text(value: &str, max: usize) -> bool {
    (1..=max).contains(&value.chars().count()) && !value.chars().any(char::is_control)
}

/// A request, as its route takes it.
#[derive(Debug)]
pub(super) struct Asked {
    spec: Arc<Spec>,
    pub(super) headers: HeaderMap,
    pub(super) wishes: Wishes,
    pub(super) correlation: Correlation,
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    body: Bytes,
}

impl Asked {
    async fn read(spec: &Arc<Spec>, limits: &Limits, request: Request) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let raw = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|error| Refused::new(Code::BadRequest, error.body_text()))?;
        let path = raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let query = query(spec, &parts.uri)?;
        let wishes = if spec.starts { Wishes::read(&parts.headers)? } else { Wishes::default() };
        let correlation = parts.extensions.get().cloned().unwrap_or_default();
        let headers = parts.headers.clone();
        let body =
            if spec.body.is_some() { whole(limits, Request::from_parts(parts, body)).await? } else { Bytes::new() };
        Ok(Self { spec: Arc::clone(spec), headers, wishes, correlation, path, query, body })
    }

    /// Method and path of its route.
    pub(super) fn route(&self) -> String {
        format!("{} {}", self.spec.method, self.spec.path)
    }

    /// A part of the path; the route has it.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The same, of a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.query(name).and_then(|value| value.parse().ok())
    }

    /// The body, as JSON. `empty` where there is none.
    pub(super) fn json(&self, empty: Option<Value>) -> Result<Value, Refused> {
        match empty {
            Some(empty) if self.body.is_empty() => Ok(empty),
            Some(_) | None => wire::json::read(&self.body).map_err(Refused::from),
        }
    }
}

fn query(spec: &Spec, uri: &axum::http::Uri) -> Result<BTreeMap<String, String>, Refused> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Refused::new(Code::BadRequest, error.body_text()))?;
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        let Some(param) = spec.query.iter().find(|param| param.name == name) else {
            let known: Vec<&str> = spec.query.iter().map(|param| param.name).collect();
            let known = if known.is_empty() { "no query at all".to_owned() } else { known.join(", ") };
            let shown: String = name.chars().take(80).collect();
            return Err(Problem::field(&shown, "in the query", &known).into());
        };
        param.check(&value)?;
        if query.insert(name, value).is_some() {
            return Err(Problem::field(param.name, "given twice", "to give it once").into());
        }
    }
    Ok(query)
}

/// The whole body, which has to come in its time.
async fn whole(limits: &Limits, request: Request) -> Result<Bytes, Refused> {
    let body: Result<Result<Bytes, BytesRejection>, _> =
        timeout(limits.body_time, Bytes::from_request(request, &())).await;
    if let Ok(body) = body {
        return body.map_err(|error| unread_body(&error, limits.body_bytes));
    }
    let seconds = limits.body_time.as_secs();
    Err(Refused::new(Code::TooSlow, format!("the body did not come whole in {seconds} s")))
}

/// A route and who answers.
pub(super) struct Route {
    pub(super) spec: Spec,
    make: Box<dyn FnOnce(Arc<Spec>) -> MethodRouter<Northbound>>,
}

impl Route {
    pub(super) fn get<A, F>(path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, Asked) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Refused>> + Send + 'static,
    {
        Self::new("GET", MethodFilter::GET, path, answer)
    }

    pub(super) fn post<A, F>(path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, Asked) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Refused>> + Send + 'static,
    {
        Self::new("POST", MethodFilter::POST, path, answer)
    }

    pub(super) fn delete<A, F>(path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, Asked) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Refused>> + Send + 'static,
    {
        Self::new("DELETE", MethodFilter::DELETE, path, answer)
    }

    fn new<A, F>(method: &'static str, filter: MethodFilter, path: &'static str, answer: A) -> Self
    where
        A: Fn(Northbound, Asked) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Refused>> + Send + 'static,
    {
        let make = move |spec: Arc<Spec>| {
            on(filter, move |State(state): State<Northbound>, request: Request| {
                let (spec, answer) = (Arc::clone(&spec), answer.clone());
                async move {
                    match Asked::read(&spec, &state.limits, request).await {
                        Ok(asked) => {
                            let wishes = asked.wishes;
                            applied(wishes, answer(state, asked).await.into_response())
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
            query: &[],
            body: None,
            gives: &[],
            refuses: &[],
            starts: false,
            open: false,
        };
        Self { spec, make: Box::new(make) }
    }

    /// Its name in the document, and what it does.
    pub(super) fn named(mut self, name: &'static str, about: &'static str) -> Self {
        (self.spec.name, self.spec.about) = (name, about);
        self
    }

    pub(super) fn query(mut self, query: &'static [Param]) -> Self {
        self.spec.query = query;
        self
    }

    pub(super) fn takes(mut self, schema: &'static str) -> Self {
        self.spec.body = Some((schema, true));
        self
    }

    pub(super) fn may_take(mut self, schema: &'static str) -> Self {
        self.spec.body = Some((schema, false));
        self
    }

    pub(super) fn gives(mut self, gives: &'static [(u16, &'static str)]) -> Self {
        self.spec.gives = gives;
        self
    }

    pub(super) fn refuses(mut self, refuses: &'static [u16]) -> Self {
        self.spec.refuses = refuses;
        self
    }

    pub(super) fn starts(mut self) -> Self {
        self.spec.starts = true;
        self
    }

    pub(super) fn open(mut self) -> Self {
        self.spec.open = true;
        self
    }

    /// Path and answer, for a router.
    pub(super) fn mounted(self) -> (&'static str, MethodRouter<Northbound>) {
        let path = self.spec.path;
        (path, (self.make)(Arc::new(self.spec)))
    }
}

fn applied(wishes: Wishes, mut response: Response) -> Response {
    let good = response.status() < StatusCode::BAD_REQUEST;
    if let Some((name, value)) = wishes.applied(response.status()).filter(|_| good) {
        response.headers_mut().insert(name, value);
    }
    response
}
