//! The saved state of the table.
//!
//! | key | state |
//! |---|---|
//! | `table` | the next slot, the number of calls ever ended, the status of the service |
//! | `calls/<block>` | open conversations with neighbouring slots, each with its call; see [`super::open`] |
//! | `ended/<block>` | the outcomes of 64 recently ended calls; see [`super::ends`] |
//!
//! Loading derives the rest. Slots are assigned in order, and a call waits at most once, before its
//! first attempt. So the waiting calls in the order of their slots are the queue, and the others
//! are in flight. Settings come with the owner record.
//!
//! Version 1 saved each open conversation under its own key, `open/<slot>`. This build reads it;
//! the next save deletes these keys and writes the blocks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::{Saver, Stored, Unreadable};
use wire::answer::{Availability, Rejected};

use super::WorkerTable;
use super::calls::{Conversation, Phase};
use super::ends::{End, Ends};
use super::open;

/// The schema version. A golden file guards it: another schema needs a new version, which also
/// reads this one.
pub(crate) const SCHEMA_VERSION: u32 = 2;

/// The version that has a key for each open conversation.
const VERSION_1: u32 = 1;

/// The key of the state outside the blocks.
const TABLE: &str = "table";

/// Upper bound of slots and counts, far below overflow. The coordinator has 48 bits for an owner's
/// key.
const NUMBER_LIMIT: u64 = 1 << 48;

/// Upper bound of a conversation's generation.
const GENERATION_LIMIT: u32 = 1 << 31;

/// The state outside the blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHead {
    next_slot: u64,
    /// The number of calls that have ever ended.
    ended: u64,
    /// The heartbeats have stopped.
    down: bool,
    /// The heartbeats arrive. If neither flag is set, the status follows from the answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    up: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<Rejected>,
}

/// Working data of saving and loading.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// The state outside the blocks, as last saved or loaded.
    head: Option<SavedHead>,
    /// Loaded outcomes, until all blocks are there.
    ends: BTreeMap<u64, Vec<End>>,
}

impl WorkerTable {
    /// Saves the keys that changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        let head = self.head();
        if self.saved.head.as_ref() != Some(&head) {
            saver.put(TABLE, &head);
            self.saved.head = Some(head);
        }
        self.calls.save(saver);
    }

    /// Loads the state of one key into a table that has its settings and has not handled any input.
    ///
    /// # Errors
    /// If the state cannot be read or contradicts its key.
    pub fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let key = stored.key();
        let version = stored.version();
        if !(VERSION_1..=SCHEMA_VERSION).contains(&version) {
            return Err(inconsistent(
                key,
                format!("its version is {version}; this build reads {VERSION_1} to {SCHEMA_VERSION}"),
            ));
        }
        let is_new = if key == TABLE {
            self.saved.head.replace(stored.read()?).is_none()
        } else if let Some(block) = number(stored, "calls").filter(|_| version > VERSION_1) {
            let conversations: BTreeMap<u64, Conversation> = stored.read()?;
            check_block(block, &conversations).map_err(|why| inconsistent(key, why))?;
            self.calls.load(block, conversations)
        } else if let Some(slot) = number(stored, "open").filter(|_| version == VERSION_1) {
            let conversation: Conversation = stored.read()?;
            check(&conversation).map_err(|why| inconsistent(key, why))?;
            self.calls.load_single(slot, conversation)
        } else if let Some(block) = number(stored, "ended") {
            self.saved.ends.insert(block, stored.read()?).is_none()
        } else {
            return Err(inconsistent(key, "unknown key"));
        };
        if is_new { Ok(()) } else { Err(inconsistent(key, "it was loaded twice, or another key has the same call")) }
    }

    /// Called after all keys have been loaded. Returns the view keys of the operations with open
    /// calls.
    ///
    /// # Errors
    /// If the keys contradict each other.
    pub fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        let ends = std::mem::take(&mut self.saved.ends);
        let Some(head) = self.saved.head.clone() else {
            // A lane that was ever saved has this key.
            let nothing = ends.is_empty() && self.calls.len() == 0;
            return if nothing {
                Ok(Vec::new())
            } else {
                Err(inconsistent(TABLE, "it is missing, but other keys exist"))
            };
        };
        let SavedHead { next_slot, ended, down, up, rejected } = head;
        if next_slot > NUMBER_LIMIT || ended > NUMBER_LIMIT {
            return Err(inconsistent(TABLE, format!("a number exceeds {NUMBER_LIMIT}")));
        }
        if let Some(slot) = self.calls.open().map(|open| open.slot).find(|slot| *slot >= next_slot) {
            let why = format!("it has slot {slot}, but the next slot of `{TABLE}` is {next_slot}");
            return Err(inconsistent(&self.calls.key_of(slot), why));
        }
        let ends = Ends::loaded(ended, ends)?;
        self.calls.loaded(next_slot, ends)?;

        let waits = |open: &&Conversation| open.doing == Phase::Queued;
        self.queue = self.calls.open().filter(waits).map(|open| open.slot).collect();
        self.in_flight = self.calls.len() - self.queue.len();
        if let Some(slot) = self.queue.first().filter(|_| down || self.in_flight == 0) {
            let why = if down { "the spoke is down" } else { "nothing is in flight" };
            return Err(inconsistent(&self.calls.key_of(*slot), format!("slot {slot} is queued, but {why}")));
        }
        self.rejected = rejected;
        self.judged = match (down, up) {
            (true, _) => Availability::Down,
            (false, true) => Availability::Up,
            (false, false) => Availability::ByAnswers,
        };
        Ok(self.calls.operations().map(|operation| Arc::clone(operation.shared())).collect())
    }

    fn head(&self) -> SavedHead {
        let (next_slot, ended) = (self.calls.next_slot(), self.calls.ended());
        SavedHead {
            next_slot,
            ended,
            down: self.judged == Availability::Down,
            up: self.judged == Availability::Up,
            rejected: self.rejected.clone(),
        }
    }
}

/// Checks a block.
fn check_block(block: u64, conversations: &BTreeMap<u64, Conversation>) -> Result<(), String> {
    if conversations.is_empty() {
        return Err("it is empty".into());
    }
    for (slot, conversation) in conversations {
        if open::block_of(*slot) != block {
            return Err(format!("slot {slot} belongs to another block"));
        }
        check(conversation).map_err(|why| format!("slot {slot}: {why}"))?;
    }
    Ok(())
}

/// Checks an open conversation by rules that hold under any settings.
fn check(open: &Conversation) -> Result<(), &'static str> {
    let armed_until = open.spent_ms.checked_add(open.armed_ms);
    if (open.doing == Phase::Queued) != (open.attempt == 0) {
        Err("`doing` and `attempt` contradict each other")
    } else if open.generation == 0 || open.generation < open.attempt {
        Err("it has no deadline")
    } else if open.generation >= GENERATION_LIMIT {
        Err("its generation is too large")
    } else if armed_until.is_none_or(|ms| ms > open.call.within_ms) {
        Err("its deadline exceeds its time limit")
    } else {
        Ok(())
    }
}

/// Returns the number after `part/` in the key.
fn number(stored: &Stored<'_>, part: &str) -> Option<u64> {
    let stored = stored.part(part)?;
    stored.key().parse().ok().filter(|number: &u64| number.to_string() == stored.key())
}

pub(super) fn inconsistent(key: &str, why: impl Display) -> Unreadable {
    let reason = format!("saved `{key}` is inconsistent: {why}");
    Unreadable(reason.chars().take(Unreadable::MAX_CHARS).collect())
}
