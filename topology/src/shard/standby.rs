//! Follows the snapshots of lanes that other shards own, so that a takeover finds them in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bounds, Bus, BusError, Follower, MonoTime, Start};
use wire::Code;

use super::image::{Build, Image, RestoreError};

/// Interval between two reads of snapshots: a tenth of the default snapshot interval.
const LOOK_MS: u64 = 100;
/// Duration of a rebalance: lanes move for some seconds. A reader without lanes is closed
/// afterwards.
const SETTLED_MS: u64 = 10_000;
/// Maximum number of records per read; the next read of more records follows at once.
const TAKEN: usize = 4_096;
/// Maximum silence of the bus while a snapshot is read.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same limit for lanes that are only followed.
const SHORT_PATIENCE: Duration = Duration::from_millis(300);

/// The followed snapshots of a stage, by lane.
pub(super) struct Standby {
    bus: Arc<dyn Bus>,
    topic: Arc<str>,
    /// The snapshots of other owners, as far as they were read.
    images: BTreeMap<u32, Image>,
    follower: Follower,
    look: MonoTime,
    /// When the current rebalance is considered finished.
    settled: MonoTime,
}

impl Standby {
    /// Creates a standby that follows no lane yet.
    pub(super) fn new(bus: Arc<dyn Bus>, topic: Arc<str>) -> Self {
        let (images, follower) = (BTreeMap::new(), Follower::default());
        Self { bus, topic, images, follower, look: MonoTime::default(), settled: MonoTime::default() }
    }

    /// Follows `lanes` lanes and reads their snapshots.
    ///
    /// # Errors
    /// [`BusError::Refused`] if this build cannot continue one of them: it must not get the lane.
    pub(super) fn follow_all(&mut self, lanes: u32, build: &Build) -> Result<(), BusError> {
        (0..lanes).for_each(|lane| self.follow(lane));
        let lanes: Vec<u32> = self.images.keys().copied().collect();
        let read = self.begin().and_then(|()| self.catch_up(&lanes, SHORT_PATIENCE, |_, _| false));
        if let Err(error) = read {
            tracing::warn!(topic = %self.topic, %error, "cannot read snapshots yet");
        }
        for (lane, image) in &self.images {
            if let Err(RestoreError::Incompatible(reason)) = image.head(build) {
                let code = Code::StateIncompatible;
                return Err(BusError::Refused(format!("{code}: lane {lane}: {reason}")));
            }
        }
        Ok(())
    }

    /// Follows a lane of another owner, or one that is about to be taken over.
    pub(super) fn follow(&mut self, lane: u32) {
        self.images.entry(lane).or_default();
    }

    /// Stops following a lane. Returns its snapshot, as far as it was read.
    pub(super) fn unfollow(&mut self, lane: u32) -> Option<Image> {
        self.settled = self.bus.clock().mono().plus_ms(SETTLED_MS);
        if self.follower.unfollow(&self.topic, lane).is_err() {
            // A new reader continues with the other lanes.
            self.follower = Follower::default();
        }
        self.images.remove(&lane)
    }

    /// Reads new records, at most every [`LOOK_MS`].
    pub(super) fn look(&mut self, now: MonoTime) -> Result<(), BusError> {
        if now < self.look {
            return Ok(());
        }
        self.look = now.plus_ms(LOOK_MS);
        if self.images.is_empty() {
            if self.settled <= now {
                self.follower = Follower::default();
            }
            return Ok(());
        }
        self.begin()?;
        let mut records = Vec::new();
        let read = self.follower.poll(TAKEN, Duration::ZERO, &mut records);
        if records.len() >= TAKEN {
            self.look = now;
        }
        for record in records {
            if let Some(image) = self.images.get_mut(&record.partition) {
                image.take(&record);
            }
        }
        if let Some(gap) = read? {
            self.images.insert(gap.partition, Image::default());
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
        self.follow(lane);
        let covers = |image: &Image| position.is_some() && image.covers() == position;
        if low < end && !covers(&self.images[&lane]) {
            self.begin()?;
            self.catch_up(&[lane], PATIENCE, |of, image| of == lane && covers(image))?;
        }
        Ok(self.unfollow(lane).unwrap_or_default())
    }

    /// Reads the snapshot again from the beginning: a follower that starts late can miss a
    /// compacted deletion.
    pub(super) fn take_again(&mut self, lane: u32, position: Option<u64>) -> Result<Image, BusError> {
        self.unfollow(lane);
        self.take(lane, position)
    }

    /// Follows each lane from the offset up to which it was read.
    fn begin(&mut self) -> Result<(), BusError> {
        for (lane, image) in &self.images {
            if self.follower.position(&self.topic, *lane).is_none() {
                self.follower.follow(&*self.bus, &self.topic, *lane, Start::Offset(image.next))?;
            }
        }
        Ok(())
    }

    /// Reads these lanes to their ends, or until one of the images is `enough`.
    fn catch_up(
        &mut self,
        lanes: &[u32],
        patience: Duration,
        enough: impl Fn(u32, &Image) -> bool,
    ) -> Result<(), BusError> {
        let Self { bus, topic, images, follower, .. } = self;
        while let Some(gap) = follower.catch_up(&**bus, topic, lanes.iter().copied(), patience, |record| {
            let Some(image) = images.get_mut(&record.partition) else { return ControlFlow::Continue(()) };
            image.take(&record);
            if enough(record.partition, image) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })? {
            images.insert(gap.partition, Image::default());
        }
        Ok(())
    }
}
