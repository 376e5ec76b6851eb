//! Fault injection for any bus: for tests, for simulations, and for users who test their own tasks.
//!
//! A [`FaultyBus`] wraps a bus for one process. For each operation (poll, commit, append, takeover)
//! it asks its [`FaultInjector`] for a fault. After a crash no operation of the process reaches the
//! bus: unsent data is lost, and data that reached the bus stays.
//!
//! ```
//! use std::sync::Arc;
//! use bus::{Bus, BusError, Embedded, EmbeddedOptions, ManualClock, Outgoing, TopicSpec};
//! use bus::{FaultScript, FaultyBus};
//!
//! let clock = Arc::new(ManualClock::default());
//! let bus = Embedded::open(clock, EmbeddedOptions::default());
//! bus.ensure_topic(&TopicSpec::log("greetings", 1))?;
//! let script = Arc::new(FaultScript::default());
//! let faulty = FaultyBus::new(Arc::new(bus), script.clone());
//!
//! script.append(bus::AppendFault::Fails(BusError::Unavailable("no connection".into())));
//! let mut writer = faulty.writer("doc")?;
//! assert!(writer.append(&[Outgoing::keyed("greetings", "bob", "hello")]).is_err());
//! assert!(writer.append(&[Outgoing::keyed("greetings", "bob", "hello")]).is_ok());
//! # Ok::<(), BusError>(())
//! ```
//!
//! Read in this order: [`faults`] (the faults), this file, `member` and `ends` (where they are
//! injected), [`clock`] (a clock per process), [`script`] (scripted faults).

pub mod clock;
mod ends;
pub mod faults;
mod member;
pub mod script;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wire::WallTime;

pub use self::clock::DriftingClock;
use self::ends::{FaultyReader, FaultyWriter};
pub use self::faults::{AppendFault, BusEvent, CommitFault, FaultInjector, RecordFault, TopicFault};
use self::member::FaultyMember;
pub use self::script::FaultScript;
use crate::{
    Bounds, Bus, BusError, BusHealth, Clock, Member, MemberSpec, Outgoing, Reader, TopicInfo, TopicSpec, Writer,
};

/// A bus as one process sees it. Clones belong to the same process.
#[derive(Clone)]
pub struct FaultyBus(Arc<Process>);

/// State that the handles of one process share.
struct Process {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    faults: Arc<dyn FaultInjector>,
    dead: AtomicBool,
}

impl FaultyBus {
    /// Creates a process on `bus` that uses the bus's clock.
    pub fn new(bus: Arc<dyn Bus>, faults: Arc<dyn FaultInjector>) -> Self {
        let clock = bus.clock();
        Self::with_clock(bus, clock, faults)
    }

    /// Creates a process on `bus` with its own clock.
    pub fn with_clock(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, faults: Arc<dyn FaultInjector>) -> Self {
        Self(Arc::new(Process { bus, clock, faults, dead: AtomicBool::new(false) }))
    }

    /// Crashes the process: from now on nothing reaches the bus. Members that are dropped
    /// afterwards do not leave their groups.
    pub fn kill(&self) {
        self.0.dead.store(true, Ordering::Release);
    }

    /// True after a crash. Drop the process's tasks then; they can do nothing.
    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Acquire)
    }
}

impl Process {
    /// Fails after a crash.
    fn alive(&self) -> Result<(), BusError> {
        if self.dead.load(Ordering::Acquire) {
            return Err(BusError::Unavailable("this process has crashed".into()));
        }
        Ok(())
    }

    fn crash(&self) -> BusError {
        self.dead.store(true, Ordering::Release);
        BusError::Unavailable("this process has crashed".into())
    }

    /// Applies the faults of single records.
    fn transmit(&self, records: &[Outgoing]) -> Carried {
        let mut carried = Carried { now: Vec::with_capacity(records.len()), delayed: Vec::new() };
        for record in records {
            match self.faults.transmit(record) {
                RecordFault::None => carried.now.push(record.clone()),
                RecordFault::Lost => {}
                RecordFault::Duplicated => carried.now.extend([record.clone(), record.clone()]),
                RecordFault::Delayed => carried.delayed.push(record.clone()),
                RecordFault::Replaced(changed) => carried.now.push(*changed),
            }
        }
        carried
    }
}

