//! The words between a hub and its workers, whether they share a lane or a topic lies between them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{CallId, WallTime};

/// What a hub tells a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallCommand {
    /// Hold this conversation, and say how it ended.
    Start(Call),
    /// The hub does not wait for this call any more. Nothing is owed.
    Abandon(CallId),
}

impl CallCommand {
    /// The call that it is about.
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
    /// Which call.
    pub id: CallId,
    /// The service it goes to.
    pub service: Arc<str>,
    /// The spoke's key: it handles the requests of one key in order.
    pub key: String,
    /// In words, for views: "install rule 8 on of:08".
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// The calls that it undoes; empty for one that does something.
    pub undoes: Vec<CallId>,
    /// The lane of the hub that asks: its end goes back there.
    #[serde(default)]
    pub lane: u32,
    /// `ce_correlationid` of the request that the operation runs for: carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The conversation ends after so many milliseconds, whatever the attempts.
    pub within_ms: u64,
    /// Nobody waits for it after this: the worker's word, where a topic lies between it and the hub. The hub's time goes on while a call
    /// lies there, and while it waits for a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// A drill: the worker swallows every attempt, as one with a fault would.
    #[serde(default)]
    pub swallow: bool,
}

/// How a call ended: exactly one of these for each call that was not abandoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnd {
    /// Which call.
    pub id: CallId,
    /// The lane of the hub that asked.
    #[serde(default)]
    pub lane: u32,
    /// How often it was sent.
    pub attempts: u32,
    /// How it ended.
    pub outcome: CallOutcome,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// The spoke did it; the body, as JSON text.
    Replied(String),
    /// The spoke will not do it, or the last attempt failed; in words.
    Refused(String),
    /// The spoke replied, and what it replied is not what the call expects; in words. It may have done it.
    Misread(String),
    /// No answer came in time.
    TimedOut,
}
