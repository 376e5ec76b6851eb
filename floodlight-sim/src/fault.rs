//! The kinds of faults: whether the speaker executes the command, and how it answers.
//!
//! | kind | executed | answered | models |
//! |---|---|---|---|
//! | `silence` | no | no | a controller or a switch that is down |
//! | `mute` | yes | no | a lost reply |
//! | `delay_reply` | yes | late | a slow network on the way back |
//! | `delay_execution` | late | late | a slow network to the switch; other commands overtake this one |
//! | `error` | no | with a refusal; with `retry`, a retryable failure | a switch that declines |
//! | `duplicate` | once | twice | a message that is sent twice |
//! | `reorder` | yes | after the next `hold` other answers, or after 1 s | replies out of order |
//! | `wrong_key` | yes | with a wrong identity: see [`WrongIdentity`] | a spoke that confuses its calls |
//! | `corrupt` | yes | with unreadable bytes: see [`Garbage`] | a broken spoke, or one of another version |
//! | `oversized` | yes | with a body of the given size | a reply above the size limit of the bus |
//! | `lie` | no | as if executed, also to repeats | a switch that confirms a change it did not make; reads are true |
//! | `crash` | yes | no; with `answered`, yes | a process that crashes before or after it answers |

use std::fmt;

use flow_messages::client::{MAX_LENGTH, MAX_NAME_CHARS, is_name};
use flow_messages::speaker::SwitchId;
use serde::{Deserialize, Serialize};
use wire::{CallId, Problem};

use crate::chance::Percent;

/// The maximum body of an `oversized` reply, in bytes: twice the limit of any bus.
pub const MAX_OVERSIZED: usize = 2 << 20;

/// A fault to inject. The first matching fault, in the order of injection, applies to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Selects the commands; an empty filter selects all.
    #[serde(default)]
    pub when: Match,
    /// The effect.
    pub kind: FaultKind,
    /// The number of commands it still applies to; `None` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Selects the commands that a fault applies to. A missing field matches every command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The switch: `of:` and the number of a rule in two digits or more, like `of:03`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchId>,
    /// The number of the rule in its flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandKind>,
    /// The attempt of the call, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// The step of the operation. It separates reads that validate an installation from reads that
    /// validate a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The share of the matching commands, chosen by the seed: see [`Percent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
}

/// The name of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandKind {
    /// Installs a rule on its switch.
    Install,
    /// Reads a rule.
    Read,
    /// Removes a rule.
    Remove,
}

impl CommandKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CommandKind::Install => "install",
            CommandKind::Read => "read",
            CommandKind::Remove => "remove",
        }
    }
}

/// The effect of a fault. The table at the head of this file describes each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Neither executes nor answers.
    Silence,
    /// Executes without an answer.
    Mute,
    /// Executes now and answers late.
    DelayReply {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// Executes late, and answers then.
    DelayExecution {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// Answers with an error. A call that was executed before gets its reply instead.
    Error {
        /// The error code for programs.
        code: String,
        /// `true`: a failure, which the worker retries. `false`: a final refusal.
        #[serde(default)]
        retry: bool,
    },
    /// Executes once and answers twice.
    Duplicate,
    /// Executes now and answers after other answers.
    Reorder {
        /// The number of other answers, from 1; [`crate::delay::HOLD_MS`] limits the wait.
        hold: u32,
    },
    /// Executes and answers with a wrong identity.
    WrongKey {
        /// The part of the identity that is wrong.
        what: WrongIdentity,
    },
    /// Executes and answers with unreadable bytes.
    Corrupt {
        /// The part of the record that is unreadable.
        what: Garbage,
    },
    /// Executes and answers with a longer body.
    Oversized {
        /// The length in bytes, at most [`MAX_OVERSIZED`]. A longer reply stays unchanged.
        bytes: usize,
    },
    /// Confirms the command, also to repeats, without executing it. It does not apply to reads.
    Lie,
    /// Executes; then the speaker crashes.
    Crash {
        /// The number of the matching command that crashes it, from 1.
        #[serde(default = "first_command")]
        after: u32,
        /// `true`: crashes after it sent all answers. `false`: crashes before it sends them.
        #[serde(default)]
        answered: bool,
    },
}

/// The wrong part of the identity of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrongIdentity {
    /// `ce_callid` names a call that does not exist; `ce_causationid` is correct.
    Call,
    /// `ce_causationid` names a message that does not exist; `ce_callid` is correct.
    Causation,
    /// The record has another key. The reply still arrives if the request names a partition.
    Key,
    /// The reply goes to another partition than the requested one.
    Partition,
}

/// The unreadable part of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// The body is not UTF-8.
    Body,
    /// The body is not JSON.
    Json,
    /// All `CloudEvents` headers are missing.
    Headers,
    /// Only `ce_type` is missing.
    Type,
}

fn first_command() -> u32 {
    1
}

