//! The registered deadlines, and how they are saved: in blocks of neighbouring timers.
//!
//! Owners number their keys in order, so those that are registered together lie together: a hundred thousand deadlines are some two
//! thousand records. The key is the block's number, and the state a list of timers, each with its generation:
//! `"13194139533312": [[844424930131969, 1], [844424930131972, 3]]`.

use std::collections::BTreeMap;

use topology::{Changes, Saver, Stored, Unreadable};

/// The version of this form. A golden file holds it fast: another form is a new version, and reads this one too.
pub(crate) const FORM: u32 = 1;

/// A block has so many timers, as a power of two: 64. A change writes the block anew, which is 1.5 KB where it is full.
const BLOCK_BITS: u32 = 6;

/// Timers in ascending order, each with its generation.
type Block = Vec<(u64, u32)>;

/// Each deadline that is registered. It changes through [`Registered::insert`] and [`Registered::remove`] alone, which mark what is to be
/// saved.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// None is empty.
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

    /// True where it was registered.
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

    /// All of them, each with its generation.
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

    /// Takes in one block.
    pub(crate) fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if stored.version() != FORM {
            return Err(misfit(stored, &format!("its version is {}, and this build reads {FORM}", stored.version())));
        }
        let number = stored.key().parse().ok().filter(|number: &u64| number.to_string() == stored.key());
        let Some(number) = number.filter(|number| *number <= u64::MAX >> BLOCK_BITS) else {
            return Err(misfit(stored, "it is not the number of a block"));
        };
        let block: Block = stored.read()?;
        if block.is_empty() {
            return Err(misfit(stored, "it is empty"));
        }
        if let Some((timer, _)) = block.iter().find(|(timer, _)| block_of(*timer) != number) {
            return Err(misfit(stored, &format!("timer {timer} is of another block")));
        }
        if !block.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(misfit(stored, "its timers are not in ascending order"));
        }
        if self.blocks.insert(number, block).is_some() {
            return Err(misfit(stored, "it came twice"));
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

fn misfit(stored: &Stored<'_>, why: &str) -> Unreadable {
    let key: String = stored.key().chars().take(Unreadable::SHOWN / 2).collect();
    Unreadable(format!("saved `{key}` does not fit: {why}"))
}
