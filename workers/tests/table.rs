//! The worker's table under any order of events.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use steps::{ATTEMPTS, QUEUE, SHARE, Step, TestTable, id, step};
use wire::CallId;
use workers::WorkerEffect;

/// A table and its past effects.
struct Watched {
    lane: TestTable,
    started: BTreeSet<CallId>,
    abandoned: BTreeSet<CallId>,
    /// The number of ends of each call.
    ended: BTreeMap<CallId, u32>,
    /// The attempts sent for each call.
    sent: BTreeMap<CallId, Vec<u32>>,
}

impl Watched {
    fn on(&mut self, step: &Step) {
        match *step {
            Step::Start(n) => drop(self.started.insert(id(n))),
            Step::Abandon(n) if self.started.contains(&id(n)) && !self.ended.contains_key(&id(n)) => {
                self.abandoned.insert(id(n));
            }
            Step::Abandon(_) | Step::Answer { .. } | Step::Fire(_) | Step::StaleFire(..) | Step::Liveness(_) => {}
        }
        for effect in self.lane.on(step) {
            match effect {
                WorkerEffect::Send { call, attempt, .. } => self.sent.entry(call.id.clone()).or_default().push(attempt),
                WorkerEffect::End(end) => *self.ended.entry(end.id).or_default() += 1,
                WorkerEffect::Deadline(_)
                | WorkerEffect::Changed(_)
                | WorkerEffect::Closed(_)
                | WorkerEffect::Publish
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
        lane: TestTable::new(),
        started: BTreeSet::new(),
        abandoned: BTreeSet::new(),
        ended: BTreeMap::new(),
        sent: BTreeMap::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_ends_exactly_once_unless_abandoned(steps in steps()) {
        let mut watched = watched();
        for step in steps {
            watched.on(&step);
            let open = watched.lane.table.len();
            prop_assert!(open <= SHARE as usize + QUEUE, "{open} open");
            prop_assert_eq!(watched.lane.timers.len(), open, "one deadline for each open call");
            let owed = watched.started.len() - watched.abandoned.len() - watched.ended.len();
            prop_assert_eq!(owed, open, "every unanswered call is open");
        }
        // Spokes no longer answer: the deadlines end every open call.
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
    fn attempts_are_numbered_without_gaps_up_to_the_limit(steps in steps()) {
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
    fn calls_in_flight_never_exceed_the_share(starts in prop::collection::vec(1..40_u32, 0..60)) {
        let mut watched = watched();
        for n in starts {
            watched.on(&Step::Start(n));
            // A call under fault injection takes a place too: the table treats it as sent.
            prop_assert!(watched.sent.len() <= SHARE as usize);
        }
    }
}
