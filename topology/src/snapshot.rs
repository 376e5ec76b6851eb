//! How components save their state, so that a lane recovers without its whole inbox.
//!
//! A component that saves its state divides it into keys, small enough that a change costs a small
//! record. Each [`crate::SystemBolt::save`] writes the keys that have changed; [`Changes`] tracks
//! them. [`crate::StateMap`] and [`crate::StateValue`] do all of that.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::Unreadable;

/// The schema of a component's saved state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSchema {
    /// The schema version. A build loads its own version and older ones.
    pub version: u32,
    /// The names of its parts, for people.
    pub parts: Vec<&'static str>,
}

/// A change of one key of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The component's name, a slash, and its key.
    pub key: String,
    /// The state as JSON; `None` if the key was deleted.
    pub state: Option<Vec<u8>>,
}

/// Collects the saved state of a component.
#[derive(Debug)]
pub struct Saver<'a> {
    prefix: String,
    /// Buffer for serialization. The length of a state is unknown in advance; the stored copy has
    /// the exact size.
    written: Vec<u8>,
    taken: &'a mut Vec<Change>,
    fault: &'a mut Option<String>,
}

impl<'a> Saver<'a> {
    /// Starts with a component's name, which prefixes all keys. `fault` receives the message about
    /// the first state that cannot be serialized.
    pub fn new(name: &str, taken: &'a mut Vec<Change>, fault: &'a mut Option<String>) -> Self {
        Self { prefix: format!("{name}/"), written: Vec::new(), taken, fault }
    }

    /// Saves the state of `key`.
    pub fn put(&mut self, key: &str, state: &impl Serialize) {
        self.written.clear();
        match serde_json::to_writer(&mut self.written, state) {
            Ok(()) => self.taken.push(Change { key: self.whole(key), state: Some(self.written.clone()) }),
            Err(error) => {
                self.fault.get_or_insert_with(|| format!("`{}{key}` cannot be written: {error}", self.prefix));
            }
        }
    }

    /// Reports that the component cannot be saved.
    pub(crate) fn fail(&mut self, why: String) {
        self.fault.get_or_insert(why);
    }

    /// Deletes `key`.
    pub fn gone(&mut self, key: &str) {
        self.taken.push(Change { key: self.whole(key), state: None });
    }

    fn whole(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }

    /// Returns a saver for the same keys.
    pub(crate) fn reborrow(&mut self) -> Saver<'_> {
        Saver { prefix: self.prefix.clone(), written: Vec::new(), taken: self.taken, fault: self.fault }
    }

    /// Returns a saver for a part of the component: `name` and a slash prefix its keys.
    pub fn part(&mut self, name: &str) -> Saver<'_> {
        Saver { prefix: format!("{}{name}/", self.prefix), written: Vec::new(), taken: self.taken, fault: self.fault }
    }
}

/// The saved state of one key.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    key: &'a str,
    /// The same key with the prefixes of all parts.
    whole: &'a str,
    version: u32,
    state: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Makes the state of `key`, saved with this schema version.
    pub fn new(key: &'a str, version: u32, state: &'a [u8]) -> Self {
        Self { key, whole: key, version, state }
    }

    /// Returns the key without prefixes.
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// Returns the schema version, [`crate::StateSchema::version`] of the build that saved it.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Parses the state.
    ///
    /// # Errors
    /// If it does not match `T`; the message names the key.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Unreadable> {
        let unreadable = |error: &dyn Display| {
            let reason = format!("saved `{}` cannot be read: {error}", self.whole);
            Unreadable(reason.chars().take(Unreadable::MAX_CHARS).collect())
        };
        // One UTF-8 check of the whole state, instead of one per text in it.
        let text = std::str::from_utf8(self.state).map_err(|error| unreadable(&error))?;
        serde_json::from_str(text).map_err(|error| unreadable(&error))
    }

    /// Returns the state if it belongs to the part `name`, with the rest of its key.
    pub fn part(&self, name: &str) -> Option<Self> {
        let key = self.key.strip_prefix(name)?.strip_prefix('/')?;
        Some(Self { key, ..*self })
    }
}

/// Tracks which keys have changed since they were last saved. Bounded by the live and the saved
/// keys.
#[derive(Debug, Clone)]
pub struct Changes<K> {
    changed: BTreeSet<K>,
    saved: BTreeSet<K>,
}

