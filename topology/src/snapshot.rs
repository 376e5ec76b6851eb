//! What components write of themselves, so that a lane comes back without its whole inbox.
//!
//! A component says by [`crate::Bolt::KEEPS`] what becomes of its state. One that saves it cuts it into keys, small enough that a change
//! costs a small record, and tells with each [`crate::Bolt::save`] which of them have changed: [`Changes`] keeps the account.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::component::Unreadable;

/// What becomes of a component's state when another owner takes its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// It is read again from the beginning of the inbox. A stage with one such component has no snapshots, and its inbox is kept whole.
    Everything,
    /// There is none: it makes of each tuple what it makes, whatever came before.
    Nothing,
    /// It is saved and loaded, in this version of its form. A build loads its own version and those before it.
    Saved(u32),
}

/// What has changed about one key of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The component's name, a slash, and its key.
    pub key: String,
    /// The state, as JSON; none where the key is gone.
    pub state: Option<Vec<u8>>,
}

/// Takes what a component saves.
#[derive(Debug)]
pub struct Saver<'a> {
    prefix: String,
    /// Where states are written, one after the other: how long one becomes is not known before, and what is kept of it has its size.
    written: Vec<u8>,
    taken: &'a mut Vec<Change>,
    fault: &'a mut Option<String>,
}

impl<'a> Saver<'a> {
    /// Begins under a name: all keys follow it and a slash. `fault` is where the first state goes that cannot be written.
    pub fn new(name: &str, taken: &'a mut Vec<Change>, fault: &'a mut Option<String>) -> Self {
        Self { prefix: format!("{name}/"), written: Vec::new(), taken, fault }
    }

    /// The state of `key` is this now.
    pub fn put(&mut self, key: &str, state: &impl Serialize) {
        self.written.clear();
        match serde_json::to_writer(&mut self.written, state) {
            Ok(()) => self.taken.push(Change { key: self.whole(key), state: Some(self.written.clone()) }),
            Err(error) => {
                self.fault.get_or_insert_with(|| format!("`{}{key}` cannot be written: {error}", self.prefix));
            }
        }
    }

    /// There is no `key` any more.
    pub fn gone(&mut self, key: &str) {
        self.taken.push(Change { key: self.whole(key), state: None });
    }

    fn whole(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }

    /// The same, for a part of the component: its keys follow `name` and a slash.
    pub fn part(&mut self, name: &str) -> Saver<'_> {
        Saver { prefix: format!("{}{name}/", self.prefix), written: Vec::new(), taken: self.taken, fault: self.fault }
    }
}

/// The saved state of one key.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    key: &'a str,
    /// The same, as the component has it: what a part does not know.
    whole: &'a str,
    version: u32,
    state: &'a [u8],
}

impl<'a> Stored<'a> {
    /// What was saved of `key`, by a component whose form had this version.
    pub fn new(key: &'a str, version: u32, state: &'a [u8]) -> Self {
        Self { key, whole: key, version, state }
    }

    /// The key, as it was put.
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The version of the form: [`Keeps::Saved`] of the build that saved it.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where it is not what is expected; the key is named.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Unreadable> {
        let unreadable = |error: &dyn Display| {
            let reason = format!("saved `{}` cannot be read: {error}", self.whole);
            Unreadable(reason.chars().take(Unreadable::SHOWN).collect())
        };
        // Whether it is text is asked of all of it at once, and not of each text in it.
        let text = std::str::from_utf8(self.state).map_err(|error| unreadable(&error))?;
        serde_json::from_str(text).map_err(|error| unreadable(&error))
    }

    /// That of the part with this name; none where it is another's.
    pub fn part(&self, name: &str) -> Option<Self> {
        let key = self.key.strip_prefix(name)?.strip_prefix('/')?;
        Some(Self { key, ..*self })
    }
}

/// Which keys have changed since they were last saved. Bounded by the keys that live and those that were saved.
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
    /// A key is new, or its state is another.
    pub fn changed(&mut self, key: &K) {
        if !self.changed.contains(key) {
            self.changed.insert(key.clone());
        }
    }

    /// A key is gone. One that was never saved costs nothing.
    pub fn gone(&mut self, key: &K) {
        if self.saved.contains(key) {
            self.changed(key);
        } else {
            self.changed.remove(key);
        }
    }

    /// A key was loaded: it is saved as it is.
    pub fn loaded(&mut self, key: K) {
        self.saved.insert(key);
    }

    /// The keys that have changed, each with what `state` says of it; where that is none the key is gone, and is given empty. One that is
    /// gone and was never saved is left out.
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

    /// Saves what has changed: `state` gives the state of a key, none where it is gone, and `name` what it is called.
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
    fn what_comes_and_goes_between_two_snapshots_costs_nothing() {
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
    fn what_was_loaded_is_said_to_be_gone_when_it_goes() {
        let mut changes = Changes::default();
        changes.loaded(7);
        assert_eq!(save(&mut changes, &[7]), []);
        changes.gone(&7);
        assert_eq!(save(&mut changes, &[]), [("sum/7".to_owned(), false)]);
    }

    #[test]
    fn a_part_of_a_component_has_keys_of_its_own() {
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
    fn a_state_that_cannot_be_written_is_told() {
        let (mut taken, mut fault) = (Vec::new(), None);
        let state = std::collections::BTreeMap::from([((1, 2), 3)]);
        Saver::new("hub", &mut taken, &mut fault).put("a", &state);
        assert!(fault.is_some_and(|fault| fault.contains("`hub/a`")));
    }
}
