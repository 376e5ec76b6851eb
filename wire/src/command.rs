//! What people and programs outside tell an operation that runs: the body of `nave.command`.
//!
//! The key of the record is the operation's key, `ce_operation` the operation, `ce_id` this one command. The hub answers
//! with a record of the egress of kind `nave.answer`, with the subject `command`, whose `ce_causationid` is the command's
//! `ce_id`: the body is an [`Outcome`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Problem;
use crate::answer::Operation;

/// What is told to an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Answers an operation that waits for a person, or for anybody.
    Signal {
        /// What it waits for.
        name: String,
        /// What is said; the workflow reads it.
        #[serde(default)]
        body: Value,
    },
    /// Undo what was done, and end.
    Cancel,
    /// A parked operation goes on from where it stood.
    Resume,
    /// A parked operation ends as failed. What it did stays done, and the answer says so.
    Abort,
}

impl Command {
    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Command::Signal { .. } => "signal",
            Command::Cancel => "cancel",
            Command::Resume => "resume",
            Command::Abort => "abort",
        }
    }
}

/// What a hub made of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "body", rename_all = "lowercase")]
pub enum Outcome {
    /// It was taken; this is how the operation stands now.
    Taken(Box<Operation>),
    /// It was not, and nothing changed.
    Refused(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_agreed() {
        let signal = Command::Signal { name: "approval".into(), body: serde_json::json!({"by": "ann"}) };
        let text = r#"{"command":"signal","name":"approval","body":{"by":"ann"}}"#;
        assert_eq!(serde_json::to_string(&signal).unwrap(), text);
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), signal);
        assert_eq!(serde_json::to_string(&Command::Cancel).unwrap(), r#"{"command":"cancel"}"#);
    }
}
