//! The owner of the lanes of one thread: it takes lanes over, reads their inbox, performs their
//! effects and commits.
//!
//! A shard is one member of the stage's group and has one producer. It steps the records of a poll
//! and commits the result: records, positions and, after the commit, timers. A batch closes as soon
//! as the previous commit is done. So low load costs one commit per record, and high load makes
//! larger batches, up to [`ShardOptions::MAX_RECORDS`] records or [`ShardOptions::BATCH`]. Other
//! received records wait for the next batch.
//!
//! C is the committed offset at the takeover.
//!
//! | phase of a lane | what happens |
//! |---|---|
//! | claiming | reads the last owner's offset metadata, aborts its open transaction, commits the owner record |
//! | replaying | steps the records up to C; drops effects but keeps timers and views |
//! | catching up | steps the records up to the own owner record, with effects; timers do not fire |
//! | live | everything |
//!
//! Read in this order:
//! - `options`, `owned` (a lane and the state that the shard keeps for it), this file (polls and records), `batch`
//! - `takeover` and `claim`
//! - `publisher` and `publish` (views, positions, timeouts and notices)
//! - `queue` and `commit` (what the next commit writes, and its attempts), `missing` (holds commits
//!   until a deleted topic exists)
//! - `image` (the records of a snapshot topic), `save`, `restore`, `standby` (follows snapshots of
//!   other owners)
//! - `pressure` (back-pressure from downstream inboxes)
//! - `alive` (liveness of spokes), `counters`, `gauges`
//! - `watch` (checks that a takeover would find its records), `inspect` (the state of a lane, for
//!   checks from outside), `check` (compares a build with saved states)

mod alive;
mod batch;
mod check;
mod claim;
mod commit;
mod counters;
mod gauges;
mod image;
mod inspect;
mod missing;
mod options;
mod owned;
mod pressure;
mod publish;
mod publisher;
mod queue;
mod restore;
mod save;
mod standby;
mod takeover;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bus::{Arrival, Bus, BusError, Clock, Headers, Member, MemberSpec, MonoTime, PollOutcome, Record, Task, Writer};
use wire::control::DeliveryMode;
use wire::header;
use wire::owner::OwnerRecord;
use wire::{Code, Kind};

use self::alive::LivenessWatch;
pub use self::check::incompatible;
use self::counters::Counters;
use self::image::Build;
pub use self::inspect::Inspection;
pub use self::options::{RecoveryOptions, ShardOptions};
use self::owned::{OwnedLane, Phase};
pub use self::pressure::InboxLimit;
use self::pressure::Pressure;
use self::publisher::Publisher;
use self::queue::CommitQueue;
use self::standby::Standby;
use self::takeover::Takeover;
use crate::lane::Lane;
use crate::names;
use crate::outbox::Timeout;
use crate::plan::Topology;
use crate::status::ShardStatus;
use crate::timers::DueOf;

/// The lanes of one thread.
pub struct Shard {
    context: StageContext,
    connection: Connection,
    owned: BTreeMap<u32, OwnedLane>,
    received: Received,
    pressure: Pressure,
    queue: CommitQueue,
    publisher: Publisher,
    takeover: Takeover,
    counters: Counters,
}

/// The parts of a shard that stay the same while it runs.
struct StageContext {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    topology: Topology,
    options: ShardOptions,
    status: Arc<ShardStatus>,
    mode: DeliveryMode,
    inbox: Arc<str>,
    snapshot_topic: Arc<str>,
    /// Gone before the lanes are dropped: their spouts learn that the shard ends.
    exists: Arc<()>,
}

/// The connections of a shard to the bus.
struct Connection {
    member: Box<dyn Member>,
    /// Writes effects outside of commits; only for at-least-once stages.
    writer: Option<Box<dyn Writer>>,
}

/// The arrivals of polls.
#[derive(Default)]
struct Received {
    /// An empty buffer between two polls.
    arrivals: Vec<Arrival>,
    /// True once the group has assigned lanes.
    joined: bool,
    /// Received, unhandled records, at most [`ShardOptions::MAX_RECORDS`]. They wait while the
    /// batch is full, a downstream inbox is full, or a commit is retried, since a retry must repeat
    /// the same batch.
    waiting: VecDeque<Record>,
    /// The lane whose spouts are called first.
    first_spouts: u32,
}

