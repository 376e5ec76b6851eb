//! No effect without its state, no state without its effect: in the end every inbox is read once more by a lane that was never
//! disturbed. What it decides must stand on the bus, and what stands there it must have decided; its timers must be those of
//! the lane that lived; and what it dropped it must have counted.

use std::collections::{BTreeMap, BTreeSet};

use bus::{Record, Route};
use topology::outbox::TimerEffect;
use topology::{Effects, Lane, Mode, Timeout, Topology};
use wire::topics::Topics;
use wire::{CallId, Kind, MessageId};

/// Reads every record of a topic.
pub(super) type Records<'a> = dyn Fn(&str) -> Vec<Record> + 'a;

/// Timers that are armed: component, number and generation.
pub(super) type Armed = BTreeSet<(u16, u64, u32)>;

/// What all lanes of a topology come to when they read their inboxes once more.
#[derive(Default)]
pub(super) struct Replay {
    /// What was decided: topic, partition where it is named, and id; and how often.
    decided: BTreeMap<(String, Option<u32>, String), Decided>,
    /// By stage and lane.
    pub(super) armed: BTreeMap<(String, u32), Armed>,
    /// A line for each operation that lives.
    pub(super) unfinished: Vec<String>,
    /// The last attempt of each call that was sent.
    attempts: BTreeMap<CallId, u32>,
}

#[derive(Default)]
struct Decided {
    times: usize,
    exactly_once: bool,
}

/// Counters of what came for nothing, one for each record.
const DROPPED: [&str; 5] = [
    workers::names::LATE_REPLIES,
    workers::names::DUPLICATE_REPLIES,
    workers::names::STALE_REPLIES,
    workers::names::UNKNOWN_REPLIES,
    workers::names::MISMATCHED_REPLIES,
];

impl Replay {
    /// Lets every lane read its inbox. `parks`: operations may park.
    pub(super) fn of(topology: &Topology, names: &Topics, parks: bool, records: &Records<'_>) -> Result<Self, String> {
        let mut replay = Self::default();
        // Within one lane an operation abandons its calls in the step in which it stops to wait for them.
        let together = topology.stages().len() == 1;
        for stage in topology.stages() {
            let mut lanes: Vec<Lane> = (0..stage.lanes).map(|lane| topology.lane(names, &stage.name, lane)).collect();
            for record in records(&names.inbox(topology.name(), &stage.name)) {
                let number = usize::try_from(record.partition).unwrap_or(usize::MAX);
                let Some(lane) = lanes.get_mut(number) else { continue };
                lane.step(&record);
                let effects = lane.take_effects();
                dropped_is_counted(&record, &effects)?;
                if !parks {
                    nothing_parks(&record, &effects)?;
                }
                replay.old_refusals_do_nothing(&record, &effects)?;
                a_reply_ends_its_call_as_replied(&record, &effects)?;
                if together && effects.counts.iter().any(|(name, _)| name == hub::names::LATE_ENDS) {
                    return Err(format!("{} ended a call that its operation does not wait for", place(&record)));
                }
                replay.take(&stage.name, stage.mode, lane, &record, effects);
            }
            replay.unfinished.extend(lanes.iter().flat_map(Lane::unfinished));
        }
        replay.unfinished.sort();
        Ok(replay)
    }

    /// A refusal or a failure of an attempt after which the call was sent again says nothing of that.
    fn old_refusals_do_nothing(&self, record: &Record, effects: &Effects) -> Result<(), String> {
        let Ok(envelope) = record.headers.envelope() else { return Ok(()) };
        let (Kind::Refusal | Kind::Failure, Some(call)) = (envelope.kind, &envelope.call) else { return Ok(()) };
        let message = envelope.causation.and_then(|message| MessageId::read(&message, call).ok());
        let sent = self.attempts.get(call).copied().unwrap_or(0);
        match message.filter(|message| message.attempt < sent && did(effects) && !is_dead(effects)) {
            Some(message) => {
                let attempt = message.attempt;
                Err(format!("{} answers attempt {attempt} of {sent}, and did something", place(record)))
            }
            None => Ok(()),
        }
    }

    fn take(&mut self, stage: &str, mode: Mode, lane: &Lane, record: &Record, effects: Effects) {
        let armed = self.armed.entry((stage.to_owned(), record.partition)).or_default();
        if let Some((component, timeout)) = read_back(lane, record) {
            armed.remove(&(component, timeout.timer, timeout.generation));
        }
        for (component, effect) in effects.timers {
            match effect {
                TimerEffect::Arm { timer, generation, .. } => {
                    armed.retain(|(of, number, _)| (*of, *number) != (component, timer));
                    armed.insert((component, timer, generation));
                }
                TimerEffect::Disarm { timer } => armed.retain(|(of, number, _)| (*of, *number) != (component, timer)),
            }
        }
        for message in effects.messages {
            if let (Some(call), Some(attempt)) = (&message.envelope.call, message.envelope.attempt) {
                self.attempts.insert(call.clone(), attempt);
            }
            let to = match message.route {
                Route::To(partition) => Some(partition),
                Route::ByKey => None,
            };
            // What is sent on to its lane has the id of its sender; a view says how things stand, as often as one likes.
            if matches!(message.envelope.kind, Kind::Request | Kind::Command | Kind::View) {
                continue;
            }
            let key = (message.topic.to_string(), to, message.envelope.id);
            let decided = self.decided.entry(key).or_default();
            decided.times += 1;
            decided.exactly_once = mode == Mode::ExactlyOnce;
        }
    }

