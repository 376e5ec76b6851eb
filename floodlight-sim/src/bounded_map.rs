//! A map that keeps its newest entries, to bound the memory.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most `bound` entries; the oldest leaves first. Entries are numbered in the order of
/// insertion.
#[derive(Debug)]
pub(crate) struct BoundedMap<K, V> {
    bound: usize,
    entries: HashMap<K, (u64, V)>,
    order: VecDeque<(u64, K)>,
    last: u64,
}

/// The result of an insertion.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The number of the entry: a new one, or that of the replaced entry.
    pub(crate) number: u64,
    /// The number of the entry that was removed for it.
    pub(crate) forgotten: Option<u64>,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { bound, entries: HashMap::new(), order: VecDeque::new(), last: 0 }
    }

    /// Inserts `value` under `key`. An existing key keeps its age.
    pub(crate) fn put(&mut self, key: K, value: V) -> Placed {
        if let Some((number, existing)) = self.entries.get_mut(&key) {
            *existing = value;
            return Placed { number: *number, forgotten: None };
        }
        let number = self.last + 1;
        self.restore(number, key, value);
        let oldest = if self.order.len() > self.bound { self.order.pop_front() } else { None };
        let forgotten = oldest.map(|(number, oldest)| {
            self.entries.remove(&oldest);
            number
        });
        Placed { number, forgotten }
    }

    /// Restores an entry under its stored number. Entries must come in the order of their numbers.
    pub(crate) fn restore(&mut self, number: u64, key: K, value: V) {
        self.last = number;
        self.order.push_back((number, key.clone()));
        self.entries.insert(key, (number, value));
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_leaves_when_the_map_is_full() {
        let mut map = BoundedMap::new(2);
        let placed: Vec<_> = ["a", "b", "a", "c"].map(|key| map.put(key, key)).into();
        assert_eq!([map.get(&"a"), map.get(&"b"), map.get(&"c")], [None, Some(&"b"), Some(&"c")]);
        let numbers: Vec<_> = placed.into_iter().map(|placed| (placed.number, placed.forgotten)).collect();
        assert_eq!(numbers, [(1, None), (2, None), (1, None), (3, Some(1))]);
    }

    #[test]
    fn restored_entries_keep_their_order() {
        let mut map = BoundedMap::new(2);
        map.restore(5, "a", 1);
        map.restore(9, "b", 2);
        assert_eq!(map.put("c", 3), Placed { number: 10, forgotten: Some(5) });
    }
}
