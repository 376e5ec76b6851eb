//! Commands to running operations from people and programs outside: the body of `nave.command`.
//!
//! The key of the record is the operation's key, `ce_operation` the operation, `ce_id` this
//! command. The hub answers on the egress with a record of kind `nave.answer` and subject
//! `command`. Its `ce_causationid` is the command's `ce_id`, and its body is an [`Outcome`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Problem;
use crate::answer::Operation;

/// A command to an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Answers an operation that waits for a signal.
    Signal {
        /// Name of the signal.
        name: String,
        /// Content for the workflow.
        #[serde(default)]
        body: Value,
    },
    /// Undoes what was done, and ends the operation.
    Cancel,
    /// Continues a parked operation from its current state.
    Resume,
    /// Ends a parked operation as failed. Nothing is undone, and the answer says so.
    Abort,
}

impl Command {
    /// The name in the `command` field.
    pub fn as_str(&self) -> &'static str {
        match self {
            Command::Signal { .. } => "signal",
            Command::Cancel => "cancel",
            Command::Resume => "resume",
            Command::Abort => "abort",
        }
    }
}

/// The hub's answer to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "body", rename_all = "lowercase")]
pub enum Outcome {
    /// Accepted; the state of the operation after it.
    Taken(Box<Operation>),
    /// Refused; nothing changed.
    Refused(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_their_documented_json() {
        let signal = Command::Signal { name: "approval".into(), body: serde_json::json!({"by": "ann"}) };
        let text = r#"{"command":"signal","name":"approval","body":{"by":"ann"}}"#;
        assert_eq!(serde_json::to_string(&signal).unwrap(), text);
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), signal);
        assert_eq!(serde_json::to_string(&Command::Cancel).unwrap(), r#"{"command":"cancel"}"#);
    }
}
