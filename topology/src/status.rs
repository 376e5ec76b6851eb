//! The status of a stage's lanes in this process, for `/readyz`.
#![expect(clippy::disallowed_types, reason = "servers read the status of a shard; lane code does not use it")]

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::MonoTime;
use wire::Code;

/// The conditions that only a person can fix.
static BLOCKING_CODES: [Code; 3] = [Code::InboxCut, Code::StateIncompatible, Code::NoTopic];

/// The status of the lanes of a stage, shared by all shards of a process.
#[derive(Debug)]
pub struct ShardStatus {
    stage: String,
    lanes: Vec<LaneStatus>,
    /// True if the stage's spouts emit no more tuples.
    draining: AtomicBool,
    /// True while the topology is inactive.
    inactive: AtomicBool,
    /// A line for each full downstream inbox.
    full: Mutex<Vec<String>>,
    /// Number of shards of this process to which their group has assigned lanes.
    joined: AtomicUsize,
}

/// The state of a lane that is not live in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// This process does not own the lane.
    Away,
    /// This process is taking the lane over.
    Recovering,
}

#[derive(Debug, Default)]
struct LaneStatus {
    state: AtomicU8,
    /// When this state began: nanoseconds of the monotonic clock.
    since: AtomicU64,
    position: AtomicU64,
    /// When the running step began, and when commits began to fail: nanoseconds of the monotonic
    /// clock plus one; 0 if no step runs or commits succeed.
    stepping: AtomicU64,
    retrying: AtomicU64,
    /// The condition that blocks the takeover, or the commits of the live lane: index into [`BLOCKING_CODES`], from 1; 0 if nothing
    /// blocks it.
    blocked: AtomicU8,
    /// True if the inbox of the live lane ends before the lane's position; newer records are not
    /// read.
    cut: AtomicBool,
}

impl ShardStatus {
    pub(crate) const AWAY: u8 = 0;
    pub(crate) const RECOVERING: u8 = 1;
    pub(crate) const LIVE: u8 = 2;
    /// A step or a commit that takes longer than this is reported.
    const LONG: Duration = Duration::from_secs(1);

