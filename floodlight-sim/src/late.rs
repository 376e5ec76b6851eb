//! What waits for its time: commands that are carried out late, and answers that are told late.

use std::collections::BTreeMap;

use bus::MonoTime;

use crate::{Answer, Request};

/// So many commands and answers may wait for their time; a command that finds no room is not delayed. It is a hundred times
/// what a flow of ten rules can have open.
pub const WAITING: usize = 10_000;

/// An answer that is held back for others is told after so many milliseconds at the latest, so that nothing is held for
/// ever where no others come. It is more than an attempt of any worker waits by default.
pub const HOLD_MS: u64 = 1_000;

/// What waits.
#[derive(Debug)]
pub(crate) enum Late {
    /// A command.
    CarryOut(Box<Request>),
    /// An answer.
    Tell(Box<Answer>),
    /// An answer that is told earlier where so many others were told by then.
    Held {
        answer: Box<Answer>,
        /// Its place in [`Waiting::held`].
        place: (u64, u64),
    },
}

/// What is due: to be carried out, or to be told.
#[derive(Debug)]
pub(crate) enum Due {
    CarryOut(Box<Request>),
    Tell(Box<Answer>),
}

/// All that waits, by time.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    entries: BTreeMap<(MonoTime, u64), Late>,
    /// The keys of what is held, by the count of answers that lets it go.
    held: BTreeMap<(u64, u64), (MonoTime, u64)>,
    /// How many answers were told.
    told: u64,
    /// So that what waits for one instant keeps its order.
    sequence: u64,
}

impl Waiting {
    /// Carries `request` out at `at`.
    pub(crate) fn carry_out(&mut self, at: MonoTime, request: Request) {
        let key = self.key(at);
        self.entries.insert(key, Late::CarryOut(Box::new(request)));
    }

    /// Tells `answer` at `at`.
    pub(crate) fn tell(&mut self, at: MonoTime, answer: Answer) {
        let key = self.key(at);
        self.entries.insert(key, Late::Tell(Box::new(answer)));
    }

    /// Tells `answer` after `others` more answers, and in any case [`HOLD_MS`] after `now`.
    pub(crate) fn hold(&mut self, now: MonoTime, others: u32, answer: Answer) {
        let key = self.key(now.plus_ms(HOLD_MS));
        let place = (self.told.saturating_add(others.into()), key.1);
        self.held.insert(place, key);
        self.entries.insert(key, Late::Held { answer: Box::new(answer), place });
    }

    /// So many answers were told: gives those that were held for them, in the order in which they were to be told.
    pub(crate) fn told(&mut self, answers: usize) -> Vec<Answer> {
        self.told += answers as u64;
        let mut free = Vec::new();
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= self.told) {
            if let Some(Late::Held { answer, .. }) = self.entries.remove(&first.remove()) {
                free.push(*answer);
            }
        }
        free
    }

    /// The next that is due at `now`, if one is.
    pub(crate) fn due(&mut self, now: MonoTime) -> Option<Due> {
        let first = self.entries.first_entry().filter(|first| first.key().0 <= now)?;
        Some(match first.remove() {
            Late::CarryOut(request) => Due::CarryOut(request),
            Late::Tell(answer) => Due::Tell(answer),
            Late::Held { answer, place } => {
                self.held.remove(&place);
                Due::Tell(answer)
            }
        })
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets all of it, as a process does that dies.
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
    use wire::speaker::Reply;
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
    fn what_is_held_goes_after_the_answers_that_it_waits_for() {
        let mut waiting = Waiting::default();
        waiting.hold(MonoTime(0), 2, answer("two"));
        waiting.hold(MonoTime(0), 1, answer("one"));
        assert!(waiting.told(0).is_empty());
        assert_eq!(ids(&waiting.told(1)), ["one"]);
        assert_eq!(ids(&waiting.told(5)), ["two"]);
        assert_eq!((waiting.len(), waiting.next()), (0, None));
    }

    #[test]
    fn what_is_held_goes_at_its_time_where_no_others_come() {
        let mut waiting = Waiting::default();
        waiting.hold(MonoTime(0), 2, answer("held"));
        let due = MonoTime(0).plus_ms(HOLD_MS);
        assert_eq!(waiting.next(), Some(due));
        assert!(waiting.due(MonoTime(due.0 - 1)).is_none());
        assert!(matches!(waiting.due(due), Some(Due::Tell(answer)) if answer.request.id == "held"));
        assert!(waiting.told(2).is_empty(), "it is told once");
    }
}
