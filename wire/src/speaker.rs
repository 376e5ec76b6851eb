//! The words between the flow workflows and the speaker, which talks to switches.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A switch, like `of:08`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SwitchId(pub String);

impl SwitchId {
    /// The switch that rule `i` of a flow goes to: `of:` and the number in two digits or more.
    pub fn numbered(i: u32) -> Self {
        Self(format!("of:{i:02}"))
    }
}

impl fmt::Display for SwitchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule on a switch. A switch holds at most one for each cookie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// The switch.
    pub switch: SwitchId,
    /// The flow it belongs to.
    pub flow: String,
    /// Its number in the flow, from 1.
    pub number: u32,
    /// The flow's cookie: what a switch knows the rule by.
    pub cookie: u64,
    /// The meter it uses on this switch.
    pub meter: u32,
}

/// What the speaker is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
    /// A fault that the client asked for, for drills: see [`crate::flow::Drill`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<crate::flow::Drill>,
}

/// What to do on a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Action {
    /// Put this rule on its switch; one that stands there with the same cookie is left or replaced.
    Install {
        /// The rule.
        rule: Rule,
    },
    /// Say which rule stands under this cookie.
    Read {
        /// The switch.
        switch: SwitchId,
        /// The rule's cookie.
        cookie: u64,
    },
    /// Take the rule with this cookie away; one that is not there is no fault.
    Remove {
        /// The switch.
        switch: SwitchId,
        /// The rule's cookie.
        cookie: u64,
    },
}

impl Action {
    /// The switch it is about: the key of the request, so that one switch sees its commands in order.
    pub fn switch(&self) -> &SwitchId {
        match self {
            Action::Install { rule } => &rule.switch,
            Action::Read { switch, .. } | Action::Remove { switch, .. } => switch,
        }
    }

    /// The command's word.
    pub fn word(&self) -> &'static str {
        match self {
            Action::Install { .. } => "install",
            Action::Read { .. } => "read",
            Action::Remove { .. } => "remove",
        }
    }
}

/// What the speaker replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Reply {
    /// The rule is on its switch.
    Installed {
        /// True where it stood there before this call.
        existed: bool,
    },
    /// What stands under the cookie.
    Found {
        /// The rule, or none.
        rule: Option<Rule>,
    },
    /// The rule is not on its switch.
    Removed {
        /// True where it stood there before this call.
        existed: bool,
    },
}

/// Why the speaker refuses, or asks to try again: the body of `nave.refusal` and `nave.failure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A short word for programs.
    pub error: String,
    /// A sentence for people.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule { switch: SwitchId::numbered(8), flow: "test-01".into(), number: 8, cookie: 17, meter: 3 }
    }

    #[test]
    fn commands_and_replies_are_written_as_agreed() {
        let install = Command { action: Action::Install { rule: rule() }, error: None };
        let text =
            r#"{"command":"install","rule":{"switch":"of:08","flow":"test-01","number":8,"cookie":17,"meter":3}}"#;
        assert_eq!(serde_json::to_string(&install).unwrap(), text);
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), install);
        let read: Command =
            serde_json::from_str(r#"{"command":"read","switch":"of:08","cookie":17,"error":null}"#).unwrap();
        assert_eq!(read.action.word(), "read");
        let found = serde_json::to_string(&Reply::Found { rule: None }).unwrap();
        assert_eq!(found, r#"{"result":"found","rule":null}"#);
    }

    #[test]
    fn switches_have_two_digits_or_more() {
        let names = [1, 10, 1000].map(|i| SwitchId::numbered(i).to_string());
        assert_eq!(names, ["of:01", "of:10", "of:1000"]);
    }
}
