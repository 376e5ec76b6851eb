//! Ids of operations, calls and messages.
//!
//! They never depend on an offset or a clock, so a replay produces the same ids.

use crate::header;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A header or field that is missing or invalid, with the allowed values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WireError {
    /// The header or field.
    pub field: &'static str,
    /// The value, cut to 128 characters; none if it is missing.
    pub value: Option<String>,
    /// The allowed values.
    pub allowed: &'static str,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "`{}` is `{value}`; allowed is {}", self.field, self.allowed),
            None => write!(f, "`{}` is missing", self.field),
        }
    }
}

impl WireError {
    /// Maximum length of a shown value: enough to recognise it in a log line.
    const MAX_CHARS: usize = 128;

    /// `field` has an invalid value.
    pub fn new(field: &'static str, value: &str, allowed: &'static str) -> Self {
        Self { field, value: Some(value.chars().take(Self::MAX_CHARS).collect()), allowed }
    }

    /// `field` is missing or empty.
    pub fn missing(field: &'static str) -> Self {
        Self { field, value: None, allowed: "any text" }
    }
}

/// Maximum length of an operation id in bytes: a UUID has 36, and longer names still fit a log
/// line.
pub const MAX_OPERATION_ID: usize = 128;

/// The pattern of an operation id.
pub const OPERATION_ID_PATTERN: &str = "^[A-Za-z0-9._:-]+$";

/// Distinguishes a request from others about the same key. Its repeats share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestName<'a> {
    /// `ce_idempotencykey`: the client's name for the request.
    IdempotencyKey(&'a str),
    /// `ce_source` and `ce_id`, without an idempotency key: each event is one request.
    Event {
        /// `ce_source`.
        source: &'a str,
        /// `ce_id`.
        id: &'a str,
    },
}

/// Namespace of the UUIDs of operations. It never changes: a repeat after an upgrade must find its
/// operation.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e61_7665_6f70_4572_8a74_696f_6e2e_6964);

/// One run of a workflow.
///
/// Derived from the request: see [`OperationId::requested`]. 1 to 128 characters of `A-Z a-z 0-9 .
/// _ : -`: it fits into a URL path, and `/` can separate it from the numbers of its calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(Arc<str>);

impl OperationId {
    /// Checks `id`.
    ///
    /// # Errors
    /// If `id` is not 1 to 128 of the allowed characters.
    pub fn new(id: &str) -> Result<Self, WireError> {
        let fits = (1..=MAX_OPERATION_ID).contains(&id.len());
        if fits && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b)) {
            Ok(Self(id.into()))
        } else {
            Err(WireError::new("operation", id, "1 to 128 characters of A-Z a-z 0-9 . _ : -"))
        }
    }

    /// The operation of a request about `key`.
    ///
    /// The parts are encoded as JSON, so that no client text can pass for two parts.
    pub fn requested(topology: &str, key: &str, name: RequestName<'_>) -> Self {
        let parts = match name {
            RequestName::IdempotencyKey(name) => serde_json::to_vec(&(topology, key, name)),
            RequestName::Event { source, id } => serde_json::to_vec(&(topology, key, source, id)),
        };
        let parts = parts.expect("texts can be written as JSON");
        Self(Uuid::new_v5(&NAMESPACE, &parts).to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as shared text, which is cheap to clone.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for OperationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for OperationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(Self::new))
    }
}

/// One call of a workflow to a spoke: the step, and the number of the call in it.
///
/// All attempts share it: spokes remember calls by it. As text `operation/step/n`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The calling operation.
    pub operation: OperationId,
    /// The step of the workflow, from 1 in each operation.
    pub step: u32,
    /// The number of the call in its step, from 1.
    pub n: u32,
}

impl CallId {
    /// Call `n` of `step`.
    pub fn new(operation: OperationId, step: u32, n: u32) -> Self {
        Self { operation, step, n }
    }

    /// Parses a call id. Shares `known` if it names that operation, which is the usual case.
    pub(crate) fn read(text: &str, known: Option<&OperationId>) -> Result<Self, WireError> {
        let fault = || WireError::new(header::CALL_ID, text, "operation/step/n");
        let mut parts = text.rsplitn(3, '/');
        let n = parts.next().and_then(|n| n.parse().ok()).ok_or_else(fault)?;
        let step = parts.next().and_then(|step| step.parse().ok()).ok_or_else(fault)?;
        let operation = parts.next().ok_or_else(fault)?;
        let operation = match known.filter(|known| known.as_str() == operation) {
            Some(known) => known.clone(),
            None => OperationId::new(operation)?,
        };
        Ok(Self { operation, step, n })
    }

    /// Appends the call id to `text`.
    pub(crate) fn push_to(&self, text: &mut String) {
        text.push_str(self.operation.as_str());
        text.push('/');
        push_number(text, self.step);
        text.push('/');
        push_number(text, self.n);
    }
}

