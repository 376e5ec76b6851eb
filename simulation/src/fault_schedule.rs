//! The fault schedule of a seed: which faults occur, and when, for every process.
//!
//! Each seed activates some kinds of faults and not others, with different probabilities. So a kind
//! also occurs alone and is not always masked by others (Groce et al. 2012, swarm testing).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{
    AppendFault, Batch, BusError, BusEvent, Clock, CommitFault, Embedded, FaultInjector, ManualClock, MonoTime,
    Outgoing, RecordFault, Route,
};
use wire::header;
use wire::{CallId, Kind};

use super::dice::Dice;
use super::fault::{Fault, FaultCounts};
use super::story::{self, Story};

/// The fault schedule of one simulation.
pub(super) struct FaultSchedule {
    clock: Arc<ManualClock>,
    bus: Embedded,
    /// Prefix of the topics of requests to spokes.
    to_spokes: String,
    /// Keep inboxes though snapshots cover them: a snapshot may be damaged, and then the inbox is
    /// all that is left.
    keep_inboxes: bool,
    state: Mutex<ScheduleState>,
}

struct ScheduleState {
    dice: Dice,
    /// Probability of each kind in 1/100,000; empty after faults are switched off.
    odds: BTreeMap<Fault, u32>,
    fault_counts: FaultCounts,
    story: Story,
    /// Delayed messages.
    late: Vec<Vec<Outgoing>>,
    /// The calls that each undo message to a spoke undoes.
    undoes: BTreeMap<CallId, Vec<CallId>>,
    /// Unavailable partitions, and when they become available again.
    stalls: BTreeMap<(String, u32), MonoTime>,
    /// Requests to spokes that were lost or changed in transit: topic and `ce_id`.
    altered: Vec<(String, String)>,
}

/// The fault schedule as seen by one process.
pub(super) struct ProcessFaults {
    schedule: Arc<FaultSchedule>,
    process: String,
    /// Requests of the current write that will be lost or changed in transit.
    in_flight: Mutex<Vec<(String, String)>>,
}

impl FaultSchedule {
    pub(super) fn new(mut dice: Dice, clock: Arc<ManualClock>, bus: Embedded, to_spokes: String, log: bool) -> Self {
        let strength = *dice.pick(&[0, 1, 1, 2, 4]);
        let mut odds = BTreeMap::new();
        for fault in Fault::ALL {
            if dice.chance(400) {
                odds.insert(*fault, fault.odds() * strength * *dice.pick(&[1, 1, 3]));
            }
        }
        let state = ScheduleState {
            dice,
            odds,
            fault_counts: FaultCounts::default(),
            story: Story::new(log),
            late: Vec::new(),
            undoes: BTreeMap::new(),
            stalls: BTreeMap::new(),
            altered: Vec::new(),
        };
        let keep_inboxes = state.odds.contains_key(&Fault::Damage);
        Self { clock, bus, to_spokes, keep_inboxes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, ScheduleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws whether a fault of this kind occurs now, and counts it.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let mut state = self.state();
        let odds = state.odds.get(&fault).copied().unwrap_or(0);
        let strikes = odds > 0 && state.dice.roll(100_000) < u64::from(odds);
        if strikes {
            state.fault_counts.add(fault);
        }
        strikes
    }

    /// Switches all faults off.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.odds.clear();
        state.stalls.clear();
    }

    /// Makes a partition unavailable for `ms` milliseconds.
    pub(super) fn stall(&self, topic: String, partition: u32, ms: u64) {
        self.state().stalls.insert((topic, partition), self.clock.mono().plus_ms(ms));
    }

    fn stalled(&self, topic: &str, partition: u32) -> bool {
        let now = self.clock.mono();
        self.state().stalls.iter().any(|((of, number), until)| of == topic && *number == partition && *until > now)
    }

