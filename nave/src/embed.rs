//! A topology inside a program of one's own, without command line and servers.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Cleanup, Clock, Embedded, EmbeddedOptions, TopicSpec};
use topology::driver::Threads;
use topology::{InboxLimit, RecoveryOptions, Shard, ShardOptions, ShardStatus, Topology};
use uuid::Uuid;
use wire::topics::Topics;

use crate::clock::SystemClock;

/// A topology that runs inside this program. It stops when this is dropped.
pub struct EmbeddedTopology {
    /// `None` before the first stage, and once it was stopped.
    threads: Option<Threads>,
    clock: Arc<dyn Clock>,
}

/// Maximum time to stop: a closure may wait for a program that reads nothing any more.
const STOP: Duration = Duration::from_secs(10);

/// Retention of the topics that are created for sinks: a day; the embedded bus also limits their size.
const KEEP_MS: u64 = 24 * 3_600 * 1_000;

/// Runs a topology inside this program, on a bus in memory, with a thread for each stage. Each topic
/// that a `kafka_sink` writes to is created, with one partition and for a day.
///
/// ```
/// use nave::prelude::stream::*;
///
/// let (numbers, receiver) = channel(10);
/// let (squares, results) = std::sync::mpsc::sync_channel(10);
/// let t = Topology::named("squares");
/// t.channel_source("numbers", receiver)
///     .map("square", |n: u64| n * n)
///     .for_each("results", move |square| squares.send(square).expect("the program reads them"));
/// let running = nave::embed(&t.build()?)?;
///
/// numbers.send(7)?;
/// assert_eq!(results.recv()?, 49);
/// running.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the topics cannot be created.
pub fn embed(topology: &Topology) -> Result<EmbeddedTopology, BusError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus: Arc<dyn Bus> = Arc::new(Embedded::open(clock, EmbeddedOptions::default()));
    create_foreign_topics(&*bus, topology)?;
    embed_on(&bus, topology)
}

/// Creates the topics that sinks of a topology write to, on an embedded bus: nobody else can.
pub(crate) fn create_foreign_topics(bus: &dyn Bus, topology: &Topology) -> Result<(), BusError> {
    let cleanup = Cleanup::DeleteAfterMs(KEEP_MS);
    for topic in topology.stages().iter().flat_map(|stage| topology.foreign_topics(&stage.name)) {
        if bus.topic(&topic.name)?.is_none() {
            bus.ensure_topic(&TopicSpec::log(&topic.name, 1).with_cleanup(cleanup))?;
        }
    }
    Ok(())
}

/// As [`embed`], on this bus: for a bus on disk or on Kafka, whose topics other processes share. The
/// topics that a `kafka_sink` writes to must exist.
///
/// # Errors
/// If the topics of the topology cannot be created, or the topic of a sink does not exist.
pub fn embed_on(bus: &Arc<dyn Bus>, topology: &Topology) -> Result<EmbeddedTopology, BusError> {
    for stage in topology.stages() {
        topology.check_foreign_topics(&**bus, &stage.name)?;
    }
    let topics = Topics::default();
    for spec in topology.topics(&topics) {
        bus.ensure_topic(&spec)?;
    }
    let process = Uuid::new_v4().simple().to_string();
    let mut running = EmbeddedTopology { threads: None, clock: bus.clock() };
    for stage in topology.stages() {
        let options = ShardOptions {
            topics: topics.clone(),
            stage: stage.name.to_string(),
            member: format!("{process}-{}", stage.name),
            build: format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            settings: topology.settings().clone(),
            recovery: RecoveryOptions::default(),
            inbox_limit: InboxLimit::default(),
        };
        let (bus, topology) = (Arc::clone(bus), topology.clone());
        let status = ShardStatus::new(&stage.name, stage.lanes);
        let (name, clock) = (options.member.clone(), bus.clock());
        let make = Box::new(move || Ok(Box::new(Shard::join(bus, topology, options, status)?) as Box<dyn bus::Task>));
        let threads = running.threads.get_or_insert_default();
        let spawned = threads.spawn(&name, clock, make);
        spawned.map_err(|error| BusError::Unavailable(format!("the system starts no thread: {error}")))?;
    }
    Ok(running)
}

impl EmbeddedTopology {
    /// True if a stage failed or panicked; the others continue.
    pub fn has_failed(&self) -> bool {
        self.threads.as_ref().is_some_and(Threads::has_failed)
    }

    /// Commits finished work and stops, within ten seconds. Tuples between two stages stay on the bus:
    /// on a bus in memory they end with it. Returns one line of text for each error.
    pub fn stop(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        self.threads.take().map_or_else(Vec::new, |threads| threads.stop_within(STOP, &*self.clock))
    }
}

impl Drop for EmbeddedTopology {
    fn drop(&mut self) {
        for error in self.end() {
            tracing::warn!(error, "an embedded topology did not stop cleanly");
        }
    }
}