    /// What stands in `topic` of what lanes decide, compared with what was decided. `to_spoke`: messages may come twice there by
    /// themselves. `copies` were written by others; what is `astray` was sent, and lost or spoilt on its way.
    pub(super) fn compare(
        &self,
        topic: &str,
        standing: &[Record],
        to_spoke: bool,
        copies: &[(String, String)],
        astray: &[(String, String)],
    ) -> Result<(), String> {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for record in standing {
            let Ok(envelope) = record.headers.envelope() else { continue };
            let shells_own = [Kind::Timeout, Kind::View, Kind::Liveness, Kind::Owner];
            let of_others = [Kind::Request, Kind::Command, Kind::Reply, Kind::Refusal, Kind::Failure];
            if envelope.source.starts_with("/nave/")
                && !shells_own.contains(&envelope.kind)
                && !of_others.contains(&envelope.kind)
            {
                *found.entry(envelope.id).or_default() += 1;
            }
        }
        for (_, id) in copies.iter().filter(|(of, _)| of == topic) {
            if let Some(times) = found.get_mut(id) {
                *times = times.saturating_sub(1);
            }
        }
        for (_, id) in astray.iter().filter(|(of, _)| of == topic) {
            *found.entry(id.clone()).or_default() += 1;
        }
        let mut decided: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
        for ((of, _, id), by) in &self.decided {
            if of == topic {
                let entry = decided.entry(id).or_default();
                entry.0 += by.times;
                entry.1 = by.exactly_once;
            }
        }
        for (id, (times, exactly_once)) in &decided {
            let stands = found.get(*id).copied().unwrap_or(0);
            if stands == 0 || (stands < *times && !to_spoke) {
                return Err(format!(
                    "{id} was decided {times} times and stands {stands} times in {topic}: state without its effect"
                ));
            }
            if *exactly_once && !to_spoke && stands > *times {
                return Err(format!(
                    "{id} was decided {times} times and stands {stands} times in {topic}: an effect without its state"
                ));
            }
        }
        match found.iter().find(|(id, times)| **times > 0 && !decided.contains_key(id.as_str())) {
            Some((id, _)) => {
                Err(format!("{id} stands in {topic}, and no lane has decided it: an effect without its state"))
            }
            None => Ok(()),
        }
    }
}

/// What a lane does nothing about it has counted; and what it counted as come for nothing did nothing.
fn dropped_is_counted(record: &Record, effects: &Effects) -> Result<(), String> {
    let kind = record.headers.get("ce_type").unwrap_or_default();
    let is = |known: Kind| known.as_str().as_bytes() == kind;
    let did = did(effects);
    let counted = effects.counts.iter().any(|(name, _)| name != topology::names::RECORDS);
    if !did && !counted && !is(Kind::Owner) && !is(Kind::Tuple) && !is(Kind::Liveness) {
        return Err(format!("{} disappeared without a word", place(record)));
    }
    let dropped: u64 = effects.counts.iter().filter(|(name, _)| DROPPED.contains(name)).map(|(_, by)| by).sum();
    let answer = is(Kind::Reply) || is(Kind::Refusal) || is(Kind::Failure);
    if dropped > 0 && (did || dropped > 1 || !answer) {
        return Err(format!("{} was counted as dropped {dropped} times", place(record)));
    }
    Ok(())
}

fn did(effects: &Effects) -> bool {
    !effects.messages.is_empty() || !effects.timers.is_empty() || !effects.views.is_empty()
}

/// What came cannot be read: a dead letter.
fn is_dead(effects: &Effects) -> bool {
    effects.messages.iter().any(|message| message.envelope.kind == Kind::Dead)
}

/// The reply of whichever attempt says that the call was done.
fn a_reply_ends_its_call_as_replied(record: &Record, effects: &Effects) -> Result<(), String> {
    let is_reply = record.headers.envelope().is_ok_and(|envelope| envelope.kind == Kind::Reply);
    let replied = effects.counts.iter().any(|(name, _)| name == workers::names::REPLIED);
    if is_reply && did(effects) && !is_dead(effects) && !replied {
        return Err(format!("{} did something, and its call was not replied", place(record)));
    }
    Ok(())
}

fn nothing_parks(record: &Record, effects: &Effects) -> Result<(), String> {
    match effects.counts.iter().find(|(name, _)| *name == hub::names::PARKED) {
        Some((_, times)) => Err(format!("{} parked {times} operations", place(record))),
        None => Ok(()),
    }
}

/// Where a record stands, and what it is.
fn place(record: &Record) -> String {
    let kind = String::from_utf8_lossy(record.headers.get("ce_type").unwrap_or_default());
    format!("record {}/{}/{} ({kind})", record.topic, record.partition, record.offset)
}

fn read_back(lane: &Lane, record: &Record) -> Option<(u16, Timeout)> {
    if record.headers.get("ce_type") != Some(Kind::Timeout.as_str().as_bytes()) {
        return None;
    }
    let component = lane.number(std::str::from_utf8(record.headers.get("ce_subject")?).ok()?)?;
    Some((component, serde_json::from_slice(&record.value).ok()?))
}
