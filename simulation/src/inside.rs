//! Invariants inside a lane between two polls of its shard: everything that waits has an end, each
//! open call has a deadline, and the timers in the state equal those in the wheel.

use std::collections::BTreeSet;

use bus::Record;
use topology::{Inspection, Timeout, TimerKey};
use wire::Kind;
use wire::header;

/// A lane and its state.
pub(super) struct LaneCheck<'a> {
    /// The name of the process that owns the lane.
    pub(super) process: &'a str,
    pub(super) lane: u32,
    pub(super) inside: &'a Inspection,
    /// True if hub and workers share the lane: then it contains the conversation of each open call.
    pub(super) shares_lane: bool,
    /// Returns the number of a component in the lane.
    pub(super) number: &'a dyn Fn(&str) -> Option<u16>,
    /// The records of the stage's inbox, of all lanes.
    pub(super) inbox: &'a [Record],
}

impl LaneCheck<'_> {
    /// Returns the first violated invariant.
    pub(super) fn run(&self) -> Result<(), String> {
        let result = self.check_waits().and_then(|()| self.check_timers());
        result.map_err(|violation| format!("lane {} of {}: {violation}", self.lane, self.process))
    }

    fn check_waits(&self) -> Result<(), String> {
        let waits = &self.inside.waits;
        let timers: BTreeSet<TimerKey> = self.inside.armed.iter().chain(&self.inside.fired).copied().collect();
        let live: BTreeSet<&str> = waits.all.iter().map(|(_, wait, _)| wait.name.as_str()).collect();
        let mut awaited = BTreeSet::new();
        for (component, wait, timer) in &waits.all {
            let who = &wait.name;
            match timer {
                Some(timer) if !timers.contains(timer) => {
                    return Err(format!("{who} in {component} has a deadline {timer:?} for which no timer is armed"));
                }
                Some(timer) => {
                    awaited.insert(*timer);
                }
                None if wait.calls.is_empty() && wait.others.is_empty() => {
                    return Err(format!("{who} in {component} waits for nothing"));
                }
                None => {}
            }
            if let Some(call) = wait.calls.iter().find(|call| self.shares_lane && !live.contains(call.as_str())) {
                return Err(format!("{who} in {component} waits for call {call}, which no worker knows"));
            }
        }
        match timers.difference(&awaited).next().filter(|_| waits.complete) {
            Some(timer) => Err(format!("nothing waits for timer {timer:?}")),
            None => Ok(()),
        }
    }

    /// A timer that fired stays armed until the lane reads its timeout record.
    fn check_timers(&self) -> Result<(), String> {
        let Inspection { fired, in_wheel: (in_wheel, entered), .. } = self.inside;
        if in_wheel != entered {
            return Err(format!("the wheel contains {in_wheel} timers, but {entered} are armed there"));
        }
        if fired.is_empty() {
            return Ok(());
        }
        let pending = self.pending_timeouts();
        match fired.iter().find(|timer| !pending.contains(timer)) {
            Some(timer) => {
                Err(format!("timer {timer:?} has fired, but its timeout is neither in the inbox nor pending"))
            }
            None => Ok(()),
        }
    }

    /// Timers whose timeout record waits for a commit, or is in the inbox and not handled yet.
    fn pending_timeouts(&self) -> BTreeSet<TimerKey> {
        let mut timers: BTreeSet<TimerKey> = self.inside.passing.iter().copied().collect();
        let ahead = self.inbox.iter().filter(|record| {
            record.partition == self.lane && record.offset >= self.inside.position && record.headers.is(Kind::Timeout)
        });
        let timer = |record: &Record| {
            let number = (self.number)(std::str::from_utf8(record.headers.get(header::SUBJECT)?).ok()?)?;
            let Timeout { timer, generation } = serde_json::from_slice(&record.value).ok()?;
            Some((number, timer, generation))
        };
        timers.extend(ahead.filter_map(timer));
        timers
    }
}
