//! All conversations of a worker in one lane: pure. Commands from the hub, answers from spokes and
//! deadlines go in; effects come out as data.
//!
//! | conversation | event | next | effect |
//! |---|---|---|---|
//! | - | start | queued or sent | sent at once if a place is free |
//! | queued | place free | sent | |
//! | queued | deadline | - | timed out, never sent |
//! | sent | reply to any attempt | - | replied |
//! | sent | refusal of this attempt | - | refused |
//! | sent | failure of this attempt, deadline | backing off, or - | sent again later; or refused, timed out |
//! | backing off | deadline | sent | the next attempt |
//! | backing off | reply to any attempt | - | replied |
//! | any | abandon | - | no answer to the hub |
//!
//! Other inputs are late, duplicate, stale or unknown: they are counted and have no other effect.

mod calls;
mod ends;
mod open;
pub(crate) mod saved;

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::{Deadline, TimedOut};
use topology::{DueTimes, Level, Wait};
use wire::answer::{Availability, Conversation as ConversationView, Conversations, Rejected, Step};
use wire::call::{Call, CallCommand, CallEnd, CallOutcome};
use wire::{CallId, Kind, OperationId};

use self::calls::{CallStatus, Calls, Conversation, Phase};
use self::saved::Saved;
use crate::components::SpokeReply;
use crate::names;
use crate::settings::WorkerSettings;

/// An effect of the worker's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEffect {
    /// Sends a call to its spoke.
    Send {
        /// The call.
        call: Arc<Call>,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The request is useless after this many milliseconds.
        expires_after_ms: u64,
    },
    /// Reports the end of a call to the hub.
    End(CallEnd),
    /// Sends a command to the coordinator.
    Deadline(Deadline),
    /// The view of an operation has changed.
    Changed(OperationId),
    /// The operation has no open conversation any more.
    Closed(OperationId),
    /// The published status of the service has changed.
    Publish,
    /// Increments a counter.
    Count(&'static str),
    /// Writes a log line.
    Log(Level, Option<OperationId>, String),
}

/// The conversations of one worker in one lane.
#[derive(Debug)]
pub struct WorkerTable {
    settings: WorkerSettings,
    share: usize,
    calls: Calls,
    /// The slots of the calls that wait for a place. Slots are assigned in order, so the first is
    /// the oldest.
    queue: BTreeSet<u64>,
    in_flight: usize,
    judged: Availability,
    /// The number of rejected answers and the last reason.
    rejected: Option<Rejected>,
    saved: Saved,
}

/// Maximum number of characters of a rejection's reason. A header with its value is shorter.
const MAX_REASON_CHARS: usize = 500;

/// The refusal of a call to a spoke that is down.
const UNAVAILABLE: &str = "unavailable: its heartbeats stopped";

impl WorkerTable {
    /// Creates an empty table for one of `lanes` lanes.
    pub fn new(settings: WorkerSettings, lanes: u32) -> Self {
        Self {
            share: settings.share(lanes),
            settings,
            calls: Calls::default(),
            queue: BTreeSet::new(),
            in_flight: 0,
            judged: Availability::default(),
            rejected: None,
            saved: Saved::default(),
        }
    }

    /// Applies settings, also to open conversations.
    pub fn configure(&mut self, settings: WorkerSettings, lanes: u32) {
        self.share = settings.share(lanes);
        self.settings = settings;
    }

