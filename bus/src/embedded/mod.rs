//! The bus in the process: no server to install. It keeps its records in memory, and they go with the process.
//!
//! One lock protects everything; each operation takes it once for a whole batch, and copies reference counts, not bytes.
//! Who waits is woken only by what concerns it. A `wait` of zero never blocks, so that a test can turn everything on one
//! thread in virtual time.
//!
//! Read in this order: `log` (one partition), `group` (who owns which), `state` (all of it), `member` and `ends`
//! (the handles), `waker` (waiting).

mod ends;
mod group;
mod log;
mod member;
mod state;
mod waker;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use self::ends::{EmbeddedReader, EmbeddedWriter};
use self::member::EmbeddedMember;
use self::state::{Place, State};
use crate::{Bounds, Bus, BusError, Clock, Member, MemberSpec, Outgoing, Reader, TopicInfo, TopicSpec, Writer};

/// How much the bus keeps, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How much memory each partition may take; none keeps everything. Beyond it the oldest records go that every group
    /// of the topic has committed and every reader has passed; a slow reader holds them up only to [`SLACK`] times as
    /// much. What a group has not committed stays, and so does the last record of each key of a compacted topic.
    pub keep_bytes: Option<usize>,
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
    /// dozen busy partitions still small. Records of at most 1 MiB, as a Kafka broker takes them.
    fn default() -> Self {
        Self { keep_bytes: Some(2 << 20), max_record_bytes: 1 << 20, offset_gaps: false }
    }
}

/// The embedded bus. A clone is another handle on the same one.
#[derive(Clone)]
pub struct Embedded(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    options: EmbeddedOptions,
    state: Mutex<State>,
}

impl Embedded {
    /// An empty bus.
    pub fn open(clock: Arc<dyn Clock>, options: EmbeddedOptions) -> Self {
        Self(Arc::new(Shared { clock, options, state: Mutex::default() }))
    }

    /// Deletes the records of a partition below offset `before`, as an operator may.
    pub fn delete_records(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        let mut state = self.0.lock();
        let place = state.place(topic, partition)?;
        state.log(place).delete_before(before);
        Ok(())
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

    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        Ok(Box::new(EmbeddedReader::open(Arc::clone(&self.0))))
    }

    fn writer(&self, _name: &str) -> Result<Box<dyn Writer>, BusError> {
        Ok(Box::new(EmbeddedWriter(Arc::clone(&self.0))))
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the bus")
    }

    /// Checks all of `records` before any of them is written.
    fn route(&self, state: &State, records: &[Outgoing]) -> Result<Vec<Place>, BusError> {
        let mut places: Vec<Place> = Vec::with_capacity(records.len());
        for record in records {
            places.push(state.route(record, places.last().map(|(topic, _)| *topic), &self.options)?);
        }
        Ok(places)
    }
}
