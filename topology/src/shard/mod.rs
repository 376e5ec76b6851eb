//! The shell around the lanes of one thread: it takes lanes over, reads their inbox, performs their
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
//! Read in this order: `owned` (a lane and its shell's state), this file (polls and records),
//! `batch`, `takeover` and `claim`, `publisher` and `publish` (views, positions, timeouts and notices), `queue` and `commit` (what the next commit writes, and its attempts); `image` (the records of a snapshot topic), `save`,
//! `restore`, `standby` (follows snapshots of other owners), `pressure` (back-pressure from
//! downstream inboxes), `watch` (checks that a takeover would find its records), `inspect` (the
//! state of a lane, for checks from outside), `check` (compares a build with saved states).

mod alive;
mod batch;
mod check;
mod claim;
mod commit;
mod counters;
mod gauges;
mod image;
mod inspect;
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
use wire::owner::OwnerRecord;
use wire::topics::Topics;
use wire::{Code, Kind};

use self::alive::LivenessWatch;
pub use self::check::incompatible;
use self::counters::Counters;
use self::gauges::LaneGauges;
use self::image::Build;
pub use self::inspect::Inspection;
use self::owned::{OwnedLane, Phase};
pub use self::pressure::InboxLimit;
use self::pressure::Pressure;
use self::publisher::Publisher;
use self::queue::CommitQueue;
use self::save::SnapshotState;
use self::standby::Standby;
use self::takeover::Takeover;
use crate::counts::Counts;
use crate::lane::Lane;
use crate::names;
use crate::plan::Topology;
use crate::settings::Settings;
use crate::status::ShardStatus;
use crate::timers::{DueOf, Origin, Timers};
use crate::views::Views;

/// The options of a shard.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// The naming scheme of topics.
    pub topics: Topics,
    /// The stage whose lanes it runs.
    pub stage: String,
    /// Its name, unique among the live members of the stage's group; also its transactional id.
    pub member: String,
    /// The build name in its owner records.
    pub build: String,
    /// The settings that its owner records give to its lanes.
    pub settings: Settings,
    /// How its lanes survive a crash.
    pub recovery: RecoveryOptions,
    /// The backlog of a downstream inbox at which this stage pauses.
    pub inbox_limit: InboxLimit,
}

/// Options for the takeover of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryOptions {
    /// A shard that is silent for this long loses its lanes.
    pub session_timeout: Duration,
    /// Interval between two snapshots of a changing lane, in milliseconds; 0 takes one with every
    /// commit. A takeover replays the records since the last snapshot.
    pub snapshot_ms: u64,
    /// True: a shard follows the snapshots of lanes that it does not own, and has them in memory at
    /// a takeover. Useless if the other owners are in the same process.
    pub warm: bool,
}

impl RecoveryOptions {
    /// One second: the replay of its thousands of records takes a fraction of a second, and a key
    /// that changes all the time is written once.
    pub const SNAPSHOT_MS: u64 = 1_000;
}

impl Default for RecoveryOptions {
    /// The shortest session that a broker accepts, and a snapshot every second.
    fn default() -> Self {
        Self { session_timeout: MemberSpec::SESSION, snapshot_ms: Self::SNAPSHOT_MS, warm: false }
    }
}

impl ShardOptions {
    /// Maximum number of records per commit: the size of a poll in the throughput measurements of
    /// Kafka.
    pub const MAX_RECORDS: usize = 5_000;
    /// Maximum duration of a batch, and so of the work that a crash repeats and that a stop waits
    /// for.
    pub const BATCH: Duration = Duration::from_millis(50);
    /// Calls per spout and round, so that no lane of a shard waits for another one.
    const SPOUT_CALLS: usize = 64;
    /// Interval between two attempts of a failed commit, in milliseconds.
    pub const RETRY_MS: u64 = 50;
    /// Interval between two publications of a lane's position, in milliseconds.
    pub const POSITION_MS: u64 = 1_000;

    /// Returns the group of the stage.
    pub fn group(&self, topology: &str) -> String {
        self.topics.inbox(topology, &self.stage)
    }
}

