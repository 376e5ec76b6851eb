//! What workflows show of the world: the newest of each thing, by kind and key.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics;

/// Things as JSON text, up to so many bytes.
#[derive(Debug)]
pub struct Shown {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kinds: BTreeMap<String, BTreeMap<String, Arc<str>>>,
    bytes: usize,
    /// Something was not kept since there was no room.
    overflowed: bool,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Keys and things, in the order of their keys.
    pub things: Vec<(String, Arc<str>)>,
    /// True where there are more after the last one.
    pub more: bool,
    /// False where there was no room for all that is shown.
    pub complete: bool,
}

impl Shown {
    /// Keeps so many bytes, keys included.
    pub fn at_most(bytes: usize) -> Self {
        Self { most: bytes, state: Mutex::default() }
    }

    /// The newest about a thing, as JSON text. Where there is no room for it the thing is not known here any more.
    pub fn put(&self, kind: &str, key: &str, thing: String) {
        let mut state = self.lock();
        state.remove(kind, key);
        let bytes = key.len() + thing.len();
        if state.bytes + bytes > self.most {
            if !state.overflowed {
                tracing::error!(kind, key, limit_bytes = self.most, "there is no room for what workflows show");
            }
            state.overflowed = true;
            return metrics::not_shown();
        }
        state.bytes += bytes;
        state.kinds.entry(kind.to_owned()).or_default().insert(key.to_owned(), thing.into());
    }

    /// A thing is gone.
    pub fn remove(&self, kind: &str, key: &str) {
        self.lock().remove(kind, key);
    }

    /// One thing.
    pub fn get(&self, kind: &str, key: &str) -> Option<Arc<str>> {
        self.lock().kinds.get(kind)?.get(key).cloned()
    }

    /// At most `limit` things of a kind, in the order of their keys, from after `after` on.
    pub fn page(&self, kind: &str, after: Option<&str>, limit: usize) -> Page {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest =
            state.kinds.get(kind).into_iter().flat_map(|things| things.range::<str, _>((from, Bound::Unbounded)));
        let things = rest.by_ref().take(limit).map(|(key, thing)| (key.clone(), Arc::clone(thing))).collect();
        Page { things, more: rest.next().is_some(), complete: !state.overflowed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, kind: &str, key: &str) {
        let Some(things) = self.kinds.get_mut(kind) else { return };
        if let Some(thing) = things.remove(key) {
            self.bytes -= key.len() + thing.len();
        }
        if things.is_empty() {
            self.kinds.remove(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_in_the_order_of_keys_whatever_comes_and_goes_between_them() {
        let shown = Shown::at_most(1_000);
        for key in ["c", "a", "e", "b"] {
            shown.put("flow", key, key.to_uppercase());
        }
        let keys = |after, limit| -> Vec<String> {
            shown.page("flow", after, limit).things.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(None, 2), ["a", "b"]);
        shown.remove("flow", "b");
        shown.put("flow", "d", "D".to_owned());
        assert_eq!(keys(Some("b"), 2), ["c", "d"]);
        assert_eq!((keys(Some("d"), 2), shown.page("flow", Some("d"), 2).more), (vec!["e".to_owned()], false));
        assert_eq!(shown.page("meter", None, 2).things, []);
        assert_eq!(shown.get("flow", "d").as_deref(), Some("D"));
    }

    #[test]
    fn what_there_is_no_room_for_is_not_kept_and_the_list_says_so() {
        let shown = Shown::at_most(10);
        shown.put("flow", "a", "12345678".to_owned());
        assert!(shown.page("flow", None, 9).complete);
        shown.put("flow", "b", "1".to_owned());
        assert!(!shown.page("flow", None, 9).complete);
        assert_eq!(shown.get("flow", "b"), None);
        shown.remove("flow", "a");
        shown.put("flow", "b", "1".to_owned());
        assert!(shown.get("flow", "b").is_some(), "there is room again");
    }
}
