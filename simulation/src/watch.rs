//! The checks after each poll: answers, and calls executed by spokes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::{Bus, Embedded, Reader, Record};
use topology::Topology;
use wire::answer::{Answer, Operation};
use wire::topics::Topics;
use wire::{CallId, Kind, OperationId};

use super::clients::describe;
use super::fault_schedule::FaultSchedule;
use super::host::Host;
use spoke::CallEffect;

/// The observations so far.
pub(super) struct Watch {
    topology: String,
    egress: Box<dyn Reader>,
    inboxes: Box<dyn Reader>,
    /// Every record that was ever in the inboxes, lanes interleaved. The bus itself deletes records
    /// that a snapshot covers.
    pub(super) kept: BTreeMap<String, Vec<Record>>,
    /// Operations by key, in the order of their first request.
    asked: BTreeMap<Vec<u8>, Vec<OperationId>>,
    key_of: BTreeMap<OperationId, Vec<u8>>,
    records: Vec<Record>,
    /// The outcomes of operations, and the operations in the order of their first answer.
    pub(super) answered: BTreeMap<OperationId, Answer>,
    pub(super) order: Vec<OperationId>,
    /// Operations with a refusal that is not an outcome: there was no room, or they were parked.
    pub(super) refused: BTreeSet<OperationId>,
    /// Executed calls, with their spoke.
    done: BTreeMap<CallId, String>,
    undone: BTreeSet<CallId>,
    /// Calls that a spoke refused.
    refused_calls: BTreeSet<CallId>,
}

impl Watch {
    pub(super) fn new(bus: &Embedded, topology: &Topology, names: &Topics) -> Self {
        let mut egress = bus.reader().expect("a bus in memory gives readers");
        let mut inboxes = bus.reader().expect("a bus in memory gives readers");
        let mut kept = BTreeMap::new();
        for stage in topology.stages() {
            let inbox = names.inbox(topology.name(), &stage.name);
            for lane in 0..stage.lanes {
                inboxes.assign(&inbox, lane, 0).expect("the topic was just created");
                egress
                    .assign(&names.egress(topology.name(), &stage.name), lane, 0)
                    .expect("the topic was just created");
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
            refused_calls: BTreeSet::new(),
        }
    }

    /// Reads new records of the inboxes.
    pub(super) fn read_inboxes(&mut self) {
        self.inboxes
            .poll(usize::MAX, Duration::ZERO, &mut self.records)
            .expect("records are read before the bus deletes them");
        for record in self.records.drain(..) {
            let is_request = record.headers.is(Kind::Request);
            if let (true, Ok(envelope), Some(key)) = (is_request, record.headers.envelope(), &record.key)
                && let Ok(name) = std::str::from_utf8(key)
            {
                let operation = envelope.requested_operation(&self.topology, name);
                if !self.key_of.contains_key(&operation) {
                    self.asked.entry(key.to_vec()).or_default().push(operation.clone());
                    self.key_of.insert(operation, key.to_vec());
                }
            }
            self.kept.get_mut(&*record.topic).expect("every inbox is in the map").push(record);
        }
    }

    /// The offset after the last record of a lane's inbox.
    pub(super) fn end(&self, inbox: &str, lane: u32) -> u64 {
        let records = self.kept.get(inbox).into_iter().flatten();
        records.rev().find(|record| record.partition == lane).map_or(0, |record| record.offset + 1)
    }

    /// True if each requested operation is answered or refused.
    pub(super) fn all_answered(&self, ours: &dyn Fn(&OperationId) -> bool) -> bool {
        let is_answered =
            |operation: &OperationId| self.answered.contains_key(operation) || self.refused.contains(operation);
        self.key_of.keys().filter(|operation| ours(operation)).all(is_answered)
    }

    /// Checks that operations on one key are answered in the order of their requests. A refusal may
    /// come early, and a request that found no room may be repeated. `ours`: excludes operations of
    /// foreign clients, which may end in the dead-letter topic.
    fn check_order(&self, operation: &OperationId, ours: &dyn Fn(&OperationId) -> bool) -> Result<(), String> {
        let Some(key) = self.key_of.get(operation) else { return Ok(()) };
        let before = self.asked[key].iter().take_while(|before| *before != operation);
        let mut open = before
            .filter(|before| ours(before) && !self.answered.contains_key(*before) && !self.refused.contains(*before));
        match open.next() {
            Some(before) if !self.refused.contains(operation) => {
                let key = String::from_utf8_lossy(key);
                Err(format!("{operation} on `{key}` was answered before {before}, which was requested first"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that an operation has one outcome: done, failed or refused.
    pub(super) fn check_answers(&mut self, ours: &dyn Fn(&OperationId) -> bool) -> Result<(), String> {
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
                    let (id, before, after) = (operation.operation, describe(before), describe(&answer));
                    return Err(format!("operation {id} has two answers: {before}; then {after}"));
                }
            }
        }
        new.iter().try_for_each(|operation| self.check_order(operation, ours))
    }

    /// Checks that no call is executed twice, after its undo, or after its refusal.
    pub(super) fn check_spoke(
        &mut self,
        service: &str,
        spoke: &dyn Host,
        faults: &FaultSchedule,
    ) -> Result<(), String> {
        for handled in spoke.handled() {
            let call = handled.call;
            if handled.effect == CallEffect::Refused {
                self.refused_calls.insert(call.clone());
            }
            if handled.effect == CallEffect::Executed {
                faults.say(service, || format!("executes {call}"));
                if self.undone.contains(&call) {
                    return Err(format!("`{service}` executed call {call} after it was undone"));
                }
                if self.refused_calls.contains(&call) {
                    return Err(format!("`{service}` executed call {call}, which it had refused before"));
                }
                if let Some(by) = self.done.insert(call.clone(), service.to_owned()) {
                    return Err(format!("`{service}` executed call {call}, which `{by}` had executed before"));
                }
            }
            self.undone.extend(faults.undone_by(&call));
        }
        Ok(())
    }

    /// Number of executed calls.
    pub(super) fn calls(&self) -> usize {
        self.done.len()
    }
}
