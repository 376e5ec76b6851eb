//! Progress and result of an operation: the bodies of views and answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{CallId, Code, OperationId, WallTime};

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The stable code.
    #[serde(flatten)]
    pub code: Code,
    /// This occurrence, in a sentence that names field, value and allowed values.
    pub detail: String,
    /// The wrong field, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// A problem without a field.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None }
    }

    /// A field with a value that is not allowed. `allowed` completes the sentence "allowed is ...".
    pub fn field(field: &str, value: &str, allowed: &str) -> Self {
        Self {
            code: Code::InvalidField,
            detail: format!("`{field}` is {value}; allowed is {allowed}"),
            field: Some(field.into()),
        }
    }

    /// Returns the body of an HTTP response with this problem (RFC 9457, `application/problem+json`).
    /// Its status is [`Code::status`].
    pub fn document(self) -> Map<String, Value> {
        let mut document = members(&self);
        document.insert("type".to_owned(), format!("urn:nave:{}", self.code).into());
        document
    }
}

/// The members of the JSON of `value`.
fn members(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => unreachable!("it is a struct whose members have names"),
    }
}

/// The result of an operation, as the client gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "body", rename_all = "lowercase")]
pub enum Answer {
    /// The operation succeeded; the body comes from the workflow.
    Done(Value),
    /// The operation failed and undid what it could; the body comes from the workflow.
    Failed(Value),
    /// The request was not accepted, and nothing was done.
    Refused(Problem),
}

impl Answer {
    /// A failure with a code, a sentence for people and the members of `more`. A `more` that is not
    /// an object becomes the member `body`. The code decides the HTTP status of the answer.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use wire::{Code, answer::Answer};
    /// let declined = Answer::failed(Code::PaymentRequired, "the bank declined the card", json!({"bank": "first"}));
    /// let body = json!({
    ///     "code": "NAVE-0046", "status": 402, "title": "the workflow requires a payment",
    ///     "detail": "the bank declined the card", "bank": "first",
    /// });
    /// assert_eq!(declined, Answer::Failed(body));
    /// ```
    pub fn failed(code: Code, detail: impl Into<String>, more: Value) -> Self {
        let mut body = match more {
            Value::Object(members) => members,
            Value::Null => Map::new(),
            other => Map::from_iter([("body".to_owned(), other)]),
        };
        body.extend(members(&Problem::new(code, detail)));
        Answer::Failed(body.into())
    }

    /// The reason in the body of a failure: its `detail`, or else its `message`.
    pub fn reason(body: &Value) -> Option<&str> {
        let text = |name: &str| body.get(name)?.as_str().filter(|text| !text.is_empty());
        text("detail").or_else(|| text("message"))
    }

    /// True if this is the outcome of an operation: each repeat of the request gets the same
    /// answer. Other refusals concern one request alone: a limit is reached, its key was used for
    /// another request, its headers cannot be read, or its operation is parked and not over.
    pub fn is_outcome(&self) -> bool {
        match self {
            Answer::Done(_) | Answer::Failed(_) => true,
            Answer::Refused(Problem { code, .. }) => {
                !code.is_temporary() && ![Code::KeyReused, Code::BadHeader, Code::Parked].contains(code)
            }
        }
    }
}

/// The state of an operation. Once it has an answer, only its clean-up can change it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The id of the operation.
    pub operation: OperationId,
    /// The key of the resource.
    pub key: String,
    /// The workflow's name.
    pub workflow: String,
    /// The state of its machine; `queued` before its turn, `parked` after it broke a rule;
    /// `cancelled` or `refused` if it ended before its turn, `aborted` if an operator ended it.
    pub state: String,
    /// True while it works or waits.
    pub live: bool,
    /// Its place in a queue, if it has not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// The open step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The next step of the operation if nothing else happens, and its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// The signal that it waits for, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The past events, in order of `seq`.
    pub history: Vec<HistoryEntry>,
    /// The answer, if there is one.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// The wait of an operation that has not started: for its turn on its key, or for a free place in
/// the lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The operation that has the turn on the key; none if this one has it and waits for a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<OperationId>,
    /// Number of operations before it. For a place: the number when it joined the queue.
    pub ahead: u32,
    /// Maximum number of operations that work at once in a lane, if the operation waits for a
    /// place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The open step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number in the operation, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Total number of calls.
    pub calls: u32,
    /// Number of completed calls.
    pub done: u32,
    /// The first open calls, at most [`Step::MAX_PENDING`].
    pub pending: Vec<PendingCall>,
}

impl Step {
    /// Maximum number of pending calls in a view: a thousand would make a view of 200 KB.
    pub const MAX_PENDING: usize = 32;
}

/// An open call, as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCall {
    /// The call.
    pub call: CallId,
    /// Description: "install rule 8 on of:08".
    pub what: String,
    /// The target service.
    pub service: String,
    /// The last report of the worker, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
}

/// The state of a call in its worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The call.
    pub call: CallId,
    /// The current attempt, from 1; 0 while it waits for a free place.
    pub attempt: u32,
    /// Maximum number of attempts.
    pub attempts: u32,
    /// `queued`, `sent` or `backing off`.
    pub doing: String,
    /// The time at which the worker gives this attempt up or sends again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// Rejected replies to this call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// The view of a worker: its conversations for one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversations {
    /// The operation.
    pub operation: OperationId,
    /// The open calls, at most [`Step::MAX_PENDING`].
    pub calls: Vec<Conversation>,
}

/// The position of a lane: the view with the subject `lane`, published at most once per second
/// while the lane moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePosition {
    /// The lane.
    pub lane: u32,
    /// The member that owns it.
    pub owner: String,
    /// Offset of the next record of the inbox.
    pub next: u64,
}

/// A resource that a workflow publishes: the view with the subject `resource`, under the key
/// `<kind>/<key>`. A record without a body deletes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Kind of the resource: `flow`.
    pub kind: String,
    /// Key of the resource.
    pub key: String,
    /// Its state; none if it was deleted.
    pub value: Option<Value>,
}

/// The [`Resource`] kind of a [`ServiceView`].
pub const SERVICE_KIND: &str = "service";

/// The verdict of the worker of one lane about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The service.
    pub service: String,
    /// The worker's stage.
    pub stage: String,
    /// The worker's lane.
    pub lane: u32,
    /// The verdict.
    pub judged: Availability,
    /// Rejected replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// Replies that were rejected because their headers do not name a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Number of replies.
    pub replies: u64,
    /// Reason for the last rejection, with the header at fault.
    pub last: String,
}

/// The rule by which a worker sends calls to a service or refuses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// By its answers: the service sends no heartbeats, sent `bye`, was silent for long, or answered
    /// while it was down.
    #[default]
    ByAnswers,
    /// By its heartbeats: an instance is up.
    Up,
    /// By its heartbeats: no instance is up. Calls are refused at once.
    Down,
}

/// The next step that an operation takes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// Description of what it waits for.
    pub what: String,
    /// The deadline, on the wall clock of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<WallTime>,
}

/// One event in the history of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Sequence number: entries are ordered by it, never by time.
    pub seq: u32,
    /// Timestamp that the bus put on the record that caused it.
    pub at: WallTime,
    /// Description of the event.
    pub what: String,
}
