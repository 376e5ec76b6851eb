//! The speaker on the bus: a member of the group of its topic.
//!
//! Each poll reads requests, passes them to the [`crate::Speaker`], stores the changes, and sends
//! all answers: in one transaction with the offsets, or at once with a later offset commit. In
//! either case a request is answered at least once: after a crash the speaker reads uncommitted
//! requests again and answers them from memory.
//!
//! Read in this order: `options`, this file, `commits` (transactions), `at_least_once`,
//! `heartbeat`.

mod at_least_once;
mod commits;
mod heartbeat;
mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{Arrival, Backoff, Bus, BusError, Clock, Member, MemberSpec, MonoTime, Outgoing, PollOutcome, Record, Task};

use self::at_least_once::AtLeastOnce;
use self::commits::UnsettledCommit;
use self::heartbeat::HeartbeatTimer;
pub use self::options::{Heartbeats, SpeakerOptions};
use crate::flaw::Flaw;
use crate::{Answer, Request, Speaker, SpeakerHandle, metrics};

/// The maximum number of requests per poll: enough to share a commit, few enough to answer within
/// milliseconds.
const MAX_POLL: usize = 256;

/// The maximum number of uncommitted answers, about 2 MB. At the limit the speaker reads no
/// requests.
const MAX_PENDING: usize = 4_096;

/// At this size of pending answers, in bytes, the fault `oversized` has no effect, to bound the
/// memory.
const MAX_OVERSIZED_BYTES: usize = 64 << 20;

/// Serves a [`SpeakerHandle`] over the bus.
pub struct SpeakerTask {
    name: String,
    member_name: String,
    member: Box<dyn Member>,
    clock: Arc<dyn Clock>,
    handle: SpeakerHandle,
    /// Assigned partitions that are not started yet.
    assigned: BTreeSet<u32>,
    /// The progress in each started partition.
    partitions: BTreeMap<u32, Progress>,
    /// Uncommitted answers, in order.
    pending: Vec<Outgoing>,
    /// The speaker crashed by fault injection and is idle until a restart.
    down: bool,
    unsettled: Option<UnsettledCommit>,
    /// `None`: answers and offsets are one transaction.
    at_least_once: Option<AtLeastOnce>,
    heartbeat: Option<HeartbeatTimer>,
    polling: Backoff,
    committing: Backoff,
    arrivals: Vec<Arrival>,
}

/// The progress of the speaker in a partition.
struct Progress {
    /// The offset of the next request.
    next: u64,
    /// The end of the durably answered requests; used without transactions only.
    answered: u64,
    /// The committed offset.
    committed: u64,
}

impl SpeakerTask {
    /// Joins the group of `topic`, which has the name of the topic, with the default options.
    /// `member_name` must be unique among all running members.
    ///
    /// # Errors
    /// The bus rejects the member.
    pub fn join(bus: &dyn Bus, topic: &str, member_name: &str, handle: SpeakerHandle) -> Result<Self, BusError> {
        Self::join_with(bus, topic, member_name, handle, &SpeakerOptions::default())
    }

    /// Joins the group of `topic` with these options; see [`SpeakerTask::join`].
    ///
    /// # Errors
    /// The bus rejects the member or a writer.
    pub fn join_with(
        bus: &dyn Bus,
        topic: &str,
        member_name: &str,
        handle: SpeakerHandle,
        options: &SpeakerOptions,
    ) -> Result<Self, BusError> {
        let member = bus.member(&Self::member_spec(topic, member_name, &handle))?;
        Self::over(member, member_name, bus.clock(), handle).with(bus, options)
    }

    /// The group membership. The bus must not lose requests whose effects this speaker stores on
    /// disk.
    fn member_spec(topic: &str, member_name: &str, handle: &SpeakerHandle) -> MemberSpec {
        MemberSpec { outside: handle.is_persistent(), ..MemberSpec::new(topic, topic, member_name) }
    }

    /// Sets the options, with writers of `bus`.
    ///
    /// # Errors
    /// The bus rejects a writer.
    pub fn with(mut self, bus: &dyn Bus, options: &SpeakerOptions) -> Result<Self, BusError> {
        self.at_least_once = None;
        if !options.transactional {
            let writer = bus.writer(&format!("{}-answers", self.member_name))?;
            self.at_least_once = Some(AtLeastOnce::new(writer, options.commit_every_ms));
        }
        self.heartbeat = None;
        if let Some(heartbeats) = options.heartbeats.as_ref().filter(|heartbeats| heartbeats.every_ms > 0) {
            let writer = bus.writer(&format!("{}-heart", self.member_name))?;
            self.heartbeat = Some(HeartbeatTimer::new(heartbeats.clone(), writer, self.clock.mono()));
        }
        Ok(self)
    }

