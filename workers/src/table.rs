//! All conversations of a worker in one lane: pure. Commands of the hub, answers of spokes and deadlines go in; effects come
//! out as data.
//!
//! | conversation | event | next | what happens |
//! |---|---|---|---|
//! | - | start | queued or sent | sent at once where there is a place |
//! | queued | place free | sent | |
//! | queued | deadline | - | timed out, never sent |
//! | sent | reply of any attempt | - | replied |
//! | sent | refusal of this attempt | - | refused |
//! | sent | failure of this attempt, deadline | backing off, or - | sent again later; or refused, timed out |
//! | backing off | deadline | sent | the next attempt |
//! | backing off | reply of any attempt | - | replied |
//! | any | abandon | - | nothing is owed |
//!
//! Whatever else comes is late, duplicate, stale or unknown: counted, and without effect.

mod calls;
mod ends;
mod open;
pub(crate) mod saved;

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::{Deadline, TimedOut};
use topology::{DueTimes, Level, Wait};
use wire::answer::{Conversation as Shown, Conversations, Judged, Rejected, Step};
use wire::call::{Call, CallCommand, CallEnd, CallOutcome};
use wire::{CallId, Kind, OperationId};

use self::calls::{Calls, Conversation, Doing, Known};
use self::saved::Saved;
use crate::components::SpokeReply;
use crate::names;
use crate::settings::WorkerSettings;

/// What a worker decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEffect {
    /// Send this call to its spoke.
    Send {
        /// The call.
        call: Arc<Call>,
        /// Which sending, from 1.
        attempt: u32,
        /// Of no use after so many milliseconds.
        expires_after_ms: u64,
    },
    /// Tell the hub.
    End(CallEnd),
    /// Tell the coordinator.
    Deadline(Deadline),
    /// The view of an operation has changed.
    Changed(OperationId),
    /// The operation has no conversation any more.
    Closed(OperationId),
    /// The view of the service has changed.
    Show,
    /// A counter grows.
    Count(&'static str),
    /// A line for the log.
    Log(Level, Option<OperationId>, String),
}

/// The conversations of one worker in one lane.
#[derive(Debug)]
pub struct WorkerTable {
    settings: WorkerSettings,
    share: usize,
    calls: Calls,
    /// The slots of those that wait for a place. Slots are numbered in order, so the first is the oldest.
    queue: BTreeSet<u64>,
    in_flight: usize,
    judged: Judged,
    /// The answers that could not be taken for what they are.
    rejected: Option<Rejected>,
    saved: Saved,
}

/// The longest reason of a rejected answer that is kept, in characters: a header with its value has less.
const REASON: usize = 500;

/// Why a call to a spoke that is down is refused.
const UNAVAILABLE: &str = "unavailable: its heartbeats stopped";

impl WorkerTable {
    /// An empty table in one of so many lanes.
    pub fn new(settings: WorkerSettings, lanes: u32) -> Self {
        Self {
            share: settings.share(lanes),
            settings,
            calls: Calls::default(),
            queue: BTreeSet::new(),
            in_flight: 0,
            judged: Judged::default(),
            rejected: None,
            saved: Saved::default(),
        }
    }

    /// Takes settings; conversations that are under way go on by them.
    pub fn configure(&mut self, settings: WorkerSettings, lanes: u32) {
        self.share = settings.share(lanes);
        self.settings = settings;
    }

