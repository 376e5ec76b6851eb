//! The speaker on the bus: a member of the group of its topic.
//!
//! Each turn reads what has come, hands it to the [`crate::Speaker`], keeps what that changed, and tells all answers:
//! together with the positions in one commit, or at once with the positions behind. So a request is answered at least once:
//! after a crash, what was not committed is read again, and the memory knows it.
//!
//! Read in this order: `options`, this file, `commits` (one commit), `behind` (answers at once), `heart` (heartbeats).

mod behind;
mod commits;
mod heart;
mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::{Arrival, Bus, BusError, Clock, Member, MemberSpec, MonoTime, Outgoing, Part, Pause, Record, Turn};

use self::behind::Behind;
use self::commits::Doubt;
use self::heart::Heart;
pub use self::options::{Heartbeats, SpeakerOptions};
use crate::flaw::Flaw;
use crate::{Answer, Request, Speaker, SpeakerHandle, metrics};

/// So many requests are taken in one turn: enough to share a commit, few enough to be answered within milliseconds.
const TAKEN: usize = 256;

/// So many answers may wait for a commit. Beyond it nothing more is read: sixteen turns of requests, some 2 MB.
const OWED: usize = 4_096;

/// While answers of so many bytes are owed, none is made longer than it is: what a fault may ask for stays bounded too.
const OVERSIZED: usize = 64 << 20;

/// Serves a [`SpeakerHandle`] over the bus.
pub struct SpeakerPart {
    name: String,
    member_name: String,
    member: Box<dyn Member>,
    clock: Arc<dyn Clock>,
    handle: SpeakerHandle,
    /// Partitions that the group gave and that are not started yet.
    assigned: BTreeSet<u32>,
    /// Partitions that are read.
    lanes: BTreeMap<u32, Lane>,
    /// Answers that are not committed yet, in order.
    owed: Vec<Outgoing>,
    /// It died of a fault: nothing is done before it is started again.
    down: bool,
    doubt: Option<Doubt>,
    /// Where answers are told at once.
    behind: Option<Behind>,
    heart: Option<Heart>,
    polling: Pause,
    committing: Pause,
    arrivals: Vec<Arrival>,
}

/// Where the speaker stands in a partition.
struct Lane {
    /// The offset of the next request.
    next: u64,
    /// All before this was answered, durably; kept where answers are told at once.
    told: u64,
    /// The committed offset.
    committed: u64,
}

