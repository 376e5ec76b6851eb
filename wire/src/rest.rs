//! The REST routes that a topology brings, beside those that a northbound has for every topology.
//!
//! They do not cross the bus; they are here because a topology and a northbound share no other
//! crate. A northbound mounts them, and describes them in its `OpenAPI` document.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Code, Problem};

/// The REST routes of a topology.
#[derive(Debug, Clone)]
pub struct RestRoutes {
    /// The name of the topology.
    pub topology: &'static str,
    /// The routes. No two of a northbound may have the same method and path.
    pub routes: Vec<RestRoute>,
    /// The parameters of their paths.
    pub parameters: Vec<PathParameter>,
    /// The codes of its problems, beside those of the framework.
    pub codes: &'static [Code],
    /// JSON Schemas of bodies, by the names that the routes use.
    pub schemas: Vec<(&'static str, Value)>,
}

/// A parameter of a path.
#[derive(Debug, Clone)]
pub struct PathParameter {
    /// The name, in braces in the path.
    pub name: &'static str,
    /// Description.
    pub about: &'static str,
    /// Its JSON Schema.
    pub schema: Value,
}

/// A route of a topology.
#[derive(Debug, Clone, Copy)]
pub struct RestRoute {
    /// The method.
    pub method: Method,
    /// The path, such as `/v1/flows/{flowid}`.
    pub path: &'static str,
    /// Its operation id in the `OpenAPI` document.
    pub name: &'static str,
    /// Description.
    pub about: &'static str,
    /// The schema of its body, if it has one.
    pub body: Option<&'static str>,
    /// Status and schema of each successful response.
    pub responses: &'static [(u16, &'static str)],
    /// The action.
    pub action: RestAction,
}

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// The method as it appears in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// The action of a route.
#[derive(Debug, Clone, Copy)]
pub enum RestAction {
    /// Starts a workflow, waits for its answer as long as the client wants, and returns it. A
    /// failure is a problem with the members of the answer.
    Start {
        /// The workflow.
        workflow: &'static str,
        /// Makes the request from the parameters of the path and the body, which is `null` for
        /// a route without one.
        request: fn(&BTreeMap<String, String>, &Value) -> Result<RestStart, Problem>,
        /// Makes the response from the body of a successful answer.
        done: fn(Value) -> Result<RestDone, serde_json::Error>,
    },
    /// Shows a resource that the topology publishes.
    Show {
        /// The [`crate::answer::Resource`] kind.
        kind: &'static str,
        /// The parameter of the path that has its key.
        parameter: &'static str,
        /// The problem of a key without a resource.
        unknown: fn(&str) -> Problem,
    },
    /// Lists the resources of a kind by key, in pages.
    List {
        /// The [`crate::answer::Resource`] kind.
        kind: &'static str,
        /// The field of the response with the resources.
        field: &'static str,
        /// The schema of a resource.
        item: &'static str,
        /// The pattern of a key.
        pattern: &'static str,
        /// Returns true for a valid key.
        is_key: fn(&str) -> bool,
    },
}

/// The request of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestStart {
    /// The key of the operation.
    pub key: String,
    /// The request of the workflow.
    pub request: Value,
}

/// The response to a successful start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestDone {
    /// The body.
    pub body: Value,
    /// The path of what the operation created: then the status is 201, otherwise 200.
    pub created: Option<String>,
}
