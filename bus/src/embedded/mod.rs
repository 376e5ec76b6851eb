//! The bus within the process: no server to install. Keeps its records in memory, or also in a
//! directory.
//!
//! One lock protects everything. Each operation takes it once per batch, and copies reference
//! counts, not bytes. A waiting thread is woken only by relevant events. A `wait` of zero never
//! blocks, so a test can poll everything on one thread in virtual time.
//!
//! Read in this order: `log` (one partition), `group` (owners), `state` (everything), `write`,
//! `named` and `retention` (changes), `member` and `ends` (handles), `waker` (waiting). With a disk
//! also `disk`, `on_disk` (writes and reads) and `sync` (durability).

pub mod disk;
mod ends;
mod group;
mod log;
mod member;
mod named;
mod on_disk;
mod retention;
mod state;
mod sync;
mod waker;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use wire::WallTime;

use self::disk::store::Store;
use self::disk::{Disk, DiskOptions, Sync};
use self::ends::{EmbeddedReader, EmbeddedWriter};
use self::member::EmbeddedMember;
use self::state::{BusState, PartitionRef};
use crate::{
    Bounds, Bus, BusError, Cleanup, Clock, Member, MemberSpec, Outgoing, Reader, TopicInfo, TopicSpec, Writer,
};

/// Memory limits and record size limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Maximum memory per partition, in bytes; `None` keeps everything that is not trimmed. With a
    /// disk, older records are read from there. Without a disk, the oldest records are dropped once
    /// every group of the topic has committed them and every reader has passed them. A slow reader
    /// or the saved position of a named follower delays this up to [`SLACK`] times the limit.
    /// Records that a group has not committed stay, as do those since the snapshot in its offset
    /// metadata, and the last record of each key in a compacted topic.
    pub keep_bytes: Option<usize>,
    /// Maximum memory per partition of a topic with [`Cleanup::DeleteAfterMs`], in bytes, if there
    /// is no disk; `None` is unlimited. Beyond it the oldest records are dropped if every group of
    /// the topic has committed them or their `ce_expirytime` has passed. A record that a group has
    /// not read and can still use stays. Reading a dropped record returns an error, as on Kafka
    /// after `retention.bytes`. The limit is per partition, so that a flood in one partition
    /// (requests to a spoke that does not read) drops nothing in another (answers).
    ///
    /// [`Cleanup::DeleteAfterMs`]: crate::Cleanup::DeleteAfterMs
    pub retention_bytes: Option<usize>,
    /// Maximum size of a record with key and headers, in bytes.
    pub max_record_bytes: usize,
    /// True: each commit uses one more offset in each partition that it wrote, as Kafka's commit
    /// markers do.
    pub offset_gaps: bool,
}

/// Factor by which a partition may exceed [`EmbeddedOptions::keep_bytes`] while a reader outside
/// all groups or a named follower is behind. A northbound that is not scheduled for half a second
/// must not lose answers; one that hangs must not fill the memory.
pub const SLACK: usize = 8;

impl Default for EmbeddedOptions {
    /// 2 MiB per partition: some 5,000 records, more than the readers of a live lane need, and
    /// still small with a dozen busy partitions. 16 MiB of records that are deleted after a time:
    /// the limit for a slow reader (8 times 2 MiB), and some 12,000 requests to a spoke, where at
    /// most 4,096 are in flight for all lanes. With 16 lanes that is 256 MiB for a topic that
    /// nothing reads. Records of at most 1 MiB, as on a Kafka broker.
    fn default() -> Self {
        Self {
            keep_bytes: Some(2 << 20),
            retention_bytes: Some(16 << 20),
            max_record_bytes: 1 << 20,
            offset_gaps: false,
        }
    }
}

/// The embedded bus. Clones share it.
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
    state: Mutex<BusState>,
    /// The part of the disk that is usable without the lock.
    disk: Option<(Arc<Store>, Sync)>,
}

impl Embedded {
    /// Creates an empty bus in memory.
    pub fn open(clock: Arc<dyn Clock>, options: EmbeddedOptions) -> Self {
        Self(Arc::new(Shared { clock, options, state: Mutex::default(), disk: None }))
    }

