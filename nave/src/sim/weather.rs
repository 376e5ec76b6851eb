//! What goes wrong, and when: the fates of every process, drawn from the seed.
//!
//! Each seed has a weather of its own, in which some kinds of faults are at work and others are not, each often or seldom: so
//! that a kind is also seen alone, and not always hidden behind others (Groce et al. 2012, swarm testing).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{
    AppendFate, Batch, BusError, Clock, CommitFate, Embedded, Fates, ManualClock, MonoTime, Outgoing, Passage, Route,
    Seen,
};
use wire::{CallId, Kind};

use super::dice::Dice;
use super::fault::{Fault, Struck};
use super::story::{self, Story};

/// The weather of one simulation.
pub(super) struct Weather {
    clock: Arc<ManualClock>,
    bus: Embedded,
    /// Requests to spokes go to topics that begin so.
    to_spokes: String,
    /// Inboxes are kept though snapshots cover them: where a snapshot may be damaged, they are all there is.
    keeps: bool,
    sky: Mutex<Sky>,
}

struct Sky {
    dice: Dice,
    /// How often each kind strikes, in a hundred thousand; all 0 once it is calm.
    odds: BTreeMap<Fault, u32>,
    struck: Struck,
    story: Story,
    /// Messages that come later.
    late: Vec<Vec<Outgoing>>,
    /// What each undo that reached a spoke undoes.
    undoes: BTreeMap<CallId, Vec<CallId>>,
    /// Partitions that answer nothing before this.
    stalls: BTreeMap<(String, u32), MonoTime>,
    /// Requests to spokes that were sent and are not in their topic as they were sent: topic and `ce_id`.
    astray: Vec<(String, String)>,
}

/// The weather as one process has it.
pub(super) struct Lot {
    weather: Arc<Weather>,
    who: String,
    /// Requests of the write that is under way which will not arrive as they are.
    leaving: Mutex<Vec<(String, String)>>,
}

impl Weather {
    pub(super) fn new(mut dice: Dice, clock: Arc<ManualClock>, bus: Embedded, to_spokes: String, told: bool) -> Self {
        let strength = *dice.pick(&[0, 1, 1, 2, 4]);
        let mut odds = BTreeMap::new();
        for fault in Fault::ALL {
            if dice.chance(400) {
                odds.insert(*fault, fault.odds() * strength * *dice.pick(&[1, 1, 3]));
            }
        }
        let sky = Sky {
            dice,
            odds,
            struck: Struck::default(),
            story: Story::new(told),
            late: Vec::new(),
            undoes: BTreeMap::new(),
            stalls: BTreeMap::new(),
            astray: Vec::new(),
        };
        let keeps = sky.odds.contains_key(&Fault::Damage);
        Self { clock, bus, to_spokes, keeps, sky: Mutex::new(sky) }
    }

    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a fault of this kind strikes now. It is counted.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let mut sky = self.sky();
        let odds = sky.odds.get(&fault).copied().unwrap_or(0);
        let strikes = odds > 0 && sky.dice.roll(100_000) < u64::from(odds);
        if strikes {
            sky.struck.add(fault);
        }
        strikes
    }

    /// From here on nothing goes wrong.
    pub(super) fn calm(&self) {
        let mut sky = self.sky();
        sky.odds.clear();
        sky.stalls.clear();
    }

    /// A partition answers nothing for so long.
    pub(super) fn stall(&self, topic: String, partition: u32, ms: u64) {
        self.sky().stalls.insert((topic, partition), self.clock.mono().plus_ms(ms));
    }

    fn stalled(&self, topic: &str, partition: u32) -> bool {
        let now = self.clock.mono();
        self.sky().stalls.iter().any(|((of, number), until)| of == topic && *number == partition && *until > now)
    }

    /// When the next partition answers again.
    pub(super) fn next(&self) -> Option<MonoTime> {
        let now = self.clock.mono();
        self.sky().stalls.values().copied().filter(|until| *until > now).min()
    }

    /// Requests to spokes that were sent and are not in their topic as they were sent.
    pub(super) fn astray(&self) -> Vec<(String, String)> {
        self.sky().astray.clone()
    }

    pub(super) fn say(&self, who: &str, what: impl FnOnce() -> String) {
        self.sky().story.say(self.clock.mono(), who, what);
    }

    pub(super) fn struck(&self) -> Struck {
        self.sky().struck.clone()
    }

    pub(super) fn story(&self) -> Story {
        self.sky().story.clone()
    }

    /// Messages that were held up since the last time.
    pub(super) fn take_late(&self) -> Vec<Vec<Outgoing>> {
        std::mem::take(&mut self.sky().late)
    }

    /// What an undo undoes, where this call is one that reached a spoke.
    pub(super) fn undone_by(&self, call: &CallId) -> Vec<CallId> {
        self.sky().undoes.get(call).cloned().unwrap_or_default()
    }
}

