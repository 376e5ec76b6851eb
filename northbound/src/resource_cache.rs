//! Cache of the resources of workflows: the newest state of each, by kind and key.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics;

/// Caches resources as JSON text, up to a number of bytes.
#[derive(Debug)]
pub struct ResourceCache {
    limit: usize,
    state: Mutex<ResourceTable>,
}

#[derive(Debug, Default)]
struct ResourceTable {
    kinds: BTreeMap<String, BTreeMap<String, Arc<str>>>,
    bytes: usize,
    /// True once a resource did not fit.
    overflowed: bool,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcePage {
    /// Keys and resources, by key.
    pub resources: Vec<(String, Arc<str>)>,
    /// True if there are more after the last one.
    pub more: bool,
    /// False if the cache lacks some resources.
    pub complete: bool,
}

impl ResourceCache {
    /// Caches at most `bytes` bytes, with keys.
    pub fn with_limit(bytes: usize) -> Self {
        Self { limit: bytes, state: Mutex::default() }
    }

    /// Records the newest state of a resource as JSON text. If it does not fit, the resource is no
    /// longer cached.
    pub fn put(&self, kind: &str, key: &str, resource: String) {
        let mut state = self.lock();
        state.remove(kind, key);
        let bytes = key.len() + resource.len();
        if state.bytes + bytes > self.limit {
            if !state.overflowed {
                tracing::error!(kind, key, limit_bytes = self.limit, "the cache of resources is full");
            }
            state.overflowed = true;
            return metrics::not_shown();
        }
        state.bytes += bytes;
        state.kinds.entry(kind.to_owned()).or_default().insert(key.to_owned(), resource.into());
    }

    /// Removes a deleted resource.
    pub fn remove(&self, kind: &str, key: &str) {
        self.lock().remove(kind, key);
    }

    /// The newest state of a resource.
    pub fn get(&self, kind: &str, key: &str) -> Option<Arc<str>> {
        self.lock().kinds.get(kind)?.get(key).cloned()
    }

    /// At most `limit` resources of a kind after `after`, by key.
    pub fn page(&self, kind: &str, after: Option<&str>, limit: usize) -> ResourcePage {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest =
            state.kinds.get(kind).into_iter().flat_map(|resources| resources.range::<str, _>((from, Bound::Unbounded)));
        let resources = rest.by_ref().take(limit).map(|(key, resource)| (key.clone(), Arc::clone(resource))).collect();
        ResourcePage { resources, more: rest.next().is_some(), complete: !state.overflowed }
    }

    fn lock(&self) -> MutexGuard<'_, ResourceTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResourceTable {
    fn remove(&mut self, kind: &str, key: &str) {
        let Some(resources) = self.kinds.get_mut(kind) else { return };
        if let Some(resource) = resources.remove(key) {
            self.bytes -= key.len() + resource.len();
        }
        if resources.is_empty() {
            self.kinds.remove(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_ordered_by_key_even_if_resources_come_and_go() {
        let shown = ResourceCache::with_limit(1_000);
        for key in ["c", "a", "e", "b"] {
            shown.put("flow", key, key.to_uppercase());
        }
        let keys = |after, limit| -> Vec<String> {
            shown.page("flow", after, limit).resources.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(None, 2), ["a", "b"]);
        shown.remove("flow", "b");
        shown.put("flow", "d", "D".to_owned());
        assert_eq!(keys(Some("b"), 2), ["c", "d"]);
        assert_eq!((keys(Some("d"), 2), shown.page("flow", Some("d"), 2).more), (vec!["e".to_owned()], false));
        assert_eq!(shown.page("meter", None, 2).resources, []);
        assert_eq!(shown.get("flow", "d").as_deref(), Some("D"));
    }

    #[test]
    fn a_resource_that_does_not_fit_is_dropped_and_the_list_is_incomplete() {
        let shown = ResourceCache::with_limit(10);
        shown.put("flow", "a", "12345678".to_owned());
        assert!(shown.page("flow", None, 9).complete);
        shown.put("flow", "b", "1".to_owned());
        assert!(!shown.page("flow", None, 9).complete);
        assert_eq!(shown.get("flow", "b"), None);
        shown.remove("flow", "a");
        shown.put("flow", "b", "1".to_owned());
        assert!(shown.get("flow", "b").is_some(), "it fits again");
    }
}
