//! Containers for state that survives a takeover, a crash and a restart.
//!
//! A bolt keeps such state in a [`StateValue`] or a [`StateMap`], and lists them in
//! [`crate::Bolt::state`]. All other fields are volatile: a new owner of the lane starts without
//! them. Each change costs a record of the size of what changed.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::Unreadable;
use crate::snapshot::{Changes, Saver, Stored};

/// A map that is saved entry by entry.
///
/// ```
/// use topology::{Bolt, Emitter, SavedState, StateMap};
///
/// #[derive(Default)]
/// struct Count { counts: StateMap<String, u64> }
///
/// impl Bolt for Count {
///     type In = String;
///     type Out = (String, u64);
///     fn state(&mut self, saved: &mut SavedState<'_>) {
///         saved.map("counts", &mut self.counts);
///     }
///     fn execute(&mut self, word: String, out: &mut Emitter<(String, u64)>) {
///         let count = self.counts.get_or_default(&word);
///         *count += 1;
///         let count = *count;
///         out.emit((word, count));
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct StateMap<K, V> {
    entries: BTreeMap<K, V>,
    changes: Changes<K>,
}

impl<K, V> Default for StateMap<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), changes: Changes::default() }
    }
}

impl<K: Ord + Clone, V> StateMap<K, V> {
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
        Some(entry)
    }

    /// Returns an entry for modification and marks it as changed. An entry that does not exist is
    /// created with its default.
    pub fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        self.get_or_insert_with(key, V::default)
    }

    /// Returns an entry for modification and marks it as changed. An entry that does not exist is
    /// created with `start`.
    pub fn get_or_insert_with(&mut self, key: &K, start: impl FnOnce() -> V) -> &mut V {
        self.changes.changed(key);
        self.entries.entry(key.clone()).or_insert_with(start)
    }

    /// Inserts an entry and returns the one it replaces.
    pub fn insert(&mut self, key: K, entry: V) -> Option<V> {
        self.changes.changed(&key);
        self.entries.insert(key, entry)
    }

    /// Removes an entry.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.changes.gone(&key);
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
        !self.changes.is_empty()
    }

    /// Saves the entries that changed since the last call. `name` turns a key into text.
    pub fn save(&mut self, saver: &mut Saver<'_>, name: impl Fn(&K) -> String)
    where
        V: Serialize,
    {
        let Self { entries, changes } = self;
        changes.save(saver, name, |key| entries.get(key));
    }

    /// Inserts a loaded entry, which needs no save.
    pub fn load(&mut self, key: K, entry: V) {
        self.changes.loaded(key.clone());
        self.entries.insert(key, entry);
    }
}

/// A value that is saved as a whole: for small state, such as a sum.
///
/// ```
/// # use topology::StateValue;
/// let mut sum: StateValue<u64> = StateValue::default();
/// *sum += 7;
/// assert_eq!(*sum, 7);
/// ```
#[derive(Debug, Default)]
pub struct StateValue<T> {
    value: T,
    dirty: bool,
}

impl<T> StateValue<T> {
    /// A value that a lane without saved state starts with.
    pub fn new(value: T) -> Self {
        Self { value, dirty: false }
    }
}

impl<T> Deref for StateValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for StateValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Each mutable access marks the value as changed.
impl<T> DerefMut for StateValue<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.dirty = true;
        &mut self.value
    }
}

/// Visits the saved state of a bolt: to list it, to save its changes, or to load it.
pub struct SavedState<'a>(Visit<'a>);