    /// Returns the number of open conversations.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// True if no conversation is open.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
    }

    // ---- inputs -------------------------------------------------------------------------------------------------------

    /// Handles a command from the hub.
    pub fn command(&mut self, command: CallCommand, effects: &mut Vec<WorkerEffect>) {
        match command {
            CallCommand::Start(call) => self.start(call, effects),
            CallCommand::Abandon(id) => {
                if let Some(conversation) = self.calls.end(&id, false) {
                    effects.push(WorkerEffect::Count(names::ABANDONED));
                    self.close(&conversation, effects);
                }
            }
        }
    }

    /// Handles a change of the spoke's liveness. While heartbeats are missing, no new call is sent:
    /// it is refused at once, since waiting would bring no new information (lesson 26). Calls that
    /// have been sent continue.
    pub fn liveness_changed(&mut self, up: Option<bool>, effects: &mut Vec<WorkerEffect>) {
        let judged = match up {
            Some(true) => Availability::Up,
            Some(false) => Availability::Down,
            None => Availability::ByAnswers,
        };
        let text = match judged {
            Availability::Up => "sends heartbeats again",
            Availability::Down => "stopped sending heartbeats",
            Availability::ByAnswers => "is now judged by its answers",
        };
        self.set_judged(judged, text, effects);
        while self.is_down()
            && let Some(oldest) = self.queue.first().and_then(|slot| self.calls.at(*slot))
        {
            let id = oldest.call.id.clone();
            self.end(&id, CallOutcome::Refused(UNAVAILABLE.to_owned()), effects);
        }
    }

    fn set_judged(&mut self, judged: Availability, text: &str, effects: &mut Vec<WorkerEffect>) {
        let was_down = self.is_down();
        if self.judged == judged {
            return;
        }
        self.judged = judged;
        effects.push(WorkerEffect::Publish);
        if self.is_down() != was_down {
            effects.push(WorkerEffect::Count(if was_down { names::WENT_UP } else { names::WENT_DOWN }));
            effects.push(WorkerEffect::Log(Level::Warn, None, format!("the spoke {text}")));
        }
    }

    fn is_down(&self) -> bool {
        self.judged == Availability::Down
    }

    /// Returns the status of the service: up, down, or judged by its answers.
    pub fn judged(&self) -> Availability {
        self.judged
    }

    fn start(&mut self, call: Call, effects: &mut Vec<WorkerEffect>) {
        let has_place = self.in_flight < self.share;
        let (bytes, limit, waiting) = (call.body.len(), self.settings.body_bytes, self.queue.len());
        let refused = if self.is_down() {
            Some(UNAVAILABLE.to_owned())
        } else if bytes > limit {
            Some(format!("the request has {bytes} bytes; the limit is {limit}"))
        } else if !has_place && waiting >= self.settings.queue {
            Some(format!("limit of {} queued calls for `{}` per lane reached", self.settings.queue, call.service))
        } else {
            None
        };
        if let Some(reason) = refused {
            if !self.calls.refuse(&call.id) {
                return effects.push(WorkerEffect::Count(names::DUPLICATE_CALLS));
            }
            let (id, lane, outcome) = (call.id, call.lane, CallOutcome::Refused(reason));
            effects.push(WorkerEffect::Count(names::REFUSED));
            return effects.push(WorkerEffect::End(CallEnd { id, lane, attempts: 0, outcome }));
        }
        let within_ms = call.within_ms;
        let Some(conversation) = self.calls.begin(call) else {
            return effects.push(WorkerEffect::Count(names::DUPLICATE_CALLS));
        };
        effects.push(WorkerEffect::Changed(conversation.call.id.operation.clone()));
        if has_place {
            self.in_flight += 1;
            send(conversation, &self.settings, effects);
        } else {
            conversation.arm(within_ms, effects);
            self.queue.insert(conversation.slot);
        }
    }

    /// Handles an answer from a spoke. `chance` selects the jitter.
    pub fn answered(&mut self, reply: SpokeReply, chance: u64, effects: &mut Vec<WorkerEffect>) {
        let SpokeReply { kind, call: id, message, body } = reply;
        let discard = |count: &'static str, effects: &mut Vec<WorkerEffect>| {
            effects.push(WorkerEffect::Count(count));
            let text = format!("{kind} for call {id}, attempt {}: {}", message.attempt, discard_reason(count));
            effects.push(WorkerEffect::Log(Level::Debug, Some(id.operation.clone()), text));
        };
        if message.call != id {
            return discard(names::MISMATCHED_REPLIES, effects);
        }
        let (slot, attempt, doing) = match self.calls.status(&id) {
            CallStatus::Open(open) => (open.slot, open.attempt, open.doing),
            CallStatus::Ended(true) => return discard(names::DUPLICATE_REPLIES, effects),
            CallStatus::Ended(false) => return discard(names::LATE_REPLIES, effects),
            CallStatus::Unknown => return discard(names::UNKNOWN_REPLIES, effects),
        };
        let current = attempt == message.attempt;
        let was_sent = (1..=attempt).contains(&message.attempt);
        if was_sent && self.is_down() {
            self.set_judged(
                Availability::ByAnswers,
                "answers although its heartbeats stopped; it is now judged by its answers",
                effects,
            );
        }
        match kind {
            // The attempt was never sent, so nothing can answer it.
            _ if !was_sent => discard(names::UNKNOWN_REPLIES, effects),
            Kind::Reply => self.end(&id, CallOutcome::Replied(body), effects),
            Kind::Refusal if current => self.end(&id, CallOutcome::Refused(reason(&body)), effects),
            Kind::Failure if current && doing == Phase::Sent => {
                self.attempt_failed(slot, Some(reason(&body)), chance, effects);
            }
            Kind::Refusal
            | Kind::Failure
            | Kind::Request
            | Kind::Call
            | Kind::Undo
            | Kind::Command
            | Kind::Timeout
            | Kind::Heartbeat
            | Kind::Liveness
            | Kind::Answer
            | Kind::View
            | Kind::Owner
            | Kind::Tuple
            | Kind::Dead => discard(names::STALE_REPLIES, effects),
        }
    }

    /// Records an unreadable answer in the views of its call and of the service.
    pub fn rejected(&mut self, call: Option<&CallId>, reason: &str, effects: &mut Vec<WorkerEffect>) {
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        let add = |rejected: &mut Option<Rejected>| {
            let replies = rejected.as_ref().map_or(0, |rejected| rejected.replies) + 1;
            *rejected = Some(Rejected { replies, last: reason.clone() });
        };
        add(&mut self.rejected);
        effects.push(WorkerEffect::Publish);
        let slot = call.and_then(|call| match self.calls.status(call) {
            CallStatus::Open(open) => Some(open.slot),
            CallStatus::Ended(_) | CallStatus::Unknown => None,
        });
        if let Some(open) = slot.and_then(|slot| self.calls.change(slot)) {
            add(&mut open.rejected);
            effects.push(WorkerEffect::Changed(open.call.id.operation.clone()));
        }
    }

    /// Returns the number of answers that were rejected since the lane began, and the last reason;
    /// `None` if none was rejected.
    pub fn all_rejected(&self) -> Option<&Rejected> {
        self.rejected.as_ref()
    }

    /// Handles a passed deadline. `chance` selects the jitter.
    pub fn timed_out(&mut self, timed_out: TimedOut, chance: u64, effects: &mut Vec<WorkerEffect>) {
        let TimedOut { key: slot, generation } = timed_out;
        let current = self.calls.at(slot).is_some_and(|open| open.generation == generation);
        let Some(conversation) = current.then(|| self.calls.change(slot)).flatten() else {
            return effects.push(WorkerEffect::Count(names::LATE_TIMEOUTS));
        };
        conversation.spent_ms += conversation.armed_ms;
        match conversation.doing {
            Phase::Queued => {
                let id = conversation.call.id.clone();
                self.end(&id, CallOutcome::TimedOut, effects);
            }
            Phase::Sent => self.attempt_failed(slot, None, chance, effects),
            Phase::BackingOff => {
                effects.push(WorkerEffect::Count(names::RETRIED));
                effects.push(WorkerEffect::Changed(conversation.call.id.operation.clone()));
                send(conversation, &self.settings, effects);
            }
        }
    }

    // ---- the conversation ---------------------------------------------------------------------------------------------

    /// Handles a failed attempt: schedules the next one, or ends the call.
    fn attempt_failed(&mut self, slot: u64, failure: Option<String>, chance: u64, effects: &mut Vec<WorkerEffect>) {
        let Some(conversation) = self.calls.change(slot) else { return };
        let delay_ms = self.settings.delay_ms(conversation.attempt, chance);
        if conversation.attempt < self.settings.attempts && conversation.left_ms() > delay_ms {
            conversation.doing = Phase::BackingOff;
            conversation.arm(delay_ms, effects);
            return effects.push(WorkerEffect::Changed(conversation.call.id.operation.clone()));
        }
        let id = conversation.call.id.clone();
        let outcome = match failure {
            Some(reason) => CallOutcome::Refused(format!("the last attempt failed: {reason}")),
            None => CallOutcome::TimedOut,
        };
        self.end(&id, outcome, effects);
    }

    fn end(&mut self, id: &CallId, outcome: CallOutcome, effects: &mut Vec<WorkerEffect>) {
        let (count, answered) = match &outcome {
            CallOutcome::Replied(_) => (names::REPLIED, true),
            CallOutcome::Refused(_) => (names::REFUSED, true),
            CallOutcome::TimedOut | CallOutcome::Misread(_) => (names::TIMED_OUT, false),
        };
        let Some(conversation) = self.calls.end(id, answered) else { return };
        let (attempts, lane) = (conversation.attempt, conversation.call.lane);
        effects.push(WorkerEffect::Count(count));
        if !matches!(outcome, CallOutcome::Replied(_)) {
            let text = format!("call {id} ended after {attempts} attempts without a reply");
            effects.push(WorkerEffect::Log(Level::Debug, Some(id.operation.clone()), text));
        }
        effects.push(WorkerEffect::End(CallEnd { id: id.clone(), lane, attempts, outcome }));
        self.close(&conversation, effects);
    }

    /// Releases the resources of a removed conversation and starts the next queued one.
    fn close(&mut self, conversation: &Conversation, effects: &mut Vec<WorkerEffect>) {
        effects.push(WorkerEffect::Deadline(Deadline::Cancel { key: conversation.slot }));
        if conversation.doing == Phase::Queued {
            self.queue.remove(&conversation.slot);
        } else {
            self.in_flight -= 1;
            self.start_queued(effects);
        }
        let operation = &conversation.call.id.operation;
        let change = if self.calls.has_open(operation) { WorkerEffect::Changed } else { WorkerEffect::Closed };
        effects.push(change(operation.clone()));
    }

    fn start_queued(&mut self, effects: &mut Vec<WorkerEffect>) {
        while self.in_flight < self.share
            && let Some(next) = self.queue.pop_first()
        {
            if let Some(conversation) = self.calls.change(next) {
                self.in_flight += 1;
                effects.push(WorkerEffect::Changed(conversation.call.id.operation.clone()));
                send(conversation, &self.settings, effects);
            }
        }
    }

    // ---- views --------------------------------------------------------------------------------------------------------

    /// Lists the open calls with their deadlines.
    pub fn waits(&self) -> Vec<Wait> {
        let wait = |conversation: &Conversation| Wait {
            name: conversation.call.id.to_string(),
            deadline: Some((conversation.slot, conversation.generation)),
            calls: Vec::new(),
            others: Vec::new(),
        };
        self.calls.open().map(wait).collect()
    }

    /// Returns the open conversations of an operation, or `None` if it has none.
    pub fn view(&self, operation: &OperationId, timers: &dyn DueTimes) -> Option<Conversations> {
        let view = |conversation: &Conversation| ConversationView {
            call: conversation.call.id.clone(),
            attempt: conversation.attempt,
            attempts: self.settings.attempts,
            doing: match conversation.doing {
                Phase::Queued => "queued",
                Phase::Sent => "sent",
                Phase::BackingOff => "backing off",
            }
            .to_owned(),
            until: timers.due(conversation.slot),
            rejected: conversation.rejected.clone(),
        };
        let calls: Vec<ConversationView> = self.calls.open_of(operation).take(Step::MAX_PENDING).map(view).collect();
        (!calls.is_empty()).then(|| Conversations { operation: operation.clone(), calls })
    }
}

