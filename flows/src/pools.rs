//! Pools of numbers, split by lane and never shared: lane `i` of `n` has the numbers that are `i`
//! modulo `n`.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use topology::{Saver, StateMap, Stored, Unreadable};

use crate::registry::inconsistent;

/// Free numbers are saved in parts that cover this many numbers each. Even if every other number of
/// a part is free, it has 25 KB, and a change saves one part.
const RANGE: u64 = 4_096;

/// Upper bound of the count of numbers of a lane: far below any overflow.
const MAX_COUNT: u64 = 1 << 48;

const FRESH: &str = "fresh";
const FREE: &str = "free";

/// A bounded pool of numbers. The smallest free number is taken first.
#[derive(Debug, Clone)]
pub struct Pool {
    lane: u64,
    lanes: u64,
    /// The pool has the numbers from 1 to this.
    last: u64,
    /// Count of numbers of the lane that were ever taken: the first ones.
    fresh: u64,
    /// The saved value of `fresh`.
    saved_fresh: u64,
    /// Those of them that were given back, by their index in the lane.
    free: StateMap<u64, FreeRange>,
}

/// Free indexes of one range of [`RANGE`]; at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FreeRange(BTreeSet<u64>);

impl Pool {
    /// The share of `lane` among `lanes` in the numbers from 1 to `last`.
    pub fn new(lane: u32, lanes: u32, last: u64) -> Self {
        let (lane, lanes) = (u64::from(lane), u64::from(lanes.max(1)));
        Self { lane, lanes, last, fresh: 0, saved_fresh: 0, free: StateMap::default() }
    }

    /// Changes the last number. Taken numbers above it stay taken.
    pub fn resize(&mut self, last: u64) {
        self.last = last;
    }

    /// The number at an index of the lane; none if it overflows.
    fn number(&self, place: u64) -> Option<u64> {
        let first = if self.lane == 0 { self.lanes } else { self.lane };
        place.checked_mul(self.lanes)?.checked_add(first)
    }

    /// The index of a number; none if it is not in this pool, or was never taken.
    fn place(&self, number: u64) -> Option<u64> {
        let first = if self.lane == 0 { self.lanes } else { self.lane };
        let after = number.checked_sub(first).filter(|after| after % self.lanes == 0)?;
        Some(after / self.lanes).filter(|place| *place < self.fresh)
    }

    /// Takes a number; none if the share is used up.
    pub fn take(&mut self) -> Option<u64> {
        let free = self.free.first().and_then(|(part, FreeRange(places))| Some((*part, *places.first()?)));
        if let Some((part, place)) = free
            && let Some(number) = self.number(place).filter(|number| *number <= self.last)
        {
            self.change(part, |FreeRange(places)| places.remove(&place));
            return Some(number);
        }
        let number = self.number(self.fresh).filter(|number| *number <= self.last)?;
        self.fresh += 1;
        Some(number)
    }

    /// Gives a number back. Ignores numbers that are not in this pool or not taken.
    pub fn give_back(&mut self, number: u64) {
        if let Some(place) = self.place(number) {
            self.change(place / RANGE, |FreeRange(places)| places.insert(place));
        }
    }

    /// Changes a part, which exists only while it has free indexes.
    fn change(&mut self, part: u64, change: impl FnOnce(&mut FreeRange) -> bool) {
        if let Some(places) = self.free.get_mut(&part) {
            change(places);
            if places.0.is_empty() {
                self.free.remove(&part);
            }
        } else {
            let mut places = FreeRange::default();
            change(&mut places);
            self.free.insert(part, places);
        }
    }

    /// True if this number is taken.
    pub fn is_taken(&self, number: u64) -> bool {
        let free =
            |place: u64| self.free.get(&(place / RANGE)).is_some_and(|FreeRange(places)| places.contains(&place));
        self.place(number).is_some_and(|place| !free(place))
    }

