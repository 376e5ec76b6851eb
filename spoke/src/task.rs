//! A spoke on its topic: a member of the group that shares the calls of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{
    Arrival, Backoff, Bus, BusError, Clock, Headers, Member, MemberSpec, MonoTime, Outgoing, PollOutcome, Record,
    Route, Task,
};
use wire::topics::Topics;

use crate::commit::Doubt;
use crate::heart::Heart;
use crate::memory::Answer;
use crate::names;
use crate::options::SpokeOptions;
use crate::running::{Accepted, Running};
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

/// Serves a [`SpokeService`]: reads calls, runs the service, and commits answers with offsets.
pub struct SpokeTask<S> {
    pub(crate) name: String,
    pub(crate) service_name: String,
    source: String,
    pub(crate) member: Box<dyn Member>,
    pub(crate) clock: Arc<dyn Clock>,
    service: SpokeService<S>,
    running: Running,
    /// Partitions that the group assigned and that are not started.
    pub(crate) assigned: BTreeSet<u32>,
    /// Partitions that are read.
    pub(crate) partitions: BTreeMap<u32, Offsets>,
    /// Answers that are not committed.
    pub(crate) owed: Vec<Outgoing>,
    pub(crate) doubt: Option<Doubt>,
    heart: Option<Heart>,
    polling: Backoff,
    pub(crate) committing: Backoff,
}

/// Where the task is in a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    /// The next record to read.
    pub(crate) next: u64,
    pub(crate) committed: u64,
}

impl<S: Handler> SpokeTask<S> {
    /// Joins the group of `service` as `member`: a name that is unique among all members that are alive. Call it on
    /// the thread that polls the task.
    ///
    /// # Errors
    /// If the bus refuses the member, or the topic of the service does not exist.
    pub fn join(
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        spoke: SpokeService<S>,
    ) -> Result<Self, BusError> {
        Self::join_with(bus, names, service, member, spoke, SpokeOptions::default())
    }

    /// As [`SpokeTask::join`], with options.
    ///
    /// # Errors
    /// As [`SpokeTask::join`], or if the bus gives no writer for heartbeats.
    pub fn join_with(
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        spoke: SpokeService<S>,
        options: SpokeOptions,
    ) -> Result<Self, BusError> {
        let (topic, source, clock) = (names.spoke(service), format!("/spoke/{service}"), bus.clock());
        let running = Running::new(spoke.max_in_flight());
        let running = running.map_err(|error| BusError::Unavailable(format!("no thread for the spoke: {error}")))?;
        let heart = match options.heartbeats {
            Some(heartbeats) => {
                let writer = bus.writer(&format!("{member}-heart"))?;
                Some(Heart::new(heartbeats, &source, writer, clock.mono()))
            }
            None => None,
        };
        Ok(Self {
            name: member.to_owned(),
            service_name: service.to_owned(),
            source,
            member: bus.member(&MemberSpec::new(&topic, &topic, member))?,
            clock,
            running,
            service: spoke,
            assigned: BTreeSet::new(),
            partitions: BTreeMap::new(),
            owed: Vec::new(),
            doubt: None,
            heart,
            polling: Backoff::default(),
            committing: Backoff::default(),
        })
    }

    /// The offset up to which every call of a partition is answered.
    pub(crate) fn answered(&self, partition: u32, next: u64) -> u64 {
        self.running.oldest(partition).map_or(next, |oldest| oldest.min(next))
    }

    /// Stops to handle a partition that another instance owns.
    pub(crate) fn forget(&mut self, partition: u32) {
        self.assigned.remove(&partition);
        self.partitions.remove(&partition);
        self.running.drop_partition(partition);
    }

