//! Back-pressure: checks whether the inboxes that a stage feeds have room.
//!
//! | writer | pauses while |
//! |---|---|
//! | a spout | any inbox downstream of its stage is full |
//! | a lane that handles its inbox | a downstream inbox is full whose stage does not feed this one back |
//!
//! In a cycle only the spouts pause: tuples in the cycle move on, so a cycle of full inboxes
//! drains. The stages that pause form no cycle, so the last of them always has room. An inbox is
//! full when one of its partitions reaches [`InboxLimit`], and has room again at half of it.

use std::sync::Arc;

use bus::{Bus, Clock, MonoTime};

use crate::plan::DownstreamStage;

/// The backlog of an inbox at which its writers pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLimit {
    /// Records per partition. Several writers may exceed it together, each by this number.
    pub records: u64,
    /// Bytes per partition: number of records times the mean size of this writer's records.
    pub bytes: u64,
}

impl Default for InboxLimit {
    /// [`bus::INBOX_LIMIT`] records and 8 MiB: half of what a partition of the embedded bus holds in
    /// memory for a slow reader by default.
    fn default() -> Self {
        Self { records: bus::INBOX_LIMIT, bytes: 8 << 20 }
    }
}

/// Minimum interval between two checks of a full inbox: a lane handles some hundred records
/// meanwhile.
const LOOK_MS: u64 = 20;

/// An inbox that the stage feeds, directly or through others.
#[derive(Debug)]
struct Inbox {
    topic: Arc<str>,
    feeds_back: bool,
    /// Number of records that may be written before the next check.
    room: u64,
    /// The largest backlog of a partition at the last check.
    behind: u64,
    full: bool,
    look: MonoTime,
    /// Records and bytes that this shard wrote to it.
    records: u64,
    bytes: u64,
}

impl Inbox {
    fn limit(&self, limit: InboxLimit) -> u64 {
        // Before the first record the size is unknown.
        let size = self.bytes.checked_div(self.records).unwrap_or(0).max(1);
        limit.records.min(limit.bytes / size).max(1)
    }

    fn looked(&mut self, behind: u64, limit: u64) {
        self.behind = behind;
        self.full = if self.full { behind > limit / 2 } else { behind >= limit };
        self.room = if self.full { 0 } else { limit.saturating_sub(behind).max(1) };
    }
}

/// The inboxes downstream of a stage.
#[derive(Debug)]
pub(super) struct Pressure {
    inboxes: Vec<Inbox>,
    limit: InboxLimit,
    every_ms: u64,
}

impl Pressure {
    /// `topic` returns the inbox of a stage, which is also the name of its group. A stage without
    /// spouts ignores inboxes in a cycle with it, so it does not query them.
    pub(super) fn new(
        fed: Vec<DownstreamStage>,
        has_spouts: bool,
        limit: InboxLimit,
        bus: &dyn Bus,
        topic: impl Fn(&str) -> String,
    ) -> Self {
        let fed = fed.into_iter().filter(|fed| has_spouts || !fed.feeds_back);
        let inbox = |fed: DownstreamStage| Inbox {
            topic: topic(&fed.stage).into(),
            feeds_back: fed.feeds_back,
            room: 0,
            behind: 0,
            full: false,
            look: MonoTime::default(),
            records: 0,
            bytes: 0,
        };
        let lag = u64::try_from(bus.read_delay().as_millis()).unwrap_or(u64::MAX);
        Self { inboxes: fed.map(inbox).collect(), limit, every_ms: LOOK_MS.max(lag) }
    }

    /// Checks the inboxes without room. Returns true if one became full or has room again.
    pub(super) fn look(&mut self, bus: &dyn Bus, clock: &dyn Clock) -> bool {
        let mut changed = false;
        for inbox in self.inboxes.iter_mut().filter(|inbox| inbox.room == 0) {
            let now = clock.mono();
            if inbox.look > now {
                continue;
            }
            let was_full = inbox.full;
            match bus.backlog(&inbox.topic, &inbox.topic) {
                Ok(backlog) => inbox.looked(backlog.into_iter().max().unwrap_or(0), inbox.limit(self.limit)),
                Err(error) => tracing::warn!(inbox = &*inbox.topic, %error, "cannot read the backlog of an inbox"),
            }
            if inbox.room == 0 {
                inbox.look = now.plus_ms(self.every_ms);
            }
            changed |= inbox.full != was_full;
        }
        changed
    }

    /// Counts a record of `size` bytes for a topic.
    pub(super) fn wrote(&mut self, topic: &str, size: usize) {
        if let Some(inbox) = self.inboxes.iter_mut().find(|inbox| *inbox.topic == *topic) {
            inbox.room = inbox.room.saturating_sub(1);
            inbox.records += 1;
            inbox.bytes += size as u64;
        }
    }

    /// True if the stage's spouts may emit.
    pub(super) fn spouts_may_emit(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.room > 0)
    }

    /// True if lanes may handle records of their inbox.
    pub(super) fn lanes_may_step(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.room > 0 || inbox.feeds_back)
    }

    /// Returns the time of the next check of an inbox without room.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.inboxes.iter().filter(|inbox| inbox.room == 0).map(|inbox| inbox.look).min()
    }

    /// Returns a line for each full inbox.
    pub(super) fn full(&self) -> impl Iterator<Item = String> {
        self.inboxes.iter().filter(|inbox| inbox.full).map(|inbox| {
            let (behind, limit) = (inbox.behind, inbox.limit(self.limit));
            format!("inbox `{}` is full: {behind} records behind, limit {limit}", inbox.topic)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Inbox {
        Inbox {
            topic: "t".into(),
            feeds_back: false,
            room: 0,
            behind: 0,
            full: false,
            look: MonoTime::default(),
            records: 0,
            bytes: 0,
        }
    }

    #[test]
    fn a_full_inbox_has_room_again_at_half_of_its_limit() {
        let mut inbox = inbox();
        let mut room = |behind| {
            inbox.looked(behind, 100);
            inbox.room
        };
        assert_eq!([0, 60, 99, 100, 99, 51, 50, 70].map(&mut room), [100, 40, 1, 0, 0, 0, 50, 30]);
    }

    #[test]
    fn large_records_fill_an_inbox_by_their_bytes() {
        let limit = InboxLimit { records: 1_000, bytes: 10_000 };
        let mut pressure = Pressure { inboxes: vec![inbox()], limit, every_ms: LOOK_MS };
        assert_eq!(pressure.inboxes[0].limit(limit), 1_000);
        for size in [300, 100] {
            pressure.wrote("t", size);
            pressure.wrote("another", 1 << 20);
        }
        assert_eq!(pressure.inboxes[0].limit(limit), 50);
        pressure.wrote("t", 1 << 20);
        assert_eq!(pressure.inboxes[0].limit(limit), 1, "one at a time, however large");
    }
}