/// The lanes of one thread.
pub struct Shard {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    topology: Topology,
    options: ShardOptions,
    status: Arc<ShardStatus>,
    mode: DeliveryMode,
    member: Box<dyn Member>,
    /// Writes effects outside of commits; only for at-least-once stages.
    writer: Option<Box<dyn Writer>>,
    /// Next check of the inboxes.
    watch: MonoTime,
    publisher: Publisher,
    takeover: Takeover,
    owned: BTreeMap<u32, OwnedLane>,
    queue: CommitQueue,
    arrivals: Vec<Arrival>,
    /// True once the group has assigned lanes.
    joined: bool,
    /// Received, unhandled records, at most [`ShardOptions::MAX_RECORDS`]. They wait while the
    /// batch is full, a downstream inbox is full, or a commit is retried, since a retry must repeat
    /// the same batch.
    waiting: VecDeque<Record>,
    pressure: Pressure,
    counters: Counters,
    inbox: Arc<str>,
    snapshot_topic: Arc<str>,
}

impl Shard {
    /// Joins the group of the stage. The topics of [`Topology::topics`] have to exist.
    ///
    /// # Errors
    /// If the bus refuses, or a newer build saved one of the lanes.
    pub fn join(
        bus: Arc<dyn Bus>,
        topology: Topology,
        options: ShardOptions,
        status: Arc<ShardStatus>,
    ) -> Result<Self, BusError> {
        let inbox: Arc<str> = options.topics.inbox(topology.name(), &options.stage).into();
        let snapshot_topic: Arc<str> = options.topics.snapshot(topology.name(), &options.stage).into();
        let stage = topology.stages().into_iter().find(|stage| *stage.name == *options.stage);
        let (mode, lanes) = stage.map_or_else(Default::default, |stage| (stage.mode, stage.lanes));
        let first = topology.lane(&options.topics, &options.stage, 0);
        let versions = first.saved().unwrap_or_default();
        let build = Build { versions, graph: topology.graph(), decides_by: topology.decides_by(&options.stage) };
        let warm = options.recovery.warm;
        let mut standby = Standby::new(Arc::clone(&bus), Arc::clone(&snapshot_topic));
        if warm && topology.is_saved(&options.stage) {
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
            bus,
            clock,
            mode,
            topology,
            options,
            status,
            member,
            writer,
            watch: MonoTime::default(),
            publisher,
            takeover: Takeover::new(build, standby, warm),
            owned: BTreeMap::new(),
            queue: CommitQueue::default(),
            arrivals: Vec::new(),
            joined: false,
            waiting: VecDeque::new(),
            pressure,
            counters: Counters::default(),
            inbox,
            snapshot_topic,
        })
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

    /// Returns the armed timers of a lane: component, number and generation. None if it does not
    /// own the lane.
    pub fn armed(&self, lane: u32) -> Option<Vec<(u16, u64, u32)>> {
        Some(self.owned.get(&lane)?.timers.armed().collect())
    }

    /// Returns a line for each unfinished operation of its lanes, and for each lane that is not
    /// taken over yet. The next owner of the lanes continues them.
    pub fn unfinished(&self) -> Vec<String> {
        let stage = &self.options.stage;
        let of = |(lane, owned): (&u32, &OwnedLane)| match owned.phase {
            Phase::Claiming { .. } => {
                vec![format!("{stage} lane {lane}: all its operations; it is not taken over yet")]
            }
            Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => owned.lane.unfinished(),
        };
        self.owned.iter().flat_map(of).collect()
    }

    /// Returns a view as the shell would publish it: for tests.
    pub fn view(&self, lane: u32, component: &str, key: &str) -> Option<crate::View> {
        let owned = self.owned.get(&lane)?;
        let number = owned.lane.number(component)?;
        owned.lane.view(
            number,
            key,
            &DueOf { timers: &owned.timers, lane: &owned.lane, component: number, clock: &*self.clock },
        )
    }

    fn arrive(&mut self, arrival: Arrival) -> Result<(), BusError> {
        match arrival {
            Arrival::Assigned(partitions) => partitions.into_iter().for_each(|partition| self.assign(partition)),
            Arrival::Revoking(partitions) => self.revoke(&partitions)?,
            Arrival::Lost(partitions) => self.forget(&partitions),
            Arrival::Record(record) => self.waiting.push_back(record),
        }
        Ok(())
    }

