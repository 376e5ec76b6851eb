//! Requests and answers of the flow workflows.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::ids::{MAX_OPERATION_ID, OPERATION_ID_PATTERN};
use wire::{Code, OperationId, Problem};

use crate::speaker::Rule;

/// Maximum number of rules of a flow.
pub const MAX_LENGTH: u32 = 1000;

/// Maximum length of a flow name in characters: it is a key on the bus and a part of a URL path.
pub const MAX_NAME_CHARS: usize = 64;

/// The allowed flow names, in words.
pub const NAME_ALLOWED: &str = "1 to 64 characters of A-Z a-z 0-9 . _ : -, and neither `.` nor `..`";

/// The allowed flow names as a pattern. Clients resolve `.` and `..` in a URL path before they send
/// it (RFC 3986, section 5.2.4), so such a flow could be created but not addressed.
pub const NAME_PATTERN: &str = r"^([A-Za-z0-9._:-]{3,64}|[A-Za-z0-9_:-][A-Za-z0-9._:-]?|\.[A-Za-z0-9_:-])$";

/// A fault that a client requests for a demonstration: the `error` of the proof of concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// `0` or `IN_HUB`: the hub loses a step, and only its deadline ends it.
    InHub,
    /// `1` or `IN_WORKER`: the worker drops the install of one rule.
    InWorker,
    /// `2` or `IN_FL`: the switch controller does not answer for one rule.
    InSwitch,
}

impl InjectedFault {
    /// The allowed values of `error`, in words.
    pub const ALLOWED: &str = "null, 0 or IN_HUB, 1 or IN_WORKER, 2 or IN_FL";

    fn from_number(n: u64) -> Option<Self> {
        [InjectedFault::InHub, InjectedFault::InWorker, InjectedFault::InSwitch].get(usize::try_from(n).ok()?).copied()
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "IN_HUB" => Some(InjectedFault::InHub),
            "IN_WORKER" => Some(InjectedFault::InWorker),
            "IN_FL" => Some(InjectedFault::InSwitch),
            _ => None,
        }
    }
}

impl Serialize for InjectedFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            InjectedFault::InHub => "IN_HUB",
            InjectedFault::InWorker => "IN_WORKER",
            InjectedFault::InSwitch => "IN_FL",
        })
    }
}

impl<'de> Deserialize<'de> for InjectedFault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let fault = match &value {
            serde_json::Value::Number(_) => whole(&value).and_then(Self::from_number),
            serde_json::Value::String(name) => Self::from_name(name),
            _ => None,
        };
        fault.ok_or_else(|| serde::de::Error::custom(format!("`error` is {value}; allowed is {}", Self::ALLOWED)))
    }
}

impl JsonSchema for InjectedFault {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "InjectedFault".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": [0, 1, 2, "IN_HUB", "IN_WORKER", "IN_FL"]})
    }
}

/// Creates a flow if it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateFlow {
    /// The flow's name.
    #[schemars(schema_with = "flow_name")]
    pub flowid: String,
    /// Number of rules: rule `i` belongs on switch `of:` + `i`.
    #[schemars(range(min = 1, max = MAX_LENGTH))]
    pub length: u32,
    /// A fault to inject: null, 0 or `IN_HUB`, 1 or `IN_WORKER`, 2 or `IN_FL`.
    #[serde(default)]
    pub error: Option<InjectedFault>,
    /// True: fails if the flow exists. False: an existing flow is a success.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(with = "Option<bool>")]
    pub strict: bool,
}

impl CreateFlow {
    /// Reads a request from JSON, field by field, so that an error names the field, its value and
    /// the allowed values.
    pub fn from_json(body: &serde_json::Value) -> Result<Self, Problem> {
        let object = body.as_object().ok_or_else(|| Problem::field("body", &cut(body), "a JSON object"))?;
        if let Some((name, value)) =
            object.iter().find(|(name, _)| !["flowid", "length", "error", "strict"].contains(&name.as_str()))
        {
            let name: String = name.chars().take(80).collect();
            return Err(Problem::field(&name, &cut(value), "only the fields flowid, length, error, strict"));
        }
        let value = |name: &str| object.get(name).unwrap_or(&serde_json::Value::Null);
        let flowid = value("flowid").as_str().filter(|name| is_name(name));
        let flowid = flowid.ok_or_else(|| Problem::field("flowid", &cut(value("flowid")), NAME_ALLOWED))?;
        let length = whole(value("length"))
            .and_then(|length| u32::try_from(length).ok())
            .filter(|length| (1..=MAX_LENGTH).contains(length))
            .ok_or_else(|| Problem::field("length", &cut(value("length")), "a whole number from 1 to 1000"))?;
        let error = match value("error") {
            serde_json::Value::Null => None,
            given => Some(
                InjectedFault::deserialize(given)
                    .map_err(|_| Problem::field("error", &cut(given), InjectedFault::ALLOWED))?,
            ),
        };
        let strict = match value("strict") {
            serde_json::Value::Null => false,
            given => given.as_bool().ok_or_else(|| Problem::field("strict", &cut(given), "true or false"))?,
        };
        Ok(Self { flowid: flowid.to_owned(), length, error, strict })
    }
}

/// A whole number in any notation: JSON and JSON Schema treat `10.0` as `10`.
fn whole(value: &serde_json::Value) -> Option<u64> {
    let float = || value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..1e9).contains(float));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole, and between the bounds")]
    value.as_u64().or_else(|| float().map(|float| float as u64))
}

