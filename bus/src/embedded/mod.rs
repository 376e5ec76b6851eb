//! The bus in the process: no server to install. It keeps its records in memory, and they go with the process; or on disk
//! too, where it is given a directory.
//!
//! One lock protects everything; each operation takes it once for a whole batch, and copies reference counts, not bytes.
//! Who waits is woken only by what concerns it. A `wait` of zero never blocks, so that a test can turn everything on one
//! thread in virtual time.
//!
//! Read in this order: `log` (one partition), `group` (who owns which), `state` (all of it), `write` and `tidy` (what changes
//! it), `member` and `ends` (the handles), `waker` (waiting); with a disk, `disk`, `on_disk` (what it is told) and `sync` (when
//! it is safe).

pub mod disk;
mod ends;
mod group;
mod log;
mod member;
mod on_disk;
mod state;
mod sync;
mod tidy;
mod waker;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use self::disk::store::Store;
use self::disk::{Disk, DiskOptions, Sync};
use self::ends::{EmbeddedReader, EmbeddedWriter};
use self::member::EmbeddedMember;
use self::state::{Place, State};
use crate::{Bounds, Bus, BusError, Clock, Member, MemberSpec, Outgoing, Reader, TopicInfo, TopicSpec, Writer};

/// How much the bus keeps, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How much memory each partition may take; none keeps everything that nobody trims. With a disk, older records are read from
    /// there. Without one, beyond it the oldest records go that every group
    /// of the topic has committed and every reader has passed; a slow reader holds them up only to [`SLACK`] times as
    /// much. What a group has not committed stays, and what it has since the snapshot that its note names; and so does the last
    /// record of each key of a compacted topic.
    pub keep_bytes: Option<usize>,
    /// How much memory each partition of a topic may take that deletes after a time ([`Cleanup::DeleteAfterMs`]), where there is
    /// no disk; none sets no bound. Beyond it the oldest records go that every group of the topic has committed, and those whose
    /// `ce_expirytime` has passed: what a group has not read and may still use stays. Those who read it later are told that it is gone,
    /// as on Kafka after `retention.bytes`. It is a bound for each partition and not for all together, so that a flood in one, like
    /// the requests to a spoke that does not read, takes nothing from the answers in another.
    ///
    /// [`Cleanup::DeleteAfterMs`]: crate::Cleanup::DeleteAfterMs
    pub retention_bytes: Option<usize>,
    /// The largest record, with key and headers.
    pub max_record_bytes: usize,
    /// True: each commit uses up one more offset of each partition that it wrote, as Kafka's commit markers do.
    pub offset_gaps: bool,
}

/// How many times [`EmbeddedOptions::keep_bytes`] a partition may take while a reader outside all groups is behind. A
/// northbound that is not scheduled for half a second must not lose answers; one that hangs must not eat all memory.
pub const SLACK: usize = 8;

impl Default for EmbeddedOptions {
    /// 2 MiB for each partition, which is some 5,000 records: more than a lane that lives needs to be followed, and with a
    /// dozen busy partitions still small. 16 MiB of what is deleted after a time: as much as is kept for a slow reader, and some
    /// 12,000 requests to a spoke, where 4,096 in flight are shared by all lanes. With 16 lanes that is 256 MiB for a topic that
    /// nobody reads. Records of at most 1 MiB, as a Kafka broker takes them.
    fn default() -> Self {
        Self {
            keep_bytes: Some(2 << 20),
            retention_bytes: Some(16 << 20),
            max_record_bytes: 1 << 20,
            offset_gaps: false,
        }
    }
}

/// The embedded bus. A clone is another handle on the same one.
///
/// ```
/// use bus::{Bus, DiskOptions, Embedded, EmbeddedOptions, ManualClock, Outgoing, TopicSpec};
/// # let directory = tempfile::tempdir()?;
/// # let (clock, dir) = (std::sync::Arc::new(ManualClock::default()), directory.path().join("data"));
/// let bus = Embedded::on_disk(clock.clone(), EmbeddedOptions::default(), &DiskOptions::new(&dir))?;
/// bus.ensure_topic(&TopicSpec::log("greetings", 1))?;
/// bus.writer("doc")?.append(&[Outgoing::keyed("greetings", "bob", "hello")])?;
/// drop(bus);
///
/// let bus = Embedded::on_disk(clock, EmbeddedOptions::default(), &DiskOptions::new(&dir))?;
/// assert_eq!(bus.bounds("greetings", 0)?.end, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Embedded(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    options: EmbeddedOptions,
    state: Mutex<State>,
    /// What can be known of the disk without the lock.
    disk: Option<(Arc<Store>, Sync)>,
}

