//! The shell around the lanes of one thread: it takes lanes over, reads their inbox, performs their effects and commits.
//!
//! A shard is one member of the stage's group, with one producer. What a poll brings is stepped, and all that came of it is
//! one commit: records, positions and, after it, timers. A batch closes as soon as the commit before it is done, so low load
//! costs one commit for each record and high load lets the batch grow.
//!
//! | phase of a lane | what happens |
//! |---|---|
//! | claiming | the note of the last owner is read, what it left open is ended, the owner record is committed |
//! | replaying | records up to C are stepped; effects are dropped, timers and views are kept |
//! | catching up | records up to the own owner record are stepped, with effects; no timer fires |
//! | live | everything |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bus::{
    Arrival, Batch, Bus, BusError, Clock, CommitError, Member, MemberSpec, MonoTime, Outgoing, Part, Position, Record,
    Route, Turn,
};
use bytes::Bytes;
use wire::owner::{Note, OwnerRecord};
use wire::topics::Topics;
use wire::{Envelope, Kind};

use crate::lane::Lane;
use crate::names;
use crate::outbox::{Level, Line, Message, TimerEffect};
use crate::plan::Topology;
use crate::settings::Settings;
use crate::timers::{DueOf, Since, Timers};
use crate::views::{ViewKey, Views};

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
    /// After so long without a sign of life its lanes go to others.
    pub session_timeout: Duration,
}

impl ShardOptions {
    /// At most so many records in one commit: what a poll round brought in the measurements of KAFKA's ceiling.
    pub const MAX_RECORDS: usize = 5_000;
    /// Between two tries of what the bus did not take.
    pub const RETRY_MS: u64 = 50;

    /// The group of a stage.
    pub fn group(&self, topology: &str) -> String {
        self.topics.inbox(topology, &self.stage)
    }
}

/// How the lanes of a stage stand, for those outside: shared by all shards of a process.
#[derive(Debug)]
pub struct ShardStatus {
    lanes: Vec<(AtomicU8, AtomicU64)>,
}

impl ShardStatus {
    const AWAY: u8 = 0;
    const RECOVERING: u8 = 1;
    const LIVE: u8 = 2;

    /// Of a stage with so many lanes.
    pub fn new(lanes: u32) -> Arc<Self> {
        Arc::new(Self { lanes: (0..lanes).map(|_| (AtomicU8::new(Self::AWAY), AtomicU64::new(0))).collect() })
    }

    fn set(&self, lane: u32, state: u8) {
        self.lanes[lane as usize].0.store(state, Ordering::Release);
    }

