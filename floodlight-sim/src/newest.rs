//! A map that keeps its newest entries, so that what is remembered has a bound.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most `bound` entries; the one that was put in first goes first. Each has a number, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Newest<K, V> {
    bound: usize,
    entries: HashMap<K, (u64, V)>,
    order: VecDeque<(u64, K)>,
    last: u64,
}

/// Where an entry was put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its number: a new one, or that of the entry in whose place it is.
    pub(crate) number: u64,
    /// The number of the entry that had to go for it.
    pub(crate) forgotten: Option<u64>,
}

impl<K: Clone + Eq + Hash, V> Newest<K, V> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { bound, entries: HashMap::new(), order: VecDeque::new(), last: 0 }
    }

    /// Puts `value` under `key`. A key that is known keeps its age.
    pub(crate) fn put(&mut self, key: K, value: V) -> Placed {
        if let Some((number, known)) = self.entries.get_mut(&key) {
            *known = value;
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

    /// Puts an entry back under the number that it had. They come in the order of their numbers.
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
    fn the_oldest_entry_goes_when_there_is_one_too_many() {
        let mut map = Newest::new(2);
        let placed: Vec<_> = ["a", "b", "a", "c"].map(|key| map.put(key, key)).into();
        assert_eq!([map.get(&"a"), map.get(&"b"), map.get(&"c")], [None, Some(&"b"), Some(&"c")]);
        let numbers: Vec<_> = placed.into_iter().map(|placed| (placed.number, placed.forgotten)).collect();
        assert_eq!(numbers, [(1, None), (2, None), (1, None), (3, Some(1))]);
    }

    #[test]
    fn what_was_put_back_goes_in_its_old_order() {
        let mut map = Newest::new(2);
        map.restore(5, "a", 1);
        map.restore(9, "b", 2);
        assert_eq!(map.put("c", 3), Placed { number: 10, forgotten: Some(5) });
    }
}