    /// Opens the bus in a directory with everything stored there. Closes when the last handle is
    /// dropped: bus clones, members, readers and writers.
    ///
    /// # Errors
    /// [`BusError::Refused`] if another process uses the directory, or if it is damaged; the
    /// message names the directory and the damaged file.
    pub fn on_disk(clock: Arc<dyn Clock>, options: EmbeddedOptions, disk: &DiskOptions) -> Result<Self, BusError> {
        let (state, store) = Disk::open(disk)?;
        Ok(Self(Arc::new(Shared { clock, options, state: Mutex::new(state), disk: Some((store, disk.sync)) })))
    }

    /// Deletes the records of a partition below offset `before`, as an operator would.
    pub fn delete_records(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        state.cut(place, |log| log.delete_before(before));
        state.flush()
    }

    /// Takes all partitions from the members of a group, as a broker does that lost contact with
    /// them. Their next poll returns the loss, and rejoins.
    pub fn expel(&self, group: &str) {
        let mut state = self.0.lock();
        if let Some(group) = state.find_group(group) {
            let members: Vec<u64> = group.members.keys().copied().collect();
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

    fn is_compacted(&self, topic: &str) -> Result<bool, BusError> {
        let state = self.0.lock();
        Ok(state.topics[state.find(topic)?].cleanup == Cleanup::Compact)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        Ok(state.log(place).bounds())
    }

    fn offset_at(&self, topic: &str, partition: u32, time: WallTime) -> Result<u64, BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        state.offset_at(place, time)
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        Ok(Box::new(EmbeddedMember::join(Arc::clone(&self.0), spec)?))
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        Ok(self.0.lock().find_group(group).map_or(0, |group| group.members.len()))
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

    fn save_positions(&self, name: &str, topic: &str, positions: &[(u32, u64)]) -> Result<(), BusError> {
        let Shared { clock, options, .. } = &*self.0;
        self.0.lock().save_positions(name, topic, positions, clock.wall(), options)?;
        self.0.wrote()
    }

    fn saved_position(&self, name: &str, topic: &str, partition: u32) -> Result<Option<u64>, BusError> {
        let state = self.0.lock();
        Ok(state.saved_position(name, state.place(topic, partition)?))
    }

    fn forget_name(&self, name: &str, topic: &str) -> Result<(), BusError> {
        self.0.lock().forget_name(name, topic)?;
        self.0.wrote()
    }

    /// In memory, deletes at once. Does nothing on disk, where a partition starts at the position
    /// from which its groups would replay.
    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        if state.disk.is_none() {
            let named = state.named(place).map(|(_, saved)| saved);
            let needed = state.committed(place).chain(named).min().unwrap_or(u64::MAX);
            state.log(place).delete_before(before.min(needed));
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
    /// Writes pending cuts; the store then syncs.
    fn drop(&mut self) {
        let Ok(state) = self.state.get_mut() else { return };
        if let Err(fault) = state.flush() {
            tracing::warn!(%fault, "the last deletions are lost: those records are back after a restart");
        }
    }
}

impl Shared {
    /// Called after a batch was written and the lock released.
    fn wrote(&self) -> Result<(), BusError> {
        let Some((store, _)) = &self.disk else { return Ok(()) };
        store.clean_up();
        self.sync_due()
    }

    fn lock(&self) -> MutexGuard<'_, BusState> {
        self.state.lock().expect("no thread panics while it holds the bus")
    }

    /// Routes and checks all `records` before any of them is written.
    fn route(&self, state: &BusState, records: &[Outgoing]) -> Result<Vec<PartitionRef>, BusError> {
        let mut places: Vec<PartitionRef> = Vec::with_capacity(records.len());
        let mut before: Option<&Outgoing> = None;
        for record in records {
            // Adjacent records mostly go to the same topic.
            let same = before.is_some_and(|before| before.topic == record.topic);
            let topic = places.last().filter(|_| same).map(|(topic, _)| *topic);
            places.push(state.route(record, topic, &self.options)?);
            before = Some(record);
        }
        Ok(places)
    }
}
