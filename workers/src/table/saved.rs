//! How the table is saved, and loaded.
//!
//! | key | state |
//! |---|---|
//! | `table` | what is single: the next slot, how many calls ever ended, how the service is judged |
//! | `calls/<block>` | open conversations with neighbouring slots, each with its call; see [`super::open`] |
//! | `ended/<block>` | how 64 of the newest calls ended; see [`super::ends`] |
//!
//! The rest follows from it. A call that waits keeps its slot, slots are given in order and a call never waits a second time: so those that
//! wait, by their slots, are the queue. Those that do not wait are in flight. Settings come with the owner.
//!
//! Version 1 has each open conversation by itself, under `open/<slot>`. It is read, and what is saved next deletes these keys and writes the
//! blocks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use topology::{Saver, Stored, Unreadable};
use wire::answer::{Judged, Rejected};

use super::WorkerTable;
use super::calls::{Conversation, Doing};
use super::ends::{End, Ends};
use super::open;

/// The version of this form. A golden file holds it fast: another form is a new version, and reads this one too.
pub(crate) const FORM: u32 = 2;

/// The version that has a key for each open conversation.
const SINGLES: u32 = 1;

/// The key of what is single.
const TABLE: &str = "table";

/// Numbers that count up stay below it, far from where they would overflow; an owner's key for its coordinator has so many bits.
const NUMBERS: u64 = 1 << 48;

/// The same for the generations of one conversation.
const GENERATIONS: u32 = 1 << 31;

/// What is single.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Single {
    next_slot: u64,
    /// How many calls have ever ended.
    ended: u64,
    /// Its heartbeats stopped.
    down: bool,
    /// Its heartbeats come. Without either it is judged by its answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    up: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<Rejected>,
}

/// What the table remembers of its saving and loading.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// What is single, as it was saved or loaded.
    single: Option<Single>,
    /// The ends that were loaded and wait for the rest.
    ends: BTreeMap<u64, Vec<End>>,
}

impl WorkerTable {
    /// Saves what has changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        let single = self.single();
        if self.saved.single.as_ref() != Some(&single) {
            saver.put(TABLE, &single);
            self.saved.single = Some(single);
        }
        self.calls.save(saver);
    }

    /// Takes in what was saved of one key, in a table that has its settings and has had no input yet.
    ///
    /// # Errors
    /// Where it cannot be read, or does not fit its key.
    pub fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let key = stored.key();
        let version = stored.version();
        if !(SINGLES..=FORM).contains(&version) {
            return Err(misfit(key, format!("its version is {version}, and this build reads {SINGLES} to {FORM}")));
        }
        let fresh = if key == TABLE {
            self.saved.single.replace(stored.read()?).is_none()
        } else if let Some(block) = number(stored, "calls").filter(|_| version > SINGLES) {
            let conversations: BTreeMap<u64, Conversation> = stored.read()?;
            check_block(block, &conversations).map_err(|why| misfit(key, why))?;
            self.calls.load(block, conversations)
        } else if let Some(slot) = number(stored, "open").filter(|_| version == SINGLES) {
            let conversation: Conversation = stored.read()?;
            check(&conversation).map_err(|why| misfit(key, why))?;
            self.calls.load_single(slot, conversation)
        } else if let Some(block) = number(stored, "ended") {
            self.saved.ends.insert(block, stored.read()?).is_none()
        } else {
            return Err(misfit(key, "nobody reads this key"));
        };
        if fresh { Ok(()) } else { Err(misfit(key, "it came twice, or another has the same call")) }
    }

    /// Everything was loaded. Gives the keys of the views of all that is open.
    ///
    /// # Errors
    /// Where what was loaded does not fit together.
    pub fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        let ends = std::mem::take(&mut self.saved.ends);
        let Some(single) = self.saved.single.clone() else {
            // A lane that was never saved has no key; one that was has this one.
            let nothing = ends.is_empty() && self.calls.len() == 0;
            return if nothing { Ok(Vec::new()) } else { Err(misfit(TABLE, "it is missing, and others are there")) };
        };
        let Single { next_slot, ended, down, up, rejected } = single;
        if next_slot > NUMBERS || ended > NUMBERS {
            return Err(misfit(TABLE, format!("its numbers are beyond {NUMBERS}")));
        }
        if let Some(slot) = self.calls.open().map(|open| open.slot).find(|slot| *slot >= next_slot) {
            let why = format!("it has slot {slot}, and the next slot of `{TABLE}` is {next_slot}");
            return Err(misfit(&self.calls.key_of(slot), why));
        }
        let ends = Ends::loaded(ended, ends)?;
        self.calls.loaded(next_slot, ends)?;

        let waits = |open: &&Conversation| open.doing == Doing::Queued;
        self.queue = self.calls.open().filter(waits).map(|open| open.slot).collect();
        self.in_flight = self.calls.len() - self.queue.len();
        if let Some(slot) = self.queue.first().filter(|_| down || self.in_flight == 0) {
            let why = if down { "the spoke is down" } else { "nothing is in flight" };
            return Err(misfit(&self.calls.key_of(*slot), format!("slot {slot} waits, and {why}")));
        }
        self.rejected = rejected;
        self.judged = match (down, up) {
            (true, _) => Judged::Down,
            (false, true) => Judged::Up,
            (false, false) => Judged::ByAnswers,
        };
        Ok(self.calls.operations().map(|operation| Arc::clone(operation.shared())).collect())
    }

    fn single(&self) -> Single {
        let (next_slot, ended) = (self.calls.next_slot(), self.calls.ended());
        Single {
            next_slot,
            ended,
            down: self.judged == Judged::Down,
            up: self.judged == Judged::Up,
            rejected: self.rejected.clone(),
        }
    }
}

/// What holds for every block.
fn check_block(block: u64, conversations: &BTreeMap<u64, Conversation>) -> Result<(), String> {
    if conversations.is_empty() {
        return Err("it is empty".into());
    }
    for (slot, conversation) in conversations {
        if open::block_of(*slot) != block {
            return Err(format!("slot {slot} is of another block"));
        }
        check(conversation).map_err(|why| format!("slot {slot}: {why}"))?;
    }
    Ok(())
}

/// What holds for every open conversation, whatever the settings were.
fn check(open: &Conversation) -> Result<(), &'static str> {
    let armed_until = open.spent_ms.checked_add(open.armed_ms);
    if (open.doing == Doing::Queued) != (open.attempt == 0) {
        Err("it waits and was sent, or neither")
    } else if open.generation == 0 || open.generation < open.attempt {
        Err("it has no deadline")
    } else if open.generation >= GENERATIONS {
        Err("its deadline was armed too often")
    } else if armed_until.is_none_or(|ms| ms > open.call.within_ms) {
        Err("its deadline is beyond its time")
    } else {
        Ok(())
    }
}

/// The number after `part`, where the key is of that part.
fn number(stored: &Stored<'_>, part: &str) -> Option<u64> {
    let stored = stored.part(part)?;
    stored.key().parse().ok().filter(|number: &u64| number.to_string() == stored.key())
}

pub(super) fn misfit(key: &str, why: impl Display) -> Unreadable {
    let reason = format!("saved `{key}` does not fit: {why}");
    Unreadable(reason.chars().take(Unreadable::SHOWN).collect())
}
