//! Reading logs from a position, outside all groups.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use wire::WallTime;

use crate::{Bounds, Bus, BusError, MonoTime, Reader, Record};

/// Maximum number of records per poll while catching up: at some 2 KB each, 2 MB.
const TAKEN: usize = 1_024;

/// Wait of one poll while catching up: the duration of an empty fetch on Kafka.
const WAIT: Duration = Duration::from_millis(100);

/// Maximum age of a saved position: Kafka drops a position by default after 7 days without a save,
/// also if its partition has no new records.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Maximum number of named followers of a topic: each holds back the deletion of records, and on
/// Kafka costs a client in each process that trims the topic.
pub const MAX_NAMES: usize = 8;

/// Maximum length of a name, in bytes: on Kafka it is part of a group id, next to a topic's name of
/// at most 249 bytes.
const NAME_BYTES: usize = 64;

/// The offset at which a follower begins to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The low watermark: everything that the partition still holds.
    Low,
    /// The end: only records that are appended from now on.
    End,
    /// The low watermark or this many offsets before the end, whichever is later.
    Last(u64),
    /// The first record that was appended at this time or later.
    Time(WallTime),
    /// This offset. If its record was deleted, [`IfGone`] decides.
    Offset(u64),
}

/// The policy of a follower for records that were deleted before it read them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IfGone {
    /// Reports the [`Gap`] and continues with the first remaining record.
    #[default]
    Skip,
    /// Returns [`BusError::Gone`], in each call until the partition is followed again.
    Fail,
}

/// Records that were deleted before a follower read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset of the record that would have been next.
    pub requested: u64,
    /// The offset at which the follower continues.
    pub low: u64,
}

/// Reads partitions, each from a position of its own.
///
/// It opens its [`Reader`] with the first partition and closes it when it is dropped. A partition
/// stays followed through errors: a later poll continues.
///
/// ```
/// use std::{ops::ControlFlow, sync::Arc, time::Duration};
/// use bus::{Bus, Cleanup, Embedded, EmbeddedOptions, Follower, ManualClock, Outgoing, Start, TopicSpec};
///
/// let bus = Embedded::open(Arc::new(ManualClock::default()), EmbeddedOptions::default());
/// bus.ensure_topic(&TopicSpec::log("names", 1).with_cleanup(Cleanup::Compact))?;
/// bus.writer("doc")?.append(&[Outgoing::keyed("names", "bob", "here"), Outgoing::keyed("names", "bob", "")])?;
///
/// let mut follower = Follower::default();
/// follower.follow(&bus, "names", 0, Start::Low)?;
/// follower.catch_up(&bus, "names", [0], Duration::from_secs(10), |_| ControlFlow::Continue(()))?;
/// assert_eq!(follower.position("names", 0), Some(2));
/// # Ok::<(), bus::BusError>(())
/// ```
///
/// A named follower saves its positions on the bus ([`Bus::save_positions`]), and a later follower
/// of the same name continues there. No trim passes them.
#[derive(Default)]
pub struct Follower {
    name: Option<String>,
    if_gone: IfGone,
    reader: Option<Box<dyn Reader>>,
    places: BTreeMap<String, BTreeMap<u32, Place>>,
}

/// A followed partition.
struct Place {
    /// The end of the partition when the follower began to read it.
    end: u64,
    /// The offset at which the next poll assigns the partition again, for example because the
    /// reader stopped at deleted records.
    stopped: Option<u64>,
    /// The position that was saved last, if the follower has a name, and when.
    saved: (u64, MonoTime),
}

impl Follower {
    /// Creates a follower of no partition.
    pub fn new(if_gone: IfGone) -> Self {
        Self { if_gone, ..Self::default() }
    }

    /// Creates a follower that saves its positions under this name: 1 to 64 letters, digits, `_`
    /// and `-`. Let one process at a time follow a partition under a name.
    pub fn named(name: &str, if_gone: IfGone) -> Self {
        Self { name: Some(name.to_owned()), if_gone, ..Self::default() }
    }

    /// Follows a partition, or moves a followed one. Returns its watermarks. A named follower
    /// continues at its saved position, if there is one, unless `start` is an offset; it saves
    /// where it begins, also if that position was saved before: it may be old.
    ///
    /// # Errors
    /// As in [`Reader::assign`]. With [`IfGone::Skip`] never [`BusError::Gone`]: the next poll
    /// reports the gap.
    pub fn follow(&mut self, bus: &dyn Bus, topic: &str, partition: u32, start: Start) -> Result<Bounds, BusError> {
        let bounds = bus.bounds(topic, partition)?;
        let saved = match (&self.name, start) {
            (Some(name), Start::Low | Start::End | Start::Last(_) | Start::Time(_)) => {
                bus.saved_position(name, topic, partition)?
            }
            (None, _) | (_, Start::Offset(_)) => None,
        };
        let from = match saved.map_or(start, Start::Offset) {
            Start::Low => bounds.low,
            Start::End => bounds.end,
            Start::Last(count) => bounds.end.saturating_sub(count).max(bounds.low),
            Start::Time(time) => bus.offset_at(topic, partition, time)?.max(bounds.low),
            Start::Offset(offset) => offset,
        };
        // After a failure the saved position must stay, so that the next attempt fails too.
        if let Some(name) = &self.name
            && (bounds.low..=bounds.end).contains(&from)
        {
            bus.save_positions(name, topic, &[(partition, from)])?;
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(bus.reader()?),
        };
        let stopped = match reader.assign(topic, partition, from) {
            Err(BusError::Gone { .. }) if self.if_gone == IfGone::Skip => Some(from),
            assigned => assigned.map(|()| None)?,
        };
        let place = Place { end: bounds.end, stopped, saved: (from, bus.clock().mono()) };
        self.places.entry(topic.into()).or_default().insert(partition, place);
        Ok(bounds)
    }

