//! Cache of operations: the newest view of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wire::answer::{Conversation, Operation};
use wire::{OperationId, WallTime};

/// The position of an operation in lists: start time, then id. The same at every northbound.
pub type ListPosition = (WallTime, OperationId);

/// Caches the newest live operations, and as many ended ones.
#[derive(Debug)]
pub struct OperationCache {
    bound: usize,
    state: Mutex<OperationTable>,
}

#[derive(Debug, Default)]
struct OperationTable {
    entries: HashMap<OperationId, CachedOperation>,
    /// By start time.
    live: BTreeSet<ListPosition>,
    over: BTreeSet<ListPosition>,
}

#[derive(Debug, Default)]
struct CachedOperation {
    view: Option<Operation>,
    /// The time at which the bus appended the view.
    time: WallTime,
    /// The view was made here, or is a refusal that is not an outcome: any view of the hub replaces
    /// it.
    weak: bool,
    /// The hub refused the operation, but the deletion of its view was not read yet.
    refusal: Option<Operation>,
    /// The worker views of its calls, by the key of the view: one per service.
    conversations: BTreeMap<Bytes, Vec<Conversation>>,
    /// Its position in the lists, and whether in the list of ended operations.
    listed: Option<(ListPosition, bool)>,
}

impl CachedOperation {
    /// True if nothing more will change.
    fn is_over(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.answer.is_some() && !view.live)
    }

    fn set(&mut self, view: Operation, time: WallTime, weak: bool) {
        self.view = Some(view);
        self.time = time;
        self.weak = weak;
        self.refusal = None;
        if self.is_over() {
            self.conversations.clear();
        }
    }

    /// The view, with the worker views of its calls.
    fn whole(&self) -> Option<Operation> {
        let mut view = self.view.clone()?;
        let said: BTreeMap<_, _> = self.conversations.values().flatten().map(|said| (&said.call, said)).collect();
        for pending in view.step.iter_mut().flat_map(|step| &mut step.pending) {
            if let Some(&said) = said.get(&pending.call) {
                pending.conversation = Some(said.clone());
            }
        }
        Some(view)
    }
}

impl OperationCache {
    /// Caches at most `bound` live operations, and as many ended ones.
    pub fn new(bound: usize) -> Self {
        Self { bound, state: Mutex::default() }
    }

    /// Records a view. It never replaces a final answer, nor does an unanswered view replace an
    /// answered one: answers and views use two topics, so an older view may be read after the
    /// answer.
    pub fn view(&self, view: Operation, time: WallTime) {
        self.change(&view.operation.clone(), time, |entry| {
            let answered = entry.view.as_ref().is_some_and(|known| known.answer.is_some());
            if entry.weak || !entry.is_over() && (view.answer.is_some() || !answered) {
                entry.set(view, time, false);
            }
        });
    }

    /// Records an answer, unless a newer view is known: after a restart, the end of the clean-up
    /// may be read before the answer.
    pub fn answer(&self, view: Operation, time: WallTime) {
        self.change(&view.operation.clone(), time, |entry| {
            if entry.weak || !entry.is_over() || entry.time <= time {
                entry.set(view, time, false);
            }
        });
    }

    /// Records a refusal that a repeat may overcome: no operation exists.
    pub fn refused(&self, view: Operation, time: WallTime) {
        self.change(&view.operation.clone(), time, |entry| {
            if entry.weak || entry.view.is_none() {
                entry.set(view, time, true);
            } else if !entry.is_over() {
                entry.refusal = Some(view);
            }
        });
    }

    /// Records a request that was written here and that the hub has not published yet.
    pub fn requested(&self, view: Operation, time: WallTime) {
        self.change(&view.operation.clone(), time, |entry| {
            if entry.weak || entry.view.is_none() {
                entry.set(view, time, true);
            }
        });
    }

    /// Called when a request is repeated: drops an earlier refusal that is not an outcome.
    pub fn request_repeated(&self, operation: &OperationId) {
        let mut state = self.lock();
        if state.entries.get(operation).is_some_and(|entry| entry.weak && entry.is_over()) {
            state.remove(operation);
        }
    }

