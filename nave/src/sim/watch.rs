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

/// What was seen so far.
pub(super) struct Watch {
    egress: Box<dyn Reader>,
    inboxes: Box<dyn Reader>,
    /// What was ever in the inboxes, in no order of their lanes: the bus lets go of what a snapshot covers.
    pub(super) kept: BTreeMap<String, Vec<Record>>,
    records: Vec<Record>,
    /// Operations that were answered, done or failed, and the first time in order.
    pub(super) answered: BTreeMap<OperationId, Answer>,
    pub(super) order: Vec<OperationId>,
    /// Operations of which a request was refused.
    pub(super) refused: BTreeSet<OperationId>,
    /// Calls that were carried out, with their spoke.
    done: BTreeMap<CallId, String>,
    undone: BTreeSet<CallId>,
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
            egress,
            inboxes,
            kept,
            records: Vec::new(),
            answered: BTreeMap::new(),
            order: Vec::new(),
            refused: BTreeSet::new(),
            done: BTreeMap::new(),
            undone: BTreeSet::new(),
        }
    }

    /// Reads what came into the inboxes.
    pub(super) fn keep(&mut self) {
        self.inboxes.poll(usize::MAX, Duration::ZERO, &mut self.records).expect("it is read before it is let go");
        for record in self.records.drain(..) {
            self.kept.get_mut(&*record.topic).expect("it was assigned").push(record);
        }
    }

    /// An operation has one answer, however often it is told.
    pub(super) fn answers(&mut self) -> Result<(), String> {
        self.egress.poll(usize::MAX, Duration::ZERO, &mut self.records).expect("the bus keeps everything");
        for record in self.records.drain(..) {
            let envelope = record.headers.envelope().map_err(|error| format!("an answer cannot be read: {error}"))?;
            if envelope.kind != Kind::Answer || envelope.subject.as_deref() != Some("operation") {
                continue;
            }
            let operation: Operation =
                serde_json::from_slice(&record.value).map_err(|error| format!("an answer cannot be read: {error}"))?;
            let answer = match operation.answer {
                Some(answer @ (Answer::Done(_) | Answer::Failed(_))) => answer,
                Some(Answer::Refused(_)) => {
                    self.refused.insert(operation.operation);
                    continue;
                }
                None => continue,
            };
            match self.answered.get(&operation.operation) {
                None => {
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
        Ok(())
    }

    /// No call is carried out twice, and none after its undo.
    pub(super) fn spoke(&mut self, service: &str, spoke: &dyn Host, weather: &Weather) -> Result<(), String> {
        for handled in spoke.handled() {
            let call = handled.call;
            if handled.done {
                weather.say(service, || format!("carries {call} out"));
                if self.undone.contains(&call) {
                    return Err(format!("`{service}` carried call {call} out after it was undone"));
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