    /// How many conversations are open.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// True where none is open.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
    }

    // ---- inputs -------------------------------------------------------------------------------------------------------

    /// The hub wants something.
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

    /// The spoke's heartbeats began, or stopped. While they are missing nothing is sent to it that was not sent before: what
    /// would begin is refused at once, since waiting would tell nothing new (lesson 26). What is under way goes on.
    pub fn lives(&mut self, up: Option<bool>, effects: &mut Vec<WorkerEffect>) {
        let judged = match up {
            Some(true) => Judged::Up,
            Some(false) => Judged::Down,
            None => Judged::ByAnswers,
        };
        let text = match judged {
            Judged::Up => "is back",
            Judged::Down => "sends no heartbeats any more",
            Judged::ByAnswers => "is judged by its answers",
        };
        self.judge(judged, text, effects);
        while self.is_down()
            && let Some(oldest) = self.queue.first().and_then(|slot| self.calls.at(*slot))
        {
            let id = oldest.call.id.clone();
            self.end(&id, CallOutcome::Refused(UNAVAILABLE.to_owned()), effects);
        }
    }

    fn judge(&mut self, judged: Judged, text: &str, effects: &mut Vec<WorkerEffect>) {
        let was_down = self.is_down();
        if self.judged == judged {
            return;
        }
        self.judged = judged;
        effects.push(WorkerEffect::Show);
        if self.is_down() != was_down {
            effects.push(WorkerEffect::Count(if was_down { names::WENT_UP } else { names::WENT_DOWN }));
            effects.push(WorkerEffect::Log(Level::Warn, None, format!("the spoke {text}")));
        }
    }

    fn is_down(&self) -> bool {
        self.judged == Judged::Down
    }

    /// How the service is judged.
    pub fn judged(&self) -> Judged {
        self.judged
    }

    fn start(&mut self, call: Call, effects: &mut Vec<WorkerEffect>) {
        let has_place = self.in_flight < self.share;
        let (bytes, most, waiting) = (call.body.len(), self.settings.body_bytes, self.queue.len());
        let refused = if self.is_down() {
            Some(UNAVAILABLE.to_owned())
        } else if bytes > most {
            Some(format!("the request has {bytes} bytes; at most {most} are sent"))
        } else if !has_place && waiting >= self.settings.queue {
            Some(format!("{waiting} calls wait for `{}`, which is as many as may", call.service))
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

    /// A spoke answered.
    pub fn answered(&mut self, reply: SpokeReply, chance: u64, effects: &mut Vec<WorkerEffect>) {
        let SpokeReply { kind, call: id, message, body } = reply;
        let harmless = |count: &'static str, effects: &mut Vec<WorkerEffect>| {
            effects.push(WorkerEffect::Count(count));
            let text = format!("{kind} for call {id}, attempt {}: {}", message.attempt, discarded(count));
            effects.push(WorkerEffect::Log(Level::Debug, Some(id.operation.clone()), text));
        };
        if message.call != id {
            return harmless(names::MISMATCHED_REPLIES, effects);
        }
        let (slot, attempt, doing) = match self.calls.known(&id) {
            Known::Open(open) => (open.slot, open.attempt, open.doing),
            Known::Ended(true) => return harmless(names::DUPLICATE_REPLIES, effects),
            Known::Ended(false) => return harmless(names::LATE_REPLIES, effects),
            Known::Nothing => return harmless(names::UNKNOWN_REPLIES, effects),
        };
        let current = attempt == message.attempt;
        let was_sent = (1..=attempt).contains(&message.attempt);
        if was_sent && self.is_down() {
            self.judge(Judged::ByAnswers, "answers, though its heartbeats stopped", effects);
        }
        match kind {
            // An attempt that was never sent cannot be answered.
            _ if !was_sent => harmless(names::UNKNOWN_REPLIES, effects),
            Kind::Reply => self.end(&id, CallOutcome::Replied(body), effects),
            Kind::Refusal if current => self.end(&id, CallOutcome::Refused(reason(&body)), effects),
            Kind::Failure if current && doing == Doing::Sent => {
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
            | Kind::Dead => harmless(names::STALE_REPLIES, effects),
        }
    }

    /// An answer came that cannot be taken for what it is: whoever looks at its call or at the service sees it.
    pub fn rejected(&mut self, call: Option<&CallId>, reason: &str, effects: &mut Vec<WorkerEffect>) {
        let reason: String = reason.chars().take(REASON).collect();
        let add = |rejected: &mut Option<Rejected>| {
            let replies = rejected.as_ref().map_or(0, |rejected| rejected.replies) + 1;
            *rejected = Some(Rejected { replies, last: reason.clone() });
        };
        add(&mut self.rejected);
        effects.push(WorkerEffect::Show);
        let slot = call.and_then(|call| match self.calls.known(call) {
            Known::Open(open) => Some(open.slot),
            Known::Ended(_) | Known::Nothing => None,
        });
        if let Some(open) = slot.and_then(|slot| self.calls.change(slot)) {
            add(&mut open.rejected);
            effects.push(WorkerEffect::Changed(open.call.id.operation.clone()));
        }
    }

    /// The answers that were rejected since the lane began.
    pub fn all_rejected(&self) -> Option<&Rejected> {
        self.rejected.as_ref()
    }

    /// A deadline passed.
    pub fn timed_out(&mut self, timed_out: TimedOut, chance: u64, effects: &mut Vec<WorkerEffect>) {
        let TimedOut { key: slot, generation } = timed_out;
        let current = self.calls.at(slot).is_some_and(|open| open.generation == generation);
        let Some(conversation) = current.then(|| self.calls.change(slot)).flatten() else {
            return effects.push(WorkerEffect::Count(names::LATE_TIMEOUTS));
        };
        conversation.spent_ms += conversation.armed_ms;
        match conversation.doing {
            Doing::Queued => {
                let id = conversation.call.id.clone();
                self.end(&id, CallOutcome::TimedOut, effects);
            }
            Doing::Sent => self.attempt_failed(slot, None, chance, effects),
            Doing::BackingOff => {
                effects.push(WorkerEffect::Count(names::RETRIED));
                effects.push(WorkerEffect::Changed(conversation.call.id.operation.clone()));
                send(conversation, &self.settings, effects);
            }
        }
    }

    // ---- the conversation ---------------------------------------------------------------------------------------------

    /// An attempt came to nothing: another one after a pause, or the end.
    fn attempt_failed(&mut self, slot: u64, failure: Option<String>, chance: u64, effects: &mut Vec<WorkerEffect>) {
        let Some(conversation) = self.calls.change(slot) else { return };
        let pause = self.settings.pause_ms(conversation.attempt, chance);
        if conversation.attempt < self.settings.attempts && conversation.left_ms() > pause {
            conversation.doing = Doing::BackingOff;
            conversation.arm(pause, effects);
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

    /// Frees what a conversation had that was taken out, and gives its place to the next in the queue.
    fn close(&mut self, conversation: &Conversation, effects: &mut Vec<WorkerEffect>) {
        effects.push(WorkerEffect::Deadline(Deadline::Cancel { key: conversation.slot }));
        if conversation.doing == Doing::Queued {
            self.queue.remove(&conversation.slot);
        } else {
            self.in_flight -= 1;
            self.fill_place(effects);
        }
        let operation = &conversation.call.id.operation;
        let change = if self.calls.has_open(operation) { WorkerEffect::Changed } else { WorkerEffect::Closed };
        effects.push(change(operation.clone()));
    }

    fn fill_place(&mut self, effects: &mut Vec<WorkerEffect>) {
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

    /// Each open call, with its deadline.
    pub fn waits(&self) -> Vec<Wait> {
        let wait = |conversation: &Conversation| Wait {
            who: conversation.call.id.to_string(),
            deadline: Some((conversation.slot, conversation.generation)),
            calls: Vec::new(),
            others: Vec::new(),
        };
        self.calls.open().map(wait).collect()
    }

    /// The conversations of an operation; none where it has none.
    pub fn view(&self, operation: &OperationId, timers: &dyn DueTimes) -> Option<Conversations> {
        let shown = |conversation: &Conversation| Shown {
            call: conversation.call.id.clone(),
            attempt: conversation.attempt,
            attempts: self.settings.attempts,
            doing: match conversation.doing {
                Doing::Queued => "queued",
                Doing::Sent => "sent",
                Doing::BackingOff => "backing off",
            }
            .to_owned(),
            until: timers.due(conversation.slot),
            rejected: conversation.rejected.clone(),
        };
        let calls: Vec<Shown> = self.calls.open_of(operation).take(Step::SHOWN).map(shown).collect();
        (!calls.is_empty()).then(|| Conversations { operation: operation.clone(), calls })
    }
}

/// The next attempt.
fn send(conversation: &mut Conversation, settings: &WorkerSettings, effects: &mut Vec<WorkerEffect>) {
    conversation.attempt += 1;
    conversation.doing = Doing::Sent;
    let left_ms = conversation.left_ms();
    conversation.arm(settings.timeout_ms.min(left_ms), effects);
    if !conversation.call.swallow {
        effects.push(WorkerEffect::Count(names::SENT));
        let call = Arc::clone(&conversation.call);
        effects.push(WorkerEffect::Send { call, attempt: conversation.attempt, expires_after_ms: left_ms });
    }
}

/// What a spoke says of a refusal or a failure, in words.
fn reason(body: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(body).ok();
    // A megabyte of detail would be quoted in history and answer, which the bus would not take.
    let cut = |text: &str| text.chars().take(200).collect::<String>();
    let text = |field: &str| value.as_ref()?.get(field)?.as_str().filter(|text| !text.is_empty()).map(cut);
    match (text("error"), text("detail")) {
        (Some(error), Some(detail)) => format!("{error}: {detail}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) if body.trim().is_empty() => "the spoke gave no reason".to_owned(),
        (None, None) => cut(body),
    }
}

fn discarded(count: &str) -> &'static str {
    match count {
        names::DUPLICATE_REPLIES => "duplicate, discarded",
        names::LATE_REPLIES => "late, discarded",
        names::STALE_REPLIES => "of an attempt that was given up, discarded",
        names::MISMATCHED_REPLIES => "of another call than it names, discarded",
        _unknown => "unknown, discarded",
    }
}
