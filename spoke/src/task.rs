//! A spoke on its topic: a member of the group that shares the calls of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{Arrival, Backoff, Bus, BusError, Clock, Member, MemberSpec, MonoTime, Outgoing, PollOutcome, Task};
use wire::WallTime;
use wire::service::ServiceName;
use wire::topics::Topics;

use crate::commit::Doubt;
use crate::contract::{InjectedCrash, RecordService, ServicePoll};
use crate::heart::Heart;
use crate::immediate::Immediate;
use crate::options::{Delivery, SpokeOptions};
use crate::runner::CallRunner;
use crate::service::{Handler, SpokeService};

/// Maximum number of calls per poll: enough to share a commit, few enough to be answered within milliseconds.
const POLLED: usize = 256;

/// While handlers run, a task looks at them at least this often. A future that is ready unparks the thread, which the
/// embedded bus notices at once; the Kafka client does not.
const IN_FLIGHT_WAIT: Duration = Duration::from_millis(5);

/// How long a task that stops waits for running handlers. `nave` gives its tasks ten seconds.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How often it looks at them meanwhile, at least.
const STOP_STEP: Duration = Duration::from_millis(10);

/// Maximum number of answers that are not committed, about 2 MB. At the limit the task reads no calls.
const MAX_OWED: usize = 4_096;

/// Serves a service: reads calls, passes them on, and commits answers with offsets.
pub struct SpokeTask<S> {
    pub(crate) name: String,
    pub(crate) service_name: String,
    source: String,
    pub(crate) member: Box<dyn Member>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) service: S,
    /// Partitions that the group assigned and that are not started.
    pub(crate) assigned: BTreeSet<u32>,
    /// Partitions that are read.
    pub(crate) partitions: BTreeMap<u32, Offsets>,
    /// Answers that are not committed.
    pub(crate) owed: Vec<Outgoing>,
    pub(crate) doubt: Option<Doubt>,
    /// The number of commits so far, including those of an earlier task with this name.
    pub(crate) commits: u64,
    /// `None`: answers and offsets are one transaction.
    pub(crate) immediate: Option<Immediate>,
    heart: Option<Heart>,
    polling: Backoff,
    pub(crate) committing: Backoff,
}

/// Where the task is in a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    /// The next record to read.
    pub(crate) next: u64,
    /// The end of the calls whose answers are durable; for immediate delivery only.
    pub(crate) answered: u64,
    pub(crate) committed: u64,
}

impl<S: Handler> SpokeTask<CallRunner<S>> {
    /// Joins the group of `service` as `member`: a name that is unique among all members that are alive. Call it on
    /// the thread that polls the task.
    ///
    /// # Errors
    /// If the bus refuses the member, or the topic of the service does not exist.
    pub fn join(
        bus: &dyn Bus,
        names: &Topics,
        service: impl ServiceName<S::Request, S::Reply>,
        member: &str,
        spoke: SpokeService<S>,
    ) -> Result<Self, BusError> {
        Self::join_with(bus, names, service, member, spoke, &SpokeOptions::default())
    }

    /// As [`SpokeTask::join`], with options.
    ///
    /// # Errors
    /// As [`SpokeTask::join`], if the bus gives no writer, or if the directory of the memory cannot
    /// be used.
    pub fn join_with(
        bus: &dyn Bus,
        names: &Topics,
        service: impl ServiceName<S::Request, S::Reply>,
        member: &str,
        spoke: SpokeService<S>,
        options: &SpokeOptions,
    ) -> Result<Self, BusError> {
        if let Some(directory) = &options.memory {
            spoke.remember_in(directory).map_err(|error| BusError::Refused(error.to_string()))?;
        }
        let options = SpokeOptions { memory: None, ..options.clone() };
        Self::serve(bus, names, service.service_name(), member, CallRunner::new(spoke)?, &options)
    }
}