    /// Records the calls of an operation in a worker, under the key of its view. Empty: no open
    /// calls.
    pub fn conversations(&self, operation: &OperationId, key: Bytes, calls: Vec<Conversation>, time: WallTime) {
        if calls.is_empty() {
            if let Some(entry) = self.lock().entries.get_mut(operation) {
                entry.conversations.remove(&key);
            }
            return;
        }
        self.change(operation, time, |entry| {
            if !entry.is_over() {
                entry.conversations.insert(key, calls);
            }
        });
    }

    /// Called when the view was deleted. An answer is kept: it is the last view, and comes over
    /// another topic.
    pub fn forget(&self, operation: &OperationId) {
        let mut state = self.lock();
        let answered = |entry: &CachedOperation| entry.view.as_ref().is_some_and(|view| view.answer.is_some());
        let Some(entry) = state.entries.get_mut(operation).filter(|entry| !answered(entry)) else { return };
        let (refusal, time) = (entry.refusal.take(), entry.time);
        state.remove(operation);
        drop(state);
        if let Some(refusal) = refusal {
            self.refused(refusal, time);
        }
    }

    /// The view of an operation, with the worker views of its calls.
    pub fn operation(&self, id: &OperationId) -> Option<Operation> {
        self.lock().entries.get(id)?.whole()
    }

    /// True if the hub has published the operation.
    pub fn is_published(&self, id: &OperationId) -> bool {
        self.lock().entries.get(id).is_some_and(|entry| entry.view.is_some() && !entry.weak)
    }

    /// At most `limit` matching operations after `after`, newest first; and whether there are more.
    pub fn page(
        &self,
        after: Option<&ListPosition>,
        limit: usize,
        mut matches: impl FnMut(&Operation) -> bool,
    ) -> (Vec<(ListPosition, Operation)>, bool) {
        let state = self.lock();
        let before = |begun: &&ListPosition| after.is_none_or(|after| *begun < after);
        let (mut live, mut over) =
            (state.live.iter().rev().filter(before).peekable(), state.over.iter().rev().filter(before).peekable());
        let mut page = Vec::new();
        loop {
            let next = if live.peek() > over.peek() { live.next() } else { over.next() };
            let Some(begun) = next else { return (page, false) };
            let Some(view) = state.entries.get(&begun.1).and_then(|entry| entry.view.as_ref()) else { continue };
            if !matches(view) {
                continue;
            }
            if page.len() == limit {
                return (page, true);
            }
            page.push((begun.clone(), view.clone()));
        }
    }