    /// Makes the status of a stage with `lanes` lanes.
    pub fn new(stage: &str, lanes: u32) -> Arc<Self> {
        let lanes = (0..lanes).map(|_| LaneStatus::default()).collect();
        let (draining, inactive, joined) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { stage: stage.to_owned(), lanes, draining, inactive, full: Mutex::default(), joined })
    }

    /// Records that one more shard has received its assignment.
    pub(crate) fn join(&self) {
        self.joined.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many shards of this process have received their assignment. A lane that none of
    /// them owns belongs to another process.
    pub fn joined(&self) -> usize {
        self.joined.load(Ordering::Acquire)
    }

    /// Stops the stage's spouts in this process. Records of its inbox are still handled.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Pauses the stage's spouts in this process, or lets them continue at their positions. Records
    /// of its inbox are handled in both cases.
    pub fn set_active(&self, active: bool) {
        self.inactive.store(!active, Ordering::Release);
    }

    /// True if the stage's spouts may be opened and called.
    pub(crate) fn runs_spouts(&self) -> bool {
        !self.draining.load(Ordering::Acquire) && !self.inactive.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, lane: u32, state: u8, now: MonoTime) {
        let lane = &self.lanes[lane as usize];
        lane.cut.store(false, Ordering::Release);
        lane.blocked.store(0, Ordering::Release);
        lane.since.store(now.0, Ordering::Release);
        lane.state.store(state, Ordering::Release);
    }

    /// Returns the state of a lane that is not live, and when it began; `None` for a live lane and
    /// for one that needs a person.
    pub fn handover(&self, lane: u32) -> Option<(Handover, MonoTime)> {
        let lane = self.lanes.get(lane as usize)?;
        let handover = match lane.state.load(Ordering::Acquire) {
            Self::LIVE => return None,
            Self::RECOVERING if lane.blocked.load(Ordering::Acquire) > 0 => return None,
            Self::RECOVERING => Handover::Recovering,
            _away => Handover::Away,
        };
        Some((handover, MonoTime(lane.since.load(Ordering::Acquire))))
    }

    /// Records that the inbox of a live lane ends before its position. Returns true if this is new.
    /// The next takeover clears it.
    pub(crate) fn cut(&self, lane: u32) -> bool {
        !self.lanes[lane as usize].cut.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn stepping(&self, lane: u32, since: Option<MonoTime>) {
        self.lanes[lane as usize].stepping.store(since.map_or(0, |since| since.0 + 1), Ordering::Release);
    }

    pub(crate) fn stepped(&self, lane: u32, position: u64) {
        self.lanes[lane as usize].position.store(position, Ordering::Release);
        self.stepping(lane, None);
    }

    pub(crate) fn retrying(&self, lane: u32, since: Option<MonoTime>) {
        let retrying = &self.lanes[lane as usize].retrying;
        match since {
            None => retrying.store(0, Ordering::Release),
            Some(since) => {
                let _since_before = retrying.compare_exchange(0, since.0 + 1, Ordering::AcqRel, Ordering::Acquire);
            }
        }
    }

    pub(crate) fn blocked(&self, lane: u32, why: Option<&Code>) {
        let place = (1..).zip(&BLOCKING_CODES).find(|(_, code)| Some(*code) == why).map_or(0, |(place, _)| place);
        self.lanes[lane as usize].blocked.store(place, Ordering::Release);
    }

    pub(crate) fn held_up(&self, full: Vec<String>) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = full;
    }

    /// Returns a line for each full downstream inbox that pauses this stage: "stage lines waits:
    /// inbox `nave.words.count.in` is full: 10000 records behind, limit 10000". The stage continues
    /// by itself.
    pub fn full(&self) -> Vec<String> {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.iter().map(|line| format!("stage {} waits: {line}", self.stage)).collect()
    }

    /// Returns the number of lanes that are live in this process.
    pub fn live(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.state.load(Ordering::Acquire) == Self::LIVE).count()
    }

    /// Returns the number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Returns a line for each lane that is not live here or makes no progress: "hub lane 3:
    /// recovering at offset 120", "hub lane 2: the step after offset 118 has run for 1.4 s".
    pub fn waiting(&self, now: MonoTime) -> Vec<(u32, String)> {
        let long = |since: &AtomicU64| {
            let since = since.load(Ordering::Acquire).checked_sub(1)?;
            Some(now.since(MonoTime(since))).filter(|time| *time > Self::LONG).map(|time| time.as_secs_f64())
        };
        let line = |(lane, status): (u32, &LaneStatus)| {
            let stage = &self.stage;
            let position = status.position.load(Ordering::Acquire);
            let blocked = usize::from(status.blocked.load(Ordering::Acquire));
            let blocked = blocked.checked_sub(1).and_then(|place| BLOCKING_CODES.get(place));
            let blocked = blocked.map(|code| format!("{}: {}, see the log", code.as_str(), code.title()));
            let line = match status.state.load(Ordering::Acquire) {
                Self::LIVE if status.cut.load(Ordering::Acquire) => {
                    let code = Code::InboxCut;
                    let title = code.title();
                    Some(format!(
                        "{stage} lane {lane}: its inbox ended before offset {position}; {code}: {title}, see the log"
                    ))
                }
                Self::LIVE => {
                    let stepping = long(&status.stepping)
                        .map(|s| format!("{stage} lane {lane}: the step after offset {position} has run for {s:.1} s"));
                    let retrying = long(&status.retrying)
                        .map(|s| format!("{stage} lane {lane}: nothing could be committed for {s:.1} s"));
                    let blocked = blocked.map(|why| format!("{stage} lane {lane}: held at offset {position}; {why}"));
                    blocked.or(stepping).or(retrying)
                }
                Self::RECOVERING => {
                    let line = format!("{stage} lane {lane}: recovering at offset {position}");
                    Some(blocked.map_or(line.clone(), |why| format!("{line}; {why}")))
                }
                _away => Some(format!("{stage} lane {lane}: no owner in this process")),
            };
            Some((lane, line?))
        };
        (0..).zip(&self.lanes).filter_map(line).collect()
    }
}
