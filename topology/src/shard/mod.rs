//! The shell around the lanes of one thread: it takes lanes over, reads their inbox, performs their effects and commits.
//!
//! A shard is one member of the stage's group, with one producer. What a poll brings is stepped, and all that came of it is
//! one commit: records, positions and, after it, timers. A batch closes as soon as the commit before it is done, so low load
//! costs one commit for each record and high load lets the batch grow, up to [`ShardOptions::MAX_RECORDS`] records or
//! [`ShardOptions::BATCH`]. What came and does not fit waits for the next one.
//!
//! | phase of a lane | what happens |
//! |---|---|
//! | claiming | the note of the last owner is read, what it left open is ended, the owner record is committed |
//! | replaying | records up to C are stepped; effects are dropped, timers and views are kept |
//! | catching up | records up to the own owner record are stepped, with effects; no timer fires |
//! | live | everything |
//!
//! Read in this order: `owned` (a lane and what its shell knows of it), this file (turns, and what a poll brings), `batch`, `claim`,
//! `publish`, `commit`; `image` (what stands in a snapshot topic), `save`, `restore`, `heir` (follows what others save),
//! `pressure` (whether the inboxes downstream have room), `watch` (whether a takeover would still find what it needs), `inside` (what those see who look from outside), `check` (whether a build
//! could go on with what lanes have saved).

mod alive;
mod batch;
mod check;
mod claim;
mod commit;
mod gauges;
mod heir;
mod image;
mod inside;
mod owned;
mod pressure;
mod publish;
mod restore;
mod save;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bus::{Arrival, Bus, BusError, Clock, Headers, Member, MemberSpec, MonoTime, Part, Record, Turn, Writer};
use wire::control::Mode;
use wire::owner::OwnerRecord;
use wire::topics::Topics;
use wire::{Code, Kind};

use self::alive::Alive;
pub use self::check::incompatible;
use self::gauges::LaneGauges;
use self::heir::Heir;
use self::image::Build;
pub use self::inside::Inside;
use self::owned::{End, Owned, Pending, Phase};
pub use self::pressure::InboxLimit;
use self::pressure::Pressure;
use self::save::Saves;
use crate::counts::Counts;
use crate::lane::Lane;
use crate::names;
use crate::plan::Topology;
use crate::settings::Settings;
use crate::status::ShardStatus;
use crate::timers::{DueOf, Origin, Timers};
use crate::views::Views;

/// How a shard works.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// What topics are called.
    pub topics: Topics,
    /// The stage it runs lanes of.
    pub stage: String,
    /// Its name among all members of the stage's group that live: also its transactional id.
    pub member: String,
    /// What it writes into owner records.
    pub build: String,
    /// The settings that its lanes get with their owner record.
    pub settings: Settings,
    /// What becomes of its lanes when it dies, and for that while it lives.
    pub upkeep: Upkeep,
    /// How far an inbox downstream may be behind before this stage stops writing into it.
    pub inbox_limit: InboxLimit,
}

/// How lanes come from one owner to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// After so long without a sign of life a shard's lanes go to others.
    pub session_timeout: Duration,
    /// Between two snapshots of a lane that changes, in milliseconds; 0 for one with every commit. A takeover replays what came since the
    /// last.
    pub snapshot_ms: u64,
    /// True: a shard follows the snapshots of lanes that are others', and has them in memory when it gets one. Of no use where the others
    /// are in the same process.
    pub warm: bool,
}

impl Upkeep {
    /// Every second: thousands of records are replayed in a fraction of one, and a key that changes all the time is written once.
    pub const SNAPSHOT_MS: u64 = 1_000;
}

impl Default for Upkeep {
    /// The shortest session that a broker takes, and a snapshot every second.
    fn default() -> Self {
        Self { session_timeout: MemberSpec::SESSION, snapshot_ms: Self::SNAPSHOT_MS, warm: false }
    }
}

