//! A map that is saved entry by entry.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::Serialize;
use topology::{Changes, Saver};

/// A map that knows which of its entries are not saved as they are: there is no way to change one that it would not see.
///
/// ```
/// use hub::Kept;
/// use topology::Saver;
///
/// let mut rooms: Kept<String, u32> = Kept::default();
/// rooms.insert("Rome".into(), 7);
/// let (mut taken, mut fault) = (Vec::new(), None);
/// rooms.save(&mut Saver::new("hotel", &mut taken, &mut fault), Clone::clone);
/// assert_eq!(taken[0].key, "hotel/Rome");
/// ```
#[derive(Debug, Clone)]
pub struct Kept<K, V> {
    entries: BTreeMap<K, V>,
    changes: Changes<K>,
    dirty: bool,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), changes: Changes::default(), dirty: false }
    }
}

impl<K: Ord + Clone, V> Kept<K, V> {
    /// An entry, to read it.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// An entry, to change it: it is saved anew.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.changes.changed(key);
        self.dirty = true;
        Some(entry)
    }

    /// Puts an entry in; gives the one that was in its place.
    pub fn insert(&mut self, key: K, entry: V) -> Option<V> {
        self.changes.changed(&key);
        self.dirty = true;
        self.entries.insert(key, entry)
    }

    /// Takes an entry out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.changes.gone(&key);
        self.dirty = true;
        Some(entry)
    }

    /// The entry with the smallest key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.entries.first_key_value()
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True where an entry may have changed since it was saved.
    pub fn has_changed(&self) -> bool {
        self.dirty
    }

    /// Saves what has changed since the last time; `name` says what a key is called.
    pub fn save(&mut self, saver: &mut Saver<'_>, name: impl Fn(&K) -> String)
    where
        V: Serialize,
    {
        let Self { entries, changes, dirty } = self;
        *dirty = false;
        changes.save(saver, name, |key| entries.get(key));
    }

    /// Puts in an entry that was saved as it is.
    pub fn load(&mut self, key: K, entry: V) {
        self.changes.loaded(key.clone());
        self.entries.insert(key, entry);
    }
}
