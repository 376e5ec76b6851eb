//! What a client asks of a hub: the body of `nave.request`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest route in characters: the longest of the northbound has 60.
pub const LONGEST_ROUTE: usize = 128;

/// Starts a workflow. The key of the record names the thing it is about, `ce_id` this one request, and `ce_idempotencykey`, if
/// there is one, this request and its repeats: they have one operation ([`crate::Envelope::requested_operation`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The workflow's name.
    pub workflow: String,
    /// What it is asked; the workflow reads it.
    #[serde(deserialize_with = "crate::json::unique")]
    pub request: Value,
    /// Where the client sent it: method and path, like `POST /flow`; empty for a request that did not come over REST. A repeat
    /// with the same idempotency key has the same route.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub route: String,
}

impl Request {
    /// A request that did not come over REST.
    pub fn new(workflow: &str, request: Value) -> Self {
        Self { workflow: workflow.to_owned(), request, route: String::new() }
    }
}