impl<S: RecordService> SpokeTask<S> {
    /// As [`SpokeTask::join_with`], for a service with its own memory of calls.
    ///
    /// # Errors
    /// As [`SpokeTask::join_with`], or if the options name a directory for the memory.
    pub fn serve(
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        served: S,
        options: &SpokeOptions,
    ) -> Result<Self, BusError> {
        if let Some(directory) = &options.memory {
            let reason = format!("`{service}` has its own memory: it cannot use `{}`", directory.display());
            return Err(BusError::Refused(reason));
        }
        let (topic, source, clock) = (names.spoke(service), format!("/spoke/{service}"), bus.clock());
        let heart = match options.heartbeat_ms {
            0 => None,
            every_ms => {
                let writer = bus.writer(&format!("{member}-heart"))?;
                Some(Heart::new(names.alive(service), member, every_ms, &source, writer, clock.mono()))
            }
        };
        let immediate = match options.delivery {
            Delivery::Immediate { commit_every_ms } => {
                Some(Immediate::new(bus.writer(&format!("{member}-answers"))?, commit_every_ms))
            }
            Delivery::Transactional => None,
        };
        let spec = MemberSpec { outside: served.is_durable(), ..MemberSpec::new(&topic, &topic, member) };
        Ok(Self {
            name: member.to_owned(),
            service_name: service.to_owned(),
            source,
            member: bus.member(&spec)?,
            clock,
            service: served,
            assigned: BTreeSet::new(),
            partitions: BTreeMap::new(),
            owed: Vec::new(),
            doubt: None,
            commits: 0,
            immediate,
            heart,
            polling: Backoff::default(),
            committing: Backoff::default(),
        })
    }

    /// Stops handling a partition that another instance owns.
    pub(crate) fn forget(&mut self, partition: u32) {
        self.assigned.remove(&partition);
        self.partitions.remove(&partition);
        self.service.forget(partition);
    }

    fn poll_member(&mut self, wait: Duration) -> Result<Vec<Arrival>, BusError> {
        let now = self.clock.mono();
        let wait = self.next().map_or(wait, |at| wait.min(at.since(now)));
        let wait = if self.service.in_flight() > 0 { wait.min(IN_FLIGHT_WAIT) } else { wait };
        let mut arrivals = Vec::new();
        if self.polling.holds(now) {
            std::thread::park_timeout(wait);
            return Ok(arrivals);
        }
        // A poll for no records is a sign of life too.
        let room = self.service.room().min(MAX_OWED.saturating_sub(self.owed.len())).min(POLLED);
        match self.member.poll(room, wait, &mut arrivals) {
            Ok(()) => self.polling.over(),
            Err(BusError::Gone { partition, requested, low, .. }) => {
                tracing::error!(
                    spoke = self.name,
                    partition,
                    requested,
                    low,
                    "calls were deleted before they were read"
                );
                // It starts again at the first record that exists.
                if self.partitions.remove(&partition).is_some() {
                    self.assigned.insert(partition);
                }
            }
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(spoke = self.name, reason, "cannot read calls; retrying");
                self.polling.failed(now);
            }
            Err(error) => return Err(error),
        }
        Ok(arrivals)
    }

    /// Handles arrivals and everything that is due. Returns the partitions that the group takes back, and whether the
    /// service may have more to do at once.
    fn handle(&mut self, arrivals: Vec<Arrival>) -> (Vec<u32>, bool) {
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        let mut revoking = Vec::new();
        for arrival in arrivals {
            match arrival {
                Arrival::Assigned(partitions) => self.assigned.extend(partitions),
                Arrival::Revoking(partitions) => revoking.extend(partitions),
                Arrival::Lost(partitions) => partitions.into_iter().for_each(|partition| self.forget(partition)),
                Arrival::Record(record) => {
                    let Some(offsets) = self.partitions.get_mut(&record.partition) else { continue };
                    offsets.next = record.offset + 1;
                    self.with_service(now, wall, |service, poll| service.accept(record, poll));
                }
            }
        }
        let worked = self.with_service(now, wall, S::advance);
        (revoking, worked)
    }

    fn with_service<R>(
        &mut self,
        now: MonoTime,
        wall: WallTime,
        act: impl FnOnce(&mut S, &mut ServicePoll<'_>) -> R,
    ) -> R {
        let Self { service, source, service_name, owed, .. } = self;
        act(service, &mut ServicePoll { now, wall, source, answers: owed, service: service_name })
    }

    /// Starts the assigned partitions: at the committed offset, or at the first record that exists.
    fn start_assigned(&mut self) -> Result<bool, BusError> {
        if self.committing.holds(self.clock.mono()) {
            return Ok(false);
        }
        let mut started = false;
        while let Some(&partition) = self.assigned.first() {
            match self.start(partition) {
                Ok(offsets) => drop(self.partitions.insert(partition, offsets)),
                Err(BusError::NotOwned(_)) => {}
                Err(error @ (BusError::Unavailable(_) | BusError::Gone { .. })) => {
                    tracing::warn!(spoke = self.name, partition, %error, "cannot start a partition; retrying");
                    self.committing.failed(self.clock.mono());
                    return Ok(started);
                }
                Err(error) => return Err(error),
            }
            self.assigned.remove(&partition);
            started = true;
        }
        Ok(started)
    }

    fn start(&mut self, partition: u32) -> Result<Offsets, BusError> {
        let takeover = self.member.take_over(partition)?;
        self.commits = self.commits.max(self.own_commit(&takeover).unwrap_or_default());
        let first = takeover.first();
        let committed = takeover.committed.map_or(takeover.low, |committed| committed.next);
        if committed != first {
            tracing::error!(spoke = self.name, partition, committed, first, "calls were deleted before they were read");
        }
        self.member.start(partition, first)?;
        Ok(Offsets { next: first, answered: first, committed: committed.min(first) })
    }

    fn release(&mut self, revoking: &[u32]) -> Result<(), BusError> {
        for partition in revoking {
            self.forget(*partition);
        }
        match self.member.release(revoking) {
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(spoke = self.name, reason, "cannot release partitions; the end of the session will");
                Ok(())
            }
            result => result,
        }
    }

    /// When there is something to do that no record brings.
    fn next(&self) -> Option<MonoTime> {
        let beat = self.heart.as_ref().map(Heart::due);
        let offsets = self.immediate.as_ref().and_then(Immediate::next);
        let due = self.service.next_due();
        [due, beat, offsets, self.polling.until(), self.committing.until()].into_iter().flatten().min()
    }

    /// Waits for running handlers, for [`STOP_WAIT`] at most.
    fn finish(&mut self) {
        // Counted in steps: in virtual time no clock advances here.
        for _ in 0..STOP_WAIT.as_millis() / STOP_STEP.as_millis() {
            let (now, wall) = (self.clock.mono(), self.clock.wall());
            self.with_service(now, wall, S::finish);
            if self.service.in_flight() == 0 {
                break;
            }
            std::thread::park_timeout(STOP_STEP);
        }
    }

    /// Crashes by fault injection: drops all answers that are not committed. The member keeps its partitions, because a
    /// crashed process cannot release them. A restart starts them again.
    fn crash(&mut self) {
        for partition in std::mem::take(&mut self.partitions).into_keys() {
            self.service.forget(partition);
            self.assigned.insert(partition);
        }
        self.owed.clear();
        self.doubt = None;
        self.committing.over();
        self.service.crashed();
    }
}