impl Lot {
    pub(super) fn new(weather: Arc<Weather>, who: String) -> Self {
        Self { weather, who, leaving: Mutex::default() }
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This request will not arrive as it is, if it leaves at all.
    fn astray(&self, record: &Outgoing) {
        let id = record.headers.get("ce_id").map(|id| String::from_utf8_lossy(id).into_owned());
        self.leaving().push((record.topic.to_string(), id.unwrap_or_default()));
    }

    /// What was written has left.
    fn left(&self) {
        let left = std::mem::take(&mut *self.leaving());
        self.weather.sky().astray.extend(left);
    }

    fn strikes(&self, fault: Fault, why: impl FnOnce() -> String) -> bool {
        let strikes = self.weather.strikes(fault);
        if strikes {
            self.weather.say(&self.who, || format!("** {}: {}", fault.text(), why()));
        }
        strikes
    }

    fn some(&self, of: usize) -> usize {
        self.weather.sky().dice.index(of + 1)
    }
}

fn away() -> BusError {
    BusError::Unavailable("the weather is bad".into())
}

/// What spokes say goes to inboxes; these three are theirs alone.
fn is_answer(record: &Outgoing) -> bool {
    let kind = record.headers.get("ce_type").unwrap_or_default();
    [Kind::Reply, Kind::Refusal, Kind::Failure].iter().any(|known| known.as_str().as_bytes() == kind)
}

impl Fates for Lot {
    fn poll(&self, group: &str) -> Result<(), BusError> {
        if self.strikes(Fault::PollRefused, || group.to_owned()) { Err(away()) } else { Ok(()) }
    }

    fn stalls(&self, topic: &str, partition: u32) -> bool {
        self.weather.stalled(topic, partition)
    }

    fn take_over(&self, group: &str, partition: u32) -> Result<(), BusError> {
        // A group has the name of the topic that it reads.
        if self.weather.stalled(group, partition) {
            return Err(away());
        }
        if self.strikes(Fault::TakeoverRefused, || format!("{group} {partition}")) { Err(away()) } else { Ok(()) }
    }

    fn commit(&self, group: &str, batch: &Batch) -> CommitFate {
        let why = || story::records(&batch.records);
        self.leaving().clear();
        if batch.positions.iter().any(|position| self.weather.stalled(group, position.partition)) {
            return CommitFate::UnknownAndDidNot;
        }
        if self.strikes(Fault::ExpelInCommit, || group.to_owned()) {
            self.weather.bus.expel(group);
        }
        for (fault, fate) in [
            (Fault::CommitRefused, CommitFate::Fails(away())),
            (Fault::CommitHappened, CommitFate::UnknownAndHappened),
            (Fault::CommitDidNot, CommitFate::UnknownAndDidNot),
            (Fault::DiesBefore, CommitFate::DiesBefore),
            (Fault::DiesAfter, CommitFate::DiesAfter),
        ] {
            if self.strikes(fault, why) {
                return fate;
            }
        }
        CommitFate::Passes
    }