impl Embedded {
    /// An empty bus in memory.
    pub fn open(clock: Arc<dyn Clock>, options: EmbeddedOptions) -> Self {
        Self(Arc::new(Shared { clock, options, state: Mutex::default(), disk: None }))
    }

    /// The bus in a directory, with all that was left there. It is closed when the last handle on it is gone: members, readers
    /// and writers too.
    ///
    /// # Errors
    /// [`BusError::Refused`] where another process has the directory, or where it is damaged; the message names both.
    pub fn on_disk(clock: Arc<dyn Clock>, options: EmbeddedOptions, disk: &DiskOptions) -> Result<Self, BusError> {
        let (state, store) = Disk::open(disk)?;
        Ok(Self(Arc::new(Shared { clock, options, state: Mutex::new(state), disk: Some((store, disk.sync)) })))
    }

    /// Deletes the records of a partition below offset `before`, as an operator may.
    pub fn delete_records(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        state.cut(place, |log| log.delete_before(before));
        state.flush()
    }

    /// Takes everything from the members of a group, as a broker does that lost sight of them. They hear of it at their
    /// next poll, and join again.
    pub fn expel(&self, group: &str) {
        let mut state = self.0.lock();
        if let Some(group) = state.known_group(group) {
            let members: Vec<u64> = group.seats.keys().copied().collect();
            for id in members {
                group.expel(id);
            }
        }
    }
}

impl Bus for Embedded {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        self.0.lock().ensure(spec, self.0.clock.wall())
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        let state = self.0.lock();
        Ok(state.find(name).ok().map(|index| state.topics[index].info.clone()))
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        Ok(state.log(place).bounds())
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        Ok(Box::new(EmbeddedMember::join(Arc::clone(&self.0), spec)?))
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        Ok(self.0.lock().known_group(group).map_or(0, |group| group.seats.len()))
    }

    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        let state = self.0.lock();
        let index = state.find(topic)?;
        Ok(state.backlog(group, index))
    }

    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        Ok(Box::new(EmbeddedReader::open(Arc::clone(&self.0))))
    }

    fn writer(&self, _name: &str) -> Result<Box<dyn Writer>, BusError> {
        Ok(Box::new(EmbeddedWriter(Arc::clone(&self.0))))
    }

    /// In memory they go at once. On disk nothing is done: there a partition begins where its groups would replay from.
    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        if state.disk.is_none() {
            let committed = state.committed(place).min().unwrap_or(u64::MAX);
            state.log(place).delete_before(before.min(committed));
        }
        Ok(())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    /// What is still to be cut; the store then syncs.
    fn drop(&mut self) {
        let Ok(state) = self.state.get_mut() else { return };
        if let Err(fault) = state.flush() {
            tracing::warn!(%fault, "what was deleted last is there again after a restart");
        }
    }
}

impl Shared {
    /// A batch was written, and the lock given up.
    fn wrote(&self) -> Result<(), BusError> {
        let Some((store, _)) = &self.disk else { return Ok(()) };
        store.keep_house();
        self.sync_due()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the bus")
    }

    /// Checks all of `records` before any of them is written.
    fn route(&self, state: &State, records: &[Outgoing]) -> Result<Vec<Place>, BusError> {
        let mut places: Vec<Place> = Vec::with_capacity(records.len());
        let mut before: Option<&Outgoing> = None;
        for record in records {
            // Neighbours mostly go to one topic.
            let same = before.is_some_and(|before| before.topic == record.topic);
            let topic = places.last().filter(|_| same).map(|(topic, _)| *topic);
            places.push(state.route(record, topic, &self.options)?);
            before = Some(record);
        }
        Ok(places)
    }
}
