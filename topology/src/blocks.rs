//! A map from ids to values in blocks of neighbouring numbers, which are saved together.

use std::collections::BTreeMap;

/// A component's number, and a number in it.
pub(crate) type Id = (u16, u64);

/// A component's number, and the number of a block.
pub(crate) type BlockId = (u16, u64);

/// Numbers per block.
const BLOCK: u64 = 64;

/// Returns the block of a number.
pub(crate) fn block_of((component, number): Id) -> BlockId {
    (component, number / BLOCK)
}

/// A map in blocks. Live ids are numbered in order, so accesses hit the same blocks again. The tree
/// has one entry per 64 ids, and within a block the newest id is the last.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    /// No block is empty; each is sorted by number.
    blocks: BTreeMap<BlockId, Vec<(u64, T)>>,
    count: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: BTreeMap::new(), count: 0 }
    }
}

fn find<T>(block: &[(u64, T)], number: u64) -> Result<usize, usize> {
    match block.last() {
        Some((last, _)) if *last < number => Err(block.len()),
        _ => block.binary_search_by_key(&number, |(number, _)| *number),
    }
}

impl<T> Blocks<T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let block = self.blocks.get(&block_of(id))?;
        find(block, id.1).ok().map(|at| &block[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let block = self.blocks.get_mut(&block_of(id))?;
        find(block, id.1).ok().map(|at| &mut block[at].1)
    }

    /// Inserts a value and returns the previous one.
    pub(crate) fn insert(&mut self, id: Id, entry: T) -> Option<T> {
        let block = self.blocks.entry(block_of(id)).or_default();
        match find(block, id.1) {
            Ok(at) => Some(std::mem::replace(&mut block[at].1, entry)),
            Err(at) => {
                block.insert(at, (id.1, entry));
                self.count += 1;
                None
            }
        }
    }

    /// Removes a value. Returns it, and true if its block became empty.
    pub(crate) fn remove(&mut self, id: Id) -> Option<(T, bool)> {
        let number = block_of(id);
        let block = self.blocks.get_mut(&number)?;
        let (_, entry) = block.remove(find(block, id.1).ok()?);
        let is_gone = block.is_empty();
        if is_gone {
            self.blocks.remove(&number);
        }
        self.count -= 1;
        Some((entry, is_gone))
    }

    /// Returns the content of a block.
    pub(crate) fn block(&self, id: BlockId) -> Option<&[(u64, T)]> {
        self.blocks.get(&id).map(Vec::as_slice)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let blocks = self.blocks.iter().map(|((component, _), block)| (*component, block));
        blocks.flat_map(|(component, block)| block.iter().map(move |(number, entry)| ((component, *number), entry)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut T)> {
        let blocks = self.blocks.iter_mut().map(|((component, _), block)| (*component, block));
        blocks.flat_map(|(component, block)| block.iter_mut().map(move |(number, entry)| ((component, *number), entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares it with a plain map, with numbers in random order.
    #[test]
    fn blocks_behave_like_a_map() {
        let (mut blocks, mut map) = (Blocks::default(), BTreeMap::new());
        for i in 0..2_000_u64 {
            let id = (u16::from(i % 3 == 0), i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56);
            if i % 5 < 3 {
                assert_eq!(blocks.insert(id, i), map.insert(id, i));
            } else {
                assert_eq!(blocks.remove(id).map(|(entry, _)| entry), map.remove(&id));
            }
            assert_eq!((blocks.get(id), blocks.len()), (map.get(&id), map.len()));
        }
        assert_eq!(blocks.iter().collect::<Vec<_>>(), map.iter().map(|(id, entry)| (*id, entry)).collect::<Vec<_>>());
        assert!(map.len() > 100, "{}", map.len());
    }

    #[test]
    fn a_block_is_removed_with_its_last_entry() {
        let mut blocks = Blocks::default();
        assert_eq!((blocks.insert((1, 63), 'a'), blocks.insert((1, 64), 'b')), (None, None));
        assert_eq!(blocks.insert((1, 127), 'c'), None);
        assert_eq!(blocks.remove((1, 63)), Some(('a', true)));
        assert_eq!(blocks.remove((1, 64)), Some(('b', false)));
        assert_eq!((blocks.block((1, 0)), blocks.block((1, 1))), (None, Some(&[(127, 'c')][..])));
        *blocks.get_mut((1, 127)).unwrap() = 'd';
        assert_eq!(blocks.iter_mut().map(|(id, entry)| (id, *entry)).collect::<Vec<_>>(), [((1, 127), 'd')]);
    }
}
