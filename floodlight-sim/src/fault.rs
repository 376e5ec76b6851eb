//! What can be broken, and on which side it leaves the rule table.
//!
//! | kind | done | told | stands for |
//! |---|---|---|---|
//! | `silence` | not | not | a controller or a switch that is gone |
//! | `mute` | now | not | a reply that is lost |
//! | `delay_reply` | now | late | a reply on a slow way back |
//! | `delay_execution` | late | late | a command on a slow way out; others of the same switch overtake it |
//! | `error` | not | a refusal; with `retry`, a failure: try again | a switch that declines |
//! | `duplicate` | now, once | twice | a message that is sent again |
//! | `reorder` | now | after the next `hold` answers to others, or after a second | replies that overtake each other |
//! | `wrong_key` | now | under another identity: see [`Astray`] | a spoke that mixes up its conversations |
//! | `corrupt` | now | in bytes that nobody can read: see [`Garbage`] | a spoke of another version, or a broken one |
//! | `oversized` | now | in so many bytes | a reply that the bus may not take |
//! | `lie` | not | as if it were done, and remembered so | a switch that confirms what it has not done; reads are told truly |
//! | `crash` | now | not; with `told`, yes | a process that dies between doing and telling, or right after telling |

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::flow::{MAX_LENGTH, MAX_NAME, is_name};
use wire::speaker::SwitchId;
use wire::{CallId, Problem};

use crate::chance::Percent;

/// The longest reply that `oversized` makes, in bytes: twice what any bus of ours takes.
pub const MAX_OVERSIZED: usize = 2 << 20;

/// A fault to come. The first that matches a command, in the order they were put in, strikes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which commands it strikes; all, where nothing is said.
    #[serde(default)]
    pub when: Match,
    /// What it does.
    pub kind: FaultKind,
    /// How often it still strikes; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Which commands a fault strikes. What is not given matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The switch: `of:` and the number of a rule in two digits or more, like `of:03`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchId>,
    /// The number of the rule in its flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// What is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Word>,
    /// Which sending of the call, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// The step of the operation that calls: it tells the reads that validate an installation from those that validate a
    /// removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Of those that match, so many in a hundred, by chance from the seed: see [`Percent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
}

/// A command's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Put a rule on its switch.
    Install,
    /// Read it back.
    Read,
    /// Take it away.
    Remove,
}

impl Word {
    /// The word as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Install => "install",
            Word::Read => "read",
            Word::Remove => "remove",
        }
    }
}

/// What a fault does. The table at the head of this file says on which side each one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Not done, and nothing is told.
    Silence,
    /// Done, and nothing is told.
    Mute,
    /// Done now, told late.
    DelayReply {
        /// So many milliseconds late.
        ms: u64,
    },
    /// Done late, and told then.
    DelayExecution {
        /// So many milliseconds late.
        ms: u64,
    },
    /// Not done, and told so; a call that was carried out before is told what was.
    Error {
        /// The short word for programs.
        code: String,
        /// True: a failure, which asks to try again. Else a refusal, which is final.
        #[serde(default)]
        retry: bool,
    },
    /// Done once, told twice.
    Duplicate,
    /// Done now, told after answers to others.
    Reorder {
        /// After so many, from 1; or after [`crate::late::HOLD_MS`], so that nothing is held for ever.
        hold: u32,
    },
    /// Done, and told under another identity.
    WrongKey {
        /// The fault.
        what: Astray,
    },
    /// Done, and told in bytes that nobody can read.
    Corrupt {
        /// What is wrong with them.
        what: Garbage,
    },
    /// Done, and told in a body of so many bytes.
    Oversized {
        /// Its length, at most [`MAX_OVERSIZED`]; a reply that is longer by itself stays as it is.
        bytes: usize,
    },
    /// Not done, but told as done and remembered so. It strikes no reads.
    Lie,
    /// Done; then the speaker dies.
    Crash {
        /// It dies of the n-th command that matches, counted from 1.
        #[serde(default = "at_once")]
        after: u32,
        /// True: the answers are told first. Else nothing is told that was not told before.
        #[serde(default)]
        told: bool,
    },
}

/// What is wrong with the identity of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Astray {
    /// `ce_callid` is of a call that does not exist; `ce_causationid` is right.
    Call,
    /// `ce_causationid` is of a call that does not exist; `ce_callid` is right.
    Causation,
    /// The record has another key. Where the request names a partition, the reply still finds its way.
    Key,
    /// It goes to another partition than the request names.
    Partition,
}

/// What is wrong with the bytes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// The body is no text.
    Body,
    /// The body is text that is no JSON.
    Json,
    /// None of the headers is ours.
    Headers,
    /// `ce_type` is missing, all else is right.
    Type,
}

fn at_once() -> u32 {
    1
}

impl FaultKind {
    /// Its name, as it is written in JSON.
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