    /// Count of taken numbers.
    pub fn taken(&self) -> u64 {
        self.fresh - self.free.iter().map(|(_, FreeRange(places))| places.len() as u64).sum::<u64>()
    }

    // ---- saved states ------------------------------------------------------------------------------

    /// True if it has changed since the last save.
    pub fn has_changed(&self) -> bool {
        self.fresh != self.saved_fresh || self.free.has_changed()
    }

    /// Saves the changes since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        if self.fresh != self.saved_fresh {
            saver.put(FRESH, &self.fresh);
            self.saved_fresh = self.fresh;
        }
        self.free.save(&mut saver.part(FREE), u64::to_string);
    }

    /// Loads the state of one key.
    ///
    /// # Errors
    /// If the key or its value is not one of a pool.
    pub fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if stored.key() == FRESH {
            self.fresh = stored.read()?;
            self.saved_fresh = self.fresh;
            return Ok(());
        }
        let Some(free) = stored.part(FREE) else { return Err(inconsistent(stored.key(), "a pool has no such key")) };
        let part = free.key().parse().ok().filter(|part: &u64| part.to_string() == free.key());
        let part = part.filter(|part| *part < MAX_COUNT / RANGE);
        let part = part.ok_or_else(|| inconsistent(stored.key(), "a pool has no such part"))?;
        let places: FreeRange = free.read()?;
        self.free.load(part, places);
        Ok(())
    }

    /// Checks the loaded state. `name` is the name of the pool.
    ///
    /// # Errors
    /// If the loaded keys do not fit together.
    pub fn loaded(&self, name: &str) -> Result<(), Unreadable> {
        if self.fresh > MAX_COUNT || self.number(self.fresh).is_none() {
            return Err(inconsistent(&format!("{name}/{FRESH}"), &format!("{} numbers of the lane", self.fresh)));
        }
        for (part, FreeRange(places)) in self.free.iter() {
            let (from, to) = (part * RANGE, (part * RANGE + RANGE).min(self.fresh));
            let ours = |place: &u64| (from..to).contains(place);
            if places.is_empty() || !places.first().is_some_and(ours) || !places.last().is_some_and(ours) {
                let reason = format!("free indexes must have been taken before, here {from} to {to}");
                return Err(inconsistent(&format!("{name}/{FREE}/{part}"), &reason));
            }
        }
        Ok(())
    }
}

impl Serialize for FreeRange {
    /// As ranges, first and last: the smallest free number is taken first, so free numbers are
    /// mostly adjacent.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for place in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *place => *last = *place,
                Some(_) | None => ranges.push((*place, *place)),
            }
        }
        ranges.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FreeRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges: Vec<(u64, u64)> = Vec::deserialize(deserializer)?;
        let (mut next, mut count) = (0, 0);
        for (first, last) in &ranges {
            // Together at most one part, so that corrupt data cannot fill the memory.
            count += last.saturating_sub(*first).min(RANGE) + 1;
            if *first < next || last < first || *last >= MAX_COUNT || count > RANGE {
                return Err(D::Error::custom(format!("{first} to {last} is not a valid next range")));
            }
            next = last + 2;
        }
        Ok(Self(ranges.into_iter().flat_map(|(first, last)| first..=last).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_all_numbers_without_duplicates() {
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
    fn a_returned_number_is_taken_again_only_once() {
        let mut pool = Pool::new(1, 2, 5);
        assert_eq!([pool.take(), pool.take(), pool.take(), pool.take()], [Some(1), Some(3), Some(5), None]);
        pool.give_back(3);
        pool.give_back(3);
        pool.give_back(4);
        pool.give_back(99);
        assert_eq!(pool.taken(), 2);
        assert!(pool.is_taken(1) && !pool.is_taken(3) && !pool.is_taken(4) && !pool.is_taken(7));
        assert_eq!([pool.take(), pool.take()], [Some(3), None]);
    }
}
