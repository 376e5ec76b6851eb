//! A hierarchical timing wheel: inserts, cancels and fires any number of deadlines in constant time.
//!
//! Pure code: the caller counts time in ticks (milliseconds, in a lane). The scheme is the sixth of
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987): eleven levels of 64 slots,
//! each level 64 times coarser than the one below, which covers every `u64` tick. A bitmap per
//! level finds the next occupied slot without a scan.
//!
//! ```
//! use topology::wheel::Wheel;
//! let mut wheel = Wheel::new(0);
//! let late = wheel.insert(5_000, "late");
//! wheel.insert(10, "a");
//! wheel.insert(10, "b");
//! let mut fired = Vec::new();
//! wheel.advance(9, |what| fired.push(what));
//! assert!(fired.is_empty());                    // never early
//! wheel.advance(10, |what| fired.push(what));
//! assert_eq!(fired, ["a", "b"]);                // all of one instant
//! assert_eq!(wheel.cancel(late), Some("late")); // and freed at once
//! assert_eq!(wheel.next(), None);
//! ```

use std::ops::{Index, IndexMut};

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 11;
const NONE: u32 = u32::MAX;

/// Identifies a deadline of a wheel. The version detects a handle whose place was reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    index: u32,
    version: u32,
}

#[derive(Debug)]
struct Deadline<T> {
    due: u64,
    /// `None` if the place is free.
    value: Option<T>,
    slot: u16,
    version: u32,
    next: u32,
    previous: u32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// Deadlines by index, in blocks that never move: growth copies no existing deadline.
#[derive(Debug)]
struct Deadlines<T>(Vec<Vec<Deadline<T>>>);

impl<T> Deadlines<T> {
    /// Deadlines per block: 12 KiB in a lane's wheel.
    const BLOCK: usize = 256;

    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * Self::BLOCK + last.len())
    }

    fn get(&self, index: u32) -> Option<&Deadline<T>> {
        self.0.get(index as usize / Self::BLOCK)?.get(index as usize % Self::BLOCK)
    }

    fn push(&mut self, deadline: Deadline<T>) {
        match self.0.last_mut() {
            Some(last) if last.len() < Self::BLOCK => last.push(deadline),
            _full_or_none => {
                let mut block = Vec::with_capacity(Self::BLOCK);
                block.push(deadline);
                self.0.push(block);
            }
        }
    }
}

impl<T> Index<u32> for Deadlines<T> {
    type Output = Deadline<T>;
    fn index(&self, index: u32) -> &Deadline<T> {
        &self.0[index as usize / Self::BLOCK][index as usize % Self::BLOCK]
    }
}

impl<T> IndexMut<u32> for Deadlines<T> {
    fn index_mut(&mut self, index: u32) -> &mut Deadline<T> {
        &mut self.0[index as usize / Self::BLOCK][index as usize % Self::BLOCK]
    }
}

/// The wheel. `T` is the value that a deadline returns when it passes.
#[derive(Debug)]
pub struct Wheel<T> {
    now: u64,
    deadlines: Deadlines<T>,
    free: u32,
    slots: Vec<List>,
    occupied: [u64; LEVELS],
    len: usize,
}

