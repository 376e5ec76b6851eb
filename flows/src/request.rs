//! Requests of the flow workflows, with their schemas.

use std::borrow::Cow;

use flow_messages::client::{self, InjectedFault, MAX_LENGTH, MAX_NAME_CHARS};
use hub::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use wire::Problem;

/// The request of `create-flow`.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct CreateRequest(pub client::CreateFlow);

/// The request of `remove-flow`.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct RemoveRequest(pub client::RemoveFlow);

impl JsonSchema for CreateRequest {
    fn schema_name() -> Cow<'static, str> {
        "CreateFlow".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "flowid": flow_name(),
                "length": {
                    "type": "integer", "minimum": 1, "maximum": MAX_LENGTH,
                    "description": "number of rules: rule i belongs on switch of:i",
                },
                "error": {
                    "enum": [null, 0, 1, 2, "IN_HUB", "IN_WORKER", "IN_FL"],
                    "description": format!("a fault to inject: {}", InjectedFault::ALLOWED),
                },
                "strict": {"type": "boolean", "description": "true: fails if the flow exists"},
            },
            "required": ["flowid", "length"],
            "additionalProperties": false,
        })
    }
}

impl JsonSchema for RemoveRequest {
    fn schema_name() -> Cow<'static, str> {
        "RemoveFlow".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { "flowid": flow_name() },
            "required": ["flowid"],
            "additionalProperties": false,
        })
    }
}

fn flow_name() -> Schema {
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": "^[A-Za-z0-9._:-]+$",
        "description": "the flow's name",
    })
}

/// Checks that the flow of a request is its key.
pub(crate) fn check_key(key: &str, flowid: &str) -> Result<(), Problem> {
    if flowid == key {
        return Ok(());
    }
    let shown: String = flowid.chars().take(80).collect();
    Err(Problem::field("flowid", &format!("`{shown}`"), &format!("the record's key, `{key}`")))
}