impl ShardOptions {
    /// At most this many records are handled in one commit: what a poll round brought in the measurements of KAFKA's ceiling.
    pub const MAX_RECORDS: usize = 5_000;
    /// A batch that has taken this long is committed: a kill repeats no more than that, and a stop waits no longer.
    pub const BATCH: Duration = Duration::from_millis(50);
    /// Spouts emit in turns of this many calls, so that no lane of a shard waits for another's.
    const SPOUT_CALLS: usize = 64;
    /// Between two tries of what the bus did not take.
    pub const RETRY_MS: u64 = 50;
    /// Between two publications of a lane's position.
    pub const POSITION_MS: u64 = 1_000;

    /// The group of a stage.
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
    mode: Mode,
    member: Box<dyn Member>,
    /// For what leaves outside of commits: at-least-once has one.
    writer: Option<Box<dyn Writer>>,
    /// When positions are to be committed that their effects did not wait for.
    save_at: Option<MonoTime>,
    /// When the inboxes are looked at next.
    watch: MonoTime,
    alive: Alive,
    heir: Heir,
    build: Build,
    owned: BTreeMap<u32, Owned>,
    pending: Pending,
    arrivals: Vec<Arrival>,
    /// True once its group has decided which lanes it has.
    joined: bool,
    /// Records that came and were not handled yet, at most [`ShardOptions::MAX_RECORDS`]: the batch was full, an inbox downstream is, or
    /// a commit is being tried again, which must be what was tried.
    waiting: VecDeque<Record>,
    pressure: Pressure,
    /// Not before this is another line written about requests in the wrong lane.
    forwards_told: MonoTime,
    claims: u64,
    tallies: BTreeMap<&'static str, u64>,
    inbox: Arc<str>,
    view_topic: Arc<str>,
    snapshot_topic: Arc<str>,
}

impl Shard {
    /// Joins the group of the stage. The topics have to be there: see [`Topology::topics`].
    ///
    /// # Errors
    /// Where the bus does not let it join, or a lane was saved by a newer build.
    pub fn join(
        bus: Arc<dyn Bus>,
        topology: Topology,
        options: ShardOptions,
        status: Arc<ShardStatus>,
    ) -> Result<Self, BusError> {
        let inbox: Arc<str> = options.topics.inbox(topology.name(), &options.stage).into();
        let view_topic = options.topics.view(topology.name(), &options.stage).into();
        let snapshot_topic: Arc<str> = options.topics.snapshot(topology.name(), &options.stage).into();
        let stage = topology.stages().into_iter().find(|stage| *stage.name == *options.stage);
        let (mode, lanes) = stage.map_or_else(Default::default, |stage| (stage.mode, stage.lanes));
        let first = topology.lane(&options.topics, &options.stage, 0);
        let versions = first.saved().unwrap_or_default();
        let build = Build { versions, graph: topology.graph(), decides_by: topology.decides_by(&options.stage) };
        let mut heir = Heir::new(Arc::clone(&bus), Arc::clone(&snapshot_topic));
        if options.upkeep.warm && topology.is_saved(&options.stage) {
            heir.follow_all(lanes, &build)?;
        }
        let member = bus.member(&MemberSpec {
            group: options.group(topology.name()),
            topic: inbox.to_string(),
            name: options.member.clone(),
            session_timeout: options.upkeep.session_timeout,
            outside: false,
        })?;
        let (name, of) = (topology.name().to_owned(), options.stage.clone());
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
        metrics::gauge!(names::BACKLOG_LIMIT, "topology" => name, "stage" => of)
            .set(options.inbox_limit.records as f64);
        let clock = bus.clock();
        let watched = topology.watches(&options.stage).into_iter();
        let watched = watched.map(|service| (service.clone(), options.topics.alive(&service))).collect();
        let alive = Alive::watch(&*bus, watched)?;
        let fed = topology.fed_by(&options.stage);
        let pressure = Pressure::new(fed, first.has_spouts(), options.inbox_limit, &*bus, |stage| {
            options.topics.inbox(topology.name(), stage)
        });
        let writer = (mode == Mode::AtLeastOnce).then(|| bus.writer(&options.member)).transpose()?;
        Ok(Self {
            bus,
            clock,
            mode,
            topology,
            options,
            status,
            member,
            writer,
            save_at: None,
            watch: MonoTime::default(),
            alive,
            heir,
            build,
            owned: BTreeMap::new(),
            pending: Pending::default(),
            arrivals: Vec::new(),
            joined: false,
            waiting: VecDeque::new(),
            pressure,
            forwards_told: MonoTime::default(),
            claims: 0,
            tallies: BTreeMap::new(),
            inbox,
            view_topic,
            snapshot_topic,
        })
    }