/// Sends the next attempt.
fn send(conversation: &mut Conversation, settings: &WorkerSettings, effects: &mut Vec<WorkerEffect>) {
    conversation.attempt += 1;
    conversation.doing = Phase::Sent;
    let left_ms = conversation.left_ms();
    conversation.arm(settings.timeout_ms.min(left_ms), effects);
    let call = Arc::clone(&conversation.call);
    effects.push(WorkerEffect::Send { call, attempt: conversation.attempt, expires_after_ms: left_ms });
}

/// Returns the reason of a refusal or a failure, from the spoke's body.
fn reason(body: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(body).ok();
    // History and answer quote the reason; with a megabyte of detail the bus would not accept them.
    let cut = |text: &str| text.chars().take(200).collect::<String>();
    let text = |field: &str| value.as_ref()?.get(field)?.as_str().filter(|text| !text.is_empty()).map(cut);
    match (text("error"), text("detail")) {
        (Some(error), Some(detail)) => format!("{error}: {detail}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) if body.trim().is_empty() => "the spoke gave no reason".to_owned(),
        (None, None) => cut(body),
    }
}

fn discard_reason(count: &str) -> &'static str {
    match count {
        names::DUPLICATE_REPLIES => "duplicate, discarded",
        names::LATE_REPLIES => "late, discarded",
        names::STALE_REPLIES => "of an earlier attempt, discarded",
        names::MISMATCHED_REPLIES => "`ce_callid` and `ce_causationid` contradict each other, discarded",
        _unknown => "unknown, discarded",
    }
}