    fn assign(&mut self, partition: u32) {
        if partition as usize >= self.status.lanes() {
            let (stage, code) = (&self.options.stage, Code::WrongTopic.as_str());
            tracing::error!(
                stage,
                partition,
                code,
                "the inbox has more partitions than the stage has lanes: this partition is not read"
            );
            return;
        }
        let lane = self.topology.lane(&self.options.topics, &self.options.stage, partition);
        let now = self.clock.mono();
        self.status.set(partition, ShardStatus::RECOVERING, now);
        self.owned.insert(
            partition,
            OwnedLane {
                lane,
                phase: Phase::Claiming { at: now },
                claims_failed: 0,
                position: 0,
                restored_from: None,
                moved: false,
                snapshots: SnapshotState::default(),
                timers: Timers::new(now),
                views: Views::new(now),
                counts: Counts::default(),
                lines: VecDeque::new(),
                gauges: LaneGauges::of(self.topology.name(), &self.options.stage, partition),
            },
        );
    }

    /// Releases lanes in an orderly way: commits their decisions, with metadata that no transaction
    /// is open.
    fn revoke(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.commit_all();
        self.commit_release(partitions);
        self.forget(partitions);
        self.member.release(partitions)
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.publisher.forget(*partition);
            if let Some(mut owned) = self.owned.remove(partition) {
                owned.lane.cleanup();
                self.status.set(*partition, ShardStatus::AWAY, self.clock.mono());
                self.takeover.lost(*partition, owned.lane.saved().is_some());
            }
        }
        self.waiting.retain(|record| !partitions.contains(&record.partition));
        self.queue.forget(partitions);
    }

    fn handle(&mut self, record: &Record) {
        // Further records of a held lane are read again after the next takeover.
        let claimed = |owned: &&mut OwnedLane| !matches!(owned.phase, Phase::Claiming { .. });
        let Some(owned) = self.owned.get_mut(&record.partition).filter(claimed) else { return };
        let now = self.clock.mono();
        if let Phase::Replaying { until, owner } = &owned.phase
            && record.offset >= *until
        {
            owned.phase = Phase::CatchingUp { owner: owner.clone() };
        }
        let replaying = matches!(owned.phase, Phase::Replaying { .. });
        let owner = owner_of(record);
        // Records that another build has decided are not decided again.
        if replaying
            && let Some(owner) = &owner
            && let Some(why) = self.takeover.refuses_replay_of(&owner.graph, &owner.versions)
        {
            let text = format!("build {} handled its inbox from offset {} on: {why}", owner.build, owner.from);
            return self.hold(record.partition, &text);
        }
        self.status.stepping(record.partition, Some(now));
        owned.lane.step(record);
        let effects = owned.lane.take_effects();
        owned.position = record.offset + 1;
        self.status.stepped(record.partition, owned.position);
        if let Some((id, generation)) = read_back(&owned.lane, &record.headers, &record.value) {
            owned.timers.read_back(id, generation);
        }
        if let Some(owner) = owner {
            owned.timers.handled_late(owner.from, record.time);
        }
        let origin = Origin { offset: record.offset, time: record.time };
        owned.snapshots.moved(now, self.options.recovery.snapshot_ms);
        if replaying {
            for (component, effect) in effects.timers {
                owned.timers.replay(component, effect, origin);
            }
            for change in effects.views {
                let key = (change.component, change.key);
                if change.last {
                    owned.views.closed(&key);
                } else {
                    owned.views.changed(key, now, true);
                }
            }
            self.counters.add(names::REPLAYED, 1);
            return;
        }
        owned.moved = true;
        self.queue.moved(now, self.options.recovery.snapshot_ms);
        if let Phase::CatchingUp { owner } = &owned.phase
            && record.headers.get("ce_id") == Some(owner.as_bytes())
        {
            owned.phase = Phase::Live;
            owned.timers.go_live(record.time, now);
            self.status.set(record.partition, ShardStatus::LIVE, now);
            tracing::info!(stage = %self.options.stage, lane = record.partition, offset = record.offset, "lane is live");
        }
        self.decided(record.partition, effects, origin);
    }

    /// Adds the decisions of a step to the next commit.
    fn decided(&mut self, partition: u32, effects: crate::Effects, origin: Origin) {
        let now = self.clock.mono();
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        let sent = owned.lane.sent_time();
        for (component, effect) in effects.timers {
            owned.timers.decide(component, effect, origin);
        }
        owned.counts.extend(effects.counts);
        owned.lines.extend(effects.lines);
        let mut closed = Vec::new();
        for change in effects.views {
            let key = (change.component, change.key);
            if !change.last {
                owned.views.changed(key, now, false);
            } else if owned.views.closed(&key) {
                closed.push(key);
            }
        }
        if !effects.messages.is_empty() {
            let now = self.clock.wall();
            for message in effects.messages {
                self.send(partition, message, now, sent);
            }
        }
        for (component, key) in &closed {
            self.show(partition, *component, key, None);
        }
    }

    /// Returns when positions are due for a commit of their own.
    fn saving(&self) -> Option<MonoTime> {
        self.queue.positions_due().filter(|_| self.mode == DeliveryMode::AtLeastOnce)
    }

    fn next(&self) -> Option<MonoTime> {
        let of_lane = |(lane, owned): (&u32, &OwnedLane)| match owned.phase {
            Phase::Claiming { at } => Some(at),
            // Everything else waits until the retried commit is settled.
            Phase::Live if self.queue.is_retrying() => None,
            Phase::Live => {
                let snapshot = owned.snapshots.due.filter(|_| self.mode == DeliveryMode::ExactlyOnce);
                let position = self.publisher.position_due(*lane, owned.position);
                let others = owned.views.next().into_iter().chain(position).chain(snapshot);
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

/// The body of a timeout.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timeout {
    /// The number of the timer in its component.
    pub timer: u64,
    /// The generation with which it was armed.
    pub generation: u32,
}

/// Returns the timer and generation of a timeout record; none for other records.
fn read_back(lane: &Lane, headers: &Headers, value: &[u8]) -> Option<((u16, u64), u32)> {
    if headers.get("ce_type") != Some(Kind::Timeout.as_str().as_bytes()) {
        return None;
    }
    let timeout: Timeout = serde_json::from_slice(value).ok()?;
    let component = lane.number(std::str::from_utf8(headers.get("ce_subject")?).ok()?)?;
    Some(((component, timeout.timer), timeout.generation))
}

/// Parses an owner record; none for other records.
fn owner_of(record: &Record) -> Option<OwnerRecord> {
    if record.headers.get("ce_type") != Some(Kind::Owner.as_str().as_bytes()) {
        return None;
    }
    serde_json::from_slice(&record.value).ok()
}

impl Task for Shard {
    fn name(&self) -> &str {
        &self.options.member
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        // First: views show the committed state, with the timers that the commit armed.
        if !self.queue.is_retrying() {
            self.publish_due();
        }
        self.look_downstream();
        let mut worked = self.run_spouts();
        let wait = self.next().map_or(wait, |next| wait.min(next.since(self.clock.mono())));
        let wait = if worked || self.can_step() || !self.queue.is_empty() { Duration::ZERO } else { wait };
        let most = ShardOptions::MAX_RECORDS - self.waiting.len();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let polled = self.member.poll(most, wait, &mut arrivals);
        worked |= !arrivals.is_empty();
        for arrival in arrivals.drain(..) {
            self.arrive(arrival)?;
        }
        self.arrivals = arrivals;
        if !self.joined && self.member.has_joined() {
            self.joined = true;
            self.status.join();
        }
        match polled {
            Ok(()) => {}
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(stage = %self.options.stage, reason, "cannot read from the bus; retrying");
            }
            Err(BusError::Gone { partition, requested, low, .. }) => self.claim_again(partition, requested, low),
            Err(error) => return Err(error),
        }
        worked |= self.step_waiting();
        worked |= self.claim_due();
        if let Err(error) = self.takeover.look(self.clock.mono()) {
            tracing::warn!(stage = %self.options.stage, %error, "cannot follow the snapshots of other owners");
        }
        // A retried commit must repeat the same batch. If it turns out that the first attempt
        // succeeded, additions would be lost.
        if !self.queue.is_retrying() {
            self.fire();
            self.notify_liveness();
            self.watch_inboxes();
        }
        if self.queue.may_commit(self.clock.mono()) {
            if !self.queue.is_retrying() {
                self.publish_positions();
            }
            worked |= self.commit();
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
            self.status.set(*lane, ShardStatus::AWAY, self.clock.mono());
        }
        if let Err(error) = self.member.leave() {
            left.push(format!(
                "stage {}: leaving the group failed, so other members get its lanes after the session timeout: {error}",
                self.options.stage
            ));
        }
        drop(self.bus);
        left
    }
}
