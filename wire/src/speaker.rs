//! The words between the flow workflows and the speaker, which talks to switches.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::flow::Drill;

/// A switch, like `of:08`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SwitchId(pub Arc<str>);

impl SwitchId {
    /// The switch that rule `i` of a flow goes to: `of:` and the number in two digits or more.
    pub fn numbered(i: u32) -> Self {
        Self(format!("of:{i:02}").into())
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
    pub flow: Arc<str>,
    /// Its number in the flow, from 1.
    pub number: u32,
    /// The flow's cookie: what a switch knows the rule by.
    pub cookie: u64,
    /// The meter it uses on this switch.
    pub meter: u32,
}

/// What the speaker is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CommandFields")]
pub struct Command {
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
    /// A fault that the client asked for, for drills: see [`crate::flow::Drill`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Drill>,
}

/// A command as it is read. What is flattened, or tagged inside, would be read into a tree first, which costs twice as much as
/// all the rest of handling it.
#[derive(Deserialize)]
struct CommandFields {
    command: Word,
    rule: Option<Rule>,
    switch: Option<SwitchId>,
    cookie: Option<u64>,
    error: Option<Drill>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Install,
    Read,
    Remove,
}

impl TryFrom<CommandFields> for Command {
    type Error = Missing;
    fn try_from(fields: CommandFields) -> Result<Self, Missing> {
        let CommandFields { command, rule, switch, cookie, error } = fields;
        let action = match command {
            Word::Install => Action::Install { rule: rule.ok_or(Missing("rule"))? },
            Word::Read => {
                Action::Read { switch: switch.ok_or(Missing("switch"))?, cookie: cookie.ok_or(Missing("cookie"))? }
            }
            Word::Remove => {
                Action::Remove { switch: switch.ok_or(Missing("switch"))?, cookie: cookie.ok_or(Missing("cookie"))? }
            }
        };
        Ok(Self { action, error })
    }
}

/// A field that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("missing field `{0}`")]
struct Missing(&'static str);

/// What to do on a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[serde(tag = "result", rename_all = "lowercase", try_from = "ReplyFields")]
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

/// A reply as it is read, as [`CommandFields`].
#[derive(Deserialize)]
struct ReplyFields {
    result: Done,
    existed: Option<bool>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Done {
    Installed,
    Found,
    Removed,
}

impl TryFrom<ReplyFields> for Reply {
    type Error = Missing;
    fn try_from(ReplyFields { result, existed, rule }: ReplyFields) -> Result<Self, Missing> {
        let existed = existed.ok_or(Missing("existed"));
        Ok(match result {
            Done::Installed => Self::Installed { existed: existed? },
            Done::Found => Self::Found { rule },
            Done::Removed => Self::Removed { existed: existed? },
        })
    }
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
    fn what_is_missing_in_a_command_or_a_reply_is_named() {
        let command = |text| serde_json::from_str::<Command>(text).map_err(|error| error.to_string());
        assert!(command(r#"{"command":"install","switch":"of:08","cookie":17}"#).unwrap_err().contains("`rule`"));
        assert!(command(r#"{"command":"read","switch":"of:08"}"#).unwrap_err().contains("`cookie`"));
        assert!(command(r#"{"command":"remove","cookie":17}"#).unwrap_err().contains("`switch`"));
        assert!(command(r#"{"switch":"of:08","cookie":17}"#).unwrap_err().contains("`command`"));
        assert!(command(r#"{"command":"polish"}"#).unwrap_err().contains("`polish`"));
        let reply = |text| serde_json::from_str::<Reply>(text).map_err(|error| error.to_string());
        assert!(reply(r#"{"result":"installed"}"#).unwrap_err().contains("`existed`"));
        assert_eq!(reply(r#"{"result":"found"}"#), Ok(Reply::Found { rule: None }));
        for reply in [Reply::Removed { existed: true }, Reply::Found { rule: Some(rule()) }] {
            assert_eq!(serde_json::from_str::<Reply>(&serde_json::to_string(&reply).unwrap()).unwrap(), reply);
        }
    }

    #[test]
    fn switches_have_two_digits_or_more() {
        let names = [1, 10, 1000].map(|i| SwitchId::numbered(i).to_string());
        assert_eq!(names, ["of:01", "of:10", "of:1000"]);
    }
}