    /// The time when the next partition becomes available again.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let now = self.clock.mono();
        self.state().stalls.values().copied().filter(|until| *until > now).min()
    }

    /// Requests to spokes that were lost or changed in transit.
    pub(super) fn altered(&self) -> Vec<(String, String)> {
        self.state().altered.clone()
    }

    pub(super) fn say(&self, actor: &str, what: impl FnOnce() -> String) {
        self.state().story.say(self.clock.mono(), actor, what);
    }

    pub(super) fn fault_counts(&self) -> FaultCounts {
        self.state().fault_counts.clone()
    }

    pub(super) fn story(&self) -> Story {
        self.state().story.clone()
    }

    /// Takes the messages delayed since the last call.
    pub(super) fn take_late(&self) -> Vec<Vec<Outgoing>> {
        std::mem::take(&mut self.state().late)
    }

    /// The calls that `call` undoes, if it is an undo that reached a spoke.
    pub(super) fn undone_by(&self, call: &CallId) -> Vec<CallId> {
        self.state().undoes.get(call).cloned().unwrap_or_default()
    }
}

impl ProcessFaults {
    pub(super) fn new(schedule: Arc<FaultSchedule>, process: String) -> Self {
        Self { schedule, process, in_flight: Mutex::default() }
    }

    fn in_flight(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this request will be lost or changed if the write succeeds.
    fn altered(&self, record: &Outgoing) {
        let id = record.headers.get(header::ID).map(|id| String::from_utf8_lossy(id).into_owned());
        self.in_flight().push((record.topic.to_string(), id.unwrap_or_default()));
    }

    /// The current write succeeded.
    fn written(&self) {
        let altered = std::mem::take(&mut *self.in_flight());
        self.schedule.state().altered.extend(altered);
    }

    fn strikes(&self, fault: Fault, why: impl FnOnce() -> String) -> bool {
        let strikes = self.schedule.strikes(fault);
        if strikes {
            self.schedule.say(&self.process, || format!("** {}: {}", fault.text(), why()));
        }
        strikes
    }

    fn some(&self, of: usize) -> usize {
        self.schedule.state().dice.index(of + 1)
    }
}

fn unavailable() -> BusError {
    BusError::Unavailable("injected fault".into())
}

/// True for the kinds of messages that only spokes send to inboxes.
fn is_answer(record: &Outgoing) -> bool {
    let kind = record.headers.get(header::TYPE).unwrap_or_default();
    [Kind::Reply, Kind::Refusal, Kind::Failure].iter().any(|known| known.as_str().as_bytes() == kind)
}

impl FaultInjector for ProcessFaults {
    fn poll(&self, group: &str) -> Result<(), BusError> {
        if self.strikes(Fault::PollRefused, || group.to_owned()) { Err(unavailable()) } else { Ok(()) }
    }

    fn stalls(&self, topic: &str, partition: u32) -> bool {
        self.schedule.stalled(topic, partition)
    }

    fn take_over(&self, group: &str, partition: u32) -> Result<(), BusError> {
        // The group id is the name of the topic that the group reads.
        if self.schedule.stalled(group, partition) {
            return Err(unavailable());
        }
        if self.strikes(Fault::TakeoverRefused, || format!("{group} {partition}")) {
            Err(unavailable())
        } else {
            Ok(())
        }
    }

    fn commit(&self, group: &str, batch: &Batch) -> CommitFault {
        let why = || story::records(&batch.records);
        self.in_flight().clear();
        if batch.positions.iter().any(|position| self.schedule.stalled(group, position.partition)) {
            return CommitFault::UnknownNotCommitted;
        }
        if self.strikes(Fault::ExpelInCommit, || group.to_owned()) {
            self.schedule.bus.expel(group);
        }
        for (fault, fate) in [
            (Fault::CommitRefused, CommitFault::Fails(unavailable())),
            (Fault::CommitHappened, CommitFault::UnknownButCommitted),
            (Fault::CommitDidNot, CommitFault::UnknownNotCommitted),
            (Fault::DiesBefore, CommitFault::CrashBefore),
            (Fault::DiesAfter, CommitFault::CrashAfter),
        ] {
            if self.strikes(fault, why) {
                return fate;
            }
        }
        CommitFault::None
    }

