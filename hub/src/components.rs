//! The hub's spout and bolt: a thin shell around [`HubTable`].

use std::sync::Arc;

use bytes::Bytes;
use coordinator::{DEADLINES, TimedOut, deadlines};
use topology::Route;
use topology::{
    Budget, Declarer, Delivery, DueTimes, Emitter, InboxSpout, LaneInfo, Message, Rejected, Saver, Settings, Side,
    StateSchema, Stored, SystemBolt, Unreadable, View, Wait,
};
use wire::answer::Answer;
use wire::call::{CallCommand, CallEnd};
use wire::header;
use wire::{Envelope, EnvelopeRef, Kind, OperationId, RequestName, WireError};

use crate::cause::Cause;
use crate::machine::Workflows;
use crate::table::{HubCommand, HubEffect, HubRejected, HubRequest, HubTable, VERSION};

/// The side stream of calls for workers.
pub const CALLS: Side<CallCommand> = Side::named("calls");

/// Reads requests and commands from the inbox.
#[derive(Debug, Default)]
pub struct HubSpout;

impl InboxSpout for HubSpout {
    type Out = HubInbound;

    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        matches!(envelope.kind, Kind::Request | Kind::Command)
    }

    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<HubInbound>) -> Result<(), Unreadable> {
        let Delivery { envelope, record } = delivery;
        let cause = Cause { id: envelope.id.to_owned(), correlation: envelope.correlation.map(str::to_owned) };
        if envelope.kind == Kind::Command {
            let operation = envelope.operation.clone();
            let operation = operation.ok_or_else(|| Unreadable(WireError::missing(header::OPERATION).to_string()))?;
            let command = delivery.json()?;
            out.emit(HubInbound::Command(Box::new(HubCommand { operation, cause, command })));
            return Ok(());
        }
        let key =
            record.key.as_ref().ok_or_else(|| Unreadable("a request needs a key that names its resource".into()))?;
        let key = std::str::from_utf8(key).map_err(|_| Unreadable("the key of a request must be UTF-8".into()))?;
        let body: Result<wire::request::Request, Unreadable> = delivery.json();
        let unreadable = body.as_ref().err().cloned();
        out.emit(HubInbound::Request(Box::new(HubRequest {
            operation: envelope.requested_operation(&out.lane().topology, key),
            has_key: envelope.idempotency_key.is_some(),
            cause,
            key: key.to_owned(),
            expires: envelope.expires,
            body: body.map_err(|error| error.0),
        })));
        // The sender gets an answer, and the record goes to the dead-letter topic.
        unreadable.map_or(Ok(()), Err)
    }

    /// Accepts requests, commands, and records of unknown type that answer nothing: they may have
    /// been meant as a request or a command.
    fn reject(&mut self, rejected: &Rejected<'_>, out: &mut Emitter<HubInbound>) -> bool {
        let Rejected { texts, record, reason } = rejected;
        let kind = texts.get(header::TYPE).and_then(|kind| kind.parse().ok());
        let is_ours = match kind {
            Some(kind) => matches!(kind, Kind::Request | Kind::Command),
            None => texts.get(header::CAUSATION_ID).is_none(),
        };
        let Some(id) = texts.get(header::ID).filter(|_| is_ours) else { return false };
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        let event = RequestName::Event { source: texts.get(header::SOURCE).unwrap_or_default(), id };
        let name = texts.get(header::IDEMPOTENCY_KEY).map_or(event, RequestName::IdempotencyKey);
        let named = texts.get(header::OPERATION).and_then(|operation| OperationId::new(operation).ok());
        let named = named.filter(|_| kind == Some(Kind::Command));
        out.emit(HubInbound::Rejected(Box::new(HubRejected {
            operation: named.unwrap_or_else(|| OperationId::requested(&out.lane().topology, &key, name)),
            is_command: kind == Some(Kind::Command),
            cause: Cause { id: id.to_owned(), correlation: texts.get(header::CORRELATION_ID).map(str::to_owned) },
            key,
            reason: (*reason).to_owned(),
        })));
        true
    }
}

