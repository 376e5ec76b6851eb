//! How the lanes of a stage stand in this process: what `/readyz` says.
#![expect(clippy::disallowed_types, reason = "what a shard says of itself is read by servers; no lane looks at it")]

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::MonoTime;
use wire::Code;

/// What a person has to mend.
const HINDRANCES: [Code; 2] = [Code::InboxCut, Code::StateIncompatible];

/// How the lanes of a stage stand, for those outside: shared by all shards of a process.
#[derive(Debug)]
pub struct ShardStatus {
    stage: String,
    lanes: Vec<LaneStatus>,
    /// Spouts of its own emit nothing more.
    draining: AtomicBool,
    /// The inboxes downstream that are full.
    full: Mutex<Vec<String>>,
    /// How many shards of this process have been told by their group which lanes they have.
    joined: AtomicUsize,
}

/// The state of a lane that is not live in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// It is another process's, or nobody's.
    Away,
    /// This process takes it over.
    Recovering,
}

#[derive(Debug, Default)]
struct LaneStatus {
    state: AtomicU8,
    /// Since when it is in this state: nanoseconds of the monotonic clock.
    since: AtomicU64,
    position: AtomicU64,
    /// Since when a step runs, and since when nothing can be committed: nanoseconds of the monotonic clock and one; 0 where
    /// none does.
    stepping: AtomicU64,
    retrying: AtomicU64,
    /// Why it cannot be taken over by anybody's trying: the place of a code in [`HINDRANCES`], from 1; 0 where nothing hinders.
    hindered: AtomicU8,
    /// True where its inbox ended before it while it was live: what came there since is not read.
    cut: AtomicBool,
}

impl ShardStatus {
    pub(crate) const AWAY: u8 = 0;
    pub(crate) const RECOVERING: u8 = 1;
    pub(crate) const LIVE: u8 = 2;
    /// A step or a commit that takes longer than this is named.
    const LONG: Duration = Duration::from_secs(1);

    /// Of a stage with so many lanes.
    pub fn new(stage: &str, lanes: u32) -> Arc<Self> {
        let lanes = (0..lanes).map(|_| LaneStatus::default()).collect();
        let (draining, joined) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { stage: stage.to_owned(), lanes, draining, full: Mutex::default(), joined })
    }

    /// One more shard has been told which lanes it has.
    pub(crate) fn join(&self) {
        self.joined.fetch_add(1, Ordering::AcqRel);
    }

    /// How many shards of this process have been told which lanes they have. A lane that none of them has is another process's then.
    pub fn joined(&self) -> usize {
        self.joined.load(Ordering::Acquire)
    }

    /// From now on spouts of the stage's own emit nothing more in this process; what is in its inbox is still handled.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// True after [`ShardStatus::drain`].
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, lane: u32, state: u8, now: MonoTime) {
        let lane = &self.lanes[lane as usize];
        lane.cut.store(false, Ordering::Release);
        lane.since.store(now.0, Ordering::Release);
        lane.state.store(state, Ordering::Release);
    }

    /// The state of a lane that is not live, and since when; none for a live lane, and for one that waits for a person.
    pub fn handover(&self, lane: u32) -> Option<(Handover, MonoTime)> {
        let lane = self.lanes.get(lane as usize)?;
        let handover = match lane.state.load(Ordering::Acquire) {
            Self::LIVE => return None,
            Self::RECOVERING if lane.hindered.load(Ordering::Acquire) > 0 => return None,
            Self::RECOVERING => Handover::Recovering,
            _away => Handover::Away,
        };
        Some((handover, MonoTime(lane.since.load(Ordering::Acquire))))
    }

    /// The inbox of a live lane ends before it, until the lane is taken over anew; true where that was not known.
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

    pub(crate) fn hindered(&self, lane: u32, why: Option<Code>) {
        let place = (1..).zip(HINDRANCES).find(|(_, code)| Some(*code) == why).map_or(0, |(place, _)| place);
        self.lanes[lane as usize].hindered.store(place, Ordering::Release);
    }

    pub(crate) fn held_up(&self, full: Vec<String>) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = full;
    }

    /// What this stage waits for because an inbox downstream is full, a line each: "stage lines waits: inbox `nave.words.count.in` is
    /// full: 10000 records behind, limit 10000". It goes on by itself.
    pub fn full(&self) -> Vec<String> {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.iter().map(|line| format!("stage {} waits: {line}", self.stage)).collect()
    }

    /// Lanes that are live in this process.
    pub fn live(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.state.load(Ordering::Acquire) == Self::LIVE).count()
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Each lane that is not live here, or that does not get on, with a line: "hub lane 3: recovering at offset 120", "hub lane
    /// 2: a step has run for 1.4 s".
    pub fn waiting(&self, now: MonoTime) -> Vec<(u32, String)> {
        let long = |since: &AtomicU64| {
            let since = since.load(Ordering::Acquire).checked_sub(1)?;
            Some(now.since(MonoTime(since))).filter(|time| *time > Self::LONG).map(|time| time.as_secs_f64())
        };
        let line = |(lane, status): (u32, &LaneStatus)| {
            let stage = &self.stage;
            let position = status.position.load(Ordering::Acquire);
            let line = match status.state.load(Ordering::Acquire) {
                Self::LIVE if status.cut.load(Ordering::Acquire) => {
                    let (code, title) = (Code::InboxCut.as_str(), Code::InboxCut.title());
                    Some(format!(
                        "{stage} lane {lane}: its inbox ended before offset {position}; {code}: {title}, see the log"
                    ))
                }
                Self::LIVE => {
                    let stepping = long(&status.stepping)
                        .map(|s| format!("{stage} lane {lane}: the step after offset {position} has run for {s:.1} s"));
                    let retrying = long(&status.retrying)
                        .map(|s| format!("{stage} lane {lane}: nothing could be committed for {s:.1} s"));
                    stepping.or(retrying)
                }
                Self::RECOVERING => {
                    let line = format!("{stage} lane {lane}: recovering at offset {position}");
                    let hindered = usize::from(status.hindered.load(Ordering::Acquire));
                    let code = hindered.checked_sub(1).and_then(|place| HINDRANCES.get(place));
                    Some(match code {
                        Some(code) => format!("{line}; {}: {}, see the log", code.as_str(), code.title()),
                        None => line,
                    })
                }
                _away => Some(format!("{stage} lane {lane}: no owner in this process")),
            };
            Some((lane, line?))
        };
        (0..).zip(&self.lanes).filter_map(line).collect()
    }
}