    /// Stops following a partition; none of its records arrives afterwards. Ignores a partition
    /// that is not followed.
    ///
    /// # Errors
    /// As in [`Reader::unassign`]. The partition is then still followed.
    pub fn unfollow(&mut self, topic: &str, partition: u32) -> Result<(), BusError> {
        if let (Some(reader), Some(places)) = (&mut self.reader, self.places.get_mut(topic)) {
            reader.unassign(topic, partition)?;
            places.remove(&partition);
        }
        Ok(())
    }

    /// Stops following all partitions of a topic.
    ///
    /// # Errors
    /// As in [`Follower::unfollow`].
    pub fn unfollow_topic(&mut self, topic: &str) -> Result<(), BusError> {
        while let Some(partition) = self.places.get(topic).and_then(|places| places.keys().next().copied()) {
            self.unfollow(topic, partition)?;
        }
        self.places.remove(topic);
        Ok(())
    }

    /// Saves the positions of a named follower: call it when all records that it delivered were
    /// handled. Writes the positions that have changed or were saved a day ago, and nothing if the
    /// follower has no name. Without calls for some days Kafka drops the positions.
    ///
    /// # Errors
    /// As in [`Bus::save_positions`], after an attempt for each topic.
    pub fn save(&mut self, bus: &dyn Bus) -> Result<(), BusError> {
        let (Some(name), Some(reader)) = (&self.name, &self.reader) else { return Ok(()) };
        let (now, mut failed) = (bus.clock().mono(), Ok(()));
        for (topic, places) in &mut self.places {
            let mut due = Vec::new();
            for (partition, place) in &*places {
                let next = place.stopped.or_else(|| reader.position(topic, *partition));
                let (saved, time) = place.saved;
                let is_due = |next: &u64| *next != saved || now.since(time) >= MAX_AGE;
                due.extend(next.filter(is_due).map(|next| (*partition, next)));
            }
            if due.is_empty() {
                continue;
            }
            if let Err(error) = bus.save_positions(name, topic, &due) {
                failed = failed.and(Err(error));
                continue;
            }
            for (partition, next) in due {
                places.entry(partition).and_modify(|place| place.saved = (next, now));
            }
        }
        failed
    }