    /// Lanes that are live in this process.
    pub fn live(&self) -> usize {
        self.lanes.iter().filter(|(state, _)| state.load(Ordering::Acquire) == Self::LIVE).count()
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// A line for each lane that is not live here: "lane 3: recovering at offset 120".
    pub fn waiting(&self) -> Vec<String> {
        let line = |(lane, (state, position)): (usize, &(AtomicU8, AtomicU64))| match state.load(Ordering::Acquire) {
            Self::LIVE => None,
            Self::RECOVERING => Some(format!("lane {lane}: recovering at offset {}", position.load(Ordering::Acquire))),
            _away => Some(format!("lane {lane}: no owner in this process")),
        };
        self.lanes.iter().enumerate().filter_map(line).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Claiming { at: MonoTime },
    Replaying { until: u64, owner: String },
    CatchingUp { owner: String },
    Live,
}

/// One lane and what its shell knows of it.
struct Owned {
    lane: Lane,
    phase: Phase,
    /// The offset after the last record that was stepped.
    position: u64,
    /// True where `position` was not committed yet.
    moved: bool,
    /// S, as the note says it.
    snapshot: u64,
    timers: Timers,
    views: Views,
    /// Timer effects that wait for their commit.
    arming: Vec<(u16, TimerEffect)>,
    counts: Vec<(&'static str, u64)>,
    lines: VecDeque<Line>,
}

/// What the next commit writes. Each record with the lane that it comes from, so that a lost lane's can be taken out.
#[derive(Default)]
struct Pending {
    records: Vec<Outgoing>,
    lanes: Vec<u32>,
    /// Set when a try failed: not before this.
    retry: Option<MonoTime>,
    /// Set when the last try did not say whether it happened: the offsets where its lanes stand if it did.
    doubt: Option<Vec<(u32, u64)>>,
}

/// The lanes of one thread.
pub struct Shard {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    topology: Topology,
    options: ShardOptions,
    status: Arc<ShardStatus>,
    member: Box<dyn Member>,
    owned: BTreeMap<u32, Owned>,
    pending: Pending,
    arrivals: Vec<Arrival>,
    /// Records that came while a commit is being tried again: stepped once it is settled, so that what is tried again is
    /// what was tried. At most [`ShardOptions::MAX_RECORDS`].
    held: VecDeque<Record>,
    claims: u64,
    tallies: BTreeMap<&'static str, u64>,
    inbox: Arc<str>,
    view_topic: Arc<str>,
}

impl Shard {
    /// Joins the group of the stage. The topics have to be there: see [`Topology::topics`].
    ///
    /// # Errors
    /// Where the bus does not let it join.
    pub fn join(
        bus: Arc<dyn Bus>,
        topology: Topology,
        options: ShardOptions,
        status: Arc<ShardStatus>,
    ) -> Result<Self, BusError> {
        let inbox: Arc<str> = options.topics.inbox(topology.name(), &options.stage).into();
        let view_topic = options.topics.view(topology.name(), &options.stage).into();
        let member = bus.member(&MemberSpec {
            group: options.group(topology.name()),
            topic: inbox.to_string(),
            name: options.member.clone(),
            session_timeout: options.session_timeout,
        })?;
        let clock = bus.clock();
        Ok(Self {
            bus,
            clock,
            topology,
            options,
            status,
            member,
            owned: BTreeMap::new(),
            pending: Pending::default(),
            arrivals: Vec::new(),
            held: VecDeque::new(),
            claims: 0,
            tallies: BTreeMap::new(),
            inbox,
            view_topic,
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

    /// What would be left undone if it stopped now.
    pub fn unfinished(&self) -> Vec<String> {
        self.owned.values().flat_map(|owned| owned.lane.unfinished()).collect()
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

    // ---- arrivals -----------------------------------------------------------------------------------------------------

    fn arrive(&mut self, arrival: Arrival) -> Result<(), BusError> {
        match arrival {
            Arrival::Assigned(partitions) => partitions.into_iter().for_each(|partition| self.assign(partition)),
            Arrival::Revoking(partitions) => self.revoke(&partitions)?,
            Arrival::Lost(partitions) => self.forget(&partitions),
            Arrival::Record(record) if self.pending.retry.is_some() => self.held.push_back(record),
            Arrival::Record(record) => self.handle(&record),
        }
        Ok(())
    }

    fn assign(&mut self, partition: u32) {
        let lane = self.topology.lane(&self.options.topics, &self.options.stage, partition);
        let now = self.clock.mono();
        self.status.set(partition, ShardStatus::RECOVERING);
        self.owned.insert(
            partition,
            Owned {
                lane,
                phase: Phase::Claiming { at: now },
                position: 0,
                moved: false,
                snapshot: 0,
                timers: Timers::new(now),
                views: Views::new(now),
                arming: Vec::new(),
                counts: Vec::new(),
                lines: VecDeque::new(),
            },
        );
    }

    /// Hands lanes over in order: what they decided is committed, with a note that nothing is left open.
    fn revoke(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.commit();
        self.release_notes(partitions);
        self.forget(partitions);
        self.member.release(partitions)
    }

    fn release_notes(&mut self, partitions: &[u32]) {
        let positions: Vec<Position> = partitions
            .iter()
            .filter_map(|partition| self.owned.get(partition).map(|owned| (*partition, owned)))
            .filter(|(_, owned)| owned.phase == Phase::Live && !owned.moved)
            .map(|(partition, owned)| self.position(partition, owned, true))
            .collect();
        if !positions.is_empty() {
            let batch = Batch { records: Vec::new(), positions };
            if let Err(error) = self.member.commit(&batch) {
                // The next owner then ends what it takes for open: slower, and as safe.
                tracing::warn!(stage = %self.options.stage, %error, "lanes were handed over without their release");
            }
        }
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            if let Some(mut owned) = self.owned.remove(partition) {
                owned.lane.cleanup();
                self.status.set(*partition, ShardStatus::AWAY);
            }
        }
        self.held.retain(|record| !partitions.contains(&record.partition));
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
        let Some(owned) = self.owned.get_mut(&record.partition) else { return };
        let now = self.clock.mono();
        if let Phase::Replaying { until, owner } = &owned.phase
            && record.offset >= *until
        {
            owned.phase = Phase::CatchingUp { owner: owner.clone() };
        }
        let replaying = matches!(owned.phase, Phase::Replaying { .. });
        owned.lane.step(record);
        let effects = owned.lane.take_effects();
        owned.position = record.offset + 1;
        if let Some((id, generation)) = read_back(&owned.lane, record) {
            owned.timers.read_back(id, generation);
        }
        if let Some(from) = handled_from(record) {
            owned.timers.handled_late(from, record.time);
        }
        if replaying {
            for (component, effect) in effects.timers {
                owned.timers.apply(component, effect, Since::Record(record.offset, record.time));
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
            return;
        }
        owned.moved = true;
        if let Phase::CatchingUp { owner } = &owned.phase
            && record.headers.get("ce_id") == Some(owner.as_bytes())
        {
            owned.phase = Phase::Live;
            owned.timers.go_live(record.time, now);
            self.status.set(record.partition, ShardStatus::LIVE);
            tracing::info!(stage = %self.options.stage, lane = record.partition, offset = record.offset, "lane is live");
        }
        self.decided(record.partition, effects);
    }

    /// Takes what a step decided into the next commit.
    fn decided(&mut self, partition: u32, effects: crate::Effects) {
        let now = self.clock.mono();
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        owned.arming.extend(effects.timers);
        for (name, by) in effects.counts {
            match owned.counts.iter_mut().find(|(known, _)| std::ptr::eq(*known, name)) {
                Some((_, sum)) => *sum += by,
                None => owned.counts.push((name, by)),
            }
        }
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
        for message in effects.messages {
            self.send(partition, message);
        }
        self.publish(partition, &closed);
    }

    fn send(&mut self, partition: u32, message: Message) {
        let Message { topic, route, key, mut envelope, expires_after_ms, body } = message;
        let now = self.clock.wall();
        envelope.time = Some(now);
        envelope.expires = expires_after_ms.map(|ms| now.plus_ms(ms));
        self.write(partition, Outgoing { topic, route, key, headers: bus::Headers::of(&envelope), value: body });
    }

    fn write(&mut self, partition: u32, record: Outgoing) {
        self.pending.lanes.push(partition);
        self.pending.records.push(record);
    }

    /// Puts views into the next commit: of the whole lane state as it is now.
    fn publish(&mut self, partition: u32, keys: &[ViewKey]) {
        let Some(owned) = self.owned.get(&partition) else { return };
        let mut records = Vec::new();
        for (component, key) in keys {
            let due = DueOf { timers: &owned.timers, lane: &owned.lane, component: *component, clock: &*self.clock };
            let view = owned.lane.view(*component, key, &due);
            let name = format!("{}/{key}", owned.lane.component(*component));
            let mut envelope = Envelope::new(Kind::View, name.as_str(), owned.lane.info().source());
            envelope.time = Some(self.clock.wall());
            envelope.subject = view.as_ref().map(|view| view.subject.to_owned());
            envelope.operation = wire::OperationId::new(key).ok();
            records.push(Outgoing {
                topic: Arc::clone(&self.view_topic),
                route: Route::To(partition),
                key: Some(Bytes::from(name)),
                headers: bus::Headers::of(&envelope),
                value: view.map(|view| view.body).unwrap_or_default(),
            });
        }
        *self.tallies.entry(names::VIEWS).or_default() += records.len() as u64;
        for record in records {
            self.write(partition, record);
        }
    }

    // ---- taking over --------------------------------------------------------------------------------------------------

    fn claim_due(&mut self) -> bool {
        let now = self.clock.mono();
        let due = |(lane, owned): (&u32, &Owned)| match owned.phase {
            Phase::Claiming { at } if at <= now => Some(*lane),
            Phase::Claiming { .. } | Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => None,
        };
        let lanes: Vec<u32> = self.owned.iter().filter_map(due).collect();
        for lane in &lanes {
            if let Err(error) = self.claim(*lane) {
                tracing::warn!(stage = %self.options.stage, lane, %error, "lane cannot be taken over yet");
                if let Some(owned) = self.owned.get_mut(lane) {
                    owned.phase = Phase::Claiming { at: now.plus_ms(ShardOptions::RETRY_MS) };
                }
            }
        }
        !lanes.is_empty()
    }

    /// Takes a lane over: one commit of the owner record, on top of what the last owner left.
    fn claim(&mut self, partition: u32) -> Result<(), BusError> {
        let takeover = self.member.take_over(partition)?;
        let committed = takeover.committed.as_ref().map_or(takeover.low, |committed| committed.next);
        let snapshot = takeover.committed.as_ref().and_then(bus::Committed::parsed).map_or(0, |note| note.snapshot);
        if takeover.low > snapshot {
            return Err(BusError::Gone {
                topic: self.inbox.to_string(),
                partition,
                asked: snapshot,
                low: takeover.low,
            });
        }
        self.claims += 1;
        let owner = format!("{}/{}", self.options.member, self.claims);
        let body = OwnerRecord {
            build: self.options.build.clone(),
            settings: self.options.settings.as_value().clone(),
            from: Some(committed),
        };
        let mut envelope = Envelope::new(Kind::Owner, owner.as_str(), format!("/nave/{}", self.options.member));
        envelope.time = Some(self.clock.wall());
        let record = Outgoing {
            topic: Arc::clone(&self.inbox),
            route: Route::To(partition),
            key: None,
            headers: bus::Headers::of(&envelope),
            value: serde_json::to_vec(&body).expect("an owner record is plain data").into(),
        };
        let note = self.note(snapshot, false);
        let position = Position { partition, next: committed, note };
        // Where the outcome is unknown the claim is made again: two owner records are as good as one.
        self.member.commit(&Batch { records: vec![record], positions: vec![position] }).map_err(
            |error| match error {
                CommitError::Failed(error) | CommitError::Unknown(error) => error,
                CommitError::Fenced(reason) => BusError::Unavailable(reason),
            },
        )?;
        self.member.start(partition, snapshot)?;
        *self.tallies.entry(names::TAKEOVERS).or_default() += 1;
        metrics::counter!(names::TAKEOVERS).increment(1);
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.position = snapshot;
            owned.snapshot = snapshot;
            owned.phase = if committed > snapshot {
                Phase::Replaying { until: committed, owner }
            } else {
                Phase::CatchingUp { owner }
            };
        }
        Ok(())
    }

    // ---- committing ---------------------------------------------------------------------------------------------------

    fn note(&self, snapshot: u64, released: bool) -> Arc<str> {
        Note { transactional_id: self.options.member.clone(), snapshot, released }.to_string().into()
    }

    fn position(&self, partition: u32, owned: &Owned, released: bool) -> Position {
        Position { partition, next: owned.position, note: self.note(owned.snapshot, released) }
    }

    /// Commits what is pending; true where something was committed. What failed stays and is tried again.
    fn commit(&mut self) -> bool {
        if !self.settle() {
            return false;
        }
        let touched = |(lane, owned): &(&u32, &Owned)| owned.moved || self.pending.lanes.contains(lane);
        let positions: Vec<Position> = self
            .owned
            .iter()
            .filter(touched)
            .map(|(partition, owned)| self.position(*partition, owned, false))
            .collect();
        if positions.is_empty() && self.pending.records.is_empty() {
            return false;
        }
        let batch = Batch { records: std::mem::take(&mut self.pending.records), positions };
        let outcome = self.member.commit(&batch);
        self.pending.records = batch.records;
        match outcome {
            Ok(()) => self.committed(),
            Err(error) => {
                tracing::warn!(stage = %self.options.stage, %error, "commit did not succeed, and is tried again");
                *self.tallies.entry(names::COMMITS_RETRIED).or_default() += 1;
                metrics::counter!(names::COMMITS_RETRIED).increment(1);
                let moved = self.owned.iter().filter(|(_, owned)| owned.moved);
                let ends = moved.map(|(lane, owned)| (*lane, owned.position)).collect();
                self.pending.doubt = matches!(error, CommitError::Unknown(_)).then_some(ends);
                self.pending.retry = Some(self.clock.mono().plus_ms(ShardOptions::RETRY_MS));
                return false;
            }
        }
        true
    }

    /// Finds out whether a commit happened whose outcome was not told: it did where the committed offset stands at its
    /// end. One that moved no offset held timeouts and views alone, which do no harm twice. False where it cannot be told
    /// yet.
    fn settle(&mut self) -> bool {
        let Some(ends) = self.pending.doubt.take() else { return true };
        let witness = ends.iter().find(|(lane, _)| self.owned.contains_key(lane));
        let Some((lane, end)) = witness else { return true };
        match self.member.take_over(*lane) {
            Ok(takeover) => {
                if takeover.committed.is_some_and(|committed| committed.next >= *end) {
                    self.committed();
                }
                true
            }
            Err(error) => {
                tracing::warn!(stage = %self.options.stage, %error, "the outcome of a commit is still unknown");
                self.pending.doubt = Some(ends);
                self.pending.retry = Some(self.clock.mono().plus_ms(ShardOptions::RETRY_MS));
                false
            }
        }
    }

    /// A commit happened: what waited for it is done.
    fn committed(&mut self) {
        let now = self.clock.mono();
        self.pending.records.clear();
        self.pending.lanes.clear();
        self.pending.retry = None;
        *self.tallies.entry(names::COMMITS).or_default() += 1;
        metrics::counter!(names::COMMITS).increment(1);
        for (lane, owned) in &mut self.owned {
            owned.moved = false;
            for (component, effect) in owned.arming.drain(..) {
                owned.timers.apply(component, effect, Since::Commit(now));
            }
            for (name, by) in owned.counts.drain(..) {
                *self.tallies.entry(name).or_default() += by;
                metrics::counter!(name).increment(by);
            }
            for line in owned.lines.drain(..) {
                log(*lane, &line);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 timers")]
        metrics::gauge!(names::TIMERS_PENDING).set(self.timers() as f64);
    }

    // ---- by itself ----------------------------------------------------------------------------------------------------

    /// Appends a timeout for each deadline that has passed.
    fn fire(&mut self) {
        let now = self.clock.mono();
        let live: Vec<u32> = self.live();
        for lane in live {
            let Some(owned) = self.owned.get_mut(&lane) else { continue };
            for expired in owned.timers.fire(now) {
                metrics::histogram!(names::TIMER_LATENESS).record(now.since(expired.due).as_secs_f64());
                let (component, timer) = expired.id;
                let component = Arc::clone(owned.lane.component(component));
                let source = owned.lane.info().source();
                let body = Timeout { timer, generation: expired.generation };
                let mut envelope = Envelope::new(
                    Kind::Timeout,
                    format!("{source}/{component}/{timer}/{}", expired.generation),
                    source,
                );
                envelope.subject = Some(component.to_string());
                envelope.time = Some(self.clock.wall());
                self.pending.lanes.push(lane);
                self.pending.records.push(Outgoing {
                    topic: Arc::clone(&self.inbox),
                    route: Route::To(lane),
                    key: None,
                    headers: bus::Headers::of(&envelope),
                    value: serde_json::to_vec(&body).expect("a timeout is plain data").into(),
                });
            }
        }
    }

    fn publish_due(&mut self) {
        let now = self.clock.mono();
        for lane in self.live() {
            let keys = self.owned.get_mut(&lane).map(|owned| owned.views.take_due(now)).unwrap_or_default();
            self.publish(lane, &keys);
        }
    }

    /// Lets spouts of its own emit, a round for each lane.
    fn let_spouts_emit(&mut self) -> bool {
        let mut emitted = false;
        for lane in self.live() {
            let Some(owned) = self.owned.get_mut(&lane) else { continue };
            if owned.lane.has_spouts() && owned.lane.let_spouts_emit() {
                emitted = true;
                let effects = owned.lane.take_effects();
                self.decided(lane, effects);
            }
        }
        emitted
    }

    fn next(&self) -> Option<MonoTime> {
        let of_lane = |owned: &Owned| match owned.phase {
            Phase::Claiming { at } => Some(at),
            Phase::Live => owned.timers.next().into_iter().chain(owned.views.next()).min(),
            Phase::Replaying { .. } | Phase::CatchingUp { .. } => None,
        };
        self.owned.values().filter_map(of_lane).chain(self.pending.retry).min()
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
fn read_back(lane: &Lane, record: &Record) -> Option<((u16, u64), u32)> {
    if record.headers.get("ce_type") != Some(Kind::Timeout.as_str().as_bytes()) {
        return None;
    }
    let timeout: Timeout = serde_json::from_slice(&record.value).ok()?;
    let component = lane.number(std::str::from_utf8(record.headers.get("ce_subject")?).ok()?)?;
    Some(((component, timeout.timer), timeout.generation))
}

/// Where the records begin that the owner of this owner record handled after it.
fn handled_from(record: &Record) -> Option<u64> {
    if record.headers.get("ce_type") != Some(Kind::Owner.as_str().as_bytes()) {
        return None;
    }
    serde_json::from_slice::<OwnerRecord>(&record.value).ok()?.from
}

fn log(lane: u32, line: &Line) {
    let operation = line.operation.as_ref().map_or("-", wire::OperationId::as_str);
    match line.level {
        Level::Debug => tracing::debug!(lane, operation, "{}", line.text),
        Level::Info => tracing::info!(lane, operation, "{}", line.text),
        Level::Warn => tracing::warn!(lane, operation, "{}", line.text),
        Level::Error => tracing::error!(lane, operation, "{}", line.text),
    }
}

impl Part for Shard {
    fn name(&self) -> &str {
        &self.options.member
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        // Before anything new: views show what is committed, with the timers that it armed.
        self.publish_due();
        let wait = if self.pending.records.is_empty() { wait } else { Duration::ZERO };
        let wait = self.next().map_or(wait, |next| wait.min(next.since(self.clock.mono())));
        let mut worked = self.let_spouts_emit();
        let wait = if worked { Duration::ZERO } else { wait };
        let most = ShardOptions::MAX_RECORDS - self.held.len();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let polled = if most > 0 { self.member.poll(most, wait, &mut arrivals) } else { Ok(()) };
        worked |= !arrivals.is_empty();
        for arrival in arrivals.drain(..) {
            self.arrive(arrival)?;
        }
        self.arrivals = arrivals;
        match polled {
            Ok(()) => {}
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(stage = %self.options.stage, reason, "the bus cannot be read");
            }
            Err(error) => return Err(error),
        }
        worked |= self.claim_due();
        self.fire();
        if self.pending.retry.is_none_or(|at| at <= self.clock.mono()) {
            worked |= self.commit();
        }
        if self.pending.retry.is_none() {
            let held = std::mem::take(&mut self.held);
            worked |= !held.is_empty();
            for record in &held {
                self.handle(record);
            }
        }
        Ok(Turn { worked, next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        self.commit();
        let mut left = self.unfinished();
        let lanes: Vec<u32> = self.owned.keys().copied().collect();
        self.release_notes(&lanes);
        for (lane, owned) in &mut self.owned {
            owned.lane.cleanup();
            self.status.set(*lane, ShardStatus::AWAY);
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