/// True for a valid flow name: see [`NAME_ALLOWED`].
pub fn is_name(name: &str) -> bool {
    let fits = (1..=MAX_NAME_CHARS).contains(&name.len());
    fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b)) && ![".", ".."].contains(&name)
}

/// A value for an error text, cut to 80 characters.
fn cut(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The schema of a flow name.
pub fn flow_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": NAME_PATTERN})
}

fn operation_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": MAX_OPERATION_ID, "pattern": OPERATION_ID_PATTERN})
}

/// Removes a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveFlow {
    /// The flow's name.
    #[schemars(schema_with = "flow_name")]
    pub flowid: String,
}

/// The [`wire::answer::Resource`] kind of flows.
pub const FLOW_KIND: &str = "flow";

/// The published state of a flow that exists, or of which rules are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowView {
    /// The flow.
    #[schemars(schema_with = "flow_name")]
    pub flowid: String,
    /// Number of rules.
    pub length: u32,
    /// The cookie of its rules.
    pub cookie: u64,
    /// `up`, or `degraded` if only leftovers remain.
    #[schemars(extend("enum" = ["up", "degraded"]))]
    pub state: String,
    /// The numbers of the rules that are left of a degraded flow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<u32>,
    /// The operation that caused this state.
    #[schemars(schema_with = "operation_id")]
    pub operation: OperationId,
}

/// The body of the answer to a successful removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowGone {
    /// `all operation is successful`.
    pub message: String,
    /// The flow.
    #[schemars(schema_with = "flow_name")]
    pub flowid: String,
    /// The operation that answered.
    #[schemars(schema_with = "operation_id")]
    pub operation: OperationId,
    /// Number of removed rules.
    pub removed: u32,
}

/// The body of the answer to a successful creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowUp {
    /// `all operation is successful`.
    pub message: String,
    /// The flow.
    pub flowid: String,
    /// The operation that answered.
    pub operation: OperationId,
    /// True if the flow existed before.
    pub existed: bool,
}

/// The response to a successful creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FlowMade {
    /// `all operation is successful`.
    pub message: String,
    /// The flow.
    #[schemars(schema_with = "flow_name")]
    pub flowid: String,
    /// The operation that answered.
    #[schemars(schema_with = "operation_id")]
    pub operation: OperationId,
}

/// The origin of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The hub: its deadline ended a step, or its pools were empty.
    Hub,
    /// The worker gave up without an answer of the spoke.
    Worker,
    /// The switch controller refused.
    Switch,
    /// No answer came in time.
    Timeout,
}

/// The body of the answer to a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFailed {
    /// The stable code.
    #[serde(flatten)]
    pub code: Code,
    /// `error in hub by timeout`, `error in worker on rule install`, ...
    pub message: String,
    /// The flow.
    pub flowid: String,
    /// The operation that failed.
    pub operation: OperationId,
    /// The origin of the failure.
    pub origin: Origin,
    /// The failed step.
    pub step: String,
    /// Description of the failure.
    pub detail: String,
    /// True while rules are left that could not be removed; the operation keeps retrying.
    pub degraded: bool,
    /// The rules that are left, or may be left.
    pub left: Vec<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_of_the_proof_of_concept_are_accepted() {
        for (error, fault) in [
            (json!(null), None),
            (json!(0), Some(InjectedFault::InHub)),
            (json!("IN_WORKER"), Some(InjectedFault::InWorker)),
            (json!(2), Some(InjectedFault::InSwitch)),
            (json!("IN_FL"), Some(InjectedFault::InSwitch)),
        ] {
            let request = CreateFlow::from_json(&json!({"flowid": "test-01", "length": 10, "error": error})).unwrap();
            assert_eq!(request, CreateFlow { flowid: "test-01".into(), length: 10, error: fault, strict: false });
        }
    }

    #[test]
    fn a_whole_number_is_accepted_in_any_notation() {
        let body: serde_json::Value = serde_json::from_str(r#"{"flowid": "a", "length": 1e1, "error": 1.0}"#).unwrap();
        let request = CreateFlow::from_json(&body).unwrap();
        assert_eq!((request.length, request.error), (10, Some(InjectedFault::InWorker)));
        for length in ["1.5", "-1.0", "1e300", "1000.0000001"] {
            let body = format!(r#"{{"flowid": "a", "length": {length}}}"#);
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert!(CreateFlow::from_json(&body).is_err(), "{length}");
        }
    }

    #[test]
    fn an_error_names_the_field_its_value_and_the_allowed_values() {
        for (body, field) in [
            (json!([]), "body"),
            (json!({"length": 10}), "flowid"),
            (json!({"flowid": "", "length": 10}), "flowid"),
            (json!({"flowid": "a b", "length": 10}), "flowid"),
            (json!({"flowid": ".", "length": 10}), "flowid"),
            (json!({"flowid": "..", "length": 10}), "flowid"),
            (json!({"flowid": "a", "length": 0}), "length"),
            (json!({"flowid": "a", "length": -3}), "length"),
            (json!({"flowid": "a", "length": 1001}), "length"),
            (json!({"flowid": "a", "length": "10"}), "length"),
            (json!({"flowid": "a", "length": 1, "error": 3}), "error"),
            (json!({"flowid": "a", "length": 1, "error": "IN_SPACE"}), "error"),
            (json!({"flowid": "a", "length": 1, "err": 1}), "err"),
        ] {
            let problem = CreateFlow::from_json(&body).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{body}: {problem}");
        }
        let problem = CreateFlow::from_json(&json!({"flowid": "a", "length": 0})).unwrap_err();
        assert_eq!(problem.to_string(), "NAVE-0002: `length` is 0; allowed is a whole number from 1 to 1000");
    }
}