/// A request or command from outside.
#[derive(Debug, Clone)]
pub enum HubInbound {
    /// A request for an operation.
    Request(Box<HubRequest>),
    /// A command for a live operation.
    Command(Box<HubCommand>),
    /// A request or command that cannot be read.
    Rejected(Box<HubRejected>),
}

/// The input of the hub bolt.
#[derive(Debug, Clone)]
pub enum HubIn {
    /// A request or command arrived.
    Inbound(HubInbound),
    /// A call ended.
    CallEnded(CallEnd),
    /// A deadline passed.
    TimedOut(TimedOut),
}

impl From<HubInbound> for HubIn {
    fn from(inbound: HubInbound) -> Self {
        HubIn::Inbound(inbound)
    }
}

impl From<CallEnd> for HubIn {
    fn from(end: CallEnd) -> Self {
        HubIn::CallEnded(end)
    }
}

impl From<TimedOut> for HubIn {
    fn from(timed_out: TimedOut) -> Self {
        HubIn::TimedOut(timed_out)
    }
}

/// Runs workflows of one type, or of several types in a tuple.
pub struct HubBolt<W: Workflows> {
    table: HubTable<W>,
    /// The topic of answers.
    egress: Arc<str>,
    info: Option<LaneInfo>,
    effects: Vec<HubEffect>,
}

impl<W: Workflows> Default for HubBolt<W> {
    fn default() -> Self {
        Self { table: HubTable::default(), egress: "".into(), info: None, effects: Vec::new() }
    }
}

impl<W: Workflows> HubBolt<W> {
    fn perform(&self, effect: HubEffect, out: &mut Emitter<()>) {
        match effect {
            HubEffect::Call(CallCommand::Start(mut call)) => {
                call.lane = out.lane().lane;
                out.side(CALLS, CallCommand::Start(call));
            }
            HubEffect::Call(command @ CallCommand::Abandon(_)) => out.side(CALLS, command),
            HubEffect::Deadline(deadline) => out.side(DEADLINES, deadline),
            HubEffect::Answer { view, cause } => {
                let suffix = if matches!(view.answer, Some(Answer::Refused(_))) { "refused" } else { "answer" };
                let envelope = answer_to(cause, suffix, out.lane());
                let message = self.egress_view(envelope, &view, out.lane().lane);
                out.publish(message);
            }
            HubEffect::Ended(view) => {
                let message = self.final_view(&view, out.lane());
                out.publish(message);
            }
            HubEffect::CommandAnswer { operation, cause, outcome } => {
                let mut envelope = answer_to(cause, "outcome", out.lane());
                envelope.subject = Some("command".into());
                let body = serde_json::to_vec(&outcome).expect("an outcome is plain data");
                let message = self.to_egress(envelope, &operation, body, out.lane().lane);
                out.publish(message);
            }
            HubEffect::Publish(resource) => {
                let message = Message::resource_view(&resource, out.lane());
                out.publish(message);
            }
            HubEffect::Changed(key) => out.changed(&key),
            HubEffect::Closed(key) => out.closed(&key),
            HubEffect::Count(name) => out.count(name),
            HubEffect::Log(level, operation, text) => out.log(level, Some(&operation), text),
        }
    }

    /// Returns the record of the last view of an operation that was answered before it ended.
    ///
    /// It goes to the views topic so that the answer stays the last record of its operation in the
    /// egress. Its key is the operation's place in the ring of remembered outcomes. A later
    /// operation overwrites it, so the number of these records is bounded and none has to be
    /// deleted.
    fn final_view(&self, view: &wire::answer::Operation, lane: &LaneInfo) -> Message {
        let mut envelope = Envelope::new(Kind::View, format!("{}:ended", view.operation), lane.source());
        envelope.subject = Some(Self::VIEWS.into());
        envelope.operation = Some(view.operation.clone());
        let place = self.table.place_of(&view.operation).unwrap_or_default();
        Message {
            topic: lane.names.view(&lane.topology, &lane.stage).into(),
            route: Route::To(lane.lane),
            key: Some(format!("ended/{place}").into()),
            envelope,
            expires_after_ms: None,
            body: serde_json::to_vec(view).expect("a view is plain data").into(),
        }
    }