    fn append(&self, records: &[Outgoing]) -> AppendFate {
        let why = || story::records(records);
        self.leaving().clear();
        let stalled = |record: &Outgoing| match record.route {
            Route::To(partition) => self.weather.stalled(&record.topic, partition),
            Route::ByKey => false,
        };
        if records.iter().any(stalled) {
            return AppendFate::Fails(away());
        }
        if self.strikes(Fault::AppendRefused, why) {
            return AppendFate::Fails(away());
        }
        if self.strikes(Fault::AppendPartly, why) {
            return AppendFate::Partly(self.some(records.len()));
        }
        if self.strikes(Fault::DiesInAppend, why) {
            return AppendFate::Dies(self.some(records.len()));
        }
        AppendFate::Passes
    }

    fn read(&self) -> Result<(), BusError> {
        if self.strikes(Fault::ReadRefused, String::new) { Err(away()) } else { Ok(()) }
    }

    fn carry(&self, record: &Outgoing) -> Passage {
        let answer = is_answer(record);
        if !answer && !record.topic.starts_with(&self.weather.to_spokes) {
            return Passage::Arrives;
        }
        let what = || story::records(std::slice::from_ref(record));
        if answer && self.strikes(Fault::ReplyLost, what) {
            return Passage::Lost;
        }
        if answer && self.strikes(Fault::Corrupt, what) {
            return Passage::Changed(Box::new(self.corrupt(record)));
        }
        if !answer && self.strikes(Fault::RequestLost, what) {
            self.astray(record);
            return Passage::Lost;
        }
        if !answer && self.strikes(Fault::RequestCorrupt, what) {
            self.astray(record);
            return Passage::Changed(Box::new(self.corrupt(record)));
        }
        if self.strikes(Fault::Twice, what) {
            return Passage::Twice;
        }
        if self.strikes(Fault::Late, what) {
            return Passage::Later;
        }
        Passage::Arrives
    }

    fn keeps(&self) -> bool {
        self.weather.keeps
    }

    fn later(&self, records: Vec<Outgoing>) {
        self.weather.sky().late.push(records);
    }

    fn seen(&self, seen: Seen<'_>) {
        if matches!(seen, Seen::Committed(..) | Seen::Appended(_)) {
            self.left();
        }
        match seen {
            Seen::Arrived(group, arrivals) => {
                if group.starts_with(&self.weather.to_spokes) {
                    self.weather.note_undoes(arrivals);
                }
                self.weather.say(&self.who, || story::arrivals(arrivals));
            }
            Seen::Committed(_, batch) if batch.records.is_empty() => {
                self.weather.say(&self.who, || "commits where it stands".to_owned());
            }
            Seen::Committed(_, batch) => {
                self.weather.say(&self.who, || format!("commits {}", story::records(&batch.records)));
            }
            Seen::Fenced(_, batch) => {
                self.weather.say(&self.who, || format!("is fenced: {}", story::records(&batch.records)));
            }
            Seen::Appended(records) => {
                self.weather.say(&self.who, || format!("writes {}", story::records(records)));
            }
        }
    }
}

impl Lot {
    /// The same record with something in it that nobody can read.
    fn corrupt(&self, record: &Outgoing) -> Outgoing {
        let mut corrupt = record.clone();
        let what = self.weather.sky().dice.roll(3);
        match what {
            0 => corrupt.value = b"\xff\xfe not even text".to_vec().into(),
            1 => corrupt.headers = [("from", "somebody")].into_iter().collect(),
            _ => {
                let kept = record.headers.iter().filter(|(name, _)| *name != "ce_type");
                corrupt.headers = kept.collect();
            }
        }
        corrupt
    }
}

impl Weather {
    fn note_undoes(&self, arrivals: &[bus::Arrival]) {
        for arrival in arrivals {
            let bus::Arrival::Record(record) = arrival else { continue };
            if record.headers.get("ce_type") != Some(Kind::Undo.as_str().as_bytes()) {
                continue;
            }
            let Ok(envelope) = record.headers.envelope() else { continue };
            if let Some(call) = envelope.call {
                self.sky().undoes.insert(call, envelope.undoes);
            }
        }
    }
}
