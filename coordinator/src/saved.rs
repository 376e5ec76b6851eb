//! The registered deadlines, saved in blocks of neighbouring timers.
//!
//! Owners number their keys in order, so deadlines that are registered together are neighbours: a
//! hundred thousand deadlines take about two thousand records. The key is the number of the block;
//! the state is a list of timers, each with its generation: `"13194139533312": [[844424930131969,
//! 1], [844424930131972, 3]]`.

use std::collections::BTreeMap;

use topology::{Changes, Saver, Stored, Unreadable};

/// The schema version. A golden file guards it: another schema needs a new version, which also
/// reads this one.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The number of timers per block as a power of two: 64. A change rewrites the block: 1.5 KB if it
/// is full.
const BLOCK_BITS: u32 = 6;

/// Timers in ascending order, each with its generation.
type Block = Vec<(u64, u32)>;

/// The registered deadlines. Only [`Registered::insert`] and [`Registered::remove`] change them,
/// and mark the changed blocks.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// No block is empty.
    blocks: BTreeMap<u64, Block>,
    changes: Changes<u64>,
}

impl Registered {
    pub(crate) fn get(&self, timer: u64) -> Option<u32> {
        let block = self.blocks.get(&block_of(timer))?;
        find(block, timer).ok().map(|at| block[at].1)
    }

    pub(crate) fn insert(&mut self, timer: u64, generation: u32) {
        let number = block_of(timer);
        let block = self.blocks.entry(number).or_default();
        match find(block, timer) {
            Ok(at) => block[at].1 = generation,
            Err(at) => block.insert(at, (timer, generation)),
        }
        self.changes.changed(&number);
    }

    /// Returns true if the timer was registered.
    pub(crate) fn remove(&mut self, timer: u64) -> bool {
        let number = block_of(timer);
        let Some(block) = self.blocks.get_mut(&number) else { return false };
        let Ok(at) = find(block, timer) else { return false };
        block.remove(at);
        if block.is_empty() {
            self.blocks.remove(&number);
            self.changes.gone(&number);
        } else {
            self.changes.changed(&number);
        }
        true
    }

    /// Iterates over all timers, each with its generation.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u32)> {
        self.blocks.values().flatten().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.values().map(Vec::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(crate) fn save(&mut self, saver: &mut Saver<'_>) {
        self.changes.save(saver, u64::to_string, |number| self.blocks.get(number));
    }

    /// Loads one block.
    pub(crate) fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if stored.version() != SCHEMA_VERSION {
            return Err(inconsistent(
                stored,
                &format!("its version is {}; this build reads {SCHEMA_VERSION}", stored.version()),
            ));
        }
        let number = stored.key().parse().ok().filter(|number: &u64| number.to_string() == stored.key());
        let Some(number) = number.filter(|number| *number <= u64::MAX >> BLOCK_BITS) else {
            return Err(inconsistent(stored, "it is not a block number"));
        };
        let block: Block = stored.read()?;
        if block.is_empty() {
            return Err(inconsistent(stored, "it is empty"));
        }
        if let Some((timer, _)) = block.iter().find(|(timer, _)| block_of(*timer) != number) {
            return Err(inconsistent(stored, &format!("timer {timer} belongs to another block")));
        }
        if !block.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(inconsistent(stored, "its timers are not in ascending order"));
        }
        if self.blocks.insert(number, block).is_some() {
            return Err(inconsistent(stored, "it was loaded twice"));
        }
        self.changes.loaded(number);
        Ok(())
    }
}

fn block_of(timer: u64) -> u64 {
    timer >> BLOCK_BITS
}

fn find(block: &Block, timer: u64) -> Result<usize, usize> {
    block.binary_search_by_key(&timer, |(timer, _)| *timer)
}

fn inconsistent(stored: &Stored<'_>, why: &str) -> Unreadable {
    let key: String = stored.key().chars().take(Unreadable::MAX_CHARS / 2).collect();
    Unreadable(format!("saved `{key}` is inconsistent: {why}"))
}