    fn poll_member(&mut self, wait: Duration) -> Result<Vec<Arrival>, BusError> {
        let now = self.clock.mono();
        let wait = self.next().map_or(wait, |at| wait.min(at.since(now)));
        let wait = if self.running.in_flight() > 0 { wait.min(IN_FLIGHT_WAIT) } else { wait };
        let mut arrivals = Vec::new();
        if self.polling.holds(now) {
            std::thread::park_timeout(wait);
            return Ok(arrivals);
        }
        // A poll for no records is a sign of life too.
        match self.member.poll(self.running.room().min(POLLED), wait, &mut arrivals) {
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

    /// Returns the partitions that the group takes back.
    fn arrive(&mut self, arrivals: Vec<Arrival>) -> Vec<u32> {
        let mut revoking = Vec::new();
        for arrival in arrivals {
            match arrival {
                Arrival::Assigned(partitions) => self.assigned.extend(partitions),
                Arrival::Revoking(partitions) => revoking.extend(partitions),
                Arrival::Lost(partitions) => partitions.into_iter().for_each(|partition| self.forget(partition)),
                Arrival::Record(record) => self.accept(&record),
            }
        }
        revoking
    }

    fn accept(&mut self, record: &Record) {
        let Some(offsets) = self.partitions.get_mut(&record.partition) else { return };
        offsets.next = record.offset + 1;
        let envelope = match record.headers.envelope() {
            Ok(envelope) if envelope.reply_to.is_some() => envelope,
            Ok(_) => return self.drop_unreadable(record, "`ce_replyto` is missing"),
            Err(error) => return self.drop_unreadable(record, &error.to_string()),
        };
        self.running.push(Accepted {
            partition: record.partition,
            offset: record.offset,
            key: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
            record_key: record.key.clone(),
            envelope,
            body: record.value.clone(),
        });
    }

    /// Counts a record that is no call or has no reply address. Nobody can be answered.
    fn drop_unreadable(&self, record: &Record, detail: &str) {
        let (partition, offset) = (record.partition, record.offset);
        tracing::warn!(spoke = self.name, partition, offset, detail, "dropped a record that is no call");
        metrics::counter!(names::UNREADABLE, "service" => self.service_name.clone()).increment(1);
        self.service.dropped_unreadable();
    }

    fn owe(&mut self, ended: Vec<(Accepted, Option<Answer>)>) {
        let wall = self.clock.wall();
        for (accepted, answer) in ended {
            let Some(Answer { kind, body }) = answer else { continue };
            let Accepted { record_key, mut envelope, .. } = accepted;
            let Some(topic) = envelope.reply_to.take() else { continue };
            let route = envelope.reply_partition.map_or(Route::ByKey, Route::To);
            let mut envelope = envelope.into_answer(kind, &self.source);
            envelope.time = Some(wall);
            let headers = Headers::of(&envelope);
            self.owed.push(Outgoing { topic: topic.into(), route, key: record_key, headers, value: body });
        }
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
        let first = takeover.first();
        self.member.start(partition, first)?;
        Ok(Offsets { next: first, committed: first })
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
        [beat, self.polling.until(), self.committing.until()].into_iter().flatten().min()
    }

    /// Waits for running handlers, for [`STOP_WAIT`] at most.
    fn finish(&mut self) {
        // Counted in steps: in virtual time no clock advances here.
        for _ in 0..STOP_WAIT.as_millis() / STOP_STEP.as_millis() {
            let mut ended = Vec::new();
            self.running.finish(&self.service, &mut ended);
            self.owe(ended);
            if self.running.in_flight() == 0 {
                break;
            }
            std::thread::park_timeout(STOP_STEP);
        }
    }

    /// Saves the memory. No answer may be sent before.
    fn save(&self) -> Result<(), BusError> {
        self.service.save().map_err(|error| BusError::Refused(error.to_string()))
    }
}

impl<S: Handler> Task for SpokeTask<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let arrivals = self.poll_member(wait)?;
        let arrived = !arrivals.is_empty();
        let revoking = self.arrive(arrivals);
        let mut ended = Vec::new();
        self.running.advance(&self.service, self.clock.wall(), &mut ended);
        let progress = !ended.is_empty();
        self.owe(ended);
        self.save()?;
        let started = self.start_assigned()?;
        let committed = self.commit(&revoking)?;
        if !revoking.is_empty() {
            self.release(&revoking)?;
        }
        if let Some(heart) = &mut self.heart {
            heart.beat(self.clock.mono(), self.clock.wall());
        }
        Ok(PollOutcome { worked: arrived || progress || started || committed, next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        let name = self.name.clone();
        let mut faults = Vec::new();
        self.finish();
        if self.running.in_flight() > 0 {
            faults.push(format!(
                "{name}: {} calls were still running; the next instance handles them",
                self.running.in_flight()
            ));
        }
        self.committing.over();
        let all: Vec<u32> = self.partitions.keys().copied().collect();
        let committed = self.save().and_then(|()| self.commit(&all));
        if let Err(error) = committed {
            faults.push(format!("{name}: the last commit failed: {error}"));
        }
        if !self.owed.is_empty() {
            faults
                .push(format!("{name}: {} answers were not committed; the next instance sends them", self.owed.len()));
        }
        if let Some(Err(error)) = self.heart.take().map(|heart| heart.bye(self.clock.wall())) {
            faults.push(format!("{name}: the last heartbeat was not sent: {error}"));
        }
        if let Err(error) = self.member.leave() {
            faults.push(format!("{name}: could not leave its group: {error}"));
        }
        faults
    }
}
