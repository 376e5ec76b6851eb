//! A bus that goes wrong as it is told: fault injection for tests, for simulations, and for those who look how their own
//! parts bear it.
//!
//! A [`Faulty`] wraps any bus for one process. At each seam (a poll, a commit, an append, a takeover) it asks its [`Fates`]
//! what is to become of it, and where they let the process die nothing that comes after gets through: what the process had in
//! its hands is lost, and what reached the bus before stays.
//!
//! ```
//! use std::sync::Arc;
//! use bus::{Bus, BusError, Embedded, EmbeddedOptions, Faulty, ManualClock, Outgoing, Script, TopicSpec};
//!
//! let clock = Arc::new(ManualClock::default());
//! let bus = Embedded::open(clock, EmbeddedOptions::default());
//! bus.ensure_topic(&TopicSpec::log("greetings", 1))?;
//! let script = Arc::new(Script::default());
//! let faulty = Faulty::new(Arc::new(bus), script.clone());
//!
//! script.append(bus::AppendFate::Fails(BusError::Unavailable("the line is dead".into())));
//! let mut writer = faulty.writer("doc")?;
//! assert!(writer.append(&[Outgoing::keyed("greetings", "bob", "hello")]).is_err());
//! assert!(writer.append(&[Outgoing::keyed("greetings", "bob", "hello")]).is_ok());
//! # Ok::<(), BusError>(())
//! ```
//!
//! Read in this order: [`fates`] (what can go wrong), this file, `member` and `ends` (where it goes wrong), [`clock`] (a clock
//! of one's own), [`script`] (fates that are written down beforehand).

pub mod clock;
mod ends;
pub mod fates;
mod member;
pub mod script;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::clock::DriftingClock;
use self::ends::{FaultyReader, FaultyWriter};
pub use self::fates::{AppendFate, CommitFate, Fates, Passage, Seen, TopicFate};
use self::member::FaultyMember;
pub use self::script::Script;
use crate::{
    Bounds, Bus, BusError, BusHealth, Clock, Member, MemberSpec, Outgoing, Reader, TopicInfo, TopicSpec, Writer,
};

/// A bus as one process sees it. A clone is the same process.
#[derive(Clone)]
pub struct Faulty(Arc<Process>);

/// What the handles of one process share.
struct Process {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    fates: Arc<dyn Fates>,
    dead: AtomicBool,
}

impl Faulty {
    /// A process on `bus` with its clock.
    pub fn new(bus: Arc<dyn Bus>, fates: Arc<dyn Fates>) -> Self {
        let clock = bus.clock();
        Self::with_clock(bus, clock, fates)
    }

    /// A process on `bus` with a clock of its own.
    pub fn with_clock(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, fates: Arc<dyn Fates>) -> Self {
        Self(Arc::new(Process { bus, clock, fates, dead: AtomicBool::new(false) }))
    }

    /// Lets it die: from here on nothing reaches the bus. Members that are dropped then have not left their groups.
    pub fn kill(&self) {
        self.0.dead.store(true, Ordering::Release);
    }

    /// True where it died. Its parts are to be dropped; they can do nothing any more.
    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Acquire)
    }
}

impl Process {
    /// What the dead hear.
    fn alive(&self) -> Result<(), BusError> {
        if self.dead.load(Ordering::Acquire) {
            return Err(BusError::Unavailable("this process is dead".into()));
        }
        Ok(())
    }

    fn die(&self) -> BusError {
        self.dead.store(true, Ordering::Release);
        BusError::Unavailable("this process has died".into())
    }

    /// What arrives of `records`, and what is to come later.
    fn carry(&self, records: &[Outgoing]) -> Carried {
        let mut carried = Carried { now: Vec::with_capacity(records.len()), later: Vec::new() };
        for record in records {
            match self.fates.carry(record) {
                Passage::Arrives => carried.now.push(record.clone()),
                Passage::Lost => {}
                Passage::Twice => carried.now.extend([record.clone(), record.clone()]),
                Passage::Later => carried.later.push(record.clone()),
                Passage::Changed(changed) => carried.now.push(*changed),
            }
        }
        carried
    }
}

/// What becomes of records that are written.
struct Carried {
    now: Vec<Outgoing>,
    later: Vec<Outgoing>,
}

impl Bus for Faulty {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        self.0.alive()?;
        self.0.bus.ensure_topic(spec)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        self.0.alive()?;
        let fate = self.0.fates.topic(name);
        let found = self.0.bus.topic(name)?;
        Ok(match fate {
            TopicFate::IsGone => None,
            TopicFate::IsAnother => found.map(|info| TopicInfo { id: format!("{} anew", info.id), ..info }),
            TopicFate::HasPartitions(partitions) => found.map(|info| TopicInfo { partitions, ..info }),
            TopicFate::Fails(error) => return Err(error),
            TopicFate::Stays | TopicFate::IsEmpty | TopicFate::HasOtherTimes => found,
        })
    }

    fn other_times(&self, topics: &[&str]) -> Result<Vec<String>, BusError> {
        self.0.alive()?;
        let has_others = |topic: &&&str| self.0.fates.topic(topic) == TopicFate::HasOtherTimes;
        let mut others = self.0.bus.other_times(topics)?;
        others.extend(topics.iter().filter(has_others).map(|topic| (*topic).to_owned()));
        Ok(others)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.0.alive()?;
        match self.0.fates.topic(topic) {
            TopicFate::IsGone => Err(BusError::NoTopic(topic.to_owned())),
            TopicFate::IsEmpty => Ok(Bounds { low: 0, end: 0 }),
            TopicFate::Fails(error) => Err(error),
            TopicFate::Stays | TopicFate::IsAnother | TopicFate::HasPartitions(_) | TopicFate::HasOtherTimes => {
                self.0.bus.bounds(topic, partition)
            }
        }
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        self.0.alive()?;
        let member = self.0.bus.member(spec)?;
        let (process, group) = (Arc::clone(&self.0), spec.group.as_str().into());
        Ok(Box::new(FaultyMember { process, group, member, waiting: BTreeMap::new() }))
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

    fn lag(&self) -> std::time::Duration {
        self.0.bus.lag()
    }

    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        self.0.alive()?;
        if self.0.fates.keeps() { Ok(()) } else { self.0.bus.trim(topic, partition, before) }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").field("dead", &self.is_dead()).finish_non_exhaustive()
    }
}