    /// Serves the requests of `member`, with the default options.
    pub fn over(member: Box<dyn Member>, member_name: &str, clock: Arc<dyn Clock>, handle: SpeakerHandle) -> Self {
        Self {
            name: format!("speaker {member_name}"),
            member_name: member_name.into(),
            member,
            clock,
            handle,
            assigned: BTreeSet::new(),
            partitions: BTreeMap::new(),
            pending: Vec::new(),
            down: false,
            unsettled: None,
            at_least_once: None,
            heartbeat: None,
            polling: Backoff::default(),
            committing: Backoff::default(),
            arrivals: Vec::new(),
        }
    }

    /// Fills `arrivals`. It waits at most `wait`, or until a timer of this task is due.
    fn read_arrivals(&mut self, wait: Duration) -> Result<(), BusError> {
        let now = self.clock.mono();
        let wait = self.next().map_or(wait, |at| wait.min(at.since(now)));
        let room = MAX_PENDING.saturating_sub(self.pending.len()).min(MAX_POLL);
        // Settling a commit needs a poll in any case: it reports the partitions that are still
        // owned.
        let max = if self.unsettled.is_some() { room.max(1) } else { room };
        if max == 0 || self.polling.holds(now) {
            std::thread::park_timeout(wait);
            return Ok(());
        }
        match self.member.poll(max, wait, &mut self.arrivals) {
            Ok(()) => self.polling.over(),
            Err(BusError::Gone { partition, requested, low, .. }) => {
                tracing::error!(partition, requested, low, "requests were deleted before the speaker read them");
                // Starts it again, at its first record.
                if self.partitions.remove(&partition).is_some() {
                    self.assigned.insert(partition);
                }
            }
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(why, "cannot read requests; retrying");
                self.polling.failed(now);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Handles arrivals and due delays. Returns the partitions that the group revokes.
    fn handle_arrivals(&mut self) -> Vec<u32> {
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        let handle = self.handle.clone();
        let mut shared = handle.lock();
        let speaker = &mut shared.speaker;
        if speaker.crash().is_none() {
            let due = speaker.due(now, wall);
            self.queue(due);
        }
        let mut revoking = Vec::new();
        for arrival in std::mem::take(&mut self.arrivals) {
            match arrival {
                Arrival::Assigned(partitions) => self.assigned.extend(partitions),
                Arrival::Revoking(partitions) => revoking.extend(partitions),
                Arrival::Lost(partitions) => self.forget(&partitions),
                Arrival::Record(record) => self.handle_record(speaker, now, &record),
            }
        }
        revoking
    }

    fn handle_record(&mut self, speaker: &mut Speaker, now: MonoTime, record: &Record) {
        // The next process reads the requests after a crash again.
        let Some(progress) = self.partitions.get_mut(&record.partition).filter(|_| speaker.crash().is_none()) else {
            return;
        };
        progress.next = record.offset + 1;
        match Request::read(record) {
            Ok(request) => {
                let answers = speaker.on(now, self.clock.wall(), request);
                self.queue(answers);
            }
            Err(unreadable) => {
                let (partition, offset) = (record.partition, record.offset);
                tracing::warn!(partition, offset, detail = unreadable.detail, "unreadable message");
                metrics::unreadable();
                let answer = speaker.unreadable(*unreadable);
                self.queue(answer);
            }
        }
    }

    fn queue(&mut self, answers: impl IntoIterator<Item = Answer>) {
        let wall = self.clock.wall();
        for mut answer in answers {
            if matches!(answer.flaw, Some(Flaw::Oversized(_)))
                && self.pending.iter().map(Outgoing::size).sum::<usize>() >= MAX_OVERSIZED_BYTES
            {
                answer.flaw = None;
            }
            match answer.outgoing(wall) {
                Some(record) => self.pending.push(record),
                None => metrics::dropped("no address", 1),
            }
        }
    }

    /// Returns true until somebody restarts a crashed speaker.
    fn is_down(&mut self) -> bool {
        self.down = self.down && self.handle.is_down();
        self.down
    }

    /// Crashes: drops all uncommitted answers. The member keeps its partitions, because a crashed
    /// process cannot release them; a restart starts them again.
    fn crash(&mut self) {
        self.assigned.extend(std::mem::take(&mut self.partitions).into_keys());
        self.pending.clear();
        self.unsettled = None;
        self.committing.over();
        self.down = true;
        self.handle.mark_crashed();
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.partitions.remove(partition);
            self.assigned.remove(partition);
        }
    }

    /// Starts the assigned partitions at the committed offset, or at the first record.
    fn start_assigned(&mut self) -> Result<bool, BusError> {
        if self.committing.holds(self.clock.mono()) {
            return Ok(false);
        }
        let mut worked = false;
        while let Some(&partition) = self.assigned.first() {
            match self.start(partition) {
                Ok(progress) => drop(self.partitions.insert(partition, progress)),
                Err(BusError::NotOwned(_)) => {}
                Err(error @ (BusError::Unavailable(_) | BusError::Gone { .. })) => {
                    tracing::warn!(partition, %error, "cannot take over a partition; retrying");
                    self.committing.failed(self.clock.mono());
                    return Ok(worked);
                }
                Err(error) => return Err(error),
            }
            self.assigned.remove(&partition);
            worked = true;
        }
        Ok(worked)
    }

    fn start(&mut self, partition: u32) -> Result<Progress, BusError> {
        let left = self.member.take_over(partition)?;
        let first = left.first();
        let committed = left.committed.map_or(left.low, |committed| committed.next);
        if committed != first {
            tracing::error!(partition, committed, first, "requests were deleted before the speaker read them");
        }
        // The log has named deleted requests, here or in `read_arrivals`.
        self.member.start(partition, first)?;
        Ok(Progress { next: first, answered: first, committed: committed.min(first) })
    }

    /// The time of the next timer, if any.
    fn next(&self) -> Option<MonoTime> {
        let due = self.handle.lock().speaker.next_due();
        let heartbeat = self.heartbeat.as_ref().map(HeartbeatTimer::due);
        let commit = self.at_least_once.as_ref().and_then(AtLeastOnce::next);
        [due, heartbeat, commit, self.polling.until(), self.committing.until()].into_iter().flatten().min()
    }
}

impl Task for SpeakerTask {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        if self.is_down() {
            std::thread::park_timeout(wait);
            return Ok(PollOutcome { worked: false, next: None });
        }
        self.read_arrivals(wait)?;
        let read = !self.arrivals.is_empty();
        let revoking = self.handle_arrivals();
        // Changes must be durable before any answer is sent.
        self.handle.persist().map_err(|error| BusError::Refused(error.to_string()))?;
        let crash = self.handle.lock().speaker.crash();
        let (mut started, mut committed) = (false, false);
        if crash.is_none_or(|crash| crash.told) {
            started = self.start_assigned()?;
            committed = self.commit(&revoking)?;
        }
        if crash.is_some_and(|crash| !crash.told || self.all_committed()) {
            self.crash();
        }
        if !revoking.is_empty() {
            self.forget(&revoking);
            match self.member.release(&revoking) {
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(why, "cannot release partitions; the end of the session will");
                }
                result => result?,
            }
        }
        if let Some(heartbeat) = self.heartbeat.as_mut().filter(|_| !self.down) {
            heartbeat.beat(self.clock.mono(), self.clock.wall(), self.handle.heartbeats_stopped());
        }
        Ok(PollOutcome { worked: read || started || committed, next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        if self.down {
            return vec!["speaker: it crashed by fault injection and was not restarted".into()];
        }
        self.committing.over();
        let all: Vec<u32> = self.partitions.keys().copied().collect();
        let mut left = Vec::new();
        if let Err(error) = self.commit(&all) {
            left.push(format!("speaker: the last commit failed: {error}"));
        }
        if !self.pending.is_empty() {
            left.push(format!("speaker: {} answers were not committed", self.pending.len()));
        }
        let waiting = self.handle.waiting();
        if waiting > 0 {
            left.push(format!("speaker: {waiting} commands or answers are still delayed by a fault"));
        }
        let heartbeat = self.heartbeat.take().filter(|_| !self.handle.heartbeats_stopped());
        if let Some(Err(error)) = heartbeat.map(|heartbeat| heartbeat.bye(self.clock.wall())) {
            left.push(format!("speaker: the last heartbeat was not sent: {error}"));
        }
        if let Err(error) = self.member.leave() {
            left.push(format!("speaker: cannot leave the group: {error}"));
        }
        left
    }
}
