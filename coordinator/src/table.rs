//! Which deadlines are registered: pure, and part of the lane's state.

use topology::{Saver, Stored, Unreadable};

use crate::deadline::{Deadline, TimedOut};
use crate::saved::Registered;

/// What the lane's wheel is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WheelChange {
    /// Arm this timer.
    Arm {
        /// The timer.
        timer: u64,
        /// Its generation.
        generation: u32,
        /// In milliseconds.
        after_ms: u64,
    },
    /// Disarm this timer.
    Disarm {
        /// The timer.
        timer: u64,
    },
}

/// The deadlines of a lane: a timer for each owner and key. Bounded by what its owners have in flight.
#[derive(Debug, Default)]
pub struct Table {
    registered: Registered,
}

/// An owner's keys have so many bits; the owner's number is above them.
const KEY_BITS: u32 = 48;

impl Table {
    /// The timer of an owner's key: what the wheel knows it by.
    pub fn timer(owner: u16, key: u64) -> u64 {
        (u64::from(owner) << KEY_BITS) | (key & ((1 << KEY_BITS) - 1))
    }

    /// Registers or cancels; none where there is nothing to cancel.
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

    /// A timeout was read back. Gives its owner and what to tell it; none where the deadline is not registered any more, or
    /// with another generation.
    pub fn passed(&mut self, timer: u64, generation: u32) -> Option<(u16, TimedOut)> {
        if self.registered.get(timer) != Some(generation) {
            return None;
        }
        self.registered.remove(timer);
        let owner = u16::try_from(timer >> KEY_BITS).expect("16 bits are above the key");
        Some((owner, TimedOut { key: timer & ((1 << KEY_BITS) - 1), generation }))
    }

    /// The timer of a deadline that is registered.
    pub fn registered(&self, owner: u16, key: u64) -> Option<u64> {
        let timer = Self::timer(owner, key);
        self.registered.get(timer).map(|_| timer)
    }

    /// Every timer that is registered, with its generation.
    pub fn all(&self) -> impl Iterator<Item = (u64, u32)> {
        self.registered.all()
    }

    /// How many are registered.
    pub fn len(&self) -> usize {
        self.registered.len()
    }

    /// True where none is registered.
    pub fn is_empty(&self) -> bool {
        self.registered.is_empty()
    }

    /// Saves what has changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        self.registered.save(saver);
    }

    /// Takes in what was saved of one key, in a table that has had no input yet.
    ///
    /// # Errors
    /// Where it cannot be read, or does not fit its key.
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
    fn cancel_frees_at_once() {
        let mut table = Table::default();
        for key in 0..100_000 {
            table.on(1, register(key, 1));
            assert_eq!(
                table.on(1, Deadline::Cancel { key }),
                Some(WheelChange::Disarm { timer: Table::timer(1, key) })
            );
        }
        assert!(table.is_empty());
    }

    #[test]
    fn owners_do_not_see_each_others_keys() {
        let mut table = Table::default();
        table.on(0, register(7, 1));
        table.on(1, register(7, 1));
        assert_eq!(table.on(0, Deadline::Cancel { key: 7 }), Some(WheelChange::Disarm { timer: 7 }));
        assert_eq!(table.passed(Table::timer(1, 7), 1), Some((1, TimedOut { key: 7, generation: 1 })));
    }

    #[test]
    fn a_timeout_of_an_older_generation_is_stale() {
        let mut table = Table::default();
        table.on(0, register(7, 1));
        table.on(0, register(7, 2));
        assert_eq!(table.passed(7, 1), None);
        assert_eq!(table.len(), 1);
        assert_eq!(table.passed(7, 2), Some((0, TimedOut { key: 7, generation: 2 })));
        assert_eq!(table.passed(7, 2), None, "twice is once");
    }
}