/// Appends a number to `text`: every message has some, and formatting costs ten times as much.
pub(crate) fn push_number(text: &mut String, n: u32) {
    if n >= 10 {
        push_number(text, n / 10);
    }
    text.push(char::from_digit(n % 10, 10).expect("a digit is below ten"));
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.operation, self.step, self.n)
    }
}

impl FromStr for CallId {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::read(text, None)
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.operation.as_str().len() + 22);
        self.push_to(&mut text);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(str::parse::<Self>))
    }
}

/// Parses an id from a borrowed text: saved states have some in every line.
struct Text<R>(R);

impl<T, R: Fn(&str) -> Result<T, WireError>> Visitor<'_> for Text<R> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        let Self(read) = self;
        read(text).map_err(E::custom)
    }
}

/// The id of one attempt of a call: the `ce_id` of a request to a spoke, as text
/// `operation/step/n/service/attempt`.
///
/// A spoke returns it as `ce_causationid`. It contains the service, so that a lane with several
/// workers can route the reply to the right one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// The call.
    pub call: CallId,
    /// The spoke's service, without `/`.
    pub service: Box<str>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

impl MessageId {
    /// Attempt `attempt` of `call` to `service`.
    pub fn new(call: CallId, service: &str, attempt: u32) -> Self {
        Self { call, service: service.into(), attempt }
    }

    /// Parses a message id. Shares `known` if it names that call, which is the usual case.
    ///
    /// # Errors
    /// If `text` is not a message id.
    pub fn read(text: &str, known: &CallId) -> Result<Self, WireError> {
        Self::parse(text, Some(&known.operation))
    }

    fn parse(text: &str, known: Option<&OperationId>) -> Result<Self, WireError> {
        let fault = || WireError::new(header::CAUSATION_ID, text, "operation/step/n/service/attempt");
        let mut parts = text.rsplitn(3, '/');
        let attempt = parts.next().and_then(|attempt| attempt.parse().ok()).ok_or_else(fault)?;
        let service = parts.next().filter(|service| !service.is_empty()).ok_or_else(fault)?.into();
        let call = CallId::read(parts.next().ok_or_else(fault)?, known)?;
        Ok(Self { call, service, attempt })
    }

    /// The message id of attempt `attempt` of `call` to `service`, as text.
    pub fn text(call: &CallId, service: &str, attempt: u32) -> String {
        // 34: four separators and three numbers of at most ten digits.
        let mut text = String::with_capacity(call.operation.as_str().len() + service.len() + 34);
        call.push_to(&mut text);
        text.push('/');
        text.push_str(service);
        text.push('/');
        push_number(&mut text, attempt);
        text
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.call, self.service, self.attempt)
    }
}

impl FromStr for MessageId {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::parse(text, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op() -> OperationId {
        OperationId::new("0b5c-1").unwrap()
    }

    #[test]
    fn ids_survive_a_round_trip() {
        let call = CallId::new(op(), 3, 1000);
        assert_eq!(call.to_string().parse(), Ok(call.clone()));
        let message = MessageId::new(call, "speaker", 2);
        assert_eq!(message.to_string(), "0b5c-1/3/1000/speaker/2");
        assert_eq!(MessageId::text(&message.call, "speaker", 2), message.to_string());
        assert_eq!(message.to_string().parse(), Ok(message));
    }

    #[test]
    fn an_operation_id_depends_on_the_topology_the_key_and_the_request_name() {
        let one = OperationId::requested("flows", "test-01", RequestName::IdempotencyKey("monday"));
        assert_eq!(one.as_str(), "7b3e7942-f893-57b0-bca9-713d5bc15c6c", "the id never changes");
        let others = [
            OperationId::requested("flows", "test-02", RequestName::IdempotencyKey("monday")),
            OperationId::requested("trips", "test-01", RequestName::IdempotencyKey("monday")),
            OperationId::requested("flows", "test-01", RequestName::IdempotencyKey("tuesday")),
            OperationId::requested("flows", "test-01", RequestName::Event { source: "/a", id: "monday" }),
            OperationId::requested("flows", "test-01", RequestName::Event { source: "/b", id: "monday" }),
            OperationId::requested("flows", "test-01\",\"monday", RequestName::IdempotencyKey("")),
        ];
        let mut all: Vec<&OperationId> = others.iter().chain([&one]).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn an_invalid_id_is_named_with_the_allowed_values() {
        let error = OperationId::new("a/b").unwrap_err();
        assert_eq!(error.to_string(), "`operation` is `a/b`; allowed is 1 to 128 characters of A-Z a-z 0-9 . _ : -");
        for bad in ["", "x", "x/1", "x/1/y", "/1/2", "x/1/-2", "x/4294967296/1"] {
            assert!(bad.parse::<CallId>().is_err(), "{bad}");
        }
        for bad in ["x/1/2", "x/1/2//1", "x/1/2/speaker/", "x/1/2/speaker/one"] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
    }
}
