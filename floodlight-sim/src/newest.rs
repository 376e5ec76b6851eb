//! A map that keeps its newest entries, so that what is remembered has a bound.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most `bound` entries; the one that was put in first goes first.
#[derive(Debug)]
pub(crate) struct Newest<K, V> {
    bound: usize,
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Newest<K, V> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { bound, entries: HashMap::new(), order: VecDeque::new() }
    }

    /// Puts `value` under `key`. A key that is known keeps its age.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_goes_when_there_is_one_too_many() {
        let mut map = Newest::new(2);
        for key in ["a", "b", "a", "c"] {
            map.put(key, key);
        }
        assert_eq!([map.get(&"a"), map.get(&"b"), map.get(&"c")], [None, Some(&"b"), Some(&"c")]);
    }
}
