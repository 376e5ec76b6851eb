//! At the end, an undisturbed lane replays every inbox. Its messages must equal those on the bus,
//! its timers must equal those of the simulated lane, and it must count each record that it drops.
//! So there is no effect without its state and no state without its effect.

use std::collections::{BTreeMap, BTreeSet};

use bus::{Record, Route};
use topology::outbox::TimerEffect;
use topology::{DeliveryMode, Effects, Lane, Timeout, Topology};
use wire::header;
use wire::topics::Topics;
use wire::{CallId, Kind, MessageId};

/// Returns every record of a topic.
pub(super) type Records<'a> = dyn Fn(&str) -> Vec<Record> + 'a;

/// Armed timers: component, number and generation.
pub(super) type Armed = BTreeSet<(u16, u64, u64)>;

/// The result of replaying the inboxes of all lanes of a topology.
#[derive(Default)]
pub(super) struct Replay {
    /// Number of messages by topic, partition (if explicit) and id.
    produced: BTreeMap<(String, Option<u32>, String), Produced>,
    /// Armed timers by stage and lane.
    pub(super) armed: BTreeMap<(String, u32), Armed>,
    /// One line per live operation.
    pub(super) unfinished: Vec<String>,
    /// The last attempt of each call.
    attempts: BTreeMap<CallId, u32>,
}

#[derive(Default)]
struct Produced {
    times: usize,
    exactly_once: bool,
}

/// Counters of dropped records; each counts one per record.
const DROPPED: [&str; 5] = [
    workers::names::LATE_REPLIES,
    workers::names::DUPLICATE_REPLIES,
    workers::names::STALE_REPLIES,
    workers::names::UNKNOWN_REPLIES,
    workers::names::MISMATCHED_REPLIES,
];

impl Replay {
    /// Replays the inbox of every lane. `parks`: operations may park.
    pub(super) fn of(topology: &Topology, names: &Topics, parks: bool, records: &Records<'_>) -> Result<Self, String> {
        let mut replay = Self::default();
        // If hub and worker share a lane, an operation abandons its calls in the same step in which
        // it stops waiting for them.
        let shares_lane = topology.stages().len() == 1;
        for stage in topology.stages() {
            let mut lanes: Vec<Lane> = (0..stage.lanes).map(|lane| topology.lane(names, &stage.name, lane)).collect();
            for record in records(&names.inbox(topology.name(), &stage.name)) {
                let number = usize::try_from(record.partition).unwrap_or(usize::MAX);
                let Some(lane) = lanes.get_mut(number) else { continue };
                if replay.is_stale(&stage.name, lane, &record) {
                    lane.skip_stale_timeout(&record);
                } else {
                    lane.step(&record);
                }
                let effects = lane.take_effects();
                check_dropped(&record, &effects)?;
                if !parks {
                    check_not_parked(&record, &effects)?;
                }
                replay.check_old_refusal(&record, &effects)?;
                check_reply(&record, &effects)?;
                if shares_lane && effects.counts.iter().any(|(name, _)| name == hub::names::LATE_ENDS) {
                    return Err(format!("{} completed a call that its operation does not wait for", position(&record)));
                }
                replay.take(&stage.name, stage.mode, lane, &record, effects);
            }
            replay.unfinished.extend(lanes.iter().flat_map(Lane::unfinished));
        }
        replay.unfinished.sort();
        Ok(replay)
    }

    /// Checks that a refusal or failure of an attempt has no effect if the call was sent again
    /// since.
    fn check_old_refusal(&self, record: &Record, effects: &Effects) -> Result<(), String> {
        let Ok(envelope) = record.headers.envelope() else { return Ok(()) };
        let (Kind::Refusal | Kind::Failure, Some(call)) = (envelope.kind, &envelope.call) else { return Ok(()) };
        let message = envelope.causation.and_then(|message| MessageId::read(&message, call).ok());
        let sent = self.attempts.get(call).copied().unwrap_or(0);
        match message.filter(|message| message.attempt < sent && has_effects(effects) && !is_dead_letter(effects)) {
            Some(message) => {
                let attempt = message.attempt;
                Err(format!("{} answers attempt {attempt} of {sent}, but had an effect", position(record)))
            }
            None => Ok(()),
        }
    }

    /// True for a timeout whose timer is not armed any more.
    fn is_stale(&self, stage: &str, lane: &Lane, record: &Record) -> bool {
        let armed = self.armed.get(&(stage.to_owned(), record.partition));
        read_timeout(lane, record).is_some_and(|(component, Timeout { timer, generation })| {
            !armed.is_some_and(|armed| armed.contains(&(component, timer, generation)))
        })
    }

