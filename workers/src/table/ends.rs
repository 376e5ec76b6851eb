//! The outcomes of the latest calls: a ring, so that forgetting the oldest needs no write.
//!
//! The outcome with the sequence number `n`, from 0, has the place `n` modulo 4,096. 64 places form
//! a block, saved under `ended/<block>` as a list of calls, each with whether its spoke had
//! answered: `[["op-1/1/1", true], ["op-1/1/2", false]]`.

use std::collections::{BTreeMap, VecDeque};

use topology::{Changes, Saver, Unreadable};
use wire::CallId;

use super::saved::inconsistent;

/// Number of remembered outcomes. An answer that arrives after 4,096 more calls have ended counts
/// as unknown, which is as harmless.
const REMEMBERED: u64 = 4_096;

/// Places per block. A new outcome rewrites its block: about 3 KB.
const PLACES_PER_BLOCK: u64 = 64;

/// A call, and whether the spoke had answered.
pub(super) type End = (CallId, bool);

#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Oldest first.
    newest: VecDeque<End>,
    /// The number of outcomes ever; the sequence number of the next one.
    count: u64,
    /// Changed blocks.
    changes: Changes<u64>,
}

impl Ends {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Iterates over the remembered outcomes, each with a function that returns the key it is saved
    /// under.
    pub(super) fn newest(&self) -> impl Iterator<Item = (impl Fn() -> String, &End)> {
        let first = self.count.saturating_sub(REMEMBERED);
        (first..).zip(&self.newest).map(|(number, end)| (move || key(block_of(number)), end))
    }

    /// Adds an outcome and returns the one that is forgotten for it.
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

    /// Joins the blocks that were saved after `count` outcomes.
    pub(super) fn loaded(count: u64, blocks: BTreeMap<u64, Vec<End>>) -> Result<Self, Unreadable> {
        let remembered = count.min(REMEMBERED);
        if let Some(missing) = (0..remembered.div_ceil(PLACES_PER_BLOCK)).find(|block| !blocks.contains_key(block)) {
            return Err(inconsistent(&key(missing), format!("it is missing; `table` counts {count} ends")));
        }
        let mut ends = Self { newest: VecDeque::new(), count, changes: Changes::default() };
        for (block, saved) in blocks {
            let expected = remembered.saturating_sub(block.saturating_mul(PLACES_PER_BLOCK)).min(PLACES_PER_BLOCK);
            if expected == 0 || u64::try_from(saved.len()) != Ok(expected) {
                let has = saved.len();
                return Err(inconsistent(
                    &key(block),
                    format!("it has {has} ends; expected are {expected} of {count}"),
                ));
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

/// Returns the block of the outcome with this sequence number.
fn block_of(number: u64) -> u64 {
    number % REMEMBERED / PLACES_PER_BLOCK
}

/// Returns the place of the oldest remembered outcome in the ring.
fn place_of_oldest(count: u64) -> usize {
    let oldest = count.saturating_sub(REMEMBERED) % REMEMBERED;
    usize::try_from(oldest).expect("it is below 4,096")
}

/// Returns the outcomes of a block in the order of their places.
fn in_block(newest: &VecDeque<End>, count: u64, block: u64) -> Vec<&End> {
    let ring = usize::try_from(REMEMBERED).expect("it is 4,096");
    let places =
        (block * PLACES_PER_BLOCK..(block + 1) * PLACES_PER_BLOCK).filter_map(|place| usize::try_from(place).ok());
    // Index by distance from the oldest. While the ring is not full, the places beyond the newest
    // are empty.
    places.filter_map(|place| newest.get((place + ring - place_of_oldest(count)) % ring)).collect()
}