impl FaultKind {
    /// The name in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            FaultKind::Silence => "silence",
            FaultKind::Mute => "mute",
            FaultKind::DelayReply { .. } => "delay_reply",
            FaultKind::DelayExecution { .. } => "delay_execution",
            FaultKind::Error { .. } => "error",
            FaultKind::Duplicate => "duplicate",
            FaultKind::Reorder { .. } => "reorder",
            FaultKind::WrongKey { .. } => "wrong_key",
            FaultKind::Corrupt { .. } => "corrupt",
            FaultKind::Oversized { .. } => "oversized",
            FaultKind::Lie => "lie",
            FaultKind::Crash { .. } => "crash",
        }
    }

    /// Returns true if the fault delays a command or an answer.
    pub fn delays(&self) -> bool {
        matches!(self, FaultKind::DelayReply { .. } | FaultKind::DelayExecution { .. } | FaultKind::Reorder { .. })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command, as the filter of a fault sees it.
#[derive(Debug, Clone, Copy)]
pub struct FaultTarget<'a> {
    /// The switch.
    pub switch: &'a SwitchId,
    /// The name of the command.
    pub command: &'a str,
    /// The number of the rule, if known.
    pub rule: Option<u32>,
    /// The flow, if known.
    pub flow: Option<&'a str>,
    /// The attempt; 1 if the message does not state it.
    pub attempt: u32,
    /// The call: the filter compares its step, and chance depends on its id.
    pub call: &'a CallId,
}

impl Match {
    /// Rejects a filter that no command can match.
    fn check(&self) -> Result<(), Problem> {
        if let Some(switch) = &self.switch
            && !is_switch(switch)
        {
            let allowed = format!(
                "`of:` and a rule number from 1 to {MAX_LENGTH} with at least two digits: of:01, of:10, of:100"
            );
            return Err(Problem::field("switch", &quoted(&switch.0), &allowed));
        }
        if let Some(flow) = self.flow.as_deref().filter(|flow| !is_name(flow)) {
            let allowed = format!("1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 . _ : -");
            return Err(Problem::field("flow", &quoted(flow), &allowed));
        }
        if let Some(rule) = self.rule.filter(|rule| !(1..=MAX_LENGTH).contains(rule)) {
            return Err(Problem::field("rule", &rule.to_string(), &format!("a whole number from 1 to {MAX_LENGTH}")));
        }
        for (field, value) in [("attempt", self.attempt), ("step", self.step)] {
            if value == Some(0) {
                return Err(Problem::field(field, "0", "a whole number from 1"));
            }
        }
        Ok(())
    }

    /// Returns true if all given fields match. It ignores `percent`.
    pub fn matches(&self, command: &FaultTarget<'_>) -> bool {
        self.switch.as_ref().is_none_or(|switch| switch == command.switch)
            && self.rule.is_none_or(|rule| Some(rule) == command.rule)
            && self.command.is_none_or(|kind| kind.as_str() == command.command)
            && self.attempt.is_none_or(|attempt| attempt == command.attempt)
            && self.flow.as_deref().is_none_or(|flow| Some(flow) == command.flow)
            && self.step.is_none_or(|step| step == command.call.step)
    }
}

/// Returns true for a switch that can have rules: rule *i* of a flow is on switch `of:`*i*.
fn is_switch(switch: &SwitchId) -> bool {
    let number = switch.0.strip_prefix("of:").and_then(|digits| digits.parse().ok());
    number.is_some_and(|number| (1..=MAX_LENGTH).contains(&number) && SwitchId::numbered(number) == *switch)
}

/// Quotes at most 80 characters of a value, for a message.
fn quoted(value: &str) -> String {
    format!("`{}`", value.chars().take(80).collect::<String>())
}

