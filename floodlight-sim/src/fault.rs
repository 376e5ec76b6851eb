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

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::Problem;
use wire::speaker::SwitchId;

/// So many faults can stand at once. Each command is compared with all of them, and people write them by hand.
pub const MAX_FAULTS: usize = 1_000;

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
    /// The switch.
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
    /// Not done, and told so.
    Error {
        /// The short word for programs.
        code: String,
        /// True: a failure, which asks to try again. Else a refusal, which is final.
        #[serde(default)]
        retry: bool,
    },
    /// Done once, told twice.
    Duplicate,
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
        }
    }

    /// True where something waits for a later time.
    pub fn delays(&self) -> bool {
        matches!(self, FaultKind::DelayReply { .. } | FaultKind::DelayExecution { .. })
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
    /// The step of the operation that calls.
    pub step: u32,
}

impl Match {
    /// True where everything that is given is so.
    pub fn matches(&self, command: &Struck<'_>) -> bool {
        self.switch.as_ref().is_none_or(|switch| switch == command.switch)
            && self.rule.is_none_or(|rule| Some(rule) == command.rule)
            && self.command.is_none_or(|word| word.as_str() == command.command)
            && self.attempt.is_none_or(|attempt| attempt == command.attempt)
            && self.flow.as_deref().is_none_or(|flow| Some(flow) == command.flow)
            && self.step.is_none_or(|step| step == command.step)
    }
}

/// The faults that stand.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Puts one in, behind the others.
    ///
    /// # Errors
    /// Where it would never strike, or where there are [`MAX_FAULTS`] already.
    pub fn inject(&mut self, fault: Fault) -> Result<(), Problem> {
        if fault.times == Some(0) {
            return Err(Problem::field("times", "0", "a whole number from 1, or nothing for ever"));
        }
        if self.0.len() >= MAX_FAULTS {
            return Err(Problem::field("faults", "one too many", "1000 at once; DELETE /faults takes them away"));
        }
        self.0.push(fault);
        Ok(())
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those that stand, in order, each with the times that it has left.
    pub fn list(&self) -> &[Fault] {
        &self.0
    }

    /// What strikes this command: the first fault that matches, and that can strike at all (`room` says whether something
    /// may be delayed). One of its times is used up.
    pub fn strike(&mut self, command: &Struck<'_>, room: bool) -> Option<FaultKind> {
        let found = self.0.iter().position(|fault| fault.when.matches(command) && (room || !fault.kind.delays()))?;
        let fault = &mut self.0[found];
        let kind = fault.kind.clone();
        if let Some(times) = &mut fault.times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(found);
            }
        }
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(switch: &SwitchId) -> Struck<'_> {
        Struck { switch, command: "install", rule: Some(8), flow: Some("test-01"), attempt: 2, step: 1 }
    }

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_fault_strikes_what_it_names_and_nothing_else() {
        let switch = SwitchId::numbered(8);
        for when in [
            r"{}",
            r#"{"switch":"of:08"}"#,
            r#"{"rule":8,"flow":"test-01"}"#,
            r#"{"command":"install","attempt":2}"#,
            r#"{"step":1}"#,
        ] {
            assert!(serde_json::from_str::<Match>(when).unwrap().matches(&command(&switch)), "{when}");
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
            assert!(!serde_json::from_str::<Match>(when).unwrap().matches(&command(&switch)), "{when}");
        }
        let unknown = Struck { rule: None, flow: None, ..command(&switch) };
        assert!(!Match { rule: Some(8), ..Match::default() }.matches(&unknown));
    }

    #[test]
    fn the_first_fault_that_has_times_left_strikes() {
        let switch = SwitchId::numbered(8);
        let mut faults = Faults::default();
        faults.inject(fault(r#"{"kind":"silence","times":2}"#)).unwrap();
        faults.inject(fault(r#"{"kind":{"error":{"code":"busy","retry":true}}}"#)).unwrap();
        let struck: Vec<String> =
            (0..4).filter_map(|_| faults.strike(&command(&switch), true)).map(|kind| kind.to_string()).collect();
        assert_eq!(struck, ["silence", "silence", "error", "error"]);
        assert_eq!(faults.list().len(), 1);
    }

    #[test]
    fn nothing_is_delayed_where_there_is_no_room_to_wait() {
        let switch = SwitchId::numbered(8);
        let mut faults = Faults::default();
        faults.inject(fault(r#"{"kind":{"delay_reply":{"ms":5}},"times":1}"#)).unwrap();
        assert_eq!(faults.strike(&command(&switch), false), None);
        assert_eq!(faults.strike(&command(&switch), true), Some(FaultKind::DelayReply { ms: 5 }));
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
        ] {
            assert!(serde_json::from_str::<Fault>(text).is_err(), "{text}");
        }
        assert!(Faults::default().inject(fault(r#"{"kind":"mute","times":0}"#)).is_err());
    }
}
