//! The worker's spout and bolt: a thin shell around [`WorkerTable`].

use std::sync::Arc;

use bytes::Bytes;
use coordinator::{DEADLINES, TimedOut, deadlines};
use serde::{Deserialize, Serialize};
use topology::{
    Budget, Cleanup, Declarer, Delivery, DueTimes, Emitter, InboxSpout, LaneInfo, Message, Rejected, Route, Saver,
    Settings, StateSchema, Stored, SystemBolt, TopicSpec, Unreadable, View, Wait,
};
use wire::alive::Liveness;
use wire::answer::{Resource, SERVICE_KIND, ServiceView};
use wire::call::{Call, CallCommand, CallEnd};
use wire::header;
use wire::topics::Topics;
use wire::{CallId, Envelope, EnvelopeRef, Kind, MessageId, OperationId, WireError};

use crate::names;
use crate::settings::WorkerSettings;
use crate::table::saved::SCHEMA_VERSION;
use crate::table::{WorkerEffect, WorkerTable};

/// An answer from a spoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpokeReply {
    /// Reply, refusal or failure.
    pub kind: Kind,
    /// `ce_callid`: the call that it claims to answer.
    pub call: CallId,
    /// `ce_causationid`: the message that it answers.
    pub message: MessageId,
    /// The body as JSON text.
    pub body: String,
}

/// A message from a spoke, or a change of its liveness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpokeEvent {
    /// An answer to a call.
    Reply(SpokeReply),
    /// An answer with headers that cannot be read.
    Rejected {
        /// The call, if it can be read.
        call: Option<CallId>,
        /// The fault, with the name of the header.
        reason: String,
    },
    /// Its heartbeats arrive (true) or are missing (false). `None`: only its answers show whether
    /// it is up.
    Liveness(Option<bool>),
}

/// Reads the answers of one service from the inbox.
#[derive(Debug)]
pub struct WorkerSpout {
    service: Arc<str>,
}

impl WorkerSpout {
    /// Reads the answers of `service`.
    pub fn new(service: &str) -> Self {
        Self { service: service.into() }
    }
}

impl InboxSpout for WorkerSpout {
    type Out = SpokeEvent;

    /// Accepts answers by the service in the id of the answered message.
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        let service = || envelope.causation.and_then(|message| message.rsplit('/').nth(1));
        match envelope.kind {
            Kind::Reply | Kind::Refusal | Kind::Failure => service() == Some(&*self.service),
            Kind::Liveness => envelope.subject == Some(&*self.service),
            Kind::Request
            | Kind::Call
            | Kind::Undo
            | Kind::Command
            | Kind::Timeout
            | Kind::Heartbeat
            | Kind::Answer
            | Kind::View
            | Kind::Owner
            | Kind::Tuple
            | Kind::Dead => false,
        }
    }

    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<SpokeEvent>) -> Result<(), Unreadable> {
        let Delivery { envelope, record } = delivery;
        if envelope.kind == Kind::Liveness {
            let Liveness { up, .. } = delivery.json()?;
            out.emit(SpokeEvent::Liveness(up));
            return Ok(());
        }
        let call = envelope.call.clone().ok_or_else(|| Unreadable(WireError::missing(header::CALL_ID).to_string()))?;
        let message = MessageId::read(envelope.causation.unwrap_or_default(), &call);
        let message = message.map_err(|error| Unreadable(error.to_string()))?;
        let body = std::str::from_utf8(&record.value).map_err(|_| Unreadable("the body is not UTF-8".into()))?;
        let body = body.to_owned();
        out.emit(SpokeEvent::Reply(SpokeReply { kind: envelope.kind, call, message, body }));
        Ok(())
    }

    /// Accepts unreadable answers of this service: by the answered message, or else by the sender's
    /// `ce_source`.
    fn reject(&mut self, rejected: &Rejected<'_>, out: &mut Emitter<SpokeEvent>) -> bool {
        let Rejected { texts, reason, .. } = rejected;
        let answers = match texts.get(header::TYPE).and_then(|kind| kind.parse().ok()) {
            Some(kind) => matches!(kind, Kind::Reply | Kind::Refusal | Kind::Failure),
            None => texts.get(header::CAUSATION_ID).is_some(),
        };
        let message = texts.get(header::CAUSATION_ID).and_then(|message| message.parse::<MessageId>().ok());
        let by_source = || texts.get(header::SOURCE).and_then(|source| source.rsplit('/').next());
        let service = message.as_ref().map(|message| &*message.service).or_else(by_source);
        if !answers || service != Some(&*self.service) {
            return false;
        }
        let call =
            texts.get(header::CALL_ID).and_then(|call| call.parse().ok()).or(message.map(|message| message.call));
        out.emit(SpokeEvent::Rejected { call, reason: (*reason).to_owned() });
        true
    }
}