impl<K> Default for Changes<K> {
    fn default() -> Self {
        Self { changed: BTreeSet::new(), saved: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Changes<K> {
    /// True if there are no changes to save.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// Records a new key or a changed state.
    pub fn changed(&mut self, key: &K) {
        if !self.changed.contains(key) {
            self.changed.insert(key.clone());
        }
    }

    /// Records a deleted key. A key that was never saved costs nothing.
    pub fn gone(&mut self, key: &K) {
        if self.saved.contains(key) {
            self.changed(key);
        } else {
            self.changed.remove(key);
        }
    }

    /// Records a loaded key: its state equals the saved one.
    pub fn loaded(&mut self, key: K) {
        self.saved.insert(key);
    }

    /// Returns the changed keys with their states and clears the list. For a deleted key `state`
    /// returns `None`, and its state is empty. A deleted key that was never saved is left out.
    pub(crate) fn take<S: Default>(&mut self, mut state: impl FnMut(&K) -> Option<S>) -> Vec<(K, S)> {
        let mut taken = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            match state(&key) {
                Some(state) => {
                    self.saved.insert(key.clone());
                    taken.push((key, state));
                }
                None => {
                    if self.saved.remove(&key) {
                        taken.push((key, S::default()));
                    }
                }
            }
        }
        taken
    }

    /// Saves the changed keys: `state` returns the state of a key, or `None` if it was deleted;
    /// `name` returns its name in the snapshot.
    pub fn save<S: Serialize>(
        &mut self,
        saver: &mut Saver<'_>,
        name: impl Fn(&K) -> String,
        mut state: impl FnMut(&K) -> Option<S>,
    ) {
        for (key, state) in self.take(|key| state(key).map(Some)) {
            match state {
                Some(state) => saver.put(&name(&key), &state),
                None => saver.gone(&name(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(changes: &mut Changes<u32>, live: &[u32]) -> Vec<(String, bool)> {
        let (mut taken, mut fault) = (Vec::new(), None);
        let mut saver = Saver::new("sum", &mut taken, &mut fault);
        changes.save(&mut saver, u32::to_string, |key| live.contains(key).then_some(*key));
        assert_eq!(fault, None);
        taken.into_iter().map(|change| (change.key, change.state.is_some())).collect()
    }

    #[test]
    fn a_key_that_lives_between_two_snapshots_costs_nothing() {
        let mut changes = Changes::default();
        changes.changed(&1);
        changes.changed(&2);
        changes.gone(&1);
        assert_eq!(save(&mut changes, &[2]), [("sum/2".to_owned(), true)]);
        changes.gone(&2);
        assert_eq!(save(&mut changes, &[]), [("sum/2".to_owned(), false)]);
        assert_eq!(save(&mut changes, &[]), []);
    }

    #[test]
    fn deleting_a_loaded_key_is_saved() {
        let mut changes = Changes::default();
        changes.loaded(7);
        assert_eq!(save(&mut changes, &[7]), []);
        changes.gone(&7);
        assert_eq!(save(&mut changes, &[]), [("sum/7".to_owned(), false)]);
    }

    #[test]
    fn a_part_of_a_component_prefixes_its_keys() {
        let (mut taken, mut fault) = (Vec::new(), None);
        Saver::new("hub", &mut taken, &mut fault).part("lane").put("a", &1);
        assert_eq!(taken, [Change { key: "hub/lane/a".into(), state: Some(b"1".to_vec()) }]);
        let stored = Stored::new("lane/a", 1, b"1");
        assert_eq!(stored.part("lane").map(|stored| stored.key()), Some("a"));
        assert!(stored.part("la").is_none());
        assert_eq!(stored.read::<u8>().unwrap(), 1);
        assert!(stored.part("lane").unwrap().read::<String>().unwrap_err().0.contains("`lane/a`"));
    }

    #[test]
    fn a_state_that_cannot_be_serialized_is_reported() {
        let (mut taken, mut fault) = (Vec::new(), None);
        let state = std::collections::BTreeMap::from([((1, 2), 3)]);
        Saver::new("hub", &mut taken, &mut fault).put("a", &state);
        assert!(fault.is_some_and(|fault| fault.contains("`hub/a`")));
    }
}
