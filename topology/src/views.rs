//! Schedules the publication of views. A view is published when its key is 100 ms old, then at most
//! every 100 ms, and deleted when its key closes. A key with a shorter life causes no view.
//!
//! The last owner published the views of restored keys, except for its last changes. So all of them
//! are published again, at a low rate.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::MonoTime;
use bytes::Bytes;
use wire::WallTime;

use crate::wheel::{Handle, Wheel};

/// The body of a view: the current state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View(pub Bytes);

/// Due times of timers, for views. Lane code makes no decisions with it.
pub trait DueTimes {
    /// Returns the due time of the component's timer `key` on the owner's wall clock. Another
    /// component may keep the timer on its behalf.
    fn due(&self, key: u64) -> Option<WallTime>;
}

/// Minimum interval between two publications of one view: fast enough for a person, and a busy
/// operation costs ten records per second.
pub(crate) const INTERVAL_MS: u64 = 100;

/// Restored keys published per millisecond: ten thousand live operations take ten seconds, which
/// leaves the lane free for its requests.
const RESTORED_PER_MS: u64 = 1;

/// A component's number and its key.
pub(crate) type ViewKey = (u16, Arc<str>);

#[derive(Debug)]
struct Tracked {
    /// Set if a publication is due.
    due: Option<Handle>,
    /// The earliest tick of the next publication.
    earliest: u64,
    /// True if the key was restored and has not changed since: it is published later than
    /// `earliest`.
    restored: bool,
    published: bool,
}

/// The live keys; the lane limits their number.
#[derive(Debug)]
pub(crate) struct Views {
    wheel: Wheel<ViewKey>,
    tracked: BTreeMap<ViewKey, Tracked>,
    /// Number of restored keys.
    restored: u64,
}

fn tick(now: MonoTime) -> u64 {
    now.0 / 1_000_000
}

impl Views {
    pub(crate) fn new(now: MonoTime) -> Self {
        Self { wheel: Wheel::new(tick(now)), tracked: BTreeMap::new(), restored: 0 }
    }

    /// Adds a restored key.
    pub(crate) fn restored(&mut self, key: ViewKey, now: MonoTime) {
        let earliest = tick(now) + INTERVAL_MS;
        let due = Some(self.wheel.insert(earliest + self.restored / RESTORED_PER_MS, key.clone()));
        self.restored += 1;
        self.tracked.insert(key, Tracked { due, earliest, restored: true, published: true });
    }

    /// Records a change of a key. `published` is true if a previous owner may have published it.
    pub(crate) fn changed(&mut self, key: ViewKey, now: MonoTime, published: bool) {
        // Most changes happen while a publication is already due.
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
                self.tracked.insert(key, Tracked { due, earliest, restored: false, published });
            }
        }
    }

    /// Records the last change of a key. Returns true if its view was published and must be
    /// deleted.
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

    /// Returns the keys to publish now.
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
    fn a_short_lived_key_causes_no_view() {
        let mut views = Views::new(MonoTime(0));
        let key: ViewKey = (0, "a".into());
        views.changed(key.clone(), MonoTime(0), false);
        assert_eq!(views.take_due(MonoTime(99 * MS)), []);
        assert!(!views.closed(&key));
        assert_eq!(views.next(), None);
    }

    #[test]
    fn restored_views_are_published_slowly_and_changed_ones_at_once() {
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
    fn a_view_is_published_after_100_ms_then_at_most_every_100_ms() {
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