    fn append(&self, records: &[Outgoing]) -> AppendFault {
        let why = || story::records(records);
        self.in_flight().clear();
        let stalled = |record: &Outgoing| match record.route {
            Route::To(partition) => self.schedule.stalled(&record.topic, partition),
            Route::ByKey | Route::Modulo(_) => false,
        };
        if records.iter().any(stalled) {
            return AppendFault::Fails(unavailable());
        }
        if self.strikes(Fault::AppendRefused, why) {
            return AppendFault::Fails(unavailable());
        }
        if self.strikes(Fault::AppendPartly, why) {
            return AppendFault::Partial(self.some(records.len()));
        }
        if self.strikes(Fault::DiesInAppend, why) {
            return AppendFault::Crash(self.some(records.len()));
        }
        AppendFault::None
    }

    fn read(&self) -> Result<(), BusError> {
        if self.strikes(Fault::ReadRefused, String::new) { Err(unavailable()) } else { Ok(()) }
    }

    fn transmit(&self, record: &Outgoing) -> RecordFault {
        let answer = is_answer(record);
        if !answer && !record.topic.starts_with(&self.schedule.to_spokes) {
            return RecordFault::None;
        }
        let what = || story::records(std::slice::from_ref(record));
        if answer && self.strikes(Fault::ReplyLost, what) {
            return RecordFault::Lost;
        }
        if answer && self.strikes(Fault::Corrupt, what) {
            return RecordFault::Replaced(Box::new(self.corrupt(record)));
        }
        if !answer && self.strikes(Fault::RequestLost, what) {
            self.altered(record);
            return RecordFault::Lost;
        }
        if !answer && self.strikes(Fault::RequestCorrupt, what) {
            self.altered(record);
            return RecordFault::Replaced(Box::new(self.corrupt(record)));
        }
        if self.strikes(Fault::Twice, what) {
            return RecordFault::Duplicated;
        }
        if self.strikes(Fault::Late, what) {
            return RecordFault::Delayed;
        }
        RecordFault::None
    }

    fn ignores_trims(&self) -> bool {
        self.schedule.keep_inboxes
    }

    fn delay(&self, records: Vec<Outgoing>) {
        self.schedule.state().late.push(records);
    }

    fn observe(&self, seen: BusEvent<'_>) {
        if matches!(seen, BusEvent::Committed(..) | BusEvent::Appended(_)) {
            self.written();
        }
        match seen {
            BusEvent::Arrived(group, arrivals) => {
                if group.starts_with(&self.schedule.to_spokes) {
                    self.schedule.record_undoes(arrivals);
                }
                self.schedule.say(&self.process, || story::arrivals(arrivals));
            }
            BusEvent::Committed(_, batch) if batch.records.is_empty() => {
                self.schedule.say(&self.process, || "commits its position".to_owned());
            }
            BusEvent::Committed(_, batch) => {
                self.schedule.say(&self.process, || format!("commits {}", story::records(&batch.records)));
            }
            BusEvent::Fenced(_, batch) => {
                self.schedule
                    .say(&self.process, || format!("is fenced and cannot commit {}", story::records(&batch.records)));
            }
            BusEvent::Appended(records) => {
                self.schedule.say(&self.process, || format!("writes {}", story::records(records)));
            }
        }
    }
}

impl ProcessFaults {
    /// Makes a record unreadable.
    fn corrupt(&self, record: &Outgoing) -> Outgoing {
        let mut corrupt = record.clone();
        let variant = self.schedule.state().dice.roll(3);
        match variant {
            0 => corrupt.value = b"\xff\xfe not even text".to_vec().into(),
            1 => corrupt.headers = [("from", "somebody")].into_iter().collect(),
            _ => {
                let kept = record.headers.iter().filter(|(name, _)| *name != header::TYPE);
                corrupt.headers = kept.collect();
            }
        }
        corrupt
    }
}

impl FaultSchedule {
    fn record_undoes(&self, arrivals: &[bus::Arrival]) {
        for arrival in arrivals {
            let bus::Arrival::Record(record) = arrival else { continue };
            if !record.headers.is(Kind::Undo) {
                continue;
            }
            let Ok(envelope) = record.headers.envelope() else { continue };
            if let Some(call) = envelope.call {
                self.state().undoes.insert(call, envelope.undoes);
            }
        }
    }
}
