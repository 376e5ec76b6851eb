//! What a client asks of a hub: the body of `nave.request`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Starts a workflow. The key of the record names the thing it is about, `ce_correlationid` the operation, `ce_id` this
/// one request: a repeat with the same idempotency key has the same operation and another `ce_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The workflow's name.
    pub workflow: String,
    /// What it is asked; the workflow reads it.
    pub request: Value,
}
