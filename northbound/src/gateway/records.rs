//! Reads the records of a topology: answers, views, resources and outcomes of commands.

use bus::Record;
use wire::answer::{Answer, Conversations, LanePosition, Operation, Resource};
use wire::command::Outcome;
use wire::header;
use wire::{Code, Envelope, Kind, OperationId, WireError};

use super::Gateway;
use crate::metrics;

impl Gateway {
    /// Reads a record of an egress or view topic. Counts and skips unreadable ones.
    pub fn on_record(&self, record: &Record) {
        if let Err(why) = self.take(record) {
            let (topic, partition, offset) = (&*record.topic, record.partition, record.offset);
            tracing::warn!(topic, partition, offset, why, "cannot read a record");
            metrics::unreadable();
        }
    }

    fn take(&self, record: &Record) -> Result<(), String> {
        let envelope = record.headers.envelope().map_err(|error| error.to_string())?;
        // Lane numbers are per stage.
        for (options, stage) in self.options.stages.iter().zip(&self.stages) {
            if *record.topic == *options.egress || *record.topic == *options.view {
                stage.silence.record_received(record.partition);
            }
        }
        let unreadable = |error: serde_json::Error| error.to_string();
        match (envelope.kind, envelope.subject.as_deref()) {
            (Kind::Answer, Some("operation")) => {
                let operation = serde_json::from_slice(&record.value).map_err(unreadable)?;
                self.answer(&operation, &envelope, record);
            }
            (Kind::Answer, Some("command")) => {
                let outcome = serde_json::from_slice(&record.value).map_err(unreadable)?;
                self.outcome(outcome, &envelope, record);
            }
            (Kind::View, Some("operation")) if record.value.is_empty() => {
                self.operations.forget(&named(envelope)?);
            }
            (Kind::View, Some("operation")) => {
                let view: Operation = serde_json::from_slice(&record.value).map_err(unreadable)?;
                let id = view.operation.clone();
                self.operations.view(view, record.time);
                self.release_detached(&id);
                self.watchers.touch(&id);
            }
            (Kind::View, Some("conversations")) => {
                let key = record.key.clone().unwrap_or_default();
                if record.value.is_empty() {
                    let id = named(envelope)?;
                    self.operations.conversations(&id, key, Vec::new(), record.time);
                    self.watchers.touch(&id);
                } else {
                    let view: Conversations = serde_json::from_slice(&record.value).map_err(unreadable)?;
                    self.operations.conversations(&view.operation, key, view.calls, record.time);
                    self.watchers.touch(&view.operation);
                }
            }
            (Kind::View, Some("resource")) => self.show(record)?,
            (Kind::View, Some("lane")) if record.value.is_empty() => {}
            (Kind::View, Some("lane")) => {
                let LanePosition { lane, next, .. } = serde_json::from_slice(&record.value).map_err(unreadable)?;
                let mut stages = self.options.stages.iter().zip(&self.stages);
                if let Some((_, stage)) = stages.find(|(options, _)| *record.topic == *options.view) {
                    stage.silence.set_position(lane, next);
                }
            }
            (kind, subject) => {
                let subject = subject.unwrap_or("none");
                return Err(format!("a northbound does not read {kind} with the subject `{subject}`"));
            }
        }
        Ok(())
    }

    /// The answer to one request; other requests with the same key get their own. The state of the
    /// operation is for all.
    fn answer(&self, operation: &Operation, envelope: &Envelope, record: &Record) {
        let id = operation.operation.clone();
        // Cached first: a client that reads its operation right after the answer must find it.
        match &operation.answer {
            // The operation belongs to another request, or it lives and has its own views.
            Some(Answer::Refused(problem)) if [Code::KeyReused, Code::BadHeader].contains(&problem.code) => {}
            Some(answer) if !answer.is_outcome() && operation.live => {}
            Some(answer) if !answer.is_outcome() => self.operations.refused(operation.clone(), record.time),
            Some(_) | None => self.operations.answer(operation.clone(), record.time),
        }
        let causation = envelope.causation.as_deref();
        let waiters = self.take_waiters(&id, |waiter| Some(&*waiter.id) == causation);
        for waiter in waiters {
            self.tell(waiter, Ok(operation.clone()));
        }
        self.watchers.touch(&id);
    }

    fn outcome(&self, outcome: Outcome, envelope: &Envelope, record: &Record) {
        if let Outcome::Taken(operation) = &outcome {
            self.operations.view((**operation).clone(), record.time);
            self.watchers.touch(&operation.operation);
        }
        // Every northbound reads the outcomes of all commands; only its own have a waiter here.
        let waiter = envelope.causation.as_deref().and_then(|id| self.pending_commands.remove(id));
        if let Some((_, tell)) = waiter {
            drop(tell.send(Ok(outcome)));
        }
    }

    fn show(&self, record: &Record) -> Result<(), String> {
        if record.value.is_empty() {
            let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            let named = key.and_then(|key| key.strip_prefix("resource/")?.split_once('/'));
            let (kind, key) = named.ok_or("the key of a deleted resource is not `resource/<kind>/<key>`")?;
            self.resources.remove(kind, key);
            return Ok(());
        }
        let Resource { kind, key, value } = serde_json::from_slice(&record.value).map_err(|error| error.to_string())?;
        match value {
            Some(value) => self.resources.put(&kind, &key, value.to_string()),
            None => self.resources.remove(&kind, &key),
        }
        Ok(())
    }
}

fn named(envelope: Envelope) -> Result<OperationId, String> {
    envelope.operation.ok_or_else(|| WireError::missing(header::OPERATION).to_string())
}
