//! The events that a workflow handles.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::call::CallOutcome;

use crate::call::CheckedReply;

/// An event that a workflow handles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The operation starts: it is first in the queue of its key.
    Requested,
    /// A spoke replied to a call of the open step.
    Replied {
        /// The call's tag.
        tag: u32,
        /// The reply. Saved states name it `body`.
        #[serde(rename = "body")]
        reply: CheckedReply,
    },
    /// All calls of the open step have their replies.
    AllReplied,
    /// A call of the open step failed. The step has ended; the hub abandons its other calls.
    Failed(CallFailure),
    /// The deadline of the step or of the wait passed. The step has ended.
    TimedOut,
    /// All compensations have succeeded.
    Undone {
        /// The tags of calls that were never sent, so there was nothing to undo.
        never_sent: Vec<u32>,
    },
    /// A compensation failed or did not end in time.
    UndoStuck {
        /// The tags of the calls that are not undone.
        left: Vec<u32>,
    },
    /// A newer operation waits for the key, and this one has called
    /// [`Fx::yields`](crate::Fx::yields). Sent at most once.
    Superseded,
    /// Enough calls of a step with such a [`Barrier`](crate::Barrier) have their replies. The step
    /// has ended. The hub abandons its other calls; a spoke may still carry them out.
    Enough,
    /// The signal that [`Fx::wait_for`](crate::Fx::wait_for) waits for has arrived. If the workflow
    /// returns [`Illegal`](crate::Illegal), the hub refuses the signal and the operation keeps
    /// waiting.
    Signal {
        /// The name of the signal.
        name: String,
        /// The body of the signal.
        body: Value,
    },
    /// Somebody asks to undo and end the operation. If the workflow returns
    /// [`Illegal`](crate::Illegal), the hub refuses the command and the operation continues.
    Cancelled,
}

impl Event {
    /// The names of all events in tables and diagrams.
    pub const NAMES: [&str; 11] = [
        "requested",
        "replied",
        "all replied",
        "failed",
        "timed out",
        "undone",
        "undo stuck",
        "superseded",
        "enough replied",
        "signal",
        "cancelled",
    ];

    /// Returns the event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Requested => "requested",
            Event::Replied { .. } => "replied",
            Event::AllReplied => "all replied",
            Event::Failed(_) => "failed",
            Event::TimedOut => "timed out",
            Event::Undone { .. } => "undone",
            Event::UndoStuck { .. } => "undo stuck",
            Event::Superseded => "superseded",
            Event::Enough => "enough replied",
            Event::Signal { .. } => "signal",
            Event::Cancelled => "cancelled",
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFailure {
    /// The call's tag.
    pub tag: u32,
    /// Description of the call.
    pub what: String,
    /// The outcome; never a reply.
    pub outcome: CallOutcome,
    /// How many times the call was sent.
    pub attempts: u32,
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            CallOutcome::Misread(why) => write!(f, "{}: {why}, ", self.what)?,
            CallOutcome::Refused(reason) => write!(f, "{}: refused ({reason}), ", self.what)?,
            CallOutcome::TimedOut | CallOutcome::Replied(_) => write!(f, "{}: no answer in time, ", self.what)?,
        }
        match self.attempts {
            0 => f.write_str("never sent"),
            1 => f.write_str("sent once"),
            n => write!(f, "sent {n} times"),
        }
    }
}
