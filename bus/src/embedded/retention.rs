//! Retention: keeps a partition within its limits.
//!
//! In memory, a partition above its limit drops records that every reader and group has passed.
//! Uncommitted records are dropped only when they are useless: their `ce_expirytime` or the
//! retention time of the topic has passed. On disk, a partition starts where its groups would
//! replay from, and records that do not fit the memory go to pages.

use wire::WallTime;

use super::log::Log;
use super::state::{BusState, PartitionRef};
use super::{EmbeddedOptions, SLACK};
use crate::Cleanup;

impl BusState {
    /// Keeps a partition within its limits.
    pub(super) fn enforce_retention(&mut self, place: PartitionRef, now: WallTime, options: &EmbeddedOptions) {
        let low = self.log(place).bounds().low;
        if self.disk.is_some() {
            self.enforce_retention_on_disk(place, now, options);
        } else {
            self.enforce_retention_in_memory(place, now, options);
        }
        self.report_passed(place, low);
    }

    fn enforce_retention_in_memory(&mut self, place: PartitionRef, now: WallTime, options: &EmbeddedOptions) {
        match self.topics[place.0].cleanup {
            Cleanup::Compact => {
                let passed = self.next_reads(place).min().unwrap_or(u64::MAX);
                self.log(place).forget_deletions(passed);
                return;
            }
            Cleanup::DeleteAfterMs(ms) => {
                self.log(place).cut_before(WallTime(now.0.saturating_sub(ms)));
                if let Some(limit) = options.retention_bytes.filter(|limit| self.log(place).bytes() > *limit) {
                    let needed = self.needed_from(place);
                    let log = self.log(place);
                    log.cut_to(limit, needed);
                    log.cut_expired(limit, now);
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

    fn enforce_retention_on_disk(&mut self, place: PartitionRef, now: WallTime, options: &EmbeddedOptions) {
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
            // Without a group it is unknown which records are needed.
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

    /// Shortens a partition with `cut`, and schedules the same on disk for the next batch.
    pub(super) fn cut(&mut self, place: PartitionRef, cut: impl FnOnce(&mut Log)) {
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
            disk.cuts.cut(place, first_page);
        }
    }

    /// Returns the offset from which memory must keep records for the groups of a partition: the
    /// snapshot in their offset metadata. A group without a snapshot would need all records, which
    /// do not fit the memory; it gets the uncommitted ones.
    fn needed_from(&self, (topic, partition): PartitionRef) -> u64 {
        let groups = self.topics[topic].groups.iter().filter_map(|group| self.groups[*group].share(partition));
        let needed = |share: &super::group::PartitionOwnership| {
            let committed = share.committed.as_ref()?;
            let snapshot = committed.parsed().map(|metadata| metadata.snapshot).filter(|snapshot| *snapshot > 0);
            Some(snapshot.map_or(committed.next, |snapshot| snapshot.min(committed.next)))
        };
        groups.map(|share| needed(share).unwrap_or(0)).min().unwrap_or(u64::MAX)
    }

    /// Returns the lowest offset from which a group of the partition would replay: the snapshot in
    /// its offset metadata, or the committed offset if it has no such metadata; the saved position
    /// of a named follower if that is lower. `None` without groups.
    fn replayed_from(&self, place @ (topic, partition): PartitionRef) -> Option<u64> {
        let groups = self.topics[topic].groups.iter().filter_map(|group| self.groups[*group].share(partition));
        let floor = |share: &super::group::PartitionOwnership| {
            let committed = share.committed.as_ref()?;
            Some(committed.parsed().map_or(committed.next, |metadata| metadata.snapshot))
        };
        let floor = groups.map(|share| floor(share).unwrap_or(0)).min()?;
        self.named(place).map(|(_, saved)| saved).chain([floor]).min()
    }
}

/// Drops pages from the front while `goes` is true for the page's end offset and the time of its
/// last record.
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
