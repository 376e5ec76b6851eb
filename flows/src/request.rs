//! What the flow workflows are asked, with its schema.

use std::borrow::Cow;

use hub::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use wire::Problem;
use wire::flow::{self, Drill, MAX_LENGTH, MAX_NAME};

/// What `create-flow` is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct CreateRequest(pub flow::CreateFlow);

/// What `remove-flow` is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct RemoveRequest(pub flow::RemoveFlow);

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
                    "description": "how many rules it has: rule i stands on switch of:i",
                },
                "error": {
                    "enum": [null, 0, 1, 2, "IN_HUB", "IN_WORKER", "IN_FL"],
                    "description": format!("a fault to rehearse: {}", Drill::ALLOWED),
                },
                "strict": {"type": "boolean", "description": "true: a flow that is there already is a fault"},
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
        "type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": "^[A-Za-z0-9._:-]+$",
        "description": "the flow's name",
    })
}

/// A request is about the flow that is its key.
pub(crate) fn key_is_flow(key: &str, flowid: &str) -> Result<(), Problem> {
    if flowid == key {
        return Ok(());
    }
    let shown: String = flowid.chars().take(80).collect();
    Err(Problem::field("flowid", &format!("`{shown}`"), &format!("the record's key, `{key}`")))
}
