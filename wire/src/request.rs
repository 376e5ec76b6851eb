//! A request to a hub: the body of `nave.request`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Maximum length of a route in characters: the longest of the northbound has 60.
pub const MAX_ROUTE_CHARS: usize = 128;

/// Starts a workflow. The key of the record names the resource, `ce_id` this request.
/// `ce_idempotencykey`, if set, identifies the request and its repeats: they share one operation
/// ([`crate::Envelope::requested_operation`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The workflow's name.
    pub workflow: String,
    /// Input of the workflow.
    #[serde(deserialize_with = "crate::json::unique")]
    pub request: Value,
    /// Method and path of the client's request, such as `POST /flow`; empty if it did not come over
    /// REST. A repeat with the same idempotency key has the same route.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub route: String,
}

impl Request {
    /// A request that did not come over REST.
    pub fn new(workflow: &str, request: Value) -> Self {
        Self { workflow: workflow.to_owned(), request, route: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let text = r#"{"workflow":"create-flow","request":{},"priority":1}"#;
        let error = serde_json::from_str::<Request>(text).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `priority`"), "{error}");
    }
}
