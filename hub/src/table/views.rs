//! Views of the operations of a lane: what each is doing, and what it waits for.

use topology::{DueTimes, Wait};
use wire::OperationId;
use wire::answer::{Operation, Queue};

use super::HubTable;
use crate::machine::Workflows;
use crate::operation::{OperationStatus, Running};

impl<W: Workflows> HubTable<W> {
    /// Returns the view of an operation.
    pub fn view(&self, operation: &str, timers: &dyn DueTimes) -> Option<Operation> {
        let operation = OperationId::new(operation).ok()?;
        if let Some(running) = self.live.of(&operation) {
            let view = running.view(Some((timers, running.slot)));
            return Some(Operation { queue: self.queue(running), ..view });
        }
        self.finished.get(&operation).map(|finished| finished.view.clone())
    }

    /// Returns the place of an operation in the ring of remembered outcomes, or `None` if it is
    /// live or forgotten.
    pub fn place_of(&self, operation: &OperationId) -> Option<u64> {
        self.finished.place_of(operation)
    }

    /// Describes what a queued operation waits for.
    fn queue(&self, running: &Running<W>) -> Option<Queue> {
        if running.standing != OperationStatus::Queued {
            return None;
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let queue = self.key_queues.get(&running.key)?;
        if queue.active == Some(running.slot) {
            let ahead = self.admission.iter().position(|slot| *slot == running.slot)?;
            return Some(Queue { behind: None, ahead: number(ahead), limit: Some(number(self.settings.active)) });
        }
        let ahead = queue.waiting.iter().position(|slot| *slot == running.slot)? + 1;
        let behind = queue.active.and_then(|slot| self.live.get(slot)).map(|first| first.id.clone());
        Some(Queue { behind, ahead: number(ahead), limit: None })
    }

    /// Lists the live operations with what they wait for.
    pub fn waits(&self) -> Vec<Wait> {
        let wait = |running: &Running<W>| {
            let mut wait = running.waits();
            if running.standing == OperationStatus::Queued {
                let queue = self.key_queues.get(&running.key);
                let queued =
                    queue.filter(|queue| queue.active == Some(running.slot) || queue.waiting.contains(&running.slot));
                wait.others.extend(queued.map(|_| "the queue of its key".to_owned()));
            }
            wait
        };
        self.live.iter().map(wait).collect()
    }

    /// Returns one line for each live operation.
    pub fn unfinished(&self) -> Vec<String> {
        let line = |running: &Running<W>| {
            let (workflow, state) = (running.machine.0.workflow(), running.state_name());
            format!("{} {workflow} `{}`: {state}", running.id, running.key)
        };
        self.live.iter().map(line).collect()
    }
}