impl Shard {
    /// Joins the group of the stage. The topics of [`Topology::topics`] have to exist.
    ///
    /// # Errors
    /// If the bus refuses, a newer build saved one of the lanes, or a topic that the stage writes to
    /// does not exist.
    pub fn join(
        bus: Arc<dyn Bus>,
        topology: Topology,
        options: ShardOptions,
        status: Arc<ShardStatus>,
    ) -> Result<Self, BusError> {
        topology.check_foreign_topics(&*bus, &options.stage)?;
        let inbox: Arc<str> = options.topics.inbox(topology.name(), &options.stage).into();
        let snapshot_topic: Arc<str> = options.topics.snapshot(topology.name(), &options.stage).into();
        let stage = topology.stages().into_iter().find(|stage| *stage.name == *options.stage);
        let (mode, lanes) = stage.map_or_else(Default::default, |stage| (stage.mode, stage.lanes));
        let first = topology.lane(&options.topics, &options.stage, 0);
        let versions = first.saved().clone();
        let build = Build { versions, graph: topology.graph(), decides_by: topology.decides_by(&options.stage) };
        let warm = options.recovery.warm;
        let mut standby = Standby::new(Arc::clone(&bus), Arc::clone(&snapshot_topic));
        if warm {
            standby.follow_all(lanes, &build)?;
        }
        let member = bus.member(&MemberSpec {
            group: options.group(topology.name()),
            topic: inbox.to_string(),
            name: options.member.clone(),
            session_timeout: options.recovery.session_timeout,
            outside: false,
        })?;
        let (name, of) = (topology.name().to_owned(), options.stage.clone());
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
        metrics::gauge!(names::BACKLOG_LIMIT, "topology" => name, "stage" => of)
            .set(options.inbox_limit.records as f64);
        let clock = bus.clock();
        let watched = topology.watches(&options.stage).into_iter();
        let watched = watched.map(|service| (service.clone(), options.topics.alive(&service))).collect();
        let alive = LivenessWatch::watch(&*bus, watched)?;
        let view_topic = options.topics.view(topology.name(), &options.stage).into();
        let publisher = Publisher::new(&options.member, &inbox, view_topic, alive);
        let fed = topology.downstream_of(&options.stage);
        let pressure = Pressure::new(fed, first.has_spouts(), options.inbox_limit, &*bus, |stage| {
            options.topics.inbox(topology.name(), stage)
        });
        let writer = (mode == DeliveryMode::AtLeastOnce).then(|| bus.writer(&options.member)).transpose()?;
        Ok(Self {
            context: StageContext {
                bus,
                clock,
                topology,
                options,
                status,
                mode,
                inbox,
                snapshot_topic,
                exists: Arc::default(),
            },
            connection: Connection { member, writer },
            publisher,
            takeover: Takeover::new(build, standby, warm),
            owned: BTreeMap::new(),
            queue: CommitQueue::default(),
            received: Received::default(),
            pressure,
            counters: Counters::default(),
        })
    }

    /// Returns its stage.
    pub fn stage(&self) -> &str {
        &self.context.options.stage
    }

    /// Returns the live lanes.
    pub fn live(&self) -> Vec<u32> {
        self.owned.iter().filter(|(_, owned)| owned.phase == Phase::Live).map(|(lane, _)| *lane).collect()
    }

