//! Messages between a hub and its workers, in one lane or over a topic.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{CallId, WallTime};

/// A command of a hub to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallCommand {
    /// Make this call, and report its end.
    Start(Call),
    /// The hub no longer waits for this call; no report is due.
    Abandon(CallId),
}

impl CallCommand {
    /// The call of this command.
    pub fn call(&self) -> &CallId {
        match self {
            CallCommand::Start(call) => &call.id,
            CallCommand::Abandon(id) => id,
        }
    }
}

/// One request to a spoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The id of the call.
    pub id: CallId,
    /// The target service.
    pub service: Arc<str>,
    /// The key for the spoke, which handles requests of one key in order.
    pub key: String,
    /// Description for views: "install rule 8 on of:08".
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// The calls that it undoes; empty for a forward call.
    pub undoes: Vec<CallId>,
    /// The lane of the calling hub, which gets the [`CallEnd`].
    #[serde(default)]
    pub lane: u32,
    /// `ce_correlationid` of the request of the operation, passed on unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// Maximum duration of the conversation, over all attempts.
    pub within_ms: u64,
    /// The hub stops waiting at this time. Set by the worker if the call came over a topic: the
    /// hub's time also runs while a call is in the topic or waits for a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
}

/// The end of a call: exactly one for each call that was not abandoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnd {
    /// The call.
    pub id: CallId,
    /// The lane of the calling hub.
    #[serde(default)]
    pub lane: u32,
    /// Number of attempts.
    pub attempts: u32,
    /// The result.
    pub outcome: CallOutcome,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// The spoke did it; the body as JSON text.
    Replied(String),
    /// The spoke refused it permanently, or the last attempt failed; the reason.
    Refused(String),
    /// The call cannot interpret the reply of the spoke; the reason. The spoke may have done it.
    Misread(String),
    /// No answer came in time.
    TimedOut,
}