    /// Returns the egress record with the view of an operation.
    fn egress_view(&self, mut envelope: Envelope, view: &wire::answer::Operation, lane: u32) -> Message {
        envelope.subject = Some(Self::VIEWS.into());
        let body = serde_json::to_vec(view).expect("a view is plain data");
        self.to_egress(envelope, &view.operation, body, lane)
    }

    fn to_egress(&self, mut envelope: Envelope, operation: &OperationId, body: Vec<u8>, lane: u32) -> Message {
        envelope.operation = Some(operation.clone());
        Message {
            topic: Arc::clone(&self.egress),
            route: Route::To(lane),
            key: Some(Bytes::copy_from_slice(operation.as_str().as_bytes())),
            envelope,
            expires_after_ms: None,
            body: body.into(),
        }
    }
}

/// Returns the envelope of an answer, without subject and operation.
fn answer_to(cause: Cause, suffix: &str, lane: &LaneInfo) -> Envelope {
    let Cause { id, correlation } = cause;
    let envelope = Envelope::new(Kind::Answer, format!("{id}:{suffix}"), lane.source());
    Envelope { causation: Some(id), correlation, ..envelope }
}

impl<W: Workflows> SystemBolt for HubBolt<W> {
    type In = HubIn;
    type Out = ();

    const VIEWS: &'static str = "operation";

    fn declare(declarer: &mut Declarer<HubIn>) {
        declarer.side(CALLS);
        deadlines(declarer);
        for (name, version, request) in W::types() {
            declarer.offers(name, version, request);
        }
    }

    fn budgets(&self, settings: &Settings) -> Vec<Budget> {
        crate::budget::budgets::<W>(settings)
    }

    fn prepare(&mut self, lane: &LaneInfo) {
        self.info = Some(lane.clone());
        self.egress = lane.egress().into();
    }

    fn configure(&mut self, settings: &Settings) {
        if let Some(info) = &self.info {
            self.table.configure(settings, info);
        }
    }

    fn execute(&mut self, input: HubIn, out: &mut Emitter<()>) {
        let at = out.record_time();
        let mut effects = std::mem::take(&mut self.effects);
        match input {
            HubIn::Inbound(HubInbound::Request(request)) => self.table.request(at, *request, &mut effects),
            HubIn::Inbound(HubInbound::Command(command)) => self.table.command(at, *command, &mut effects),
            HubIn::Inbound(HubInbound::Rejected(rejected)) => self.table.rejected(at, *rejected, &mut effects),
            HubIn::CallEnded(end) => self.table.call_ended(at, end, &mut effects),
            HubIn::TimedOut(timed_out) => self.table.timed_out(at, timed_out, &mut effects),
        }
        effects.drain(..).for_each(|effect| self.perform(effect, out));
        self.effects = effects;
    }

    fn view(&self, key: &str, timers: &dyn DueTimes) -> Option<View> {
        let view = self.table.view(key, timers)?;
        Some(View(serde_json::to_vec(&view).expect("a view is plain data").into()))
    }

    fn schema(&mut self) -> Option<StateSchema> {
        Some(StateSchema { version: VERSION, parts: Vec::new() })
    }

    fn save(&mut self, saver: &mut Saver<'_>) {
        self.table.save(saver);
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        self.table.load(stored)
    }

    fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        self.table.loaded()
    }

    fn unfinished(&self) -> Vec<String> {
        self.table.unfinished()
    }

    fn waits(&self) -> Option<Vec<Wait>> {
        Some(self.table.waits())
    }
}
