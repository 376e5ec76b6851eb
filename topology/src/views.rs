//! When views are published: first when their key is 100 ms old, then at most every 100 ms; when it
//! closes, what was published is deleted. What lives shorter never costs a view. What was restored from a snapshot was published
//! by the last owner, but for what changed in its last moments: so all of it is published again, in no hurry.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::MonoTime;

use crate::wheel::{Handle, Wheel};

/// Minimum interval between two publications of one view: a person who watches sees no difference, and a busy operation costs
/// ten records a second.
pub(crate) const INTERVAL_MS: u64 = 100;

/// So many restored keys of a lane are published in a millisecond: ten thousand live operations in ten seconds, which leaves
/// the lane to those who wait for it.
const RESTORED_PER_MS: u64 = 1;

/// A component's number and its key.
pub(crate) type ViewKey = (u16, Arc<str>);

#[derive(Debug)]
struct Tracked {
    /// Set while there is something to publish.
    due: Option<Handle>,
    /// Not before this tick.
    earliest: u64,
    /// It is due later than that, and is in no hurry: it was restored, and has not changed since.
    restored: bool,
    published: bool,
}

/// The keys that live, bounded by what the lane lets live.
#[derive(Debug)]
pub(crate) struct Views {
    wheel: Wheel<ViewKey>,
    tracked: BTreeMap<ViewKey, Tracked>,
    /// How many keys were restored.
    restored: u64,
}

fn tick(now: MonoTime) -> u64 {
    now.0 / 1_000_000
}

impl Views {
    pub(crate) fn new(now: MonoTime) -> Self {
        Self { wheel: Wheel::new(tick(now)), tracked: BTreeMap::new(), restored: 0 }
    }

    /// A key was restored.
    pub(crate) fn restored(&mut self, key: ViewKey, now: MonoTime) {
        let earliest = tick(now) + INTERVAL_MS;
        let due = Some(self.wheel.insert(earliest + self.restored / RESTORED_PER_MS, key.clone()));
        self.restored += 1;
        self.tracked.insert(key, Tracked { due, earliest, restored: true, published: true });
    }

    /// A key has changed. `known` where an owner before us may have published it.
    pub(crate) fn changed(&mut self, key: ViewKey, now: MonoTime, known: bool) {
        // Most changes come while their key is due anyway.
        match self.tracked.get_mut(&key) {
            Some(Tracked { due: Some(_), restored: false, .. }) => {}
            Some(Tracked { due: Some(due), earliest, restored, .. }) => {
                self.wheel.cancel(*due);
                (*due, *restored) = (self.wheel.insert(*earliest, key), false);
            }
            Some(tracked) => tracked.due = Some(self.wheel.insert(tracked.earliest, key)),
            None => {
                let earliest = tick(now) + INTERVAL_MS;
                let due = Some(self.wheel.insert(earliest, key.clone()));
                self.tracked.insert(key, Tracked { due, earliest, restored: false, published: known });
            }
        }
    }

    /// A key has changed for the last time. True where it was published, and has to be once more.
    pub(crate) fn closed(&mut self, key: &ViewKey) -> bool {
        let Some(tracked) = self.tracked.remove(key) else { return false };
        if let Some(due) = tracked.due {
            self.wheel.cancel(due);
        }
        tracked.published
    }

    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.wheel.next().map(|tick| MonoTime(tick.saturating_mul(1_000_000)))
    }

    /// Takes the keys that are to be published now.
    pub(crate) fn take_due(&mut self, now: MonoTime) -> Vec<ViewKey> {
        let mut keys = Vec::new();
        self.wheel.advance(tick(now), |key| keys.push(key));
        for key in &keys {
            if let Some(tracked) = self.tracked.get_mut(key) {
                *tracked = Tracked { due: None, earliest: tick(now) + INTERVAL_MS, restored: false, published: true };
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_short_life_costs_no_view() {
        let mut views = Views::new(MonoTime(0));
        let key: ViewKey = (0, "a".into());
        views.changed(key.clone(), MonoTime(0), false);
        assert_eq!(views.take_due(MonoTime(99 * MS)), []);
        assert!(!views.closed(&key));
        assert_eq!(views.next(), None);
    }

    #[test]
    fn what_was_restored_is_published_in_no_hurry_and_what_changes_as_ever() {
        let mut views = Views::new(MonoTime(0));
        let key = |n: u64| -> ViewKey { (0, n.to_string().into()) };
        (0..1_000).for_each(|n| views.restored(key(n), MonoTime(0)));
        assert_eq!(views.take_due(MonoTime(99 * MS)), []);
        views.changed(key(900), MonoTime(99 * MS), false);
        let mut first = views.take_due(MonoTime(100 * MS));
        first.sort();
        assert_eq!(first, [key(0), key(900)]);
        assert!(views.closed(&key(901)), "the last owner had published it");
        assert_eq!(views.take_due(MonoTime(1_100 * MS)).len(), 997);
        assert_eq!(views.next(), None);
    }

    #[test]
    fn a_longer_one_is_published_at_100_ms_then_at_most_every_100_ms_and_at_its_end() {
        let mut views = Views::new(MonoTime(0));
        let key: ViewKey = (0, "a".into());
        let mut published = Vec::new();
        for ms in 0..1_000 {
            views.changed(key.clone(), MonoTime(ms * MS), false);
            if !views.take_due(MonoTime(ms * MS)).is_empty() {
                published.push(ms);
            }
        }
        assert_eq!(published, (1..10).map(|n| n * 100).collect::<Vec<_>>());
        assert!(views.closed(&key));
    }
}
