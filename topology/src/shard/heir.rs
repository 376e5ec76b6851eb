//! Follows the snapshots of lanes that are others', so that whoever the group picks has them in memory already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bounds, Bus, BusError, MonoTime, Reader, Record};
use wire::Code;

use super::image::{Build, Image, Unfit};

/// Between two looks at what others have saved: a tenth of the usual cadence.
const LOOK_MS: u64 = 100;
/// A rebalance moves lanes for some seconds.
const SETTLED_MS: u64 = 10_000;
/// So many records are read at one look; more wait for the next, which then comes at once.
const TAKEN: usize = 4_096;
/// Maximum number of polls in a row that bring nothing while a snapshot is read; each waits as long as the bus may lag.
const WAITS: u32 = 20;
/// The same for lanes that are only followed.
const SILENCE: u32 = 3;

/// The snapshots of a stage, lane by lane.
pub(super) struct Heir {
    bus: Arc<dyn Bus>,
    topic: Arc<str>,
    /// Those of others, as far as they were read.
    images: BTreeMap<u32, Image>,
    reader: Option<Box<dyn Reader>>,
    /// The lanes that the reader was told to read.
    read: BTreeSet<u32>,
    look: MonoTime,
    /// When the lanes that moved last may be taken for all that move.
    settled: Option<MonoTime>,
    records: Vec<Record>,
}

impl Heir {
    /// Follows nothing yet.
    pub(super) fn new(bus: Arc<dyn Bus>, topic: Arc<str>) -> Self {
        let (images, read) = (BTreeMap::new(), BTreeSet::new());
        Self { bus, topic, images, reader: None, read, look: MonoTime::default(), settled: None, records: Vec::new() }
    }

    /// Follows all of so many lanes, and reads what there is of them.
    ///
    /// # Errors
    /// [`BusError::Refused`] where this build cannot go on with one of them: it is not to get it.
    pub(super) fn follow_all(&mut self, lanes: u32, build: &Build) -> Result<(), BusError> {
        (0..lanes).for_each(|lane| self.follow(lane));
        if let Err(error) = self.catch_up() {
            tracing::warn!(topic = %self.topic, %error, "snapshots cannot be read yet");
        }
        for (lane, image) in &self.images {
            if let Err(Unfit::Incompatible(reason)) = image.head(build) {
                let code = Code::StateIncompatible.as_str();
                return Err(BusError::Refused(format!("{code}: lane {lane}: {reason}")));
            }
        }
        Ok(())
    }

    /// Reads until nothing comes any more.
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
            silent = if self.read(self.bus.lag())? == 0 { silent + 1 } else { 0 };
        }
        Ok(())
    }

    /// From now on a lane is another's, or it is ours and to be taken.
    pub(super) fn follow(&mut self, lane: u32) {
        self.images.entry(lane).or_default();
    }

    /// A lane is another's, and is not followed.
    pub(super) fn let_go(&mut self, lane: u32) {
        if self.images.remove(&lane).is_some() {
            self.dropped(lane);
        }
    }

    /// What still comes of a lane is passed over, until the next reader.
    fn dropped(&mut self, lane: u32) {
        self.read.remove(&lane);
        self.settled = Some(self.bus.clock().mono().plus_ms(SETTLED_MS));
    }

    /// Reads what came, at most every [`LOOK_MS`].
    pub(super) fn look(&mut self, now: MonoTime) -> Result<(), BusError> {
        if now < self.look || (self.images.is_empty() && self.reader.is_none()) {
            return Ok(());
        }
        self.look = now.plus_ms(LOOK_MS);
        // Lanes that are ours since then are read along, and dropped, until it is clear that no more of them move.
        if self.settled.is_some_and(|at| at <= now) {
            self.begin_anew();
        }
        self.begin()?;
        if self.read(Duration::ZERO)? >= TAKEN {
            self.look = now;
        }
        Ok(())
    }

    /// The snapshot of a lane that is ours from now on: the one that covers `position`, or, where that is not known, the last one. The
    /// lane is followed no longer.
    ///
    /// # Errors
    /// Where it cannot be read now. What was read is kept.
    pub(super) fn take(&mut self, lane: u32, position: Option<u64>) -> Result<Image, BusError> {
        let Bounds { low, end } = self.bus.bounds(&self.topic, lane)?;
        self.images.entry(lane).or_default();
        let is_read = |heir: &Self| {
            let covers = heir.images.get(&lane).and_then(Image::covers);
            low == end || (position.is_some() && covers == position) || heir.has_reached(lane, end)
        };
        if !is_read(self) {
            self.begin()?;
        }
        let mut silent = 0;
        while !is_read(self) && silent < WAITS {
            silent = if self.read(self.bus.lag())? == 0 { silent + 1 } else { 0 };
            if silent == 1 {
                // A reader knows the end that a partition had when it was assigned, and this one may have been long ago.
                self.read.remove(&lane);
                self.begin()?;
            }
        }
        self.dropped(lane);
        Ok(self.images.remove(&lane).unwrap_or_default())
    }

    /// The same, read from the beginning: what was followed may lack a deletion that it was too late for.
    pub(super) fn take_afresh(&mut self, lane: u32, position: Option<u64>) -> Result<Image, BusError> {
        self.images.insert(lane, Image::default());
        self.read.remove(&lane);
        self.take(lane, position)
    }

    /// True where every record of the lane below `end` was read. The last offset need not have one: a transaction ends with a marker.
    fn has_reached(&self, lane: u32, end: u64) -> bool {
        // The reader still has the position of a lane that is to be read anew.
        let reader = self.reader.as_ref().filter(|_| self.read.contains(&lane));
        reader.and_then(|reader| reader.position(&self.topic, lane)).is_some_and(|position| position >= end)
    }

    /// Reads all that it follows, each from where it was read to.
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

    /// The next reader reads what is followed then, and nothing else.
    fn begin_anew(&mut self) {
        self.reader = None;
        self.read.clear();
        self.settled = None;
    }

    /// Takes in what the reader has; says how many records.
    fn read(&mut self, wait: Duration) -> Result<usize, BusError> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        let read = reader.poll(TAKEN, wait, &mut self.records);
        let count = self.records.len();
        for record in self.records.drain(..) {
            if let Some(image) = self.images.get_mut(&record.partition) {
                image.take(&record);
            }
        }
        // Where records were deleted before they were read, the next reader begins with what is left.
        if read.is_err() {
            self.begin_anew();
        }
        read.map(|()| count)
    }
}