impl SpeakerPart {
    /// Joins the group of `topic` (it has the topic's name) as `member_name`, which must be unique among all that live.
    ///
    /// # Errors
    /// Where the bus does not let it join.
    pub fn join(bus: &dyn Bus, topic: &str, member_name: &str, handle: SpeakerHandle) -> Result<Self, BusError> {
        Self::join_with(bus, topic, member_name, handle, &SpeakerOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// Where the bus does not let it join or write.
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

    /// Who it is in its group. What it keeps on disk outlives the process: nothing goes there that the bus may forget.
    fn member_spec(topic: &str, member_name: &str, handle: &SpeakerHandle) -> MemberSpec {
        MemberSpec { outside: handle.is_kept(), ..MemberSpec::new(topic, topic, member_name) }
    }

    /// The same part with options; `bus` gives it what it writes with.
    ///
    /// # Errors
    /// Where the bus does not let it write.
    pub fn with(mut self, bus: &dyn Bus, options: &SpeakerOptions) -> Result<Self, BusError> {
        self.behind = None;
        if !options.transactional {
            let writer = bus.writer(&format!("{}-answers", self.member_name))?;
            self.behind = Some(Behind::new(writer, options.commit_every_ms));
        }
        self.heart = None;
        if let Some(heartbeats) = options.heartbeats.as_ref().filter(|heartbeats| heartbeats.every_ms > 0) {
            let writer = bus.writer(&format!("{}-heart", self.member_name))?;
            self.heart = Some(Heart::new(heartbeats.clone(), writer, self.clock.mono()));
        }
        Ok(self)
    }

    /// Serves what `member` reads, with the default options.
    pub fn over(member: Box<dyn Member>, member_name: &str, clock: Arc<dyn Clock>, handle: SpeakerHandle) -> Self {
        Self {
            name: format!("speaker {member_name}"),
            member_name: member_name.into(),
            member,
            clock,
            handle,
            assigned: BTreeSet::new(),
            lanes: BTreeMap::new(),
            owed: Vec::new(),
            down: false,
            doubt: None,
            behind: None,
            heart: None,
            polling: Pause::default(),
            committing: Pause::default(),
            arrivals: Vec::new(),
        }
    }

    /// Fills `arrivals`, waiting at most `wait`, or until something of our own is due.
    fn poll(&mut self, wait: Duration) -> Result<(), BusError> {
        let now = self.clock.mono();
        let wait = self.next().map_or(wait, |at| wait.min(at.since(now)));
        let room = OWED.saturating_sub(self.owed.len()).min(TAKEN);
        // While a commit is in doubt a poll must come all the same: it says what is still owned.
        let max = if self.doubt.is_some() { room.max(1) } else { room };
        if max == 0 || self.polling.holds(now) {
            std::thread::park_timeout(wait);
            return Ok(());
        }
        match self.member.poll(max, wait, &mut self.arrivals) {
            Ok(()) => self.polling.over(),
            Err(BusError::Gone { partition, asked, low, .. }) => {
                tracing::error!(partition, asked, low, "requests were deleted before they were read");
                // As if it were given anew: it starts at the first record there is.
                if self.lanes.remove(&partition).is_some() {
                    self.assigned.insert(partition);
                }
            }
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(why, "cannot read requests; trying again");
                self.polling.failed(now);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Handles what has come and what is due. Gives the partitions that the group wants back.
    fn handle_arrivals(&mut self) -> Vec<u32> {
        let (now, wall) = (self.clock.mono(), self.clock.wall());
        let handle = self.handle.clone();
        let mut held = handle.lock();
        let speaker = &mut held.speaker;
        if speaker.crash().is_none() {
            let due = speaker.due(now, wall);
            self.owe(due);
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
        // What comes behind a command that it dies of is read again by the next process.
        let Some(lane) = self.lanes.get_mut(&record.partition).filter(|_| speaker.crash().is_none()) else { return };
        lane.next = record.offset + 1;
        match Request::read(record) {
            Ok(request) => {
                let answers = speaker.on(now, self.clock.wall(), request);
                self.owe(answers);
            }
            Err(unreadable) => {
                let (partition, offset) = (record.partition, record.offset);
                tracing::warn!(partition, offset, detail = unreadable.detail, "a message cannot be read");
                metrics::unreadable();
                let answer = speaker.unreadable(*unreadable);
                self.owe(answer);
            }
        }
    }

    fn owe(&mut self, answers: impl IntoIterator<Item = Answer>) {
        let wall = self.clock.wall();
        for mut answer in answers {
            if matches!(answer.flaw, Some(Flaw::Oversized(_)))
                && self.owed.iter().map(Outgoing::size).sum::<usize>() >= OVERSIZED
            {
                answer.flaw = None;
            }
            match answer.outgoing(wall) {
                Some(record) => self.owed.push(record),
                None => metrics::dropped("no address", 1),
            }
        }
    }

    /// True where it died of a fault. Where somebody has started it again since, it goes on at what was committed.
    fn is_down(&mut self) -> bool {
        self.down = self.down && self.handle.is_down();
        self.down
    }

    /// It dies of a fault: all that was not committed goes with it. What the member holds stays with it, for a process that
    /// is gone cannot give anything back; the next one starts all of it anew.
    fn fall(&mut self) {
        self.assigned.extend(std::mem::take(&mut self.lanes).into_keys());
        self.owed.clear();
        self.doubt = None;
        self.committing.over();
        self.down = true;
        self.handle.fall();
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.lanes.remove(partition);
            self.assigned.remove(partition);
        }
    }

    /// Starts the partitions that the group gave: at the committed offset, or at the first record there is.
    fn start_assigned(&mut self) -> Result<bool, BusError> {
        if self.committing.holds(self.clock.mono()) {
            return Ok(false);
        }
        let mut worked = false;
        while let Some(&partition) = self.assigned.first() {
            match self.start(partition) {
                Ok(lane) => drop(self.lanes.insert(partition, lane)),
                Err(BusError::NotOwned(_)) => {}
                Err(error @ (BusError::Unavailable(_) | BusError::Gone { .. })) => {
                    tracing::warn!(partition, %error, "cannot take a partition over; trying again");
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

    fn start(&mut self, partition: u32) -> Result<Lane, BusError> {
        let left = self.member.take_over(partition)?;
        let first = left.first();
        let committed = left.committed.map_or(left.low, |committed| committed.next);
        if committed != first {
            tracing::error!(partition, committed, first, "requests were deleted before they were read");
        }
        // What was deleted has been said to be gone, here or by the poll.
        self.member.start(partition, first)?;
        Ok(Lane { next: first, told: first, committed: committed.min(first) })
    }

    /// When there is something to do without anybody's asking.
    fn next(&self) -> Option<MonoTime> {
        let due = self.handle.lock().speaker.next_due();
        let beat = self.heart.as_ref().map(Heart::due);
        let follow = self.behind.as_ref().and_then(Behind::next);
        [due, beat, follow, self.polling.until(), self.committing.until()].into_iter().flatten().min()
    }
}

impl Part for SpeakerPart {
    fn name(&self) -> &str {
        &self.name
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        if self.is_down() {
            std::thread::park_timeout(wait);
            return Ok(Turn { worked: false, next: None });
        }
        self.poll(wait)?;
        let came = !self.arrivals.is_empty();
        let revoking = self.handle_arrivals();
        // What was done is kept before any of it is told. Nothing can be told where that is not possible.
        self.handle.keep().map_err(|error| BusError::Refused(error.to_string()))?;
        let crash = self.handle.lock().speaker.crash();
        let (mut started, mut committed) = (false, false);
        if crash.is_none_or(|crash| crash.told) {
            started = self.start_assigned()?;
            committed = self.commit(&revoking)?;
        }
        if crash.is_some_and(|crash| !crash.told || self.owes_nothing()) {
            self.fall();
        }
        if !revoking.is_empty() {
            self.forget(&revoking);
            match self.member.release(&revoking) {
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(why, "cannot give partitions back; the session's end will");
                }
                result => result?,
            }
        }
        if let Some(heart) = self.heart.as_mut().filter(|_| !self.down) {
            heart.beat(self.clock.mono(), self.clock.wall(), self.handle.heart_is_stopped());
        }
        Ok(Turn { worked: came || started || committed, next: self.next() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        if self.down {
            return vec!["speaker: it died of a fault, and was not started again".into()];
        }
        self.committing.over();
        let all: Vec<u32> = self.lanes.keys().copied().collect();
        let mut left = Vec::new();
        if let Err(error) = self.commit(&all) {
            left.push(format!("speaker: the last commit failed: {error}"));
        }
        if !self.owed.is_empty() {
            left.push(format!("speaker: {} answers could not be committed", self.owed.len()));
        }
        let waiting = self.handle.waiting();
        if waiting > 0 {
            left.push(format!("speaker: {waiting} commands or answers are still delayed by a fault"));
        }
        let heart = self.heart.take().filter(|_| !self.handle.heart_is_stopped());
        if let Some(Err(error)) = heart.map(|heart| heart.bye(self.clock.wall())) {
            left.push(format!("speaker: its last heartbeat could not be told: {error}"));
        }
        if let Err(error) = self.member.leave() {
            left.push(format!("speaker: could not leave its group: {error}"));
        }
        left
    }
}
