//! Delayed commands and answers.

use std::collections::BTreeMap;

use bus::MonoTime;

use crate::{Answer, Request};

/// The maximum number of delayed commands and answers. Beyond it, nothing more is delayed. A flow
/// of ten rules has at most a hundredth of this open.
pub const MAX_DELAYED: usize = 10_000;

/// The maximum time that `reorder` holds an answer, in milliseconds, if no other answers follow. By
/// default every worker times an attempt out earlier.
pub const HOLD_MS: u64 = 1_000;

/// A delayed command or answer.
#[derive(Debug)]
pub(crate) enum Delayed {
    /// A command to execute.
    Execute(Box<Request>),
    /// An answer to send.
    Send(Box<Answer>),
    /// An answer that leaves earlier if enough other answers were sent.
    Held {
        answer: Box<Answer>,
        /// Its key in [`DelayQueue::held`].
        held_key: (u64, u64),
    },
}

/// A command or an answer that is due.
#[derive(Debug)]
pub(crate) enum Due {
    Execute(Box<Request>),
    Send(Box<Answer>),
}

/// All delayed commands and answers, by due time.
#[derive(Debug, Default)]
pub(crate) struct DelayQueue {
    entries: BTreeMap<(MonoTime, u64), Delayed>,
    /// The keys of held answers, by the value of `sent` that releases them.
    held: BTreeMap<(u64, u64), (MonoTime, u64)>,
    /// The number of answers sent so far.
    sent: u64,
    /// Keeps the order of entries with the same due time.
    sequence: u64,
}

impl DelayQueue {
    /// Delays the execution of `request` until `at`.
    pub(crate) fn execute_at(&mut self, at: MonoTime, request: Request) {
        let key = self.key(at);
        self.entries.insert(key, Delayed::Execute(Box::new(request)));
    }

    /// Delays `answer` until `at`.
    pub(crate) fn send_at(&mut self, at: MonoTime, answer: Answer) {
        let key = self.key(at);
        self.entries.insert(key, Delayed::Send(Box::new(answer)));
    }

    /// Holds `answer` until `others` more answers were sent, at most [`HOLD_MS`] after `now`.
    pub(crate) fn hold(&mut self, now: MonoTime, others: u32, answer: Answer) {
        let key = self.key(now.plus_ms(HOLD_MS));
        let held_key = (self.sent.saturating_add(others.into()), key.1);
        self.held.insert(held_key, key);
        self.entries.insert(key, Delayed::Held { answer: Box::new(answer), held_key });
    }

    /// Counts `answers` sent answers, and returns the held ones that they release, in order.
    pub(crate) fn sent(&mut self, answers: usize) -> Vec<Answer> {
        self.sent += answers as u64;
        let mut released = Vec::new();
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= self.sent) {
            if let Some(Delayed::Held { answer, .. }) = self.entries.remove(&first.remove()) {
                released.push(*answer);
            }
        }
        released
    }

    /// Removes and returns the next entry that is due at `now`.
    pub(crate) fn due(&mut self, now: MonoTime) -> Option<Due> {
        let first = self.entries.first_entry().filter(|first| first.key().0 <= now)?;
        Some(match first.remove() {
            Delayed::Execute(request) => Due::Execute(request),
            Delayed::Send(answer) => Due::Send(answer),
            Delayed::Held { answer, held_key } => {
                self.held.remove(&held_key);
                Due::Send(answer)
            }
        })
    }

    /// The due time of the next entry.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes all entries, as a crash does.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.held.clear();
    }

    fn key(&mut self, at: MonoTime) -> (MonoTime, u64) {
        self.sequence += 1;
        (at, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use flow_messages::speaker::Reply;
    use wire::{Envelope, Kind};

    use super::*;
    use crate::Body;

    fn answer(id: &str) -> Answer {
        let request = Envelope::new(Kind::Call, id, "/nave/flows/hub/0");
        Answer { key: None, request, body: Body::Reply(Reply::Removed { existed: true }), flaw: None }
    }

    fn ids(answers: &[Answer]) -> Vec<&str> {
        answers.iter().map(|answer| answer.request.id.as_str()).collect()
    }

    #[test]
    fn a_held_answer_leaves_after_the_answers_that_it_waits_for() {
        let mut waiting = DelayQueue::default();
        waiting.hold(MonoTime(0), 2, answer("two"));
        waiting.hold(MonoTime(0), 1, answer("one"));
        assert!(waiting.sent(0).is_empty());
        assert_eq!(ids(&waiting.sent(1)), ["one"]);
        assert_eq!(ids(&waiting.sent(5)), ["two"]);
        assert_eq!((waiting.len(), waiting.next()), (0, None));
    }

    #[test]
    fn a_held_answer_leaves_at_its_deadline_without_other_answers() {
        let mut waiting = DelayQueue::default();
        waiting.hold(MonoTime(0), 2, answer("held"));
        let due = MonoTime(0).plus_ms(HOLD_MS);
        assert_eq!(waiting.next(), Some(due));
        assert!(waiting.due(MonoTime(due.0 - 1)).is_none());
        assert!(matches!(waiting.due(due), Some(Due::Send(answer)) if answer.request.id == "held"));
        assert!(waiting.sent(2).is_empty(), "it leaves once");
    }
}
