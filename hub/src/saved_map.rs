//! A map that is saved entry by entry.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::Serialize;
use topology::{Changes, Saver};

/// A map that tracks which entries have changed since they were saved.
///
/// ```
/// use hub::SavedMap;
/// use topology::Saver;
///
/// let mut rooms: SavedMap<String, u32> = SavedMap::default();
/// rooms.insert("Rome".into(), 7);
/// let (mut taken, mut fault) = (Vec::new(), None);
/// rooms.save(&mut Saver::new("hotel", &mut taken, &mut fault), Clone::clone);
/// assert_eq!(taken[0].key, "hotel/Rome");
/// ```
#[derive(Debug, Clone)]
pub struct SavedMap<K, V> {
    entries: BTreeMap<K, V>,
    changes: Changes<K>,
    dirty: bool,
}

impl<K, V> Default for SavedMap<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), changes: Changes::default(), dirty: false }
    }
}

impl<K: Ord + Clone, V> SavedMap<K, V> {
    /// Returns an entry.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Returns an entry for modification and marks it as changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.changes.changed(key);
        self.dirty = true;
        Some(entry)
    }

    /// Inserts an entry and returns the one it replaces.
    pub fn insert(&mut self, key: K, entry: V) -> Option<V> {
        self.changes.changed(&key);
        self.dirty = true;
        self.entries.insert(key, entry)
    }

    /// Removes an entry.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.changes.gone(&key);
        self.dirty = true;
        Some(entry)
    }

    /// Returns the entry with the smallest key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.entries.first_key_value()
    }

    /// Iterates over all entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if the map has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if an entry may have changed since the last save.
    pub fn has_changed(&self) -> bool {
        self.dirty
    }

    /// Saves the entries that changed since the last call. `name` turns a key into text.
    pub fn save(&mut self, saver: &mut Saver<'_>, name: impl Fn(&K) -> String)
    where
        V: Serialize,
    {
        let Self { entries, changes, dirty } = self;
        *dirty = false;
        changes.save(saver, name, |key| entries.get(key));
    }

    /// Inserts a loaded entry, which needs no save.
    pub fn load(&mut self, key: K, entry: V) {
        self.changes.loaded(key.clone());
        self.entries.insert(key, entry);
    }
}
