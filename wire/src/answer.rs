//! How an operation stands, and how it ends: the body of views and of answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{CallId, Code, OperationId, WallTime};

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The stable code.
    pub code: Code,
    /// This occurrence, in a sentence that names field, value and what is allowed.
    pub detail: String,
    /// The field at fault, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// A problem without a field.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None }
    }

    /// A field with a value that is not allowed.
    pub fn field(field: &str, value: &str, allowed: &str) -> Self {
        Self {
            code: Code::InvalidField,
            detail: format!("`{field}` is {value}; allowed is {allowed}"),
            field: Some(field.into()),
        }
    }
}

/// The end of an operation, as the client is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "body", rename_all = "lowercase")]
pub enum Answer {
    /// It did what was asked; the body is the workflow's.
    Done(Value),
    /// It did not, and undid what it could; the body is the workflow's.
    Failed(Value),
    /// It was not accepted, and nothing was done.
    Refused(Problem),
}

impl Answer {
    /// A failure with a code, a sentence for people, and the members of `more`; a `more` that is no object becomes the
    /// member `body`. The code decides the HTTP status of the answer.
    ///
    /// ```
    /// # use serde_json::json;
    /// # use wire::{Code, answer::Answer};
    /// let declined = Answer::failed(Code::PaymentRequired, "the bank declined the card", json!({"bank": "first"}));
    /// let body = json!({"code": "NAVE-0046", "detail": "the bank declined the card", "bank": "first"});
    /// assert_eq!(declined, Answer::Failed(body));
    /// ```
    pub fn failed(code: Code, detail: impl Into<String>, more: Value) -> Self {
        let mut body = match more {
            Value::Object(members) => members,
            Value::Null => Map::new(),
            other => Map::from_iter([("body".to_owned(), other)]),
        };
        body.insert("code".to_owned(), code.as_str().into());
        body.insert("detail".to_owned(), detail.into().into());
        Answer::Failed(body.into())
    }

    /// The reason that the body of a failure gives: its `detail`, or else its `message`.
    pub fn reason(body: &Value) -> Option<&str> {
        let text = |name: &str| body.get(name)?.as_str().filter(|text| !text.is_empty());
        text("detail").or_else(|| text("message"))
    }

    /// True for the outcome of an operation: each repeat of its request gets the same. Other refusals concern one request
    /// alone: there is no room for it now, its key was used for another request, its headers cannot be read, or its operation is
    /// parked and not over.
    pub fn is_outcome(&self) -> bool {
        match self {
            Answer::Done(_) | Answer::Failed(_) => true,
            Answer::Refused(Problem { code, .. }) => {
                !code.is_temporary() && !matches!(code, Code::KeyReused | Code::BadHeader | Code::Parked)
            }
        }
    }
}

/// How an operation stands. With an answer it is the last word (but for an operation that goes on cleaning up).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Which.
    pub operation: OperationId,
    /// The thing it is about.
    pub key: String,
    /// The workflow's name.
    pub workflow: String,
    /// The state of its machine; `queued` before its turn, `parked` when it broke a rule; `cancelled` or `refused` where it
    /// ended before its turn, `aborted` where a person ended it.
    pub state: String,
    /// True while it still works or waits.
    pub live: bool,
    /// The turn or the place that it waits for, where it has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// The step that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// What happens when nothing else does, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// The signal that it waits for, where it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What happened so far, in order of `seq`.
    pub history: Vec<Entry>,
    /// The answer, once there is one.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// The wait of an operation that has not begun: for its turn on its key, or for a place among the operations that work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The operation that has the turn on the key; none where this one has it and waits for a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<OperationId>,
    /// Number of operations that are before it. For a place, as it was when the operation joined the queue.
    pub ahead: u32,
    /// Maximum number of operations that work at once in a lane, where the operation waits for a place.
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
    /// How many calls it has.
    pub calls: u32,
    /// How many of them are done.
    pub done: u32,
    /// The first of those that are open, at most [`Step::SHOWN`].
    pub pending: Vec<PendingCall>,
}

impl Step {
    /// So many pending calls are shown: a thousand would make a view of 200 KB, and nobody reads them.
    pub const SHOWN: usize = 32;
}

/// A call that has not ended, as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCall {
    /// Which.
    pub call: CallId,
    /// In words: "install rule 8 on of:08".
    pub what: String,
    /// The service it goes to.
    pub service: String,
    /// How its worker stands with it, where the worker has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
}

/// How a worker stands with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Which call.
    pub call: CallId,
    /// Which attempt it is at, from 1; 0 while it waits for a free place.
    pub attempt: u32,
    /// How many attempts it has.
    pub attempts: u32,
    /// What it is doing: `queued`, `sent`, or `backing off`.
    pub doing: String,
    /// When the worker does the next thing by itself: gives this attempt up, or sends again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// The replies to it that came and were rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// The view of a worker: its conversations of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversations {
    /// Which operation.
    pub operation: OperationId,
    /// Those that are open, at most [`Step::SHOWN`].
    pub calls: Vec<Conversation>,
}

/// Where a lane stands: the view with the subject `lane`, published at most every second while the lane moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePosition {
    /// Which.
    pub lane: u32,
    /// The member that owns it.
    pub owner: String,
    /// The offset of the next record of its inbox that it handles.
    pub next: u64,
}

/// A thing outside operations that a workflow shows: the view with the subject `resource`, under the key `<kind>/<key>`. A
/// record without a body says that it is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// What kind of thing: `flow`.
    pub kind: String,
    /// Which.
    pub key: String,
    /// How it is; none where it is gone.
    pub value: Option<Value>,
}

/// The kind of a [`Resource`] that says how a lane judges a service: a [`ServiceShown`].
pub const SERVICE_SHOWN: &str = "service";

/// How the worker of one lane judges a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceShown {
    /// The service.
    pub service: String,
    /// The worker's stage.
    pub stage: String,
    /// The worker's lane.
    pub lane: u32,
    /// The rule that it goes by.
    pub judged: Judged,
    /// The replies that came and were rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// Replies that came and could not be taken for what they are: their headers do not say which call they answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// How many.
    pub replies: u64,
    /// Why the last one was, with the header at fault.
    pub last: String,
}

/// The rule by which a worker sends calls to a service, or refuses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// Its answers: it sends no heartbeats, said goodbye, was silent for long, or answered while it was down.
    #[default]
    ByAnswers,
    /// Its heartbeats: an instance is up.
    Up,
    /// Its heartbeats: no instance is up. Calls are refused at once.
    Down,
}

/// What an operation does by itself, and when at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// What it waits for, in words.
    pub what: String,
    /// The deadline, on the wall clock of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<WallTime>,
}

/// One line of an operation's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place: entries are ordered by this, never by time.
    pub seq: u32,
    /// The time that the bus stamped on the record which caused it.
    pub at: WallTime,
    /// What happened.
    pub what: String,
}
