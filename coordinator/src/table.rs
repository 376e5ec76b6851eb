//! The registered deadlines: pure lane state.

use topology::{Saver, Stored, Unreadable};

use crate::deadline::{Deadline, TimedOut};
use crate::saved::Registered;

/// A change to the lane's timing wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WheelChange {
    /// Arms this timer.
    Arm {
        /// The timer.
        timer: u64,
        /// Its generation.
        generation: u32,
        /// Duration in milliseconds.
        after_ms: u64,
    },
    /// Disarms this timer.
    Disarm {
        /// The timer.
        timer: u64,
    },
}

/// The deadlines of a lane: one timer for each owner and key. Bounded by what the owners have in
/// flight.
#[derive(Debug, Default)]
pub struct DeadlineTable {
    registered: Registered,
}

/// Width of an owner's key in a timer number. The owner's number is in the bits above.
const KEY_BITS: u32 = 48;

impl DeadlineTable {
    /// Returns the number of the timer for an owner's key.
    pub fn timer(owner: u16, key: u64) -> u64 {
        (u64::from(owner) << KEY_BITS) | (key & ((1 << KEY_BITS) - 1))
    }

    /// Registers or cancels a deadline. Returns `None` if there is nothing to cancel.
    pub fn on(&mut self, owner: u16, deadline: Deadline) -> Option<WheelChange> {
        match deadline {
            Deadline::Register { key, generation, after_ms } => {
                let timer = Self::timer(owner, key);
                self.registered.insert(timer, generation);
                Some(WheelChange::Arm { timer, generation, after_ms })
            }
            Deadline::Cancel { key } => {
                let timer = Self::timer(owner, key);
                self.registered.remove(timer).then_some(WheelChange::Disarm { timer })
            }
        }
    }

    /// Handles a timeout. Returns the owner and the event for it, or `None` if the deadline is not
    /// registered with this generation any more.
    pub fn passed(&mut self, timer: u64, generation: u32) -> Option<(u16, TimedOut)> {
        if self.registered.get(timer) != Some(generation) {
            return None;
        }
        self.registered.remove(timer);
        let owner = u16::try_from(timer >> KEY_BITS).expect("16 bits are above the key");
        Some((owner, TimedOut { key: timer & ((1 << KEY_BITS) - 1), generation }))
    }

    /// Returns the timer of a registered deadline.
    pub fn registered(&self, owner: u16, key: u64) -> Option<u64> {
        let timer = Self::timer(owner, key);
        self.registered.get(timer).map(|_| timer)
    }

    /// Iterates over the registered timers, each with its generation.
    pub fn all(&self) -> impl Iterator<Item = (u64, u32)> {
        self.registered.all()
    }

    /// Returns the number of registered deadlines.
    pub fn len(&self) -> usize {
        self.registered.len()
    }

    /// True if no deadline is registered.
    pub fn is_empty(&self) -> bool {
        self.registered.is_empty()
    }

    /// Saves the keys that changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        self.registered.save(saver);
    }

    /// Loads the state of one key into a table that has not handled any input.
    ///
    /// # Errors
    /// If the state cannot be read or contradicts its key.
    pub fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        self.registered.load(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(key: u64, generation: u32) -> Deadline {
        Deadline::Register { key, generation, after_ms: 100 }
    }

    /// Lesson 4.
    #[test]
    fn a_cancel_frees_memory_at_once() {
        let mut table = DeadlineTable::default();
        for key in 0..100_000 {
            table.on(1, register(key, 1));
            assert_eq!(
                table.on(1, Deadline::Cancel { key }),
                Some(WheelChange::Disarm { timer: DeadlineTable::timer(1, key) })
            );
        }
        assert!(table.is_empty());
    }

    #[test]
    fn owners_have_separate_keys() {
        let mut table = DeadlineTable::default();
        table.on(0, register(7, 1));
        table.on(1, register(7, 1));
        assert_eq!(table.on(0, Deadline::Cancel { key: 7 }), Some(WheelChange::Disarm { timer: 7 }));
        assert_eq!(table.passed(DeadlineTable::timer(1, 7), 1), Some((1, TimedOut { key: 7, generation: 1 })));
    }

    #[test]
    fn a_timeout_of_an_older_generation_is_stale() {
        let mut table = DeadlineTable::default();
        table.on(0, register(7, 1));
        table.on(0, register(7, 2));
        assert_eq!(table.passed(7, 1), None);
        assert_eq!(table.len(), 1);
        assert_eq!(table.passed(7, 2), Some((0, TimedOut { key: 7, generation: 2 })));
        assert_eq!(table.passed(7, 2), None, "a duplicate timeout is stale");
    }
}
