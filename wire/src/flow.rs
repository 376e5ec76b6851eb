//! The words of flows: what a client asks for and what it is told.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::speaker::Rule;
use crate::{OperationId, Problem};

/// A flow has 1 to this many rules.
pub const MAX_LENGTH: u32 = 1000;

/// A name of a flow has 1 to this many characters: it is a key on the bus and a part of a URL's path.
pub const MAX_NAME: usize = 64;

/// The allowed names of a flow, in words.
pub const NAME_ALLOWED: &str = "1 to 64 characters of A-Z a-z 0-9 . _ : -, and neither `.` nor `..`";

/// The same as a pattern. `.` and `..` are steps in the path of a URL: a client resolves them before it sends them (RFC 3986,
/// section 5.2.4), so that such a flow could be created and never be addressed.
pub const NAME_PATTERN: &str = r"^([A-Za-z0-9._:-]{3,64}|[A-Za-z0-9_:-][A-Za-z0-9._:-]?|\.[A-Za-z0-9_:-])$";

/// A fault that a client asks for, to see how it is handled: the `error` of the proof of concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drill {
    /// `0` or `IN_HUB`: the hub loses a step, so that only its own deadline saves it.
    InHub,
    /// `1` or `IN_WORKER`: the worker swallows the install of one rule.
    InWorker,
    /// `2` or `IN_FL`: the switch controller stays silent on one rule.
    InSwitch,
}

impl Drill {
    /// What `error` may be, in words.
    pub const ALLOWED: &str = "null, 0 or IN_HUB, 1 or IN_WORKER, 2 or IN_FL";

    fn from_number(n: u64) -> Option<Self> {
        [Drill::InHub, Drill::InWorker, Drill::InSwitch].get(usize::try_from(n).ok()?).copied()
    }

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "IN_HUB" => Some(Drill::InHub),
            "IN_WORKER" => Some(Drill::InWorker),
            "IN_FL" => Some(Drill::InSwitch),
            _ => None,
        }
    }
}

impl Serialize for Drill {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Drill::InHub => "IN_HUB",
            Drill::InWorker => "IN_WORKER",
            Drill::InSwitch => "IN_FL",
        })
    }
}

impl<'de> Deserialize<'de> for Drill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let drill = match &value {
            serde_json::Value::Number(_) => whole(&value).and_then(Self::from_number),
            serde_json::Value::String(word) => Self::from_word(word),
            _ => None,
        };
        drill.ok_or_else(|| serde::de::Error::custom(format!("`error` is {value}; allowed is {}", Self::ALLOWED)))
    }
}

/// `POST /flow`: let this flow be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateFlow {
    /// The flow's name.
    pub flowid: String,
    /// How many rules it has: rule `i` stands on switch `of:` + `i`.
    pub length: u32,
    /// A fault to rehearse.
    #[serde(default)]
    pub error: Option<Drill>,
    /// True: a flow that is there already is a fault. Else it is as good as one that was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl CreateFlow {
    /// Reads a request from JSON. Field by field, so that the fault names the field, its value and what is allowed.
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
            given => Some(Drill::deserialize(given).map_err(|_| Problem::field("error", &cut(given), Drill::ALLOWED))?),
        };
        let strict = match value("strict") {
            serde_json::Value::Null => false,
            given => given.as_bool().ok_or_else(|| Problem::field("strict", &cut(given), "true or false"))?,
        };
        Ok(Self { flowid: flowid.to_owned(), length, error, strict })
    }
}

/// A number without a fraction, however it is written: to JSON, and to JSON Schema, `10.0` is as whole as `10`.
fn whole(value: &serde_json::Value) -> Option<u64> {
    let float = || value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..1e9).contains(float));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole, and between the bounds")]
    value.as_u64().or_else(|| float().map(|float| float as u64))
}

/// True for what may name a flow: see [`NAME_ALLOWED`].
pub fn is_name(name: &str) -> bool {
    let fits = (1..=MAX_NAME).contains(&name.len());
    fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b)) && ![".", ".."].contains(&name)
}

/// A value as it is shown in an error: short.
fn cut(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// `DELETE /v1/flows/{flowid}`: let this flow be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveFlow {
    /// The flow's name.
    pub flowid: String,
}

/// The kind under which flows are shown: see [`crate::answer::Resource`].
pub const SHOWN_AS: &str = "flow";

/// A flow that stands, or of which something is left: what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowShown {
    /// The flow.
    pub flowid: String,
    /// How many rules it has.
    pub length: u32,
    /// The cookie of its rules.
    pub cookie: u64,
    /// `up`, or `degraded` where it is gone but for what is left of it.
    pub state: String,
    /// The numbers of the rules that are left, where it is degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<u32>,
    /// The operation that made it so.
    pub operation: OperationId,
}

/// The body of an answer to a removal that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowGone {
    /// `all operation is successful`.
    pub message: String,
    /// The flow.
    pub flowid: String,
    /// The operation that made sure of it.
    pub operation: OperationId,
    /// How many rules were taken away.
    pub removed: u32,
}

/// The body of an answer that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowUp {
    /// `all operation is successful`.
    pub message: String,
    /// The flow.
    pub flowid: String,
    /// The operation that made sure of it.
    pub operation: OperationId,
    /// True where the flow was there before.
    pub existed: bool,
}

/// Where a failure came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The hub: its own deadline ended a step, or its pools were empty.
    Hub,
    /// The worker: it gave up without an answer of the spoke.
    Worker,
    /// The switch controller refused.
    Switch,
    /// No answer came in time.
    Timeout,
}

/// The body of an answer that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFailed {
    /// The stable code.
    pub code: crate::Code,
    /// `error in hub by timeout`, `error in worker on rule install`, ...
    pub message: String,
    /// The flow.
    pub flowid: String,
    /// The operation that failed.
    pub operation: OperationId,
    /// Where it came from.
    pub origin: Origin,
    /// The step that failed, in words.
    pub step: String,
    /// What happened, in a sentence.
    pub detail: String,
    /// True while rules are left that could not be removed; the operation goes on trying.
    pub degraded: bool,
    /// The rules that are left, or may be.
    pub left: Vec<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_requests_of_the_proof_of_concept_are_read() {
        for (error, drill) in [
            (json!(null), None),
            (json!(0), Some(Drill::InHub)),
            (json!("IN_WORKER"), Some(Drill::InWorker)),
            (json!(2), Some(Drill::InSwitch)),
            (json!("IN_FL"), Some(Drill::InSwitch)),
        ] {
            let request = CreateFlow::from_json(&json!({"flowid": "test-01", "length": 10, "error": error})).unwrap();
            assert_eq!(request, CreateFlow { flowid: "test-01".into(), length: 10, error: drill, strict: false });
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        let body: serde_json::Value = serde_json::from_str(r#"{"flowid": "a", "length": 1e1, "error": 1.0}"#).unwrap();
        let request = CreateFlow::from_json(&body).unwrap();
        assert_eq!((request.length, request.error), (10, Some(Drill::InWorker)));
        for length in ["1.5", "-1.0", "1e300", "1000.0000001"] {
            let body = format!(r#"{{"flowid": "a", "length": {length}}}"#);
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert!(CreateFlow::from_json(&body).is_err(), "{length}");
        }
    }

    #[test]
    fn a_bad_field_is_named_with_its_value_and_what_is_allowed() {
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
