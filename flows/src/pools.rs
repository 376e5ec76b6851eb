//! What is scarce is split by lane, never shared: lane `i` of `n` has the numbers that are `i` modulo `n`.

use std::collections::BTreeSet;

use hub::Kept;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use topology::{Saver, Stored, Unreadable};

use crate::registry::misfit;

/// Free numbers are saved in parts that stand for so many numbers each: even where every other one of them is free, a part is
/// 25 KB, and a change costs one part.
const PART: u64 = 4_096;

/// A lane has fewer numbers than this: no count of them is near its end.
const LARGEST: u64 = 1 << 48;

const FRESH: &str = "fresh";
const FREE: &str = "free";

/// Numbers that are taken and given back. Bounded; the smallest free one goes first.
#[derive(Debug, Clone)]
pub struct Pool {
    lane: u64,
    lanes: u64,
    /// Numbers run from 1 to this.
    last: u64,
    /// So many of the lane's numbers were taken at some time: the first of them.
    fresh: u64,
    /// How many of them are saved.
    saved_fresh: u64,
    /// Those of them that were given back, by their places in the lane.
    free: Kept<u64, Part>,
}

/// Free places of [`PART`] that follow each other; at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Part(BTreeSet<u64>);

impl Pool {
    /// The share of `lane` among `lanes` in the numbers from 1 to `last`.
    pub fn new(lane: u32, lanes: u32, last: u64) -> Self {
        let (lane, lanes) = (u64::from(lane), u64::from(lanes.max(1)));
        Self { lane, lanes, last, fresh: 0, saved_fresh: 0, free: Kept::default() }
    }

    /// The pool goes up to `last` from now on. What was taken above it stays taken.
    pub fn resize(&mut self, last: u64) {
        self.last = last;
    }

    /// The number at a place; none where there is no such number.
    fn number(&self, place: u64) -> Option<u64> {
        let first = if self.lane == 0 { self.lanes } else { self.lane };
        place.checked_mul(self.lanes)?.checked_add(first)
    }

    /// The place of a number; none where it is not of this pool, or was never taken.
    fn place(&self, number: u64) -> Option<u64> {
        let first = if self.lane == 0 { self.lanes } else { self.lane };
        let after = number.checked_sub(first).filter(|after| after % self.lanes == 0)?;
        Some(after / self.lanes).filter(|place| *place < self.fresh)
    }

    /// Takes a number; none where the share is used up.
    pub fn take(&mut self) -> Option<u64> {
        let free = self.free.first().and_then(|(part, Part(places))| Some((*part, *places.first()?)));
        if let Some((part, place)) = free
            && let Some(number) = self.number(place).filter(|number| *number <= self.last)
        {
            self.change(part, |Part(places)| places.remove(&place));
            return Some(number);
        }
        let number = self.number(self.fresh).filter(|number| *number <= self.last)?;
        self.fresh += 1;
        Some(number)
    }

    /// Gives a number back. One that is not of this pool, or not taken, is no fault.
    pub fn give_back(&mut self, number: u64) {
        if let Some(place) = self.place(number) {
            self.change(place / PART, |Part(places)| places.insert(place));
        }
    }

    /// Changes a part, which there is while it has places.
    fn change(&mut self, part: u64, change: impl FnOnce(&mut Part) -> bool) {
        if let Some(places) = self.free.get_mut(&part) {
            change(places);
            if places.0.is_empty() {
                self.free.remove(&part);
            }
        } else {
            let mut places = Part::default();
            change(&mut places);
            self.free.insert(part, places);
        }
    }

    /// True where this number is taken.
    pub fn is_taken(&self, number: u64) -> bool {
        let free = |place: u64| self.free.get(&(place / PART)).is_some_and(|Part(places)| places.contains(&place));
        self.place(number).is_some_and(|place| !free(place))
    }

    /// How many are taken.
    pub fn taken(&self) -> u64 {
        self.fresh - self.free.iter().map(|(_, Part(places))| places.len() as u64).sum::<u64>()
    }

    // ---- saved states -------------------------------------------------------------------------------------------------

    /// True where it has changed since it was saved.
    pub fn has_changed(&self) -> bool {
        self.fresh != self.saved_fresh || self.free.has_changed()
    }

    /// Saves what has changed since the last call.
    pub fn save(&mut self, saver: &mut Saver<'_>) {
        if self.fresh != self.saved_fresh {
            saver.put(FRESH, &self.fresh);
            self.saved_fresh = self.fresh;
        }
        self.free.save(&mut saver.part(FREE), u64::to_string);
    }

    /// Takes in the state of one key.
    ///
    /// # Errors
    /// Where it is none of a pool.
    pub fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if stored.key() == FRESH {
            self.fresh = stored.read()?;
            self.saved_fresh = self.fresh;
            return Ok(());
        }
        let Some(free) = stored.part(FREE) else { return Err(misfit(stored.key(), "a pool has no such key")) };
        let part = free.key().parse().ok().filter(|part: &u64| part.to_string() == free.key());
        let part = part.filter(|part| *part < LARGEST / PART);
        let part = part.ok_or_else(|| misfit(stored.key(), "a pool has no such part"))?;
        let places: Part = free.read()?;
        self.free.load(part, places);
        Ok(())
    }

    /// All was loaded. `name` is what the pool is called.
    ///
    /// # Errors
    /// Where what was loaded does not fit together.
    pub fn loaded(&self, name: &str) -> Result<(), Unreadable> {
        if self.fresh > LARGEST || self.number(self.fresh).is_none() {
            return Err(misfit(&format!("{name}/{FRESH}"), &format!("{} numbers of the lane", self.fresh)));
        }
        for (part, Part(places)) in self.free.iter() {
            let (from, to) = (part * PART, (part * PART + PART).min(self.fresh));
            let ours = |place: &u64| (from..to).contains(place);
            if places.is_empty() || !places.first().is_some_and(ours) || !places.last().is_some_and(ours) {
                let reason = format!("free is what was taken once, here {from} to {to}");
                return Err(misfit(&format!("{name}/{FREE}/{part}"), &reason));
            }
        }
        Ok(())
    }
}

impl Serialize for Part {
    /// As ranges, first and last: what is free lies together, since the smallest free number goes first.
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

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges: Vec<(u64, u64)> = Vec::deserialize(deserializer)?;
        let (mut next, mut count) = (0, 0);
        for (first, last) in &ranges {
            // Together they are a part at most, so that none fills the memory.
            count += last.saturating_sub(*first).min(PART) + 1;
            if *first < next || last < first || *last >= LARGEST || count > PART {
                return Err(D::Error::custom(format!("{first} to {last} is no range that follows")));
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
        assert!(pool.is_taken(1) && !pool.is_taken(3) && !pool.is_taken(4) && !pool.is_taken(7));
        assert_eq!([pool.take(), pool.take()], [Some(3), None]);
    }
}