enum Visit<'a> {
    List(&'a mut Vec<&'static str>),
    Save(Saver<'a>),
    Load { stored: Stored<'a>, found: Result<bool, Unreadable> },
}

impl<'a> SavedState<'a> {
    pub(crate) fn listing(names: &'a mut Vec<&'static str>) -> Self {
        Self(Visit::List(names))
    }

    pub(crate) fn saving(saver: &'a mut Saver<'_>) -> Self {
        Self(Visit::Save(saver.reborrow()))
    }

    pub(crate) fn loading(stored: &Stored<'a>) -> Self {
        Self(Visit::Load { stored: *stored, found: Ok(false) })
    }

    /// Returns the outcome of loading.
    pub(crate) fn loaded(self) -> Result<(), Unreadable> {
        match self.0 {
            Visit::List(_) | Visit::Save(_) | Visit::Load { found: Ok(true), .. } => Ok(()),
            Visit::Load { stored, found: Ok(false) } => {
                Err(Unreadable(format!("the component lists no state for saved `{}`", stored.key())))
            }
            Visit::Load { found: Err(unreadable), .. } => Err(unreadable),
        }
    }

    /// Visits a map. `name` is part of its saved keys, so it must stay the same; a key is saved as
    /// JSON text.
    pub fn map<K, V>(&mut self, name: &'static str, map: &mut StateMap<K, V>)
    where
        K: Ord + Clone + Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.map_since(name, map, 0, |value: V| value);
    }

    /// As [`SavedState::map`], for a map whose values had another type before version `since` of the
    /// state ([`crate::Bolt::STATE_VERSION`]): converts each when it is loaded. The next snapshot
    /// contains the new ones.
    ///
    /// ```
    /// use topology::{Bolt, Emitter, SavedState, StateMap};
    ///
    /// #[derive(Default)]
    /// struct Count { counts: StateMap<String, i64> }
    ///
    /// impl Bolt for Count {
    ///     type In = String;
    ///     type Out = ();
    ///     // Version 1 saved counts as texts.
    ///     const STATE_VERSION: u32 = 2;
    ///     fn state(&mut self, saved: &mut SavedState<'_>) {
    ///         saved.map_since("counts", &mut self.counts, 2, |old: String| old.parse().unwrap_or_default());
    ///     }
    ///     fn execute(&mut self, word: String, _: &mut Emitter<()>) {
    ///         *self.counts.get_or_default(&word) += 1;
    ///     }
    /// }
    /// ```
    pub fn map_since<K, V, Old>(
        &mut self,
        name: &'static str,
        map: &mut StateMap<K, V>,
        since: u32,
        convert: impl Fn(Old) -> V,
    ) where
        K: Ord + Clone + Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
        Old: DeserializeOwned,
    {
        match &mut self.0 {
            Visit::List(names) => names.push(name),
            Visit::Save(saver) => {
                let fault = Cell::new(None);
                let text = |key: &K| {
                    serde_json::to_string(key).unwrap_or_else(|error| {
                        fault.set(Some(format!("a key of `{name}` cannot be written: {error}")));
                        String::new()
                    })
                };
                map.save(&mut saver.part(name), text);
                if let Some(fault) = fault.take() {
                    saver.fail(fault);
                }
            }
            Visit::Load { stored, found } => {
                if let Some(entry) = stored.part(name) {
                    let key = serde_json::from_str(entry.key());
                    let key = key.map_err(|error| Unreadable(format!("saved key `{}`: {error}", stored.key())));
                    *found = key.and_then(|key| {
                        if stored.version() < since {
                            map.insert(key, convert(entry.read()?));
                        } else {
                            map.load(key, entry.read()?);
                        }
                        Ok(true)
                    });
                }
            }
        }
    }

    /// Visits a value. `name` is its saved key, so it must stay the same.
    pub fn value<T: Serialize + DeserializeOwned>(&mut self, name: &'static str, value: &mut StateValue<T>) {
        self.value_since(name, value, 0, |value: T| value);
    }

    /// As [`SavedState::value`], for a value that had another type before version `since` of the
    /// state; see [`SavedState::map_since`].
    pub fn value_since<T: Serialize + DeserializeOwned, Old: DeserializeOwned>(
        &mut self,
        name: &'static str,
        value: &mut StateValue<T>,
        since: u32,
        convert: impl Fn(Old) -> T,
    ) {
        match &mut self.0 {
            Visit::List(names) => names.push(name),
            Visit::Save(saver) => {
                if std::mem::take(&mut value.dirty) {
                    saver.put(name, &value.value);
                }
            }
            Visit::Load { stored, found } => {
                if stored.key() == name {
                    let is_old = stored.version() < since;
                    let loaded = if is_old { stored.read().map(convert) } else { stored.read() };
                    *found = loaded.map(|loaded| {
                        (value.value, value.dirty) = (loaded, is_old);
                        true
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Change;

    #[derive(Default)]
    struct Stock {
        items: StateMap<(u32, String), u64>,
        total: StateValue<u64>,
    }

    impl Stock {
        fn state(&mut self, saved: &mut SavedState<'_>) {
            saved.map("items", &mut self.items);
            saved.value("total", &mut self.total);
        }

        fn add(&mut self, key: (u32, &str), n: u64) {
            *self.items.get_or_default(&(key.0, key.1.to_owned())) += n;
            *self.total += n;
        }

        fn save(&mut self) -> Vec<(String, Option<String>)> {
            let (mut taken, mut fault) = (Vec::new(), None);
            self.state(&mut SavedState::saving(&mut Saver::new("stock", &mut taken, &mut fault)));
            assert_eq!(fault, None);
            let text = |state: Vec<u8>| String::from_utf8(state).expect("JSON is text");
            taken.into_iter().map(|Change { key, state }| (key, state.map(text))).collect()
        }

        fn load(&mut self, key: &str, state: &str) -> Result<(), Unreadable> {
            let mut loading = SavedState::loading(&Stored::new(key, 1, state.as_bytes()));
            self.state(&mut loading);
            loading.loaded()
        }
    }

    fn saved(key: &str, state: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), state.map(str::to_owned))
    }

    #[test]
    fn only_changed_entries_are_saved() {
        let mut stock = Stock::default();
        assert_eq!(stock.save(), []);
        stock.add((1, "tea"), 3);
        stock.add((2, "a/b"), 4);
        let tea = r#"stock/items/[1,"tea"]"#;
        let other = r#"stock/items/[2,"a/b"]"#;
        assert_eq!(stock.save(), [saved(tea, Some("3")), saved(other, Some("4")), saved("stock/total", Some("7"))]);
        stock.items.remove(&(1, "tea".to_owned()));
        assert_eq!((*stock.total, stock.save()), (7, vec![saved(tea, None)]), "a read is no change");
        assert_eq!(stock.save(), []);
    }

    #[test]
    fn a_new_instance_loads_the_saved_state() {
        let mut stock = Stock::default();
        stock.add((1, "tea"), 3);
        stock.add((2, "a/b"), 4);
        let mut loaded = Stock::default();
        for (key, state) in stock.save() {
            let key = key.strip_prefix("stock/").expect("the name of the component");
            loaded.load(key, &state.expect("nothing was deleted")).expect("it can be read");
        }
        assert!(loaded.items.iter().eq(stock.items.iter()));
        assert_eq!((*loaded.total, loaded.save()), (7, Vec::new()), "loaded state needs no save");
    }

    #[test]
    fn a_key_that_is_no_json_text_is_reported() {
        let mut map: StateMap<BTreeMap<(u8, u8), u8>, u8> = StateMap::default();
        map.insert(BTreeMap::from([((1, 2), 3)]), 4);
        let (mut taken, mut fault) = (Vec::new(), None);
        SavedState::saving(&mut Saver::new("stock", &mut taken, &mut fault)).map("odd", &mut map);
        assert!(fault.is_some_and(|fault| fault.contains("a key of `odd` cannot be written")));
    }

    #[test]
    fn state_that_does_not_fit_is_refused_by_name() {
        let mut stock = Stock::default();
        for (key, state, named) in [
            ("price", "1", "`price`"),
            ("total", "\"seven\"", "`total`"),
            ("items/tea", "1", "`items/tea`"),
            ("items/[1,\"tea\"]", "null", "`items/[1,\"tea\"]`"),
        ] {
            let Unreadable(reason) = stock.load(key, state).expect_err("it does not fit");
            assert!(reason.contains(named), "{reason}");
        }
    }
}
