//! What is looked at after every turn: answers, and what the spokes did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::{Bus, Embedded, Reader, Record};
use topology::Topology;
use wire::answer::{Answer, Operation};
use wire::topics::Topics;
use wire::{CallId, Kind, OperationId};

use super::clients::words;
use super::host::Host;
use super::weather::Weather;
use crate::spoke::Did;

/// What was seen so far.
pub(super) struct Watch {
    topology: String,
    egress: Box<dyn Reader>,
    inboxes: Box<dyn Reader>,
    /// What was ever in the inboxes, in no order of their lanes: the bus lets go of what a snapshot covers.
    pub(super) kept: BTreeMap<String, Vec<Record>>,
    /// Operations by key, each where it was asked for first.
    asked: BTreeMap<Vec<u8>, Vec<OperationId>>,
    key_of: BTreeMap<OperationId, Vec<u8>>,
    records: Vec<Record>,
    /// The outcomes of operations, and the operations in the order of their first answer.
    pub(super) answered: BTreeMap<OperationId, Answer>,
    pub(super) order: Vec<OperationId>,
    /// Operations of which a request was refused without an outcome: there was no room, or it was parked.
    pub(super) refused: BTreeSet<OperationId>,
    /// Calls that were carried out, with their spoke.
    done: BTreeMap<CallId, String>,
    undone: BTreeSet<CallId>,
    /// Calls that a spoke refused.
    declined: BTreeSet<CallId>,
}

impl Watch {
    pub(super) fn new(bus: &Embedded, topology: &Topology, names: &Topics) -> Self {
        let mut egress = bus.reader().expect("a bus in memory gives readers");
        let mut inboxes = bus.reader().expect("a bus in memory gives readers");
        let mut kept = BTreeMap::new();
        for stage in topology.stages() {
            let inbox = names.inbox(topology.name(), &stage.name);
            for lane in 0..stage.lanes {
                inboxes.assign(&inbox, lane, 0).expect("it was just made");
                egress.assign(&names.egress(topology.name(), &stage.name), lane, 0).expect("it was just made");
            }
            kept.insert(inbox, Vec::new());
        }
        Self {
            topology: topology.name().to_owned(),
            egress,
            inboxes,
            kept,
            asked: BTreeMap::new(),
            key_of: BTreeMap::new(),
            records: Vec::new(),
            answered: BTreeMap::new(),
            order: Vec::new(),
            refused: BTreeSet::new(),
            done: BTreeMap::new(),
            undone: BTreeSet::new(),
            declined: BTreeSet::new(),
        }
    }

    /// Reads what came into the inboxes.
    pub(super) fn keep(&mut self) {
        self.inboxes.poll(usize::MAX, Duration::ZERO, &mut self.records).expect("it is read before it is let go");
        for record in self.records.drain(..) {
            let is_request = record.headers.get("ce_type") == Some(Kind::Request.as_str().as_bytes());
            if let (true, Ok(envelope), Some(key)) = (is_request, record.headers.envelope(), &record.key)
                && let Ok(name) = std::str::from_utf8(key)
            {
                let operation = envelope.requested_operation(&self.topology, name);
                if !self.key_of.contains_key(&operation) {
                    self.asked.entry(key.to_vec()).or_default().push(operation.clone());
                    self.key_of.insert(operation, key.to_vec());
                }
            }
            self.kept.get_mut(&*record.topic).expect("it was assigned").push(record);
        }
    }

    /// The offset after the last record of a lane's inbox.
    pub(super) fn end(&self, inbox: &str, lane: u32) -> u64 {
        let records = self.kept.get(inbox).into_iter().flatten();
        records.rev().find(|record| record.partition == lane).map_or(0, |record| record.offset + 1)
    }

    /// True where each operation that was asked for is answered or refused.
    pub(super) fn all_decided(&self, ours: &dyn Fn(&OperationId) -> bool) -> bool {
        let decided =
            |operation: &OperationId| self.answered.contains_key(operation) || self.refused.contains(operation);
        self.key_of.keys().filter(|operation| ours(operation)).all(decided)
    }

    /// Of two operations on one key the one that was asked for first is answered first. A refusal may come before its turn, and a
    /// request that found no room may come again. `ours`: what strangers make up may end among the dead letters.
    fn comes_in_order(&self, operation: &OperationId, ours: &dyn Fn(&OperationId) -> bool) -> Result<(), String> {
        let Some(key) = self.key_of.get(operation) else { return Ok(()) };
        let before = self.asked[key].iter().take_while(|before| *before != operation);
        let mut open = before
            .filter(|before| ours(before) && !self.answered.contains_key(*before) && !self.refused.contains(*before));
        match open.next() {
            Some(before) if !self.refused.contains(operation) => {
                let key = String::from_utf8_lossy(key);
                Err(format!("{operation} on `{key}` was answered, and {before}, which was asked for first, was not"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An operation has one outcome, however often it is told: done, failed or refused.
    pub(super) fn answers(&mut self, ours: &dyn Fn(&OperationId) -> bool) -> Result<(), String> {
        self.egress.poll(usize::MAX, Duration::ZERO, &mut self.records).expect("the bus keeps everything");
        let mut new: Vec<OperationId> = Vec::new();
        for record in self.records.drain(..) {
            let envelope = record.headers.envelope().map_err(|error| format!("an answer cannot be read: {error}"))?;
            if envelope.kind != Kind::Answer || envelope.subject.as_deref() != Some("operation") {
                continue;
            }
            let operation: Operation =
                serde_json::from_slice(&record.value).map_err(|error| format!("an answer cannot be read: {error}"))?;
            let Some(answer) = operation.answer else { continue };
            if !answer.is_outcome() {
                self.refused.insert(operation.operation);
                continue;
            }
            match self.answered.get(&operation.operation) {
                None => {
                    if !matches!(answer, Answer::Refused(_)) {
                        new.push(operation.operation.clone());
                    }
                    self.order.push(operation.operation.clone());
                    self.answered.insert(operation.operation, answer);
                }
                Some(before) if *before == answer => {}
                Some(before) => {
                    let (id, before, after) = (operation.operation, words(before), words(&answer));
                    return Err(format!("operation {id} has two answers: {before}; and {after}"));
                }
            }
        }
        new.iter().try_for_each(|operation| self.comes_in_order(operation, ours))
    }

    /// No call is carried out twice, and none after its undo, or after it was refused.
    pub(super) fn spoke(&mut self, service: &str, spoke: &dyn Host, weather: &Weather) -> Result<(), String> {
        for handled in spoke.handled() {
            let call = handled.call;
            if handled.did == Did::Refused {
                self.declined.insert(call.clone());
            }
            if handled.did == Did::All {
                weather.say(service, || format!("carries {call} out"));
                if self.undone.contains(&call) {
                    return Err(format!("`{service}` carried call {call} out after it was undone"));
                }
                if self.declined.contains(&call) {
                    return Err(format!("`{service}` carried call {call} out, and had refused it before"));
                }
                if let Some(by) = self.done.insert(call.clone(), service.to_owned()) {
                    return Err(format!("`{service}` carried call {call} out, which `{by}` had carried out before"));
                }
            }
            self.undone.extend(weather.undone_by(&call));
        }
        Ok(())
    }

    /// How many calls were carried out.
    pub(super) fn calls(&self) -> usize {
        self.done.len()
    }
}