    fn change(&self, operation: &OperationId, time: WallTime, change: impl FnOnce(&mut CachedOperation)) {
        let mut state = self.lock();
        let OperationTable { entries, live, over } = &mut *state;
        let entry = entries.entry(operation.clone()).or_default();
        change(entry);
        let first = entry.view.as_ref().and_then(|view| view.history.first()).map(|first| first.at);
        let known = entry.listed.as_ref().map(|((at, _), _)| *at);
        let now = ((first.or(known).unwrap_or(time), operation.clone()), entry.is_over());
        if entry.listed.as_ref() == Some(&now) {
            return;
        }
        if let Some((begun, was_over)) = entry.listed.replace(now.clone()) {
            if was_over {
                over.remove(&begun)
            } else {
                live.remove(&begun)
            };
        }
        let (begun, is_over) = now;
        let list = if is_over { over } else { live };
        list.insert(begun);
        if list.len() > self.bound
            && let Some((_, oldest)) = list.pop_first()
        {
            entries.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, OperationTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OperationTable {
    fn remove(&mut self, operation: &OperationId) {
        if let Some((begun, is_over)) = self.entries.remove(operation).and_then(|entry| entry.listed) {
            if is_over {
                self.over.remove(&begun)
            } else {
                self.live.remove(&begun)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::answer::{Answer, HistoryEntry};

    fn operation(id: &str, begun: u64, over: bool) -> Operation {
        Operation {
            operation: OperationId::new(id).unwrap(),
            key: "k".into(),
            workflow: "w".into(),
            state: "s".into(),
            live: !over,
            queue: None,
            step: None,
            until: None,
            signal: None,
            history: vec![HistoryEntry { seq: 1, at: WallTime(begun), what: "requested".into() }],
            answer: over.then_some(Answer::Done(serde_json::Value::Null)),
        }
    }

    fn ids(page: &[(ListPosition, Operation)]) -> Vec<&str> {
        page.iter().map(|(_, operation)| operation.operation.as_str()).collect()
    }

    #[test]
    fn pages_run_from_newest_to_oldest_and_new_operations_do_not_shift_them() {
        let known = OperationCache::new(10);
        for (id, begun) in [("a", 1), ("b", 3), ("c", 2), ("d", 3)] {
            known.view(operation(id, begun, false), WallTime(9));
        }
        known.answer(operation("b", 3, true), WallTime(10));
        let (first, more) = known.page(None, 2, |_| true);
        assert_eq!((ids(&first), more), (vec!["d", "b"], true));
        known.view(operation("new", 5, false), WallTime(11));
        let (second, more) = known.page(Some(&first[1].0), 2, |_| true);
        assert_eq!((ids(&second), more), (vec!["c", "a"], false));
        let (live, _) = known.page(None, 9, |view| view.live);
        assert_eq!(ids(&live), ["new", "d", "c", "a"]);
    }

    #[test]
    fn a_live_operation_is_not_displaced_by_ended_ones() {
        let known = OperationCache::new(2);
        known.view(operation("stuck", 1, false), WallTime(1));
        for n in 0..10 {
            known.answer(operation(&format!("over-{n}"), 2 + n, true), WallTime(2 + n));
        }
        assert_eq!(ids(&known.page(None, 9, |_| true).0), ["over-9", "over-8", "stuck"]);
        assert_eq!(known.lock().entries.len(), 3);
    }

    /// The refusal and the deletion of the view come over two topics, in any order.
    #[test]
    fn a_refusal_replaces_a_deleted_view() {
        let id = OperationId::new("a").unwrap();
        let refused = Operation { state: "refused".into(), history: Vec::new(), ..operation("a", 1, true) };
        for refusal_first in [true, false] {
            let known = OperationCache::new(9);
            known.view(operation("a", 1, false), WallTime(1));
            if refusal_first {
                known.refused(refused.clone(), WallTime(2));
                assert!(known.operation(&id).unwrap().live, "the view is not deleted yet");
            }
            known.forget(&id);
            if !refusal_first {
                known.refused(refused.clone(), WallTime(2));
            }
            assert_eq!(known.operation(&id), Some(refused.clone()), "{refusal_first}");
            assert_eq!(ids(&known.page(None, 9, |view| !view.live).0), ["a"]);
            known.request_repeated(&id);
            assert_eq!(known.operation(&id), None, "the repeated request is not refused yet");
        }
    }

    #[test]
    fn a_repeat_drops_nothing_but_a_refusal() {
        let known = OperationCache::new(9);
        let id = OperationId::new("a").unwrap();
        known.requested(operation("a", 1, false), WallTime(1));
        known.request_repeated(&id);
        assert!(known.operation(&id).is_some());
        known.answer(operation("a", 1, true), WallTime(2));
        known.request_repeated(&id);
        assert!(known.operation(&id).is_some());
    }

    #[test]
    fn a_refusal_is_kept_until_the_hub_publishes_the_operation() {
        let known = OperationCache::new(9);
        let id = OperationId::new("a").unwrap();
        let refused = Operation { state: "refused".into(), history: Vec::new(), ..operation("a", 1, true) };
        known.refused(refused.clone(), WallTime(5));
        assert!(!known.is_published(&id));
        known.view(operation("a", 7, false), WallTime(7));
        assert_eq!((known.operation(&id).unwrap().state.as_str(), known.is_published(&id)), ("s", true));
        known.forget(&id);
        assert_eq!(known.page(None, 9, |_| true), (Vec::new(), false));
    }
}
