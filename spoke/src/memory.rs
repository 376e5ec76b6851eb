//! The calls that a spoke has answered or that were undone, so that each is handled once.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use wire::{CallId, Kind};

use crate::store::Store;

/// Maximum number of remembered calls; the oldest is forgotten first. A call repeats only while its
/// operation lives, which is minutes.
const REMEMBERED: usize = 100_000;

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
}

/// The outcome of a call, as remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A repeated call gets the same answer.
    Answered(Answer),
    /// It was undone before it was handled: it is refused.
    Undone,
}

/// A change that is not saved yet, by the number of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Added(u64, CallId, Outcome),
    Forgotten(u64),
}

/// The outcomes of the newest calls, in memory or in a directory as well.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    outcomes: BTreeMap<CallId, Outcome>,
    /// Calls and the numbers of their entries, the oldest first.
    order: VecDeque<(u64, CallId)>,
    next: u64,
    store: Option<Store>,
    /// Changes that are not in the store yet; empty without a store.
    unsaved: Vec<Change>,
}

/// Why a directory cannot be used as a memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// Another spoke uses it.
    #[error("the directory `{0}` is used by another spoke; give each spoke its own")]
    InUse(PathBuf),
    /// Another build wrote it.
    #[error("the directory `{directory}` has schema version {found}; this build reads {expected}")]
    Version {
        /// The directory.
        directory: PathBuf,
        /// The version in the directory.
        found: u64,
        /// The version of this build.
        expected: u64,
    },
    /// It cannot be read or written.
    #[error("the directory `{directory}` cannot be used: {reason}")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// The message of the store or the system.
        reason: String,
    },
}

impl Memory {
    /// Opens the memory in `directory`, or creates it. Answers are durable before they are sent.
    ///
    /// # Errors
    /// If the directory is in use, cannot be read or written, or has another schema version.
    pub(crate) fn open(directory: &Path) -> Result<Self, MemoryError> {
        let (store, entries) = Store::open(directory)?;
        let mut memory = Self::default();
        for (number, call, outcome) in entries {
            memory.next = number + 1;
            memory.order.push_back((number, call.clone()));
            memory.outcomes.insert(call, outcome);
        }
        memory.store = Some(store);
        Ok(memory)
    }

    /// True if the memory outlives the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.store.is_some()
    }

    /// Returns what `call` was answered, if it was.
    pub(crate) fn answer(&self, call: &CallId) -> Option<&Answer> {
        match self.outcomes.get(call)? {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Undone => None,
        }
    }

    /// True if `call` was undone before it was handled.
    pub(crate) fn is_undone(&self, call: &CallId) -> bool {
        self.outcomes.get(call) == Some(&Outcome::Undone)
    }

    /// Remembers what `call` is answered.
    pub(crate) fn answered(&mut self, call: CallId, answer: Answer) {
        self.add(call, Outcome::Answered(answer));
    }

    /// Remembers that `call` was undone. An answer that it got before stays.
    pub(crate) fn undone(&mut self, call: CallId) {
        if !self.outcomes.contains_key(&call) {
            self.add(call, Outcome::Undone);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        while self.forget_oldest() {}
    }

    /// Writes all changes to the store, if there is one. No answer may be sent before.
    pub(crate) fn save(&mut self) -> Result<(), MemoryError> {
        let Some(store) = &self.store else { return Ok(()) };
        store.write(&self.unsaved)?;
        self.unsaved.clear();
        Ok(())
    }

    fn add(&mut self, call: CallId, outcome: Outcome) {
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, call.clone()));
        self.change(Change::Added(number, call.clone(), outcome.clone()));
        self.outcomes.insert(call, outcome);
        if self.order.len() > REMEMBERED {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((number, call)) = self.order.pop_front() else { return false };
        self.outcomes.remove(&call);
        self.change(Change::Forgotten(number));
        true
    }

    fn change(&mut self, change: Change) {
        if self.store.is_some() {
            self.unsaved.push(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::OperationId;

    use super::*;

    fn call(n: u32) -> CallId {
        CallId::new(OperationId::new("op-1").unwrap(), 1, n)
    }

    fn answer(body: &'static str) -> Answer {
        Answer { kind: Kind::Reply, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn an_answer_outlives_the_undo_of_its_call() {
        let mut memory = Memory::default();
        memory.answered(call(1), answer("1"));
        memory.undone(call(1));
        memory.undone(call(2));
        assert_eq!((memory.answer(&call(1)), memory.is_undone(&call(1))), (Some(&answer("1")), false));
        assert_eq!((memory.answer(&call(2)), memory.is_undone(&call(2))), (None, true));
    }

    #[test]
    fn the_oldest_call_is_forgotten_at_the_limit() {
        let mut memory = Memory::default();
        for n in 0..=u32::try_from(REMEMBERED).unwrap() {
            memory.answered(call(n), answer("1"));
        }
        assert_eq!((memory.answer(&call(0)), memory.order.len()), (None, REMEMBERED));
        assert!(memory.answer(&call(1)).is_some());
    }

    #[test]
    fn a_directory_holds_answers_undone_calls_and_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(directory.path()).unwrap();
        memory.answered(call(1), answer("1"));
        memory.undone(call(2));
        memory.save().unwrap();
        memory.answered(call(3), answer("\"never saved\""));
        assert!(matches!(Memory::open(directory.path()), Err(MemoryError::InUse(_))));
        drop(memory);

        let mut memory = Memory::open(directory.path()).unwrap();
        assert_eq!((memory.answer(&call(1)), memory.answer(&call(3))), (Some(&answer("1")), None));
        assert!(memory.is_undone(&call(2)));
        memory.forget_oldest();
        memory.answered(call(4), answer("4"));
        memory.save().unwrap();
        drop(memory);

        let memory = Memory::open(directory.path()).unwrap();
        assert_eq!(memory.order, [(1, call(2)), (2, call(4))]);
    }
}
