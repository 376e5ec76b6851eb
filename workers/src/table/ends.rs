//! How the newest calls ended: a ring, so that forgetting the oldest writes nothing of its own.
//!
//! The end with the running number `n`, from 0, has the place `n` modulo 4,096, and 64 places are a block. The key is `ended/` and the
//! number of the block, and the state a list of calls, each with whether its spoke had answered: `[["op-1/1/1", true], ["op-1/1/2", false]]`.

use std::collections::{BTreeMap, VecDeque};

use topology::{Changes, Saver, Unreadable};
use wire::CallId;

use super::saved::misfit;

/// So many ends are remembered: what comes later than 4,096 other calls is called unknown, and is as harmless.
const REMEMBERED: u64 = 4_096;

/// So many are written anew for one that is new: some 3 KB.
const BLOCK: u64 = 64;

/// A call, and whether the spoke had answered.
pub(super) type End = (CallId, bool);

#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Oldest first.
    newest: VecDeque<End>,
    /// How many there ever were: the number of the next.
    count: u64,
    /// The blocks.
    changes: Changes<u64>,
}

impl Ends {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Those that are remembered, each with how to learn the key that it is saved under.
    pub(super) fn newest(&self) -> impl Iterator<Item = (impl Fn() -> String, &End)> {
        let first = self.count.saturating_sub(REMEMBERED);
        (first..).zip(&self.newest).map(|(number, end)| (move || key(block_of(number)), end))
    }

    /// Remembers an end; gives the one that is forgotten for it.
    pub(super) fn push(&mut self, end: End) -> Option<End> {
        self.changes.changed(&block_of(self.count));
        self.newest.push_back(end);
        self.count += 1;
        if self.count > REMEMBERED { self.newest.pop_front() } else { None }
    }

    pub(super) fn save(&mut self, saver: &mut Saver<'_>) {
        let Self { newest, count, changes } = self;
        changes.save(saver, |block| key(*block), |block| Some(in_block(newest, *count, *block)));
    }

    /// Joins the blocks that were saved when there had been `count` ends.
    pub(super) fn loaded(count: u64, blocks: BTreeMap<u64, Vec<End>>) -> Result<Self, Unreadable> {
        let remembered = count.min(REMEMBERED);
        if let Some(missing) = (0..remembered.div_ceil(BLOCK)).find(|block| !blocks.contains_key(block)) {
            return Err(misfit(&key(missing), format!("it is missing, and `table` knows of {count} ends")));
        }
        let mut ends = Self { newest: VecDeque::new(), count, changes: Changes::default() };
        for (block, saved) in blocks {
            let expected = remembered.saturating_sub(block.saturating_mul(BLOCK)).min(BLOCK);
            if expected == 0 || u64::try_from(saved.len()) != Ok(expected) {
                let has = saved.len();
                return Err(misfit(&key(block), format!("it has {has} ends, and should have {expected} of {count}")));
            }
            ends.newest.extend(saved);
            ends.changes.loaded(block);
        }
        ends.newest.rotate_left(place_of_oldest(count));
        Ok(ends)
    }
}

fn key(block: u64) -> String {
    format!("ended/{block}")
}

/// The block that an end with this running number lies in.
fn block_of(number: u64) -> u64 {
    number % REMEMBERED / BLOCK
}

/// Where the oldest that is remembered lies in the ring.
fn place_of_oldest(count: u64) -> usize {
    let oldest = count.saturating_sub(REMEMBERED) % REMEMBERED;
    usize::try_from(oldest).expect("it is below 4,096")
}

/// What a block holds, in the order of its places.
fn in_block(newest: &VecDeque<End>, count: u64, block: u64) -> Vec<&End> {
    let ring = usize::try_from(REMEMBERED).expect("it is 4,096");
    let places = (block * BLOCK..(block + 1) * BLOCK).filter_map(|place| usize::try_from(place).ok());
    // By how far it lies from the oldest: as long as the ring is not full, a place beyond them has no end.
    places.filter_map(|place| newest.get((place + ring - place_of_oldest(count)) % ring)).collect()
}