    fn take(&mut self, stage: &str, mode: DeliveryMode, lane: &Lane, record: &Record, effects: Effects) {
        let armed = self.armed.entry((stage.to_owned(), record.partition)).or_default();
        if let Some((component, timeout)) = read_timeout(lane, record) {
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
                Route::ByKey | Route::Modulo(_) => None,
            };
            // A forwarded request or command keeps the id of its sender. Views may be published any
            // number of times.
            if matches!(message.envelope.kind, Kind::Request | Kind::Command | Kind::View) {
                continue;
            }
            let key = (message.topic.to_string(), to, message.envelope.id);
            let produced = self.produced.entry(key).or_default();
            produced.times += 1;
            produced.exactly_once = mode == DeliveryMode::ExactlyOnce;
        }
    }

    /// Compares the records in `topic` with the replayed messages. `to_spoke`: messages to spokes
    /// may be duplicated. `copies`: duplicates written by foreign clients. `altered`: messages that
    /// were lost or corrupted in transit.
    pub(super) fn compare(
        &self,
        topic: &str,
        records: &[Record],
        to_spoke: bool,
        copies: &[(String, String)],
        altered: &[(String, String)],
    ) -> Result<(), String> {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for record in records {
            let Ok(envelope) = record.headers.envelope() else { continue };
            let by_lane_shell = [Kind::Timeout, Kind::View, Kind::Liveness, Kind::Owner];
            let by_others = [Kind::Request, Kind::Command, Kind::Reply, Kind::Refusal, Kind::Failure];
            if envelope.source.starts_with("/nave/")
                && !by_lane_shell.contains(&envelope.kind)
                && !by_others.contains(&envelope.kind)
            {
                *found.entry(envelope.id).or_default() += 1;
            }
        }
        for (_, id) in copies.iter().filter(|(of, _)| of == topic) {
            if let Some(times) = found.get_mut(id) {
                *times = times.saturating_sub(1);
            }
        }
        for (_, id) in altered.iter().filter(|(of, _)| of == topic) {
            *found.entry(id.clone()).or_default() += 1;
        }
        let mut produced: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
        for ((of, _, id), by) in &self.produced {
            if of == topic {
                let entry = produced.entry(id).or_default();
                entry.0 += by.times;
                entry.1 = by.exactly_once;
            }
        }
        for (id, (times, exactly_once)) in &produced {
            let on_bus = found.get(*id).copied().unwrap_or(0);
            if on_bus == 0 || (on_bus < *times && !to_spoke) {
                return Err(format!(
                    "{id} has {times} replayed messages, but {on_bus} records in {topic}: state without its effect"
                ));
            }
            if *exactly_once && !to_spoke && on_bus > *times {
                return Err(format!(
                    "{id} has {times} replayed messages, but {on_bus} records in {topic}: effect without its state"
                ));
            }
        }
        match found.iter().find(|(id, times)| **times > 0 && !produced.contains_key(id.as_str())) {
            Some((id, _)) => {
                Err(format!("{id} is in {topic}, but the replay did not produce it: effect without its state"))
            }
            None => Ok(()),
        }
    }
}

/// Checks that a record without effects is counted, and that a record counted as dropped has no
/// effects.
fn check_dropped(record: &Record, effects: &Effects) -> Result<(), String> {
    let kind = record.headers.get(header::TYPE).unwrap_or_default();
    let is = |known: Kind| known.as_str().as_bytes() == kind;
    let has_effects = has_effects(effects);
    let counted = effects.counts.iter().any(|(name, _)| name != topology::names::RECORDS);
    if !has_effects && !counted && !is(Kind::Owner) && !is(Kind::Tuple) && !is(Kind::Liveness) {
        return Err(format!("{} was dropped without being counted", position(record)));
    }
    let dropped: u64 = effects.counts.iter().filter(|(name, _)| DROPPED.contains(name)).map(|(_, by)| by).sum();
    let answer = is(Kind::Reply) || is(Kind::Refusal) || is(Kind::Failure);
    if dropped > 0 && (has_effects || dropped > 1 || !answer) {
        return Err(format!("{} was counted as dropped {dropped} times", position(record)));
    }
    Ok(())
}

fn has_effects(effects: &Effects) -> bool {
    !effects.messages.is_empty() || !effects.timers.is_empty() || !effects.views.is_empty()
}

/// True if the record was unreadable and went to the dead-letter topic.
fn is_dead_letter(effects: &Effects) -> bool {
    effects.messages.iter().any(|message| message.envelope.kind == Kind::Dead)
}

/// Checks that a reply to any attempt completes its call as replied.
fn check_reply(record: &Record, effects: &Effects) -> Result<(), String> {
    let is_reply = record.headers.envelope().is_ok_and(|envelope| envelope.kind == Kind::Reply);
    let replied = effects.counts.iter().any(|(name, _)| name == workers::names::REPLIED);
    if is_reply && has_effects(effects) && !is_dead_letter(effects) && !replied {
        return Err(format!("{} had an effect, but its call was not counted as replied", position(record)));
    }
    Ok(())
}

fn check_not_parked(record: &Record, effects: &Effects) -> Result<(), String> {
    match effects.counts.iter().find(|(name, _)| *name == hub::names::PARKED) {
        Some((_, times)) => Err(format!("{} parked {times} operations", position(record))),
        None => Ok(()),
    }
}

/// The position and kind of a record.
fn position(record: &Record) -> String {
    let kind = String::from_utf8_lossy(record.headers.get(header::TYPE).unwrap_or_default());
    format!("record {}/{}/{} ({kind})", record.topic, record.partition, record.offset)
}

fn read_timeout(lane: &Lane, record: &Record) -> Option<(u16, Timeout)> {
    if !record.headers.is(Kind::Timeout) {
        return None;
    }
    let component = lane.number(std::str::from_utf8(record.headers.get(header::SUBJECT)?).ok()?)?;
    Some((component, serde_json::from_slice(&record.value).ok()?))
}
