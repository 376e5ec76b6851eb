//! The worker's table under any order of events.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use steps::{ATTEMPTS, Driven, QUEUE, SHARE, Step, id, step};
use wire::CallId;
use workers::WorkerEffect;

/// A table and what it said so far.
struct Watched {
    lane: Driven,
    started: BTreeSet<CallId>,
    abandoned: BTreeSet<CallId>,
    /// How often each call ended.
    ended: BTreeMap<CallId, u32>,
    /// The attempts that were sent of each call.
    sent: BTreeMap<CallId, Vec<u32>>,
}

impl Watched {
    fn on(&mut self, step: &Step) {
        match *step {
            Step::Start(n) => drop(self.started.insert(id(n))),
            Step::Abandon(n) if self.started.contains(&id(n)) && !self.ended.contains_key(&id(n)) => {
                self.abandoned.insert(id(n));
            }
            Step::Abandon(_) | Step::Answer { .. } | Step::Fire(_) | Step::StaleFire(..) | Step::Lives(_) => {}
        }
        for effect in self.lane.on(step) {
            match effect {
                WorkerEffect::Send { call, attempt, .. } => self.sent.entry(call.id.clone()).or_default().push(attempt),
                WorkerEffect::End(end) => *self.ended.entry(end.id).or_default() += 1,
                WorkerEffect::Deadline(_)
                | WorkerEffect::Changed(_)
                | WorkerEffect::Closed(_)
                | WorkerEffect::Show
                | WorkerEffect::Count(_)
                | WorkerEffect::Log(..) => {}
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..120)
}

fn watched() -> Watched {
    Watched {
        lane: Driven::new(),
        started: BTreeSet::new(),
        abandoned: BTreeSet::new(),
        ended: BTreeMap::new(),
        sent: BTreeMap::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_ends_exactly_once_unless_it_was_abandoned_and_nothing_is_left(steps in steps()) {
        let mut watched = watched();
        for step in steps {
            watched.on(&step);
            let open = watched.lane.table.len();
            prop_assert!(open <= SHARE as usize + QUEUE, "{open} open");
            prop_assert_eq!(watched.lane.timers.len(), open, "a deadline for each open call, and none else");
            let owed = watched.started.len() - watched.abandoned.len() - watched.ended.len();
            prop_assert_eq!(owed, open, "what is owed is open");
        }
        // Nobody answers any more: the deadlines end what is open.
        for _ in 0..1_000 {
            watched.on(&Step::Fire(0));
        }
        prop_assert!(watched.lane.table.is_empty() && watched.lane.timers.is_empty());
        for call in &watched.started {
            let ends = watched.ended.get(call).copied().unwrap_or(0);
            prop_assert_eq!(ends, u32::from(!watched.abandoned.contains(call)), "{}", call);
        }
    }

    #[test]
    fn attempts_are_numbered_without_a_gap_and_never_more_than_allowed(steps in steps()) {
        let mut watched = watched();
        for step in steps {
            watched.on(&step);
        }
        for (call, attempts) in &watched.sent {
            let expected: Vec<u32> = (1..=u32::try_from(attempts.len()).unwrap()).collect();
            prop_assert_eq!(attempts, &expected, "{}", call);
            prop_assert!(attempts.len() <= ATTEMPTS as usize, "{}", call);
        }
    }

    #[test]
    fn no_more_calls_are_in_flight_than_the_share(starts in prop::collection::vec(1..40_u32, 0..60)) {
        let mut watched = watched();
        for n in starts {
            watched.on(&Step::Start(n));
            // Each of the swallowed ones takes a place too: it is sent as far as the table knows.
            prop_assert!(watched.sent.len() <= SHARE as usize);
        }
    }
}
