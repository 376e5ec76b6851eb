//! What must be so inside a lane between any two turns of its shell: nothing waits without an end, each open call has a deadline in
//! its lane, and the timers in state are the timers in the wheel.

use std::collections::BTreeSet;

use bus::Record;
use topology::{Inside, Timeout, TimerKey};
use wire::Kind;

/// What is looked at, and where.
pub(super) struct Look<'a> {
    /// Who has it.
    pub(super) who: &'a str,
    pub(super) lane: u32,
    pub(super) inside: &'a Inside,
    /// True where hub and workers share the lane: then an open call is a conversation in it.
    pub(super) together: bool,
    /// The number of a component in the lane.
    pub(super) number: &'a dyn Fn(&str) -> Option<u16>,
    /// What is in the lane's inbox, and more.
    pub(super) inbox: &'a [Record],
}

impl Look<'_> {
    /// What is not as it must be, in a sentence.
    pub(super) fn judge(&self) -> Result<(), String> {
        let told = self.nothing_waits_for_ever().and_then(|()| self.timers_are_those_of_the_wheel());
        told.map_err(|what| format!("lane {} of {}: {what}", self.lane, self.who))
    }

    fn nothing_waits_for_ever(&self) -> Result<(), String> {
        let waits = &self.inside.waits;
        let timers: BTreeSet<TimerKey> = waits.timers.iter().copied().collect();
        let known: BTreeSet<&str> = waits.all.iter().map(|(_, wait, _)| wait.who.as_str()).collect();
        let mut awaited = BTreeSet::new();
        for (component, wait, timer) in &waits.all {
            let who = &wait.who;
            match timer {
                Some(timer) if !timers.contains(timer) => {
                    return Err(format!("{who} in {component} has a deadline {timer:?} that nobody keeps"));
                }
                Some(timer) => {
                    awaited.insert(*timer);
                }
                None if wait.calls.is_empty() && wait.others.is_empty() => {
                    return Err(format!("{who} in {component} waits for nothing"));
                }
                None => {}
            }
            if let Some(call) = wait.calls.iter().find(|call| self.together && !known.contains(call.as_str())) {
                return Err(format!("{who} in {component} waits for call {call}, and no worker has it"));
            }
        }
        match timers.difference(&awaited).next().filter(|_| waits.complete) {
            Some(timer) => Err(format!("nothing waits for timer {timer:?}")),
            None => Ok(()),
        }
    }

    /// A timer that has passed is in neither until its timeout is read back, which is on its way then.
    fn timers_are_those_of_the_wheel(&self) -> Result<(), String> {
        let Inside { armed, in_wheel: (stand, entered), waits, .. } = self.inside;
        if stand != entered {
            return Err(format!("{stand} timers stand in the wheel, and {entered} are armed there"));
        }
        let armed: BTreeSet<TimerKey> = armed.iter().copied().collect();
        let state: BTreeSet<TimerKey> = waits.timers.iter().copied().collect();
        if let Some(timer) = armed.difference(&state).next().filter(|_| waits.complete) {
            return Err(format!("timer {timer:?} is in the wheel, and not in the state"));
        }
        let mut passed = state.difference(&armed).peekable();
        if passed.peek().is_none() {
            return Ok(());
        }
        let on_its_way = self.on_their_way();
        match passed.find(|timer| !on_its_way.contains(timer)) {
            Some(timer) => Err(format!("timer {timer:?} is in the state, and not in the wheel")),
            None => Ok(()),
        }
    }

    /// Timers whose timeouts wait for a commit, or stand in the inbox and were not handled yet.
    fn on_their_way(&self) -> BTreeSet<TimerKey> {
        let mut timers: BTreeSet<TimerKey> = self.inside.passing.iter().copied().collect();
        let ahead = self.inbox.iter().filter(|record| {
            record.partition == self.lane
                && record.offset >= self.inside.position
                && record.headers.get("ce_type") == Some(Kind::Timeout.as_str().as_bytes())
        });
        let timer = |record: &Record| {
            let number = (self.number)(std::str::from_utf8(record.headers.get("ce_subject")?).ok()?)?;
            let Timeout { timer, generation } = serde_json::from_slice(&record.value).ok()?;
            Some((number, timer, generation))
        };
        timers.extend(ahead.filter_map(timer));
        timers
    }
}
