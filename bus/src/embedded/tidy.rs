//! Keeping a partition within its bounds.
//!
//! In memory alone, what everybody has passed goes when a partition takes more than it may. What a group has not committed goes only when
//! it is of no use any more: its own `ce_expirytime`, or the time of its topic, has passed. With a disk, more is kept: a
//! partition begins where its groups would replay from, and what does not fit the memory goes to pages.

use wire::WallTime;

use super::log::Log;
use super::state::{Place, State};
use super::{EmbeddedOptions, SLACK};
use crate::Cleanup;

impl State {
    /// Keeps a partition within its bounds.
    pub(super) fn tidy(&mut self, place: Place, now: WallTime, options: &EmbeddedOptions) {
        if self.disk.is_some() {
            return self.tidy_disk(place, now, options);
        }
        match self.topics[place.0].cleanup {
            Cleanup::Compact => {
                let passed = self.next_reads(place).min().unwrap_or(u64::MAX);
                self.log(place).forget_deletions(passed);
                return;
            }
            Cleanup::DeleteAfterMs(ms) => {
                self.log(place).cut_before(WallTime(now.0.saturating_sub(ms)));
                if let Some(most) = options.retention_bytes.filter(|most| self.log(place).bytes() > *most) {
                    let needed = self.needed_from(place);
                    let log = self.log(place);
                    log.cut_to(most, needed);
                    log.cut_expired(most, now);
                }
            }
            Cleanup::Keep => {}
        }
        if let Some(keep) = options.keep_bytes
            && self.log(place).bytes() > keep
        {
            let needed = self.needed_from(place);
            let passed = self.next_reads(place).min().unwrap_or(u64::MAX);
            self.log(place).cut_to(keep, needed.min(passed));
            self.log(place).cut_to(keep.saturating_mul(SLACK), needed);
        }
    }

    fn tidy_disk(&mut self, place: Place, now: WallTime, options: &EmbeddedOptions) {
        let passed = self.next_reads(place).min().unwrap_or(u64::MAX);
        let cleanup = self.topics[place.0].cleanup;
        if cleanup == Cleanup::Compact {
            self.log(place).forget_deletions(passed);
            self.compact(place);
            return;
        }
        let floor = self.replayed_from(place);
        self.cut(place, |log| {
            if let Cleanup::DeleteAfterMs(ms) = cleanup {
                let before = WallTime(now.0.saturating_sub(ms));
                cut_pages(log, |_, last| last < before);
                if all_in_memory(log) {
                    log.cut_before(before);
                }
            }
            // Without a group nobody says what is needed.
            let Some(floor) = floor else { return };
            cut_pages(log, |end, _| end <= floor);
            if let Some(keep) = options.keep_bytes.filter(|_| all_in_memory(log)) {
                log.cut_to(keep, floor.min(passed));
                log.cut_to(keep.saturating_mul(SLACK), floor);
            }
        });
        if let Some(keep) = options.keep_bytes {
            self.pack(place, keep, floor.unwrap_or(0));
        }
    }

    /// Lets `cut` shorten a partition, and has the disk follow with the next batch.
    pub(super) fn cut(&mut self, place: Place, cut: impl FnOnce(&mut Log)) {
        let log = self.log(place);
        let low = log.bounds().low;
        let first_page = log.tail.as_ref().map(super::disk::tail::Tail::first_page_number);
        cut(log);
        let now = log.bounds().low;
        if now == low {
            return;
        }
        if let Some(tail) = &mut log.tail {
            tail.settle(now);
        }
        if let (Some(disk), Some(first_page)) = (&mut self.disk, first_page) {
            disk.chores.cut(place, first_page);
        }
    }

    /// What memory alone must keep for the groups that read a partition: from the snapshot on that a group's note names. A group
    /// without one would need all of it, which memory does not have; it gets what it has not committed.
    fn needed_from(&self, (topic, partition): Place) -> u64 {
        let groups = self.topics[topic].groups.iter().filter_map(|group| self.groups[*group].share(partition));
        let needed = |share: &super::group::Share| {
            let committed = share.committed.as_ref()?;
            let snapshot = committed.parsed().map(|note| note.snapshot).filter(|snapshot| *snapshot > 0);
            Some(snapshot.map_or(committed.next, |snapshot| snapshot.min(committed.next)))
        };
        groups.map(|share| needed(share).unwrap_or(0)).min().unwrap_or(u64::MAX)
    }

    /// Where the first of the groups that read a partition would replay it from: from the snapshot that its note names, or from
    /// where it stands where it has no such note. None where no group reads it.
    fn replayed_from(&self, (topic, partition): Place) -> Option<u64> {
        let groups = self.topics[topic].groups.iter().filter_map(|group| self.groups[*group].share(partition));
        let floor = |share: &super::group::Share| {
            let committed = share.committed.as_ref()?;
            Some(committed.parsed().map_or(committed.next, |note| note.snapshot))
        };
        groups.map(|share| floor(share).unwrap_or(0)).min()
    }
}

/// Cuts pages from the front as long as `goes` says so, of the offset after one and the time of its last record.
fn cut_pages(log: &mut Log, goes: impl Fn(u64, WallTime) -> bool) {
    while let Some(tail) = &mut log.tail
        && let Some(page) = tail.first_page().copied().filter(|page| goes(page.end, WallTime(page.last)))
    {
        tail.settle(page.end);
        log.begin_at(page.end);
    }
}

fn all_in_memory(log: &Log) -> bool {
    log.tail.as_ref().is_none_or(|tail| tail.first_page().is_none())
}