    /// Returns the position in a partition, as [`Reader::position`]; `None` if it is not followed.
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        let place = self.place(topic, partition)?;
        place.stopped.or_else(|| self.reader.as_ref()?.position(topic, partition))
    }

    /// True once everything was read that a partition held when it was followed.
    pub fn has_caught_up(&self, topic: &str, partition: u32) -> bool {
        self.place(topic, partition).is_some_and(|place| self.position(topic, partition) >= Some(place.end))
    }

    /// True if the record was appended after its partition was followed.
    pub fn is_new(&self, record: &Record) -> bool {
        self.place(&record.topic, record.partition).is_some_and(|place| record.offset >= place.end)
    }

    fn place(&self, topic: &str, partition: u32) -> Option<&Place> {
        self.places.get(topic)?.get(&partition)
    }

    /// Appends at most `max` records to `out`, waiting at most `wait` for the first. Returns the
    /// gap that follows these records, if any.
    ///
    /// # Errors
    /// As in [`Reader::poll`]; [`BusError::Gone`] only with [`IfGone::Fail`]. The records in `out`
    /// are valid.
    pub fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<Option<Gap>, BusError> {
        let Some(reader) = &mut self.reader else {
            // A wait of zero would use up a wake-up of the thread.
            if !wait.is_zero() {
                std::thread::park_timeout(wait);
            }
            return Ok(None);
        };
        match read(&mut **reader, &mut self.places, max, wait, out) {
            Err(BusError::Gone { topic, partition, requested, low }) => {
                let skip = self.if_gone == IfGone::Skip;
                if let Some(place) = self.places.get_mut(&topic).and_then(|places| places.get_mut(&partition)) {
                    place.stopped = Some(if skip { low } else { requested });
                }
                let gap = Gap { topic, partition, requested, low };
                if skip { Ok(Some(gap)) } else { Err(gap.into()) }
            }
            polled => polled.map(|()| None),
        }
    }

    /// Reads followed partitions of `topic` to their current ends. Passes every record to `take`,
    /// those of other followed partitions included. Stops early, after the records of a poll, if
    /// `take` breaks. Stops after a gap, and returns it; call it again to continue.
    ///
    /// On Kafka a follower of several topics may not reach an end (see [`Reader::position`]).
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if no record of `partitions` arrives for `patience` before every
    /// end is reached. Else the error of [`Follower::poll`], after the records that came with it.
    pub fn catch_up(
        &mut self,
        bus: &dyn Bus,
        topic: &str,
        partitions: impl IntoIterator<Item = u32>,
        patience: Duration,
        mut take: impl FnMut(Record) -> ControlFlow<()>,
    ) -> Result<Option<Gap>, BusError> {
        let end = |partition| Ok((partition, bus.bounds(topic, partition)?.end));
        let mut ends = partitions.into_iter().map(end).collect::<Result<Vec<(u32, u64)>, BusError>>()?;
        let clock = bus.clock();
        let (mut records, mut silent, mut wait) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        let (mut positions, mut renewed) = (Vec::new(), false);
        loop {
            ends.retain(|(partition, end)| self.position(topic, *partition).is_none_or(|position| position < *end));
            let Some((partition, end)) = ends.first().copied() else { return Ok(None) };
            // Records of other partitions do not count: they would hide a stalled partition.
            let reached: Vec<_> = ends.iter().map(|(partition, _)| self.position(topic, *partition)).collect();
            if positions != reached {
                (positions, silent, renewed) = (reached, Duration::ZERO, false);
            }
            if silent >= patience {
                let position = self.position(topic, partition).unwrap_or_default();
                let seconds = patience.as_secs_f64();
                return Err(BusError::Unavailable(format!(
                    "`{topic}` {partition}: read up to offset {position} of {end}, then no record for {seconds:.1} s"
                )));
            }
            // Once per silence: on Kafka an assignment drops prefetched records.
            if silent >= WAIT && !renewed {
                self.renew(topic, &ends);
                renewed = true;
            }
            let before = clock.mono();
            let polled = self.poll(TAKEN, wait, &mut records);
            let elapsed = clock.mono().since(before);
            // A virtual clock stands still while a poll waits. A real one never does, and such a
            // poll may have ended early.
            silent += if records.is_empty() && elapsed.is_zero() { wait } else { elapsed };
            let enough = records.drain(..).fold(false, |enough, record| take(record).is_break() | enough);
            if let gap @ Some(_) = polled? {
                return Ok(gap);
            }
            if enough {
                return Ok(None);
            }
            wait = WAIT;
        }
    }

    /// Lets the next poll assign partitions again that have grown since they were followed: the
    /// reader on Kafka knows the end of a partition as of its assignment.
    fn renew(&mut self, topic: &str, ends: &[(u32, u64)]) {
        for (partition, end) in ends {
            let next = self.position(topic, *partition);
            let place = self.places.get_mut(topic).and_then(|places| places.get_mut(partition));
            if let Some(place) = place.filter(|place| place.end < *end) {
                place.stopped = next;
            }
        }
    }
}

/// Continues stopped partitions, then polls. A partition that fails does not keep the others from
/// being read: its error is returned after the poll.
fn read(
    reader: &mut dyn Reader,
    places: &mut BTreeMap<String, BTreeMap<u32, Place>>,
    max: usize,
    wait: Duration,
    out: &mut Vec<Record>,
) -> Result<(), BusError> {
    let mut failed = Ok(());
    for (topic, places) in places {
        for (partition, place) in places {
            let Some(from) = place.stopped else { continue };
            match reader.assign(topic, *partition, from) {
                Ok(()) => place.stopped = None,
                // Before other errors, because the follower may continue behind the gap.
                Err(gone @ BusError::Gone { .. }) => failed = Err(gone),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
    }
    // The reader returns its error once; a failed assignment fails again in the next poll.
    reader.poll(max, wait, out).and(failed)
}

/// Rejects invalid names of followers, and new ones above the limit. `known` are the names of the
/// topic.
pub(crate) fn check_name<'a>(
    name: &str,
    topic: &str,
    known: impl IntoIterator<Item = &'a String>,
) -> Result<(), BusError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !(1..=NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_allowed) {
        return Err(BusError::Refused(format!(
            "`{name}` is not the name of a follower: 1 to {NAME_BYTES} letters, digits, `_` and `-`"
        )));
    }
    let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    if known.contains(&name) || known.len() < MAX_NAMES {
        return Ok(());
    }
    let names = known.join(", ");
    Err(BusError::Refused(format!(
        "cannot add follower `{name}`: `{topic}` has the maximum of {MAX_NAMES} named followers; forget one of {names}"
    )))
}

impl From<Gap> for BusError {
    fn from(Gap { topic, partition, requested, low }: Gap) -> Self {
        BusError::Gone { topic, partition, requested, low }
    }
}
