//! Messages between the flow workflows and the speaker, which controls the switches.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::Service;

use crate::client::InjectedFault;

/// The service of the switches.
pub const SPEAKER: Service<Command, Reply> = Service::named("speaker");

/// A switch, such as `of:08`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SwitchId(pub Arc<str>);

impl SwitchId {
    /// The switch of rule `i` of a flow: `of:` and the number in at least two digits.
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
    /// The cookie of the flow, which identifies the rule on its switch.
    pub cookie: u64,
    /// The meter it uses on this switch.
    pub meter: u32,
}

/// A command to the speaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CommandFields")]
pub struct Command {
    /// The action.
    #[serde(flatten)]
    pub action: Action,
    /// Fault injection: see [`crate::client::InjectedFault`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<InjectedFault>,
}

/// A command during parsing. With `flatten` or an internal tag, serde would first read it into a
/// tree, which costs twice as much as the rest of its handling.
#[derive(Deserialize)]
struct CommandFields {
    command: CommandName,
    rule: Option<Rule>,
    switch: Option<SwitchId>,
    cookie: Option<u64>,
    error: Option<InjectedFault>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CommandName {
    Install,
    Read,
    Remove,
}

impl TryFrom<CommandFields> for Command {
    type Error = MissingField;
    fn try_from(fields: CommandFields) -> Result<Self, MissingField> {
        let CommandFields { command, rule, switch, cookie, error } = fields;
        let action = match command {
            CommandName::Install => Action::Install { rule: rule.ok_or(MissingField("rule"))? },
            CommandName::Read => Action::Read {
                switch: switch.ok_or(MissingField("switch"))?,
                cookie: cookie.ok_or(MissingField("cookie"))?,
            },
            CommandName::Remove => Action::Remove {
                switch: switch.ok_or(MissingField("switch"))?,
                cookie: cookie.ok_or(MissingField("cookie"))?,
            },
        };
        Ok(Self { action, error })
    }
}

/// A missing field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("missing field `{0}`")]
struct MissingField(&'static str);

/// An action on a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Action {
    /// Install this rule; an existing rule with the same cookie is kept or replaced.
    Install {
        /// The rule.
        rule: Rule,
    },
    /// Read the rule with this cookie.
    Read {
        /// The switch.
        switch: SwitchId,
        /// The rule's cookie.
        cookie: u64,
    },
    /// Remove the rule with this cookie; a missing rule is a success.
    Remove {
        /// The switch.
        switch: SwitchId,
        /// The rule's cookie.
        cookie: u64,
    },
}

impl Action {
    /// The target switch: the key of the request, so that a switch gets its commands in order.
    pub fn switch(&self) -> &SwitchId {
        match self {
            Action::Install { rule } => &rule.switch,
            Action::Read { switch, .. } | Action::Remove { switch, .. } => switch,
        }
    }

    /// The name in the `command` field.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Install { .. } => "install",
            Action::Read { .. } => "read",
            Action::Remove { .. } => "remove",
        }
    }
}

/// A reply of the speaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase", try_from = "ReplyFields")]
pub enum Reply {
    /// The rule is on its switch.
    Installed {
        /// True if it was there before this call.
        existed: bool,
    },
    /// The rule with the cookie.
    Found {
        /// The rule, if there is one.
        rule: Option<Rule>,
    },
    /// The rule is not on its switch.
    Removed {
        /// True if it was there before this call.
        existed: bool,
    },
}

impl Reply {
    /// The name in the `result` field.
    pub fn name(&self) -> &'static str {
        match self {
            Reply::Installed { .. } => "installed",
            Reply::Found { .. } => "found",
            Reply::Removed { .. } => "removed",
        }
    }
}

/// A reply during parsing: see [`CommandFields`].
#[derive(Deserialize)]
struct ReplyFields {
    result: ReplyKind,
    existed: Option<bool>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReplyKind {
    Installed,
    Found,
    Removed,
}

impl TryFrom<ReplyFields> for Reply {
    type Error = MissingField;
    fn try_from(ReplyFields { result, existed, rule }: ReplyFields) -> Result<Self, MissingField> {
        let existed = existed.ok_or(MissingField("existed"));
        Ok(match result {
            ReplyKind::Installed => Self::Installed { existed: existed? },
            ReplyKind::Found => Self::Found { rule },
            ReplyKind::Removed => Self::Removed { existed: existed? },
        })
    }
}

/// Reason of a refusal or a temporary failure: the body of `nave.refusal` and `nave.failure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Machine-readable reason.
    pub error: String,
    /// Sentence for people.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule { switch: SwitchId::numbered(8), flow: "test-01".into(), number: 8, cookie: 17, meter: 3 }
    }

    #[test]
    fn commands_and_replies_have_their_documented_json() {
        let install = Command { action: Action::Install { rule: rule() }, error: None };
        let text =
            r#"{"command":"install","rule":{"switch":"of:08","flow":"test-01","number":8,"cookie":17,"meter":3}}"#;
        assert_eq!(serde_json::to_string(&install).unwrap(), text);
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), install);
        let read: Command =
            serde_json::from_str(r#"{"command":"read","switch":"of:08","cookie":17,"error":null}"#).unwrap();
        assert_eq!(read.action.name(), "read");
        let found = serde_json::to_string(&Reply::Found { rule: None }).unwrap();
        assert_eq!(found, r#"{"result":"found","rule":null}"#);
    }

    #[test]
    fn a_missing_field_of_a_command_or_a_reply_is_named() {
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
    fn switch_names_have_at_least_two_digits() {
        let names = [1, 10, 1000].map(|i| SwitchId::numbered(i).to_string());
        assert_eq!(names, ["of:01", "of:10", "of:1000"]);
    }
}