impl<S: RecordService> Task for SpokeTask<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        if self.service.is_down() {
            std::thread::park_timeout(wait);
            return Ok(PollOutcome { worked: false, next: None });
        }
        let arrivals = self.poll_member(wait)?;
        let arrived = !arrivals.is_empty();
        let (revoking, progress) = self.handle(arrivals);
        // Effects must be durable before any answer is sent.
        self.service.save()?;
        let crash = self.service.crash();
        let (mut started, mut committed) = (false, false);
        if crash != Some(InjectedCrash::Now) {
            started = self.start_assigned()?;
            committed = self.commit(&revoking)?;
        }
        match crash {
            Some(InjectedCrash::Now) => self.crash(),
            Some(InjectedCrash::AfterAnswers) if self.owed.is_empty() && self.doubt.is_none() => self.crash(),
            Some(InjectedCrash::AfterAnswers) | None => {}
        }
        if !revoking.is_empty() {
            self.release(&revoking)?;
        }
        if !self.service.is_down()
            && let Some(heart) = &mut self.heart
        {
            heart.beat(self.clock.mono(), self.clock.wall(), self.service.heartbeats_stopped());
        }
        Ok(PollOutcome { worked: arrived || progress || started || committed, next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        let name = self.name.clone();
        if self.service.is_down() {
            return vec![format!("{name}: it crashed by fault injection and was not restarted")];
        }
        let mut faults = Vec::new();
        self.finish();
        if let Some(unfinished) = self.service.unfinished() {
            faults.push(format!("{name}: {unfinished}"));
        }
        self.committing.over();
        let all: Vec<u32> = self.partitions.keys().copied().collect();
        let committed = self.service.save().and_then(|()| self.commit(&all));
        if let Err(error) = committed {
            faults.push(format!("{name}: the last commit failed: {error}"));
        }
        if !self.owed.is_empty() {
            faults
                .push(format!("{name}: {} answers were not committed; the next instance sends them", self.owed.len()));
        }
        let heart = self.heart.take().filter(|_| !self.service.heartbeats_stopped());
        if let Some(Err(error)) = heart.map(|heart| heart.bye(self.clock.wall())) {
            faults.push(format!("{name}: the last heartbeat was not sent: {error}"));
        }
        if let Err(error) = self.member.leave() {
            faults.push(format!("{name}: could not leave its group: {error}"));
        }
        faults
    }
}
