//! Checks that inboxes still contain the records that their lanes, or a takeover, need.

use bus::Bounds;
use wire::Code;

use super::Shard;
use crate::names;

/// Interval between two checks: a request to the bus for each lane, which takes a millisecond.
const LOOK_MS: u64 = 10_000;

impl Shard {
    /// Checks the inboxes of live lanes, at most every [`LOOK_MS`].
    pub(super) fn watch_inboxes(&mut self) {
        let now = self.context.clock.mono();
        if now < self.takeover.next_check {
            return;
        }
        self.takeover.next_check = now.plus_ms(LOOK_MS);
        for lane in self.live() {
            let Some(owned) = self.owned.get(&lane) else { continue };
            let (position, covers) = (owned.position, owned.snapshots.covers);
            match self.context.bus.bounds(&self.context.inbox, lane) {
                Ok(Bounds { low, end }) => {
                    if let Some(owned) = self.owned.get(&lane) {
                        owned.gauges.backlog(end.saturating_sub(owned.position));
                    }
                    self.check_end(lane, end, position);
                    self.check_retention(lane, low, covers, position);
                }
                Err(error) => {
                    tracing::warn!(stage = %self.context.options.stage, lane, %error, "cannot read the bounds of an inbox");
                }
            }
        }
    }

    /// Reports an inbox that ends before its lane's position: it was deleted and created again. It
    /// stays reported when it grows, since the lane has missed its first records.
    fn check_end(&self, lane: u32, end: u64, position: u64) {
        if end < position && self.context.status.cut(lane) {
            let (stage, code) = (&self.context.options.stage, Code::InboxCut);
            tracing::error!(
                stage,
                lane,
                code = code.as_str(),
                end,
                position,
                "the inbox of a live lane ends before its position: manual action needed"
            );
        }
    }

    /// Reports an inbox long before it loses records: as soon as fewer old records are kept than a
    /// takeover needs.
    fn check_retention(&mut self, lane: u32, low: u64, covers: u64, position: u64) {
        let (kept, needed) = (covers.saturating_sub(low), position.saturating_sub(covers));
        // New records since the last check may wait for their snapshot in a healthy lane.
        let is_late = self.owned.get(&lane).is_some_and(|owned| owned.snapshots.checksums.is_none() && needed > 0);
        if is_late && kept < needed {
            self.counters.add(names::INBOXES_SHORT, 1);
            let code = Code::InboxShort;
            tracing::error!(stage = %self.context.options.stage, lane, code = code.as_str(), kept, needed, "an inbox is close to losing records that a takeover needs");
        }
    }
}
