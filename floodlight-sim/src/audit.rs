//! The audit log: the executed commands, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use flow_messages::speaker::SwitchId;
use serde::Serialize;
use wire::{CallId, WallTime};

/// The maximum number of entries, the newest: about thirty flows of maximum length, in about 20 MB.
pub const MAX_ENTRIES: usize = 100_000;

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// The sequence number. It orders the entries, not the time.
    pub seq: u64,
    /// The wall-clock time.
    pub at: WallTime,
    /// The switch.
    pub switch: SwitchId,
    /// `install`, `read` or `remove`.
    pub command: &'static str,
    /// The cookie of the rule.
    pub cookie: u64,
    /// The flow, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Arc<str>>,
    /// The number of the rule in the flow, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// The call.
    pub call: CallId,
    /// The attempt of the call.
    pub attempt: u32,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: CommandOutcome,
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CommandOutcome {
    /// The speaker executed it.
    Executed {
        /// True if the rule existed before.
        existed: bool,
    },
    /// The speaker had executed it before and answered from memory.
    Remembered,
    /// The speaker refused it.
    Refused {
        /// The error code for programs.
        error: &'static str,
    },
    /// A fault applied to it. If the fault lets it execute, another entry follows.
    Struck {
        /// The name of the fault; `requested` for a fault that a client requested with `error`.
        fault: &'static str,
    },
}

impl CommandOutcome {
    /// The name in JSON and in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            CommandOutcome::Executed { .. } => "executed",
            CommandOutcome::Remembered => "remembered",
            CommandOutcome::Refused { .. } => "refused",
            CommandOutcome::Struck { .. } => "struck",
        }
    }
}

/// The newest entries.
#[derive(Debug, Default)]
pub struct Audit {
    entries: VecDeque<AuditEntry>,
    last: u64,
}

impl Audit {
    /// Adds an entry and sets its `seq`.
    pub fn add(&mut self, mut entry: AuditEntry) {
        self.last += 1;
        entry.seq = self.last;
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The entries after `seq`, oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &AuditEntry> {
        self.entries.iter().skip(self.entries.partition_point(|entry| entry.seq <= seq))
    }

    /// The `seq` of the newest entry; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_newest_entries_with_their_sequence_numbers() {
        let mut audit = Audit::default();
        let call = CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, 1);
        let entry = AuditEntry {
            seq: 0,
            at: WallTime(5),
            switch: SwitchId::numbered(1),
            command: "read",
            cookie: 17,
            flow: None,
            rule: None,
            call,
            attempt: 1,
            outcome: CommandOutcome::Remembered,
        };
        for _ in 0..MAX_ENTRIES + 2 {
            audit.add(entry.clone());
        }
        assert_eq!(audit.after(0).next().unwrap().seq, 3);
        assert_eq!(audit.after(audit.last() - 1).map(|entry| entry.seq).collect::<Vec<_>>(), [audit.last()]);
        assert_eq!(
            serde_json::to_string(&AuditEntry { seq: 9, ..entry }).unwrap(),
            r#"{"seq":9,"at":5,"switch":"of:01","command":"read","cookie":17,"call":"7f3a/1/1","attempt":1,"outcome":"remembered"}"#
        );
    }
}