/// The input of the worker bolt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum WorkerIn {
    /// A command from the hub.
    Command(CallCommand),
    /// A message from a spoke, or a change of its liveness.
    #[serde(skip)]
    Spoke(SpokeEvent),
    /// A deadline passed.
    TimedOut(TimedOut),
}

impl From<CallCommand> for WorkerIn {
    fn from(command: CallCommand) -> Self {
        WorkerIn::Command(command)
    }
}

impl From<SpokeEvent> for WorkerIn {
    fn from(event: SpokeEvent) -> Self {
        WorkerIn::Spoke(event)
    }
}

impl From<TimedOut> for WorkerIn {
    fn from(timed_out: TimedOut) -> Self {
        WorkerIn::TimedOut(timed_out)
    }
}

/// Exchanges messages with the spokes of one service.
#[derive(Debug)]
pub struct WorkerBolt {
    service: Arc<str>,
    /// The topic of requests to the spoke.
    topic: Arc<str>,
    lanes: u32,
    table: WorkerTable,
    effects: Vec<WorkerEffect>,
    /// Fault injection: picks the calls whose requests are not sent.
    drops: fn(&Call) -> bool,
}

impl WorkerBolt {
    /// Retention of requests in milliseconds. They are useless once their calls have ended; an hour
    /// is for inspection by people.
    const REQUEST_RETENTION_MS: u64 = 3_600_000;

    /// Creates a worker for `service`.
    pub fn new(service: &str) -> Self {
        let table = WorkerTable::new(WorkerSettings::default(), 1);
        Self { service: service.into(), topic: "".into(), lanes: 1, table, effects: Vec::new(), drops: |_| false }
    }

    /// Injects a fault: sends no request for the calls that `drops` picks, so that each of their
    /// attempts times out.
    #[must_use]
    pub fn dropping(self, drops: fn(&Call) -> bool) -> Self {
        Self { drops, ..self }
    }

    /// Returns the name of its settings.
    pub fn settings_name(service: &str) -> String {
        format!("worker-{service}")
    }

    fn perform(&self, effect: WorkerEffect, out: &mut Emitter<CallEnd>) {
        match effect {
            WorkerEffect::Send { call, .. } if (self.drops)(&call) => {}
            WorkerEffect::Send { call, attempt, expires_after_ms } => {
                out.count(names::SENT);
                let message = self.request(&call, attempt, expires_after_ms, out.lane());
                out.publish(message);
            }
            WorkerEffect::End(end) => out.emit(end),
            WorkerEffect::Deadline(deadline) => out.side(DEADLINES, deadline),
            WorkerEffect::Changed(operation) => out.changed(operation.shared()),
            WorkerEffect::Closed(operation) => out.closed(operation.shared()),
            WorkerEffect::Publish => {
                let message = Message::resource_view(&self.service_status(out.lane()), out.lane());
                out.publish(message);
            }
            WorkerEffect::Count(name) => out.count(name),
            WorkerEffect::Log(level, operation, text) => out.log(level, operation.as_ref(), text),
        }
    }

    /// Returns the status of the service as this lane sees it.
    fn service_status(&self, lane: &LaneInfo) -> Resource {
        let value = ServiceView {
            service: self.service.to_string(),
            stage: lane.stage.to_string(),
            lane: lane.lane,
            judged: self.table.judged(),
            rejected: self.table.all_rejected().cloned(),
        };
        Resource {
            kind: SERVICE_KIND.to_owned(),
            key: format!("{}/{}/{}", self.service, lane.stage, lane.lane),
            value: Some(serde_json::to_value(value).expect("a service status is plain data")),
        }
    }