    /// Returns the value of the counter `name` over all its lanes, without replays.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name)
    }

    /// Returns the number of pending timers of all its lanes.
    pub fn timers(&self) -> usize {
        self.owned.values().map(|owned| owned.timers.len()).sum()
    }

    /// Returns the number of roots of all its lanes whose spout was not told of an ack or a failure
    /// yet.
    pub fn pending_roots(&self) -> u32 {
        self.owned.values().map(|owned| owned.lane.pending_roots()).sum()
    }

    /// Returns the armed timers of a lane: component, number and generation. `None` if it does not
    /// own the lane.
    pub fn armed(&self, lane: u32) -> Option<Vec<(u16, u64, u64)>> {
        Some(self.owned.get(&lane)?.timers.armed().collect())
    }

    /// Returns a line for each unfinished operation of its lanes, and for each lane that is not
    /// taken over yet. The next owner of the lanes continues them.
    pub fn unfinished(&self) -> Vec<String> {
        let stage = &self.context.options.stage;
        let of = |(lane, owned): (&u32, &OwnedLane)| match owned.phase {
            Phase::Claiming { .. } => {
                vec![format!("{stage} lane {lane}: all its operations; it is not taken over yet")]
            }
            Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => owned.lane.unfinished(),
        };
        self.owned.iter().flat_map(of).collect()
    }

    /// Returns a view as the shard would publish it: for tests.
    pub fn view(&self, lane: u32, component: &str, key: &str) -> Option<crate::View> {
        let owned = self.owned.get(&lane)?;
        let number = owned.lane.number(component)?;
        owned.lane.view(
            number,
            key,
            &DueOf { timers: &owned.timers, lane: &owned.lane, component: number, clock: &*self.context.clock },
        )
    }

    fn arrive(&mut self, arrival: Arrival) -> Result<(), BusError> {
        match arrival {
            Arrival::Assigned(partitions) => partitions.into_iter().for_each(|partition| self.assign(partition)),
            Arrival::Revoking(partitions) => self.revoke(&partitions)?,
            Arrival::Lost(partitions) => self.forget(&partitions),
            Arrival::Record(record) => self.received.waiting.push_back(record),
        }
        Ok(())
    }

    fn assign(&mut self, partition: u32) {
        if partition as usize >= self.context.status.lanes() {
            let (stage, code) = (&self.context.options.stage, Code::WrongTopic);
            tracing::error!(
                stage,
                partition,
                code = code.as_str(),
                "the inbox has more partitions than the stage has lanes: this partition is not read"
            );
            return;
        }
        let lane = self.context.topology.lane(&self.context.options.topics, &self.context.options.stage, partition);
        let now = self.context.clock.mono();
        self.context.status.set(partition, ShardStatus::RECOVERING, now);
        self.owned.insert(partition, OwnedLane::new(lane, now));
    }

    /// Releases lanes in an orderly way: commits their decisions, with metadata that no transaction
    /// is open.
    fn revoke(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.commit_all();
        self.commit_release(partitions);
        self.forget(partitions);
        self.connection.member.release(partitions)
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.publisher.forget(*partition);
            if let Some(mut owned) = self.owned.remove(partition) {
                owned.lane.cleanup();
                self.context.status.set(*partition, ShardStatus::AWAY, self.context.clock.mono());
                self.takeover.lost(*partition);
            }
        }
        self.received.waiting.retain(|record| !partitions.contains(&record.partition));
        self.queue.forget(partitions);
    }

    /// Returns when positions are due for a commit of their own.
    fn saving(&self) -> Option<MonoTime> {
        self.queue.positions_due().filter(|_| self.context.mode == DeliveryMode::AtLeastOnce)
    }

    fn next(&self) -> Option<MonoTime> {
        let of_lane = |(lane, owned): (&u32, &OwnedLane)| match owned.phase {
            Phase::Claiming { at } => Some(at),
            // Everything else waits until the retried commit is settled.
            Phase::Live if self.queue.is_retrying() => None,
            Phase::Live => {
                let snapshot = owned.snapshots.due.filter(|_| self.context.mode == DeliveryMode::ExactlyOnce);
                let position = self.publisher.position_due(*lane, owned.position);
                let settle = Some(owned.settle_at).filter(|_| owned.lane.has_outcomes());
                let spouts = Some(owned.spouts_at).into_iter().chain(owned.spouts_due).chain(settle);
                let spouts = spouts.filter(|at| *at > self.context.clock.mono());
                let roots = owned.lane.next_deadline();
                let others = owned.views.next().into_iter().chain(position).chain(snapshot).chain(spouts).chain(roots);
                owned.timers.next().into_iter().chain(others).min()
            }
            Phase::Replaying { .. } | Phase::CatchingUp { .. } => None,
        };
        self.owned
            .iter()
            .filter_map(of_lane)
            .chain(self.queue.retry())
            .chain(self.saving().filter(|_| !self.queue.is_retrying()))
            .chain(self.publisher.liveness_due().filter(|_| !self.queue.is_retrying()))
            .chain(self.pressure.next().filter(|_| !self.queue.is_retrying() && self.is_held_up()))
            .min()
    }
}