impl<T> Wheel<T> {
    /// Returns an empty wheel at tick `now`.
    pub fn new(now: u64) -> Self {
        Self {
            now,
            deadlines: Deadlines(Vec::new()),
            free: NONE,
            slots: vec![List { first: NONE, last: NONE }; SLOTS * LEVELS],
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// Returns the number of pending deadlines.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no deadline is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a deadline at tick `due`. A deadline in the past fires at the next [`Wheel::advance`].
    ///
    /// # Panics
    /// With 2^32 - 1 deadlines, which would take 200 GB.
    pub fn insert(&mut self, due: u64, value: T) -> Handle {
        let index = self.free;
        let index = if index == NONE {
            let index = u32::try_from(self.deadlines.len()).ok().filter(|index| *index != NONE);
            let index = index.expect("fewer than 2^32 - 1 deadlines");
            self.deadlines.push(Deadline { due, value: Some(value), slot: 0, version: 0, next: NONE, previous: NONE });
            index
        } else {
            let deadline = &mut self.deadlines[index];
            self.free = deadline.next;
            deadline.due = due;
            deadline.value = Some(value);
            index
        };
        self.len += 1;
        self.link(index);
        Handle { index, version: self.deadlines[index].version }
    }

    /// Removes a deadline and returns its value; `None` if it has fired or was cancelled.
    pub fn cancel(&mut self, handle: Handle) -> Option<T> {
        let deadline = self.deadlines.get(handle.index)?;
        if deadline.version != handle.version || deadline.value.is_none() {
            return None;
        }
        self.unlink(handle.index);
        self.release(handle.index)
    }

    /// Returns the tick at which [`Wheel::advance`] next has work; `None` if nothing is pending.
    ///
    /// It is never later than the next deadline. It may be earlier by less than the span of a slot
    /// of its level: the deadlines of that slot then move to a finer level. A deadline an hour away
    /// causes at most three such wake-ups.
    pub fn next(&self) -> Option<u64> {
        (0..LEVELS).filter_map(|level| self.next_in(level)).min()
    }

    /// Advances time to `now` and passes each due value to `fire`: earlier ticks first, and within
    /// a tick in the order of insertion into its slot. A `now` in the past does not move time back.
    pub fn advance(&mut self, now: u64, mut fire: impl FnMut(T)) {
        while let Some(tick) = self.next().filter(|tick| *tick <= now) {
            self.now = self.now.max(tick);
            // Coarse levels first, so that their deadlines for this tick are in level 0 when it is
            // emptied.
            for level in (0..LEVELS).rev() {
                if self.next_in(level).is_some_and(|next| next <= self.now) {
                    self.empty_slot(level, &mut fire);
                }
            }
        }
        self.now = self.now.max(now);
    }

    /// Returns the start of the next occupied slot of a level.
    fn next_in(&self, level: usize) -> Option<u64> {
        let bits = self.occupied[level];
        if bits == 0 {
            return None;
        }
        let shift = BITS * u32::try_from(level).expect("eleven levels");
        let here = self.now >> shift;
        let position = u32::try_from(here % SLOTS as u64).expect("below 64");
        let ahead = bits.rotate_right(position).trailing_zeros();
        Some(((here + u64::from(ahead)) << shift).max(self.now))
    }

    fn empty_slot(&mut self, level: usize, fire: &mut impl FnMut(T)) {
        let shift = BITS * u32::try_from(level).expect("eleven levels");
        let slot = level * SLOTS + usize::try_from((self.now >> shift) % SLOTS as u64).expect("below 64");
        let mut index = self.slots[slot].first;
        self.slots[slot] = List { first: NONE, last: NONE };
        self.occupied[level] &= !(1 << (slot % SLOTS));
        while index != NONE {
            let next = self.deadlines[index].next;
            if self.deadlines[index].due <= self.now {
                fire(self.release(index).expect("linked deadlines hold a value"));
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    /// Links a deadline into its slot, relative to the current tick.
    fn link(&mut self, index: u32) {
        let due = self.deadlines[index].due.max(self.now);
        // The highest bit in which due and now differ gives the level.
        let distance = due ^ self.now;
        let level = if distance == 0 { 0 } else { (distance.ilog2() / BITS) as usize };
        let shift = BITS * u32::try_from(level).expect("eleven levels");
        let slot = level * SLOTS + usize::try_from((due >> shift) % SLOTS as u64).expect("below 64");
        let list = &mut self.slots[slot];
        let last = std::mem::replace(&mut list.last, index);
        if last == NONE {
            list.first = index;
        } else {
            self.deadlines[last].next = index;
        }
        let deadline = &mut self.deadlines[index];
        deadline.next = NONE;
        deadline.previous = last;
        deadline.slot = u16::try_from(slot).expect("704 slots");
        self.occupied[level] |= 1 << (slot % SLOTS);
    }

    fn unlink(&mut self, index: u32) {
        let Deadline { slot, next, previous, .. } = self.deadlines[index];
        let slot = usize::from(slot);
        if previous == NONE {
            self.slots[slot].first = next;
        } else {
            self.deadlines[previous].next = next;
        }
        if next == NONE {
            self.slots[slot].last = previous;
        } else {
            self.deadlines[next].previous = previous;
        }
        if self.slots[slot].first == NONE {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let deadline = &mut self.deadlines[index];
        deadline.version = deadline.version.wrapping_add(1);
        deadline.next = free;
        self.free = index;
        self.len -= 1;
        deadline.value.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let far = prop_oneof![0..70_u64, 0..5_000_u64, 0..20_000_000_u64, 0..u64::MAX / 1_000];
        prop_oneof![
            4 => far.clone().prop_map(Op::Insert),
            2 => any::<usize>().prop_map(Op::Cancel),
            3 => far.prop_map(Op::Advance),
        ]
    }

    proptest! {
        /// Compares the wheel with a sorted map, deadline by deadline.
        #[test]
        fn the_wheel_does_what_a_sorted_map_does(start in 0..1_000_000_u64, ops in prop::collection::vec(op(), 1..200)) {
            let mut wheel = Wheel::new(start);
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            let mut handles = Vec::new();
            let mut now = start;
            for op in ops {
                match op {
                    Op::Insert(after) => {
                        model.insert(handles.len(), now + after);
                        handles.push(wheel.insert(now + after, handles.len()));
                    }
                    Op::Cancel(which) if !handles.is_empty() => {
                        let which = which % handles.len();
                        prop_assert_eq!(wheel.cancel(handles[which]), model.remove(&which).map(|_| which));
                    }
                    Op::Cancel(_) => {}
                    Op::Advance(ticks) => {
                        now += ticks;
                        let mut fired = Vec::new();
                        wheel.advance(now, |which| fired.push(which));
                        let dues: Vec<u64> = fired.iter().map(|which| model[which]).collect();
                        prop_assert!(dues.is_sorted(), "earlier ticks first: {dues:?}");
                        fired.sort_unstable();
                        let expected: Vec<usize> = model.iter().filter(|(_, due)| **due <= now).map(|(which, _)| *which).collect();
                        prop_assert_eq!(&fired, &expected);
                        model.retain(|_, due| *due > now);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.values().min();
                prop_assert_eq!(wheel.next().is_some(), earliest.is_some());
                if let (Some(next), Some(earliest)) = (wheel.next(), earliest) {
                    prop_assert!(next <= *earliest, "woken in time");
                }
            }
        }
    }

    /// Lessons 1 and 2: all deadlines of one instant fire.
    #[test]
    fn any_number_of_deadlines_in_one_instant_all_fire() {
        let mut wheel = Wheel::new(0);
        for i in 0..1_000 {
            wheel.insert(100, i);
        }
        let mut fired = Vec::new();
        wheel.advance(100, |i| fired.push(i));
        assert_eq!(fired, (0..1_000).collect::<Vec<_>>());
    }

    /// Lesson 4.
    #[test]
    fn cancelled_deadlines_leave_nothing_behind() {
        let mut wheel = Wheel::new(0);
        for i in 0..100_000_u64 {
            let handle = wheel.insert(1_000 + i, i);
            assert_eq!(wheel.cancel(handle), Some(i));
        }
        assert!(wheel.is_empty());
        assert_eq!(wheel.deadlines.len(), 1, "the place is reused");
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_handle_of_a_reused_place_cancels_nothing() {
        let mut wheel = Wheel::new(0);
        let old = wheel.insert(5, "old");
        assert_eq!(wheel.cancel(old), Some("old"));
        wheel.insert(6, "new");
        assert_eq!(wheel.cancel(old), None);
        assert_eq!(wheel.len(), 1);
    }
}
