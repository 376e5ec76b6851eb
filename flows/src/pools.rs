//! What is scarce is split by lane, never shared: lane `i` of `n` has the numbers that are `i` modulo `n`.

use std::collections::BTreeSet;

/// Numbers that are taken and given back. Bounded; the smallest free one goes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    lane: u64,
    lanes: u64,
    /// Numbers run from 1 to this.
    last: u64,
    /// The next number that was never taken.
    fresh: u64,
    /// Numbers that were given back.
    free: BTreeSet<u64>,
}

impl Pool {
    /// The share of `lane` among `lanes` in the numbers from 1 to `last`.
    pub fn new(lane: u32, lanes: u32, last: u64) -> Self {
        let (lane, lanes) = (u64::from(lane), u64::from(lanes.max(1)));
        let fresh = if lane == 0 { lanes } else { lane };
        Self { lane, lanes, last, fresh, free: BTreeSet::new() }
    }

    /// The pool goes up to `last` from now on. What was taken above it stays taken.
    pub fn resize(&mut self, last: u64) {
        self.last = last;
    }

    /// Takes a number; none where the share is used up.
    pub fn take(&mut self) -> Option<u64> {
        if let Some(free) = self.free.first().copied().filter(|free| *free <= self.last) {
            self.free.remove(&free);
            return Some(free);
        }
        let taken = self.fresh;
        if taken > self.last {
            return None;
        }
        self.fresh += self.lanes;
        Some(taken)
    }

    /// Gives a number back. One that is not of this pool, or not taken, is no fault.
    pub fn give_back(&mut self, number: u64) {
        if number % self.lanes == self.lane % self.lanes && number < self.fresh && number > 0 {
            self.free.insert(number);
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> u64 {
        let begun = if self.lane == 0 { self.lanes } else { self.lane };
        (self.fresh - begun) / self.lanes - self.free.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_all_numbers_and_none_twice() {
        let mut all = BTreeSet::new();
        for lane in 0..4 {
            let mut pool = Pool::new(lane, 4, 10);
            while let Some(number) = pool.take() {
                assert_eq!(number % 4, u64::from(lane));
                assert!(all.insert(number), "{number} twice");
            }
        }
        assert_eq!(all, (1..=10).collect());
    }

    #[test]
    fn what_is_given_back_is_taken_again_and_only_once() {
        let mut pool = Pool::new(1, 2, 5);
        assert_eq!([pool.take(), pool.take(), pool.take(), pool.take()], [Some(1), Some(3), Some(5), None]);
        pool.give_back(3);
        pool.give_back(3);
        pool.give_back(4);
        pool.give_back(99);
        assert_eq!(pool.taken(), 2);
        assert_eq!([pool.take(), pool.take()], [Some(3), None]);
    }
}
