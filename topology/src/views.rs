//! When views are published: first when their key is 100 ms old, then at most every 100 ms; when it
//! closes, what was published is deleted. What lives shorter never costs a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::MonoTime;

use crate::wheel::{Handle, Wheel};

/// DESIGN rule 8.
pub(crate) const INTERVAL_MS: u64 = 100;

/// A component's number and its key.
pub(crate) type ViewKey = (u16, Arc<str>);

#[derive(Debug)]
struct Tracked {
    /// Set while there is something to publish.
    due: Option<Handle>,
    /// Not before this tick.
    earliest: u64,
    published: bool,
}

/// The keys that live, bounded by what the lane lets live.
#[derive(Debug)]
pub(crate) struct Views {
    wheel: Wheel<ViewKey>,
    tracked: BTreeMap<ViewKey, Tracked>,
}

fn tick(now: MonoTime) -> u64 {
    now.0 / 1_000_000
}

impl Views {
    pub(crate) fn new(now: MonoTime) -> Self {
        Self { wheel: Wheel::new(tick(now)), tracked: BTreeMap::new() }
    }

    /// A key has changed. `known` where an owner before us may have published it.
    pub(crate) fn changed(&mut self, key: ViewKey, now: MonoTime, known: bool) {
        // Most changes come while their key is due anyway.
        match self.tracked.get_mut(&key) {
            Some(Tracked { due: Some(_), .. }) => {}
            Some(tracked) => tracked.due = Some(self.wheel.insert(tracked.earliest, key)),
            None => {
                let earliest = tick(now) + INTERVAL_MS;
                let due = Some(self.wheel.insert(earliest, key.clone()));
                self.tracked.insert(key, Tracked { due, earliest, published: known });
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
                *tracked = Tracked { due: None, earliest: tick(now) + INTERVAL_MS, published: true };
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
