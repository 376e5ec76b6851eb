//! What the speaker did, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use wire::speaker::SwitchId;
use wire::{CallId, WallTime};

/// So many lines are kept, the newest: the work of some thirty flows of the greatest length, in some 20 MB.
pub const KEPT: usize = 100_000;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its place: lines are ordered by this, never by time.
    pub seq: u64,
    /// When, on the wall clock.
    pub at: WallTime,
    /// The switch.
    pub switch: SwitchId,
    /// `install`, `read` or `remove`.
    pub command: &'static str,
    /// The rule's cookie.
    pub cookie: u64,
    /// The flow, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Arc<str>>,
    /// The rule's number in the flow, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// The call.
    pub call: CallId,
    /// Which sending of the call.
    pub attempt: u32,
    /// What came of it.
    #[serde(flatten)]
    pub deed: Deed,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Deed {
    /// It was carried out.
    Executed {
        /// True where the rule stood before.
        existed: bool,
    },
    /// It had been carried out before and was answered from memory.
    Remembered,
    /// It was refused.
    Refused {
        /// The short word for programs.
        error: &'static str,
    },
    /// A fault struck it. Where the fault lets it be carried out, another line says so.
    Struck {
        /// The fault's name; `drill` where the client asked for silence.
        fault: &'static str,
    },
}

impl Deed {
    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Deed::Executed { .. } => "executed",
            Deed::Remembered => "remembered",
            Deed::Refused { .. } => "refused",
            Deed::Struck { .. } => "struck",
        }
    }
}

/// The newest lines.
#[derive(Debug, Default)]
pub struct Audit {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Audit {
    /// Adds a line; its `seq` is set here.
    pub fn add(&mut self, mut entry: Entry) {
        self.last += 1;
        entry.seq = self.last;
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The lines after `seq`, oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(self.entries.partition_point(|entry| entry.seq <= seq))
    }

    /// The `seq` of the newest line; 0 where there is none.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_its_newest_lines_and_their_numbers() {
        let mut audit = Audit::default();
        let call = CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, 1);
        let entry = Entry {
            seq: 0,
            at: WallTime(5),
            switch: SwitchId::numbered(1),
            command: "read",
            cookie: 17,
            flow: None,
            rule: None,
            call,
            attempt: 1,
            deed: Deed::Remembered,
        };
        for _ in 0..KEPT + 2 {
            audit.add(entry.clone());
        }
        assert_eq!(audit.after(0).next().unwrap().seq, 3);
        assert_eq!(audit.after(audit.last() - 1).map(|entry| entry.seq).collect::<Vec<_>>(), [audit.last()]);
        assert_eq!(
            serde_json::to_string(&Entry { seq: 9, ..entry }).unwrap(),
            r#"{"seq":9,"at":5,"switch":"of:01","command":"read","cookie":17,"call":"7f3a/1/1","attempt":1,"deed":"remembered"}"#
        );
    }
}