impl Fault {
    /// Rejects a fault that could never apply, or whose values exceed a limit.
    ///
    /// # Errors
    /// A problem with the field, its value and the allowed values.
    pub fn check(&self) -> Result<(), Problem> {
        let from_one = |field: &str, value: u32| {
            if value > 0 { Ok(()) } else { Err(Problem::field(field, "0", "a whole number from 1")) }
        };
        if self.times == Some(0) {
            return Err(Problem::field("times", "0", "a whole number from 1; omit it for no limit"));
        }
        self.when.check()?;
        match &self.kind {
            FaultKind::Reorder { hold } => from_one("hold", *hold),
            FaultKind::Crash { after, .. } => from_one("after", *after),
            FaultKind::Oversized { bytes } if *bytes > MAX_OVERSIZED => {
                Err(Problem::field("bytes", &bytes.to_string(), &format!("at most {MAX_OVERSIZED}")))
            }
            FaultKind::Lie if self.when.command == Some(CommandKind::Read) => Err(Problem::field(
                "command",
                "read",
                "install or remove; omit it for both: a lie does not apply to reads",
            )),
            FaultKind::Silence
            | FaultKind::Mute
            | FaultKind::DelayReply { .. }
            | FaultKind::DelayExecution { .. }
            | FaultKind::Error { .. }
            | FaultKind::Duplicate
            | FaultKind::WrongKey { .. }
            | FaultKind::Corrupt { .. }
            | FaultKind::Oversized { .. }
            | FaultKind::Lie => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallId {
        "7f3a/1/8".parse().unwrap()
    }

    fn command<'a>(switch: &'a SwitchId, call: &'a CallId) -> FaultTarget<'a> {
        FaultTarget { switch, command: "install", rule: Some(8), flow: Some("test-01"), attempt: 2, call }
    }

    #[test]
    fn a_fault_applies_only_to_the_commands_that_it_names() {
        let (switch, call) = (SwitchId::numbered(8), call());
        for when in [
            r"{}",
            r#"{"switch":"of:08"}"#,
            r#"{"rule":8,"flow":"test-01"}"#,
            r#"{"command":"install","attempt":2}"#,
            r#"{"step":1}"#,
        ] {
            assert!(serde_json::from_str::<Match>(when).unwrap().matches(&command(&switch, &call)), "{when}");
        }
        for when in [
            r#"{"switch":"of:09"}"#,
            r#"{"rule":7}"#,
            r#"{"flow":"test-02"}"#,
            r#"{"command":"remove"}"#,
            r#"{"attempt":1}"#,
            r#"{"step":2}"#,
            r#"{"switch":"of:08","rule":7}"#,
        ] {
            assert!(!serde_json::from_str::<Match>(when).unwrap().matches(&command(&switch, &call)), "{when}");
        }
        let unknown = FaultTarget { rule: None, flow: None, ..command(&switch, &call) };
        assert!(!Match { rule: Some(8), ..Match::default() }.matches(&unknown));
    }

    #[test]
    fn the_name_of_every_kind_is_its_json_name() {
        for kind in [
            FaultKind::Silence,
            FaultKind::Mute,
            FaultKind::DelayReply { ms: 1 },
            FaultKind::DelayExecution { ms: 1 },
            FaultKind::Error { code: "busy".into(), retry: false },
            FaultKind::Duplicate,
            FaultKind::Reorder { hold: 2 },
            FaultKind::WrongKey { what: WrongIdentity::Causation },
            FaultKind::Corrupt { what: Garbage::Type },
            FaultKind::Oversized { bytes: 7 },
            FaultKind::Lie,
            FaultKind::Crash { after: 2, answered: true },
        ] {
            let text = serde_json::to_string(&kind).unwrap();
            assert!(text.contains(&format!("\"{kind}\"")), "{text}");
            assert_eq!(serde_json::from_str::<FaultKind>(&text).unwrap(), kind);
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        for text in [
            r#"{"kind":"silence","time":1}"#,
            r#"{"kind":"silence","when":{"swich":"of:01"}}"#,
            r#"{"kind":{"delay_reply":{"ms":5,"s":1}}}"#,
            r#"{"kind":"noise"}"#,
            r#"{"when":{}}"#,
            r#"{"kind":{"wrong_key":{"what":"door"}}}"#,
            r#"{"kind":{"corrupt":{}}}"#,
            r#"{"kind":{"crash":{"before":1}}}"#,
            r#"{"kind":"mute","when":{"percent":101}}"#,
        ] {
            assert!(serde_json::from_str::<Fault>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_that_can_never_apply_is_refused_with_its_field() {
        for (text, field) in [
            (r#"{"kind":"mute","times":0}"#, "times"),
            (r#"{"kind":{"reorder":{"hold":0}}}"#, "hold"),
            (r#"{"kind":{"crash":{"after":0}}}"#, "after"),
            (r#"{"kind":{"oversized":{"bytes":2097153}}}"#, "bytes"),
            (r#"{"kind":"lie","when":{"command":"read"}}"#, "command"),
            (r#"{"kind":"mute","when":{"switch":"x"}}"#, "switch"),
            (r#"{"kind":"mute","when":{"switch":""}}"#, "switch"),
            (r#"{"kind":"mute","when":{"switch":"of:1"}}"#, "switch"),
            (r#"{"kind":"mute","when":{"switch":"of:00"}}"#, "switch"),
            (r#"{"kind":"mute","when":{"switch":"of:001"}}"#, "switch"),
            (r#"{"kind":"mute","when":{"switch":"of:+1"}}"#, "switch"),
            (r#"{"kind":"mute","when":{"switch":"of:1001"}}"#, "switch"),
            (r#"{"kind":"mute","when":{"rule":0}}"#, "rule"),
            (r#"{"kind":"mute","when":{"rule":1001}}"#, "rule"),
            (r#"{"kind":"mute","when":{"attempt":0}}"#, "attempt"),
            (r#"{"kind":"mute","when":{"step":0}}"#, "step"),
            (r#"{"kind":"mute","when":{"flow":""}}"#, "flow"),
            (r#"{"kind":"mute","when":{"flow":"a b"}}"#, "flow"),
        ] {
            let problem = serde_json::from_str::<Fault>(text).unwrap().check().unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{text}");
            assert!(problem.detail.contains("allowed is"), "{problem}");
        }
        for text in [
            r#"{"kind":{"crash":{}}}"#,
            r#"{"kind":"lie","when":{"command":"remove"}}"#,
            r#"{"kind":"mute","when":{"switch":"of:01"}}"#,
            r#"{"kind":"mute","when":{"switch":"of:1000","rule":1000}}"#,
        ] {
            assert_eq!(serde_json::from_str::<Fault>(text).unwrap().check(), Ok(()), "{text}");
        }
    }
}