    /// True where something waits for a later time.
    pub fn delays(&self) -> bool {
        matches!(self, FaultKind::DelayReply { .. } | FaultKind::DelayExecution { .. } | FaultKind::Reorder { .. })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a fault is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Struck<'a> {
    /// The switch.
    pub switch: &'a SwitchId,
    /// What is asked.
    pub command: &'a str,
    /// The rule's number, where it is known.
    pub rule: Option<u32>,
    /// The flow, where it is known.
    pub flow: Option<&'a str>,
    /// Which sending; a message that does not say is the first.
    pub attempt: u32,
    /// The call: its step is compared, and chance is drawn from it.
    pub call: &'a CallId,
}

impl Match {
    /// Refuses what no command can match.
    fn check(&self) -> Result<(), Problem> {
        if let Some(switch) = &self.switch
            && !is_switch(switch)
        {
            let allowed = format!(
                "`of:` and the number of a rule, from 1 to {MAX_LENGTH}, in two digits or more: of:01, of:10, of:100"
            );
            return Err(Problem::field("switch", &shown(&switch.0), &allowed));
        }
        if let Some(flow) = self.flow.as_deref().filter(|flow| !is_name(flow)) {
            let allowed = format!("a text of 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ : -");
            return Err(Problem::field("flow", &shown(flow), &allowed));
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

    /// True where everything that is given is so, chance apart.
    pub fn matches(&self, command: &Struck<'_>) -> bool {
        self.switch.as_ref().is_none_or(|switch| switch == command.switch)
            && self.rule.is_none_or(|rule| Some(rule) == command.rule)
            && self.command.is_none_or(|word| word.as_str() == command.command)
            && self.attempt.is_none_or(|attempt| attempt == command.attempt)
            && self.flow.as_deref().is_none_or(|flow| Some(flow) == command.flow)
            && self.step.is_none_or(|step| step == command.call.step)
    }
}

/// True for a switch that commands go to: rule *i* of a flow stands on `of:`*i*.
fn is_switch(switch: &SwitchId) -> bool {
    let number = switch.0.strip_prefix("of:").and_then(|digits| digits.parse().ok());
    number.is_some_and(|number| (1..=MAX_LENGTH).contains(&number) && SwitchId::numbered(number) == *switch)
}

/// A value in a refusal: at most 80 characters of it.
fn shown(value: &str) -> String {
    format!("`{}`", value.chars().take(80).collect::<String>())
}

impl Fault {
    /// Refuses one that would never strike, or that asks for more than there is.
    ///
    /// # Errors
    /// Names the field, its value, and what is allowed.
    pub fn check(&self) -> Result<(), Problem> {
        let from_one = |field: &str, value: u32| {
            if value > 0 { Ok(()) } else { Err(Problem::field(field, "0", "a whole number from 1")) }
        };
        if self.times == Some(0) {
            return Err(Problem::field("times", "0", "a whole number from 1, or nothing for ever"));
        }
        self.when.check()?;
        match &self.kind {
            FaultKind::Reorder { hold } => from_one("hold", *hold),
            FaultKind::Crash { after, .. } => from_one("after", *after),
            FaultKind::Oversized { bytes } if *bytes > MAX_OVERSIZED => {
                Err(Problem::field("bytes", &bytes.to_string(), &format!("at most {MAX_OVERSIZED}")))
            }
            FaultKind::Lie if self.when.command == Some(Word::Read) => {
                Err(Problem::field("command", "read", "install or remove, or nothing for both: a lie strikes no reads"))
            }
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

    fn command<'a>(switch: &'a SwitchId, call: &'a CallId) -> Struck<'a> {
        Struck { switch, command: "install", rule: Some(8), flow: Some("test-01"), attempt: 2, call }
    }

    #[test]
    fn a_fault_strikes_what_it_names_and_nothing_else() {
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
        let unknown = Struck { rule: None, flow: None, ..command(&switch, &call) };
        assert!(!Match { rule: Some(8), ..Match::default() }.matches(&unknown));
    }

    #[test]
    fn every_kind_has_the_name_that_json_has() {
        for kind in [
            FaultKind::Silence,
            FaultKind::Mute,
            FaultKind::DelayReply { ms: 1 },
            FaultKind::DelayExecution { ms: 1 },
            FaultKind::Error { code: "busy".into(), retry: false },
            FaultKind::Duplicate,
            FaultKind::Reorder { hold: 2 },
            FaultKind::WrongKey { what: Astray::Causation },
            FaultKind::Corrupt { what: Garbage::Type },
            FaultKind::Oversized { bytes: 7 },
            FaultKind::Lie,
            FaultKind::Crash { after: 2, told: true },
        ] {
            let text = serde_json::to_string(&kind).unwrap();
            assert!(text.contains(&format!("\"{kind}\"")), "{text}");
            assert_eq!(serde_json::from_str::<FaultKind>(&text).unwrap(), kind);
        }
    }

    #[test]
    fn a_field_that_is_not_known_is_refused() {
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
    fn a_fault_that_would_never_strike_is_refused_by_name() {
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
