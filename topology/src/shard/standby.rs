//! Follows the snapshots of lanes that other shards own, so that a takeover finds them in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bounds, Bus, BusError, MonoTime, Reader, Record};
use wire::Code;

use super::image::{Build, Image, RestoreError};

/// Interval between two reads of snapshots: a tenth of the default snapshot interval.
const LOOK_MS: u64 = 100;
/// Duration of a rebalance: lanes move for some seconds.
const SETTLED_MS: u64 = 10_000;
/// Maximum number of records per read; the next read of more records follows at once.
const TAKEN: usize = 4_096;
/// Maximum number of empty polls in a row while a snapshot is read; each waits for
/// [`Bus::read_delay`].
const WAITS: u32 = 20;
/// The same limit for lanes that are only followed.
const SILENCE: u32 = 3;

/// The followed snapshots of a stage, by lane.
pub(super) struct Standby {
    bus: Arc<dyn Bus>,
    topic: Arc<str>,
    /// The snapshots of other owners, as far as they were read.
    images: BTreeMap<u32, Image>,
    reader: Option<Box<dyn Reader>>,
    /// The lanes that are assigned to the reader.
    read: BTreeSet<u32>,
    look: MonoTime,
    /// When the current rebalance is considered finished.
    settled: Option<MonoTime>,
    records: Vec<Record>,
}

impl Standby {
    /// Creates a standby that follows no lane yet.
    pub(super) fn new(bus: Arc<dyn Bus>, topic: Arc<str>) -> Self {
        let (images, read) = (BTreeMap::new(), BTreeSet::new());
        Self { bus, topic, images, reader: None, read, look: MonoTime::default(), settled: None, records: Vec::new() }
    }

    /// Follows `lanes` lanes and reads their snapshots.
    ///
    /// # Errors
    /// [`BusError::Refused`] if this build cannot continue one of them: it must not get the lane.
    pub(super) fn follow_all(&mut self, lanes: u32, build: &Build) -> Result<(), BusError> {
        (0..lanes).for_each(|lane| self.follow(lane));
        if let Err(error) = self.catch_up() {
            tracing::warn!(topic = %self.topic, %error, "cannot read snapshots yet");
        }
        for (lane, image) in &self.images {
            if let Err(RestoreError::Incompatible(reason)) = image.head(build) {
                let code = Code::StateIncompatible.as_str();
                return Err(BusError::Refused(format!("{code}: lane {lane}: {reason}")));
            }
        }
        Ok(())
    }

    /// Reads up to the current ends of the topic.
    fn catch_up(&mut self) -> Result<(), BusError> {
        let mut ends = BTreeMap::new();
        for lane in self.images.keys() {
            let Bounds { low, end } = self.bus.bounds(&self.topic, *lane)?;
            if low < end {
                ends.insert(*lane, end);
            }
        }
        let mut silent = 0;
        self.begin()?;
        while ends.iter().any(|(lane, end)| !self.has_reached(*lane, *end)) && silent < SILENCE {
            self.begin()?;
            silent = if self.read(self.bus.read_delay())? == 0 { silent + 1 } else { 0 };
        }
        Ok(())
    }

    /// Follows a lane of another owner, or one that is about to be taken over.
    pub(super) fn follow(&mut self, lane: u32) {
        self.images.entry(lane).or_default();
    }

    /// Stops following a lane of another owner.
    pub(super) fn unfollow(&mut self, lane: u32) {
        if self.images.remove(&lane).is_some() {
            self.dropped(lane);
        }
    }

    /// Forgets that a lane is read. The current reader still delivers its records; the next reader,
    /// after the rebalance, does not.
    fn dropped(&mut self, lane: u32) {
        self.read.remove(&lane);
        self.settled = Some(self.bus.clock().mono().plus_ms(SETTLED_MS));
    }

    /// Reads new records, at most every [`LOOK_MS`].
    pub(super) fn look(&mut self, now: MonoTime) -> Result<(), BusError> {
        if now < self.look || (self.images.is_empty() && self.reader.is_none()) {
            return Ok(());
        }
        self.look = now.plus_ms(LOOK_MS);
        // The reader still delivers lanes that this shard owns now. A new reader drops them once
        // the rebalance has finished.
        if self.settled.is_some_and(|at| at <= now) {
            self.reset_reader();
        }
        self.begin()?;
        if self.read(Duration::ZERO)? >= TAKEN {
            self.look = now;
        }
        Ok(())
    }

    /// Returns the snapshot of a lane that this shard takes over, and stops following it. The
    /// snapshot is the one that covers `position` or, if that is unknown, the last one.
    ///
    /// # Errors
    /// If it cannot be read now. The records read so far are kept.
    pub(super) fn take(&mut self, lane: u32, position: Option<u64>) -> Result<Image, BusError> {
        let Bounds { low, end } = self.bus.bounds(&self.topic, lane)?;
        self.images.entry(lane).or_default();
        let is_read = |standby: &Self| {
            let covers = standby.images.get(&lane).and_then(Image::covers);
            low == end || (position.is_some() && covers == position) || standby.has_reached(lane, end)
        };
        if !is_read(self) {
            self.begin()?;
        }
        let mut silent = 0;
        while !is_read(self) && silent < WAITS {
            silent = if self.read(self.bus.read_delay())? == 0 { silent + 1 } else { 0 };
            if silent == 1 {
                // A reader knows the end of a partition as of its assignment, which may be long
                // ago.
                self.read.remove(&lane);
                self.begin()?;
            }
        }
        self.dropped(lane);
        Ok(self.images.remove(&lane).unwrap_or_default())
    }

    /// Reads the snapshot again from the beginning: a follower that starts late can miss a
    /// compacted deletion.
    pub(super) fn take_again(&mut self, lane: u32, position: Option<u64>) -> Result<Image, BusError> {
        self.images.insert(lane, Image::default());
        self.read.remove(&lane);
        self.take(lane, position)
    }

    /// True if all records of the lane below `end` were read. The last offset may have no record,
    /// since transactions end with a marker.
    fn has_reached(&self, lane: u32, end: u64) -> bool {
        // The reader still has the old position of a lane that is read again.
        let reader = self.reader.as_ref().filter(|_| self.read.contains(&lane));
        reader.and_then(|reader| reader.position(&self.topic, lane)).is_some_and(|position| position >= end)
    }

    /// Assigns all followed lanes to the reader, each from the offset up to which it was read.
    fn begin(&mut self) -> Result<(), BusError> {
        let fresh: Vec<u32> = self.images.keys().filter(|lane| !self.read.contains(lane)).copied().collect();
        for lane in fresh {
            let low = self.bus.bounds(&self.topic, lane)?.low;
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => none.insert(self.bus.reader()?),
            };
            let image = self.images.entry(lane).or_default();
            if image.next < low {
                *image = Image::default();
            }
            reader.assign(&self.topic, lane, image.next.max(low))?;
            self.read.insert(lane);
        }
        Ok(())
    }

    /// Drops the reader. The next reader gets only the lanes that are followed then.
    fn reset_reader(&mut self) {
        self.reader = None;
        self.read.clear();
        self.settled = None;
    }

    /// Applies the records that the reader has; returns how many.
    fn read(&mut self, wait: Duration) -> Result<usize, BusError> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        let read = reader.poll(TAKEN, wait, &mut self.records);
        let count = self.records.len();
        for record in self.records.drain(..) {
            if let Some(image) = self.images.get_mut(&record.partition) {
                image.take(&record);
            }
        }
        // If unread records were deleted, the next reader starts with the remaining ones.
        if read.is_err() {
            self.reset_reader();
        }
        read.map(|()| count)
    }
}
