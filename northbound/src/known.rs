//! What is known of operations: the newest view of each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use dashmap::DashMap;
use wire::answer::{Conversation, Operation};
use wire::{OperationId, WallTime};

/// The newest operations; the one that was heard of first goes first.
#[derive(Debug)]
pub struct Known {
    bound: usize,
    entries: DashMap<OperationId, Entry>,
    order: Mutex<VecDeque<OperationId>>,
}

#[derive(Debug, Default)]
struct Entry {
    view: Option<Operation>,
    /// When the bus appended the view.
    time: WallTime,
    /// What workers say of its calls, by the key of their view: one for each service.
    conversations: BTreeMap<Bytes, Vec<Conversation>>,
}

impl Entry {
    /// True where nothing more is to come.
    fn is_over(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.answer.is_some() && !view.live)
    }

    fn set(&mut self, view: Operation, time: WallTime) {
        self.view = Some(view);
        self.time = time;
        if self.is_over() {
            self.conversations.clear();
        }
    }
}

impl Known {
    /// Knows the newest `bound` operations.
    pub fn newest(bound: usize) -> Self {
        Self { bound, entries: DashMap::new(), order: Mutex::default() }
    }

    /// A view. It never takes the place of the last word, nor an unanswered one that of an answered one: answers and views
    /// come over two topics, so a view may come after the answer that it preceded.
    pub fn view(&self, view: Operation, time: WallTime) {
        self.change(view.operation.clone(), |entry| {
            let answered = entry.view.as_ref().is_some_and(|known| known.answer.is_some());
            if !entry.is_over() && (view.answer.is_some() || !answered) {
                entry.set(view, time);
            }
        });
    }

    /// An answer, unless something newer is known: the end of the cleaning up, read before the answer after a restart.
    pub fn answer(&self, view: Operation, time: WallTime) {
        self.change(view.operation.clone(), |entry| {
            if !entry.is_over() || entry.time <= time {
                entry.set(view, time);
            }
        });
    }

    /// What a worker says of the calls of an operation, under the key of its view. Nothing: it has none open.
    pub fn conversations(&self, operation: &OperationId, key: Bytes, calls: Vec<Conversation>) {
        if calls.is_empty() {
            if let Some(mut entry) = self.entries.get_mut(operation) {
                entry.conversations.remove(&key);
            }
            return;
        }
        self.change(operation.clone(), |entry| {
            if !entry.is_over() {
                entry.conversations.insert(key, calls);
            }
        });
    }

    /// The view was deleted. An answer is kept all the same: it is the last view, and comes over another topic.
    pub fn forget(&self, operation: &OperationId) {
        if let Some(mut entry) = self.entries.get_mut(operation)
            && entry.view.as_ref().is_some_and(|view| view.answer.is_none())
        {
            *entry = Entry::default();
        }
    }

    /// How an operation stands, with what workers say of its calls.
    pub fn operation(&self, id: &OperationId) -> Option<Operation> {
        let entry = self.entries.get(id)?;
        let mut view = entry.view.clone()?;
        let said: BTreeMap<_, _> = entry.conversations.values().flatten().map(|said| (&said.call, said)).collect();
        for pending in view.step.iter_mut().flat_map(|step| &mut step.pending) {
            if let Some(&said) = said.get(&pending.call) {
                pending.conversation = Some(said.clone());
            }
        }
        Some(view)
    }

    fn change(&self, operation: OperationId, change: impl FnOnce(&mut Entry)) {
        let mut is_new = false;
        let mut entry = self.entries.entry(operation.clone()).or_insert_with(|| {
            is_new = true;
            Entry::default()
        });
        change(&mut entry);
        drop(entry);
        if is_new {
            let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            order.push_back(operation);
            if order.len() > self.bound
                && let Some(oldest) = order.pop_front()
            {
                self.entries.remove(&oldest);
            }
        }
    }
}