    /// Lanes that are live.
    pub fn live(&self) -> Vec<u32> {
        self.owned.iter().filter(|(_, owned)| owned.phase == Phase::Live).map(|(lane, _)| *lane).collect()
    }

    /// What its lanes counted under `name`, replays apart.
    pub fn tally(&self, name: &str) -> u64 {
        self.tallies.get(name).copied().unwrap_or(0)
    }

    /// Timers pending in all its lanes.
    pub fn timers(&self) -> usize {
        self.owned.values().map(|owned| owned.timers.len()).sum()
    }

    /// The timers that are armed in a lane: component, number and generation. None where it is not ours.
    pub fn armed(&self, lane: u32) -> Option<Vec<(u16, u64, u32)>> {
        Some(self.owned.get(&lane)?.timers.armed().collect())
    }

    /// A line for each operation that waits in its lanes, and for each lane that it has not taken over yet. The next owner of
    /// the lanes continues them.
    pub fn unfinished(&self) -> Vec<String> {
        let stage = &self.options.stage;
        let of = |(lane, owned): (&u32, &Owned)| match owned.phase {
            Phase::Claiming { .. } => vec![format!("{stage} lane {lane}: what it holds, for it is not taken over yet")],
            Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => owned.lane.unfinished(),
        };
        self.owned.iter().flat_map(of).collect()
    }

    /// Asks a lane for a view, as the shell does: for tests.
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
                "a partition was added to the inbox, and no lane has it: it is not read"
            );
            return;
        }
        let lane = self.topology.lane(&self.options.topics, &self.options.stage, partition);
        let now = self.clock.mono();
        self.status.set(partition, ShardStatus::RECOVERING, now);
        self.owned.insert(
            partition,
            Owned {
                lane,
                phase: Phase::Claiming { at: now },
                claims_failed: 0,
                position: 0,
                begun: None,
                moved: false,
                saves: Saves::default(),
                said: None,
                lives: BTreeMap::new(),
                timers: Timers::new(now),
                views: Views::new(now),
                counts: Counts::default(),
                lines: VecDeque::new(),
                gauges: LaneGauges::of(self.topology.name(), &self.options.stage, partition),
            },
        );
    }

    /// Hands lanes over in order: what they decided is committed, with a note that nothing is left open.
    fn revoke(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.commit_all();
        self.release_notes(partitions);
        self.forget(partitions);
        self.member.release(partitions)
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            if let Some(mut owned) = self.owned.remove(partition) {
                owned.lane.cleanup();
                self.status.set(*partition, ShardStatus::AWAY, self.clock.mono());
                if self.options.upkeep.warm && owned.lane.saved().is_some() {
                    self.heir.follow(*partition);
                } else {
                    self.heir.let_go(*partition);
                }
            }
        }
        self.waiting.retain(|record| !partitions.contains(&record.partition));
        // Where one of them comes back, its offset says what its owners in between did.
        if let Some(ends) = &mut self.pending.doubt {
            ends.retain(|End { lane, .. }| !partitions.contains(lane));
        }
        let lanes = std::mem::take(&mut self.pending.lanes);
        let records = std::mem::take(&mut self.pending.records);
        for (lane, record) in lanes.into_iter().zip(records) {
            if !partitions.contains(&lane) {
                self.pending.lanes.push(lane);
                self.pending.records.push(record);
            }
        }
    }

    fn handle(&mut self, record: &Record) {
        // What still comes of a lane that is held is read again once it is taken over.
        let claimed = |owned: &&mut Owned| !matches!(owned.phase, Phase::Claiming { .. });
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
            && let Some(why) = self.build.decides_otherwise(&owner.graph, &owner.versions)
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
        owned.saves.moved(now, self.options.upkeep.snapshot_ms);
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
            *self.tallies.entry(names::REPLAYED).or_default() += 1;
            metrics::counter!(names::REPLAYED).increment(1);
            return;
        }
        owned.moved = true;
        self.save_at.get_or_insert(now.plus_ms(self.options.upkeep.snapshot_ms));
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

    /// Takes what a step decided into the next commit.
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

    /// When positions are committed by themselves.
    fn saving(&self) -> Option<MonoTime> {
        self.save_at.filter(|_| self.mode == Mode::AtLeastOnce)
    }

    fn next(&self) -> Option<MonoTime> {
        let of_lane = |owned: &Owned| match owned.phase {
            Phase::Claiming { at } => Some(at),
            // All else waits until what is tried again is settled.
            Phase::Live if self.pending.retry.is_some() => None,
            Phase::Live => {
                let snapshot = owned.saves.due.filter(|_| self.mode == Mode::ExactlyOnce);
                let others = owned.views.next().into_iter().chain(owned.position_due()).chain(snapshot);
                owned.timers.next().into_iter().chain(others).min()
            }
            Phase::Replaying { .. } | Phase::CatchingUp { .. } => None,
        };
        self.owned
            .values()
            .filter_map(of_lane)
            .chain(self.pending.retry)
            .chain(self.saving().filter(|_| self.pending.retry.is_none()))
            .chain(self.alive.next().filter(|_| self.pending.retry.is_none()))
            .chain(self.pressure.next().filter(|_| self.pending.retry.is_none() && self.is_held_up()))
            .min()
    }
}

