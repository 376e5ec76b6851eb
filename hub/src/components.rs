//! The hub's spout and bolt: thin, around [`HubTable`].

use std::sync::Arc;

use bytes::Bytes;
use coordinator::{DEADLINES, TimedOut, deadlines};
use topology::Route;
use topology::{
    Bolt, Declarer, Delivery, DueTimes, Emitter, InboxSpout, LaneInfo, Message, Settings, Side, Unreadable, View,
};
use wire::answer::Answer;
use wire::call::{CallCommand, CallEnd};
use wire::{Envelope, Kind};

use crate::table::{HubEffect, HubRequest, HubTable};
use crate::workflow::Workflow;

/// Calls for workers.
pub const CALLS: Side<CallCommand> = Side::named("calls");

/// Reads requests from the inbox.
#[derive(Debug, Default)]
pub struct HubSpout;

impl InboxSpout for HubSpout {
    type Out = HubRequest;

    fn accepts(&self, envelope: &Envelope) -> bool {
        envelope.kind == Kind::Request
    }

    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<HubRequest>) -> Result<(), Unreadable> {
        let Delivery { envelope, record } = delivery;
        let operation = envelope.operation.clone();
        let operation = operation.ok_or_else(|| Unreadable("a request needs ce_correlationid".into()))?;
        let key = record.key.as_ref().ok_or_else(|| Unreadable("a request needs a key".into()))?;
        let key = std::str::from_utf8(key).map_err(|_| Unreadable("the key of a request is UTF-8".into()))?;
        let body = delivery.json();
        out.emit(HubRequest {
            operation,
            cause: envelope.id.clone(),
            key: key.to_owned(),
            body: body.clone().map_err(|error| error.0),
        });
        // Who asked hears of it, and the record is kept among the dead letters.
        body.map(|_: wire::request::Request| ())
    }
}

/// What the hub bolt receives.
#[derive(Debug, Clone)]
pub enum HubIn {
    /// A request.
    Request(Box<HubRequest>),
    /// A call ended.
    CallEnded(CallEnd),
    /// A deadline passed.
    TimedOut(TimedOut),
}

impl From<HubRequest> for HubIn {
    fn from(request: HubRequest) -> Self {
        HubIn::Request(Box::new(request))
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

/// Runs the workflows of one type.
pub struct HubBolt<W: Workflow> {
    table: HubTable<W>,
    /// Where answers go.
    egress: Arc<str>,
    info: Option<LaneInfo>,
    effects: Vec<HubEffect>,
}

impl<W: Workflow> Default for HubBolt<W> {
    fn default() -> Self {
        Self { table: HubTable::default(), egress: "".into(), info: None, effects: Vec::new() }
    }
}

impl<W: Workflow> HubBolt<W> {
    fn perform(&self, effect: HubEffect, out: &mut Emitter<()>) {
        match effect {
            HubEffect::Call(CallCommand::Start(mut call)) => {
                call.lane = out.lane().lane;
                out.side(CALLS, CallCommand::Start(call));
            }
            HubEffect::Call(command @ CallCommand::Abandon(_)) => out.side(CALLS, command),
            HubEffect::Deadline(deadline) => out.side(DEADLINES, deadline),
            HubEffect::Answer { view, cause } => {
                let id = match (&view.answer, &cause) {
                    (Some(Answer::Refused(_)), Some(cause)) => format!("{cause}:refused"),
                    (Some(_) | None, _) => format!("{}:answer", view.operation),
                };
                let mut envelope = Envelope::new(Kind::Answer, id, out.lane().source());
                envelope.causation = cause;
                let message = self.told(envelope, &view, out.lane().lane);
                out.publish(message);
            }
            HubEffect::Over(view) => {
                let envelope = Envelope::new(Kind::View, format!("{}:over", view.operation), out.lane().source());
                let message = self.told(envelope, &view, out.lane().lane);
                out.publish(message);
            }
            HubEffect::Changed(key) => out.changed(&key),
            HubEffect::Closed(key) => out.closed(&key),
            HubEffect::Count(name) => out.count(name),
            HubEffect::Log(level, operation, text) => out.log(level, Some(&operation), text),
        }
    }

    /// A record for those who follow the egress.
    fn told(&self, mut envelope: Envelope, view: &wire::answer::Operation, lane: u32) -> Message {
        envelope.subject = Some(Self::VIEWS.into());
        envelope.operation = Some(view.operation.clone());
        Message {
            topic: Arc::clone(&self.egress),
            route: Route::To(lane),
            key: Some(Bytes::copy_from_slice(view.operation.as_str().as_bytes())),
            envelope,
            expires_after_ms: None,
            body: serde_json::to_vec(view).expect("a view is plain data").into(),
        }
    }
}

impl<W: Workflow> Bolt for HubBolt<W> {
    type In = HubIn;
    type Out = ();

    const VIEWS: &'static str = "operation";

    fn declare(declarer: &mut Declarer<HubIn>) {
        declarer.side(CALLS);
        deadlines(declarer);
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
            HubIn::Request(request) => self.table.request(at, *request, &mut effects),
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

    fn unfinished(&self) -> Vec<String> {
        self.table.unfinished()
    }
}