    fn request(&self, call: &Call, attempt: u32, expires_after_ms: u64, lane: &LaneInfo) -> Message {
        let kind = if call.undoes.is_empty() { Kind::Call } else { Kind::Undo };
        let mut envelope = Envelope::new(kind, MessageId::text(&call.id, &call.service, attempt), lane.source());
        envelope.subject = Some(call.key.clone());
        envelope.operation = Some(call.id.operation.clone());
        envelope.correlation.clone_from(&call.correlation);
        envelope.causation = Some(call.id.operation.as_str().to_owned());
        envelope.call = Some(call.id.clone());
        envelope.attempt = Some(attempt);
        envelope.undoes.clone_from(&call.undoes);
        envelope.expires = call.until;
        envelope.reply_to = Some(lane.inbox.to_string());
        envelope.reply_partition = Some(lane.lane);
        Message {
            topic: Arc::clone(&self.topic),
            route: Route::ByKey,
            key: Some(Bytes::copy_from_slice(call.key.as_bytes())),
            envelope,
            expires_after_ms: Some(expires_after_ms),
            body: Bytes::copy_from_slice(call.body.as_bytes()),
        }
    }
}

/// Returns the header that `reason` names, otherwise `body`: a label has few values.
fn part_at_fault(reason: &str) -> &'static str {
    let named = |header: &&&str| reason.contains(&format!("`{header}`"));
    wire::header::ALL.iter().find(named).copied().unwrap_or("body")
}

impl SystemBolt for WorkerBolt {
    type In = WorkerIn;
    type Out = CallEnd;

    const VIEWS: &'static str = "conversations";

    fn declare(declarer: &mut Declarer<WorkerIn>) {
        deadlines(declarer);
    }

    fn topics(&self, names: &Topics, lanes: u32) -> Vec<TopicSpec> {
        let requests = TopicSpec::log(&names.spoke(&self.service), lanes);
        let alive = TopicSpec::log(&names.alive(&self.service), 1);
        vec![
            requests.with_cleanup(Cleanup::DeleteAfterMs(Self::REQUEST_RETENTION_MS)),
            alive.with_cleanup(Cleanup::DeleteAfterMs(Self::REQUEST_RETENTION_MS)),
        ]
    }

    fn watches(&self) -> Vec<String> {
        vec![self.service.to_string()]
    }

    fn budgets(&self, settings: &Settings) -> Vec<Budget> {
        let settings: WorkerSettings = settings.of(&Self::settings_name(&self.service)).unwrap_or_default();
        let (attempts, timeout_ms, longest) = (settings.attempts, settings.timeout_ms, settings.longest_ms());
        let backoffs = longest - u64::from(attempts) * timeout_ms;
        let because = format!("{attempts} x {timeout_ms} ms + {backoffs} ms back-off");
        vec![Budget::Takes { service: self.service.to_string(), ms: longest, because }]
    }

    fn prepare(&mut self, lane: &LaneInfo) {
        self.lanes = lane.lanes;
        self.topic = lane.names.spoke(&self.service).into();
    }

    fn configure(&mut self, settings: &Settings) {
        let settings = settings.of(&Self::settings_name(&self.service)).unwrap_or_default();
        self.table.configure(settings, self.lanes);
    }

    fn execute(&mut self, input: WorkerIn, out: &mut Emitter<CallEnd>) {
        let mut effects = std::mem::take(&mut self.effects);
        match input {
            WorkerIn::Command(mut command) => {
                if let CallCommand::Start(call) = &mut command {
                    call.until = out.sent_time().map(|sent| sent.plus_ms(call.within_ms));
                }
                self.table.command(command, &mut effects);
            }
            WorkerIn::Spoke(SpokeEvent::Reply(reply)) => self.table.answered(reply, out.random(), &mut effects),
            WorkerIn::Spoke(SpokeEvent::Rejected { call, reason }) => {
                let labels = vec![("service", self.service.to_string()), ("reason", part_at_fault(&reason).to_owned())];
                out.count_labelled(names::REJECTED_REPLIES, labels);
                self.table.rejected(call.as_ref(), &reason, &mut effects);
            }
            WorkerIn::Spoke(SpokeEvent::Liveness(up)) => self.table.liveness_changed(up, &mut effects),
            WorkerIn::TimedOut(timed_out) => self.table.timed_out(timed_out, out.random(), &mut effects),
        }
        effects.drain(..).for_each(|effect| self.perform(effect, out));
        self.effects = effects;
    }

    fn view(&self, key: &str, timers: &dyn DueTimes) -> Option<View> {
        let operation = OperationId::new(key).ok()?;
        let view = self.table.view(&operation, timers)?;
        Some(View(serde_json::to_vec(&view).expect("a view is plain data").into()))
    }

    fn schema(&mut self) -> Option<StateSchema> {
        Some(StateSchema { version: SCHEMA_VERSION, parts: Vec::new() })
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

    fn waits(&self) -> Option<Vec<Wait>> {
        Some(self.table.waits())
    }
}
