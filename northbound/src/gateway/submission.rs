//! The requests and commands that a gateway sends.

use serde_json::Value;
use uuid::Uuid;
use wire::command::Command;
use wire::{OperationId, WallTime};

/// A request of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission<'a> {
    /// The workflow's name.
    pub workflow: &'a str,
    /// The key of the record.
    pub key: &'a str,
    /// The input of the workflow.
    pub request: Value,
    /// The client's name for this request, if any.
    pub idempotency_key: Option<&'a str>,
    /// Method and path of the client's request, such as `POST /flow`. A repeat with the same name
    /// has the same route.
    pub route: &'a str,
    /// `traceparent`, passed on.
    pub trace: Option<String>,
    /// The client's `X-Correlation-ID`, passed on as `ce_correlationid`.
    pub correlation: Option<&'a str>,
    /// The client does not need an answer after this time.
    pub expires: Option<WallTime>,
    /// The id of this HTTP request, new for each.
    pub http_id: Uuid,
}

impl<'a> Submission<'a> {
    /// A submission with only the required fields.
    pub fn new(workflow: &'a str, key: &'a str, request: Value, http_id: Uuid) -> Self {
        let (idempotency_key, trace, correlation, expires) = (None, None, None, None);
        Self { workflow, key, request, idempotency_key, route: "", trace, correlation, expires, http_id }
    }
}

/// A command of a client to an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationCommand<'a> {
    /// The operation.
    pub operation: &'a OperationId,
    /// The operation's workflow.
    pub workflow: &'a str,
    /// The operation's key.
    pub key: &'a str,
    /// The command.
    pub command: &'a Command,
    /// The client's `X-Correlation-ID`, passed on as `ce_correlationid`.
    pub correlation: Option<&'a str>,
    /// The id of this HTTP request, new for each.
    pub http_id: Uuid,
}

/// A tuple that a client POSTs.
#[derive(Debug, Clone, PartialEq)]
pub struct PostedTuple<'a> {
    /// The source.
    pub source: &'a str,
    /// The key of the record: it decides the lane.
    pub key: &'a str,
    /// The tuple.
    pub body: &'a Value,
    /// `traceparent`, passed on.
    pub trace: Option<String>,
    /// The client's `X-Correlation-ID`, passed on as `ce_correlationid`.
    pub correlation: Option<&'a str>,
    /// The id of this HTTP request, new for each.
    pub http_id: Uuid,
}