/// The body of a timeout.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timeout {
    /// Which timer of the component.
    pub timer: u64,
    /// The generation it was armed with.
    pub generation: u32,
}

/// The timer whose timeout this record is.
fn read_back(lane: &Lane, headers: &Headers, value: &[u8]) -> Option<((u16, u64), u32)> {
    if headers.get("ce_type") != Some(Kind::Timeout.as_str().as_bytes()) {
        return None;
    }
    let timeout: Timeout = serde_json::from_slice(value).ok()?;
    let component = lane.number(std::str::from_utf8(headers.get("ce_subject")?).ok()?)?;
    Some(((component, timeout.timer), timeout.generation))
}

/// What an owner record says; none where it is another record.
fn owner_of(record: &Record) -> Option<OwnerRecord> {
    if record.headers.get("ce_type") != Some(Kind::Owner.as_str().as_bytes()) {
        return None;
    }
    serde_json::from_slice(&record.value).ok()
}

impl Part for Shard {
    fn name(&self) -> &str {
        &self.options.member
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        // Before anything new: views show what is committed, with the timers that it armed.
        if self.pending.retry.is_none() {
            self.publish_due();
        }
        self.look_downstream();
        let mut worked = self.let_spouts_emit();
        let wait = self.next().map_or(wait, |next| wait.min(next.since(self.clock.mono())));
        let wait = if worked || self.can_step() || !self.pending.records.is_empty() { Duration::ZERO } else { wait };
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
                tracing::warn!(stage = %self.options.stage, reason, "the bus cannot be read");
            }
            Err(BusError::Gone { partition, asked, low, .. }) => self.claim_again(partition, asked, low),
            Err(error) => return Err(error),
        }
        worked |= self.step_waiting();
        worked |= self.claim_due();
        if let Err(error) = self.heir.look(self.clock.mono()) {
            tracing::warn!(stage = %self.options.stage, %error, "the snapshots of others cannot be followed");
        }
        // What is tried again is what was tried: were anything added, a commit that turns out to have happened would take it
        // for written.
        if self.pending.retry.is_none() {
            self.fire();
            self.tell_liveness();
            self.watch_inboxes();
        }
        if self.pending.retry.is_none_or(|at| at <= self.clock.mono()) {
            if self.pending.retry.is_none() {
                self.publish_positions();
            }
            worked |= self.commit();
        }
        Ok(Turn { worked: worked || self.can_step(), next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        self.commit_all();
        let mut left = Vec::new();
        let lanes: Vec<u32> = self.owned.keys().copied().collect();
        self.release_notes(&lanes);
        for (lane, owned) in &mut self.owned {
            owned.lane.cleanup();
            self.status.set(*lane, ShardStatus::AWAY, self.clock.mono());
        }
        if let Err(error) = self.member.leave() {
            left.push(format!(
                "stage {}: its lanes go to others only after the session timeout: {error}",
                self.options.stage
            ));
        }
        drop(self.bus);
        left
    }
}