/// Returns the timer and generation of a timeout record; `None` for other records.
fn read_back(lane: &Lane, headers: &Headers, value: &[u8]) -> Option<((u16, u64), u64)> {
    if !headers.is(Kind::Timeout) {
        return None;
    }
    let timeout: Timeout = serde_json::from_slice(value).ok()?;
    let component = lane.number(std::str::from_utf8(headers.get(header::SUBJECT)?).ok()?)?;
    Some(((component, timeout.timer), timeout.generation))
}

/// Parses an owner record; `None` for other records.
fn owner_of(record: &Record) -> Option<OwnerRecord> {
    if !record.headers.is(Kind::Owner) {
        return None;
    }
    serde_json::from_slice(&record.value).ok()
}

impl Task for Shard {
    fn name(&self) -> &str {
        &self.context.options.member
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        // Before anything else, so that views show the committed state, with the timers that the
        // commit armed.
        if !self.queue.is_retrying() {
            self.publish_due();
        }
        self.look_downstream();
        let mut worked = self.run_spouts();
        let wait = self.next().map_or(wait, |next| wait.min(next.since(self.context.clock.mono())));
        let wait = if worked || self.can_step() || !self.queue.is_empty() { Duration::ZERO } else { wait };
        let most = ShardOptions::MAX_RECORDS - self.received.waiting.len();
        let mut arrivals = std::mem::take(&mut self.received.arrivals);
        let polled = self.connection.member.poll(most, wait, &mut arrivals);
        worked |= !arrivals.is_empty();
        for arrival in arrivals.drain(..) {
            self.arrive(arrival)?;
        }
        self.received.arrivals = arrivals;
        if !self.received.joined && self.connection.member.has_joined() {
            self.received.joined = true;
            self.context.status.join();
        }
        match polled {
            Ok(()) => {}
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(stage = %self.context.options.stage, reason, "cannot read from the bus; retrying");
            }
            Err(BusError::Gone { partition, requested, low, .. }) => self.claim_again(partition, requested, low),
            Err(error) => return Err(error),
        }
        worked |= self.step_waiting();
        if !worked {
            // A spout may have woken this thread.
            worked = self.run_spouts();
        }
        worked |= self.claim_due();
        if let Err(error) = self.takeover.look(self.context.clock.mono()) {
            tracing::warn!(stage = %self.context.options.stage, %error, "cannot follow the snapshots of other owners");
        }
        // A retried commit must repeat the same batch. If it turns out that the first attempt
        // succeeded, additions would be lost.
        if !self.queue.is_retrying() {
            self.fire();
            self.notify_liveness();
            self.watch_inboxes();
        }
        if self.queue.may_commit(self.context.clock.mono()) {
            if !self.queue.is_retrying() {
                self.publish_positions();
            }
            worked |= self.commit();
        }
        if !self.queue.is_retrying() {
            worked |= self.settle_roots();
        }
        Ok(PollOutcome { worked: worked || self.can_step(), next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        self.commit_all();
        let mut left = Vec::new();
        let lanes: Vec<u32> = self.owned.keys().copied().collect();
        self.commit_release(&lanes);
        for (lane, owned) in &mut self.owned {
            owned.lane.cleanup();
            self.context.status.set(*lane, ShardStatus::AWAY, self.context.clock.mono());
        }
        if let Err(error) = self.connection.member.leave() {
            left.push(format!(
                "stage {}: leaving the group failed, so other members get its lanes after the session timeout: {error}",
                self.context.options.stage
            ));
        }
        drop(self.context.bus);
        left
    }
}