/// Records to write now, and delayed ones.
struct Carried {
    now: Vec<Outgoing>,
    delayed: Vec<Outgoing>,
}

impl Bus for FaultyBus {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        self.0.alive()?;
        self.0.bus.ensure_topic(spec)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        self.0.alive()?;
        let fate = self.0.faults.topic(name);
        let found = self.0.bus.topic(name)?;
        Ok(match fate {
            TopicFault::Deleted => None,
            TopicFault::Recreated => found.map(|info| TopicInfo { id: format!("{} recreated", info.id), ..info }),
            TopicFault::PartitionsChanged(partitions) => found.map(|info| TopicInfo { partitions, ..info }),
            TopicFault::Fails(error) => return Err(error),
            TopicFault::None | TopicFault::RecreatedWithSameId | TopicFault::TimestampTypeChanged => found,
        })
    }

    fn is_compacted(&self, topic: &str) -> Result<bool, BusError> {
        self.0.alive()?;
        self.0.bus.is_compacted(topic)
    }

    fn topics_without_append_time(&self, topics: &[&str]) -> Result<Vec<String>, BusError> {
        self.0.alive()?;
        let has_others = |topic: &&&str| self.0.faults.topic(topic) == TopicFault::TimestampTypeChanged;
        let mut others = self.0.bus.topics_without_append_time(topics)?;
        others.extend(topics.iter().filter(has_others).map(|topic| (*topic).to_owned()));
        Ok(others)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.0.alive()?;
        match self.0.faults.topic(topic) {
            TopicFault::Deleted => Err(BusError::NoTopic(topic.to_owned())),
            TopicFault::RecreatedWithSameId => Ok(Bounds { low: 0, end: 0 }),
            TopicFault::Fails(error) => Err(error),
            TopicFault::None
            | TopicFault::Recreated
            | TopicFault::PartitionsChanged(_)
            | TopicFault::TimestampTypeChanged => self.0.bus.bounds(topic, partition),
        }
    }

    fn offset_at(&self, topic: &str, partition: u32, time: WallTime) -> Result<u64, BusError> {
        self.0.alive()?;
        self.0.bus.offset_at(topic, partition, time)
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        self.0.alive()?;
        let member = self.0.bus.member(spec)?;
        let (process, group) = (Arc::clone(&self.0), spec.group.as_str().into());
        Ok(Box::new(FaultyMember { process, group, member, held_back: BTreeMap::new() }))
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        self.0.alive()?;
        self.0.bus.members(group)
    }

    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        self.0.alive()?;
        self.0.bus.backlog(group, topic)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        self.0.alive()?;
        Ok(Box::new(FaultyReader { process: Arc::clone(&self.0), reader: self.0.bus.reader()? }))
    }

    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError> {
        self.0.alive()?;
        Ok(Box::new(FaultyWriter { process: Arc::clone(&self.0), writer: self.0.bus.writer(name)? }))
    }

    fn health(&self) -> BusHealth {
        self.0.bus.health()
    }

    fn read_delay(&self) -> std::time::Duration {
        self.0.bus.read_delay()
    }

    fn save_positions(&self, name: &str, topic: &str, positions: &[(u32, u64)]) -> Result<(), BusError> {
        self.0.alive()?;
        self.0.bus.save_positions(name, topic, positions)
    }

    fn saved_position(&self, name: &str, topic: &str, partition: u32) -> Result<Option<u64>, BusError> {
        self.0.alive()?;
        self.0.bus.saved_position(name, topic, partition)
    }

    fn forget_name(&self, name: &str, topic: &str) -> Result<(), BusError> {
        self.0.alive()?;
        self.0.bus.forget_name(name, topic)
    }

    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        self.0.alive()?;
        if self.0.faults.ignores_trims() { Ok(()) } else { self.0.bus.trim(topic, partition, before) }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }
}

impl std::fmt::Debug for FaultyBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyBus").field("dead", &self.is_dead()).finish_non_exhaustive()
    }
}
