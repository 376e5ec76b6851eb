//! A spoke in Rust: a service that answers requests over the bus.
//!
//! A spoke may use any language: it reads a topic and writes answers. [`SpokeTask`] remembers the
//! calls that it executed or refused. A repeated call gets the same answer, and its effect happens
//! at most once. Calls that were undone, and calls past their deadline, are refused.
//!
//! The memory ends with its process. A spoke that calls another system should pass [`Call::id`] as
//! the idempotency key: all attempts of a call share it.
//!
//! ```
//! use nave::spoke::{Call, Spoke, SpokeError, WallTime};
//!
//! /// Books rooms, ten at most.
//! #[derive(Default)]
//! struct Hotel(u32);
//!
//! impl Spoke for Hotel {
//!     type Request = String;
//!     type Reply = u32;
//!     fn handle(&mut self, call: &Call<'_>, what: String) -> Result<u32, SpokeError> {
//!         match what.as_str() {
//!             "book" if self.0 < 10 => { self.0 += 1; Ok(self.0) }
//!             "book" => Err(SpokeError::refuse("full", format!("no room for {}", call.key))),
//!             _ => Err(SpokeError::refuse("unknown", what)),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = "trip-1/1/2".parse()?;
//! let call = Call { key: "ann", id: &id, attempt: 1, now: WallTime(0), deadline: None };
//! assert_eq!(Hotel::default().handle(&call, "book".into()), Ok(1));
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{
    Arrival, Backoff, Batch, Bus, BusError, Clock, Headers, Member, MemberSpec, Outgoing, PollOutcome, Position,
    Record, Route, Task,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::owner::OffsetMetadata;
use wire::topics::Topics;
pub use wire::{CallId, WallTime};
use wire::{Envelope, Kind};

use crate::names;

/// Maximum number of remembered calls; the oldest is forgotten. A call repeats only while its
/// operation lives, which is minutes.
const REMEMBERED: usize = 100_000;
/// Maximum number of requests per poll; they share a commit.
const MAX_POLL_RECORDS: usize = 256;

/// A service that answers requests. It receives the requests of one key in order.
pub trait Spoke: Send + 'static {
    /// The request, as JSON.
    type Request: DeserializeOwned;
    /// The reply, as JSON.
    type Reply: Serialize;

    /// Executes a request. It is called once per call, and again after it returned
    /// [`SpokeError::Retry`].
    ///
    /// # Errors
    /// The answer instead of a reply; then the spoke must not have changed anything.
    fn handle(&mut self, call: &Call<'_>, request: Self::Request) -> Result<Self::Reply, SpokeError>;
}

/// The call of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The key; requests of one key arrive in order.
    pub key: &'a str,
    /// The id: the same for all attempts of this call, and unique to it.
    pub id: &'a CallId,
    /// The number of this attempt, from 1. Earlier attempts or their answers may have been lost.
    pub attempt: u32,
    /// The time when the spoke received the request.
    pub now: WallTime,
    /// The time after which the reply is not used; none if the sender set no deadline.
    pub deadline: Option<WallTime>,
}

impl Call<'_> {
    /// Returns the time until the deadline, for timeouts of the spoke's own requests.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| Duration::from_millis(deadline.ms_since(self.now)))
    }
}

/// The answer of a spoke that has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpokeError {
    /// Refuses the call for good.
    Refuse(Reason),
    /// Fails for now: the worker sends the call again.
    Retry(Reason),
    /// Sends no answer, like a spoke that is down.
    Silence,
}

/// Why a spoke refuses a call or asks for a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A short code for programs.
    pub error: String,
    /// A sentence for people.
    pub detail: String,
}

impl SpokeError {
    /// A refusal: a short code for programs, and a sentence for people.
    pub fn refuse(error: impl Into<String>, detail: impl Into<String>) -> Self {
        SpokeError::Refuse(Reason { error: error.into(), detail: detail.into() })
    }

    /// A temporary failure: the worker sends the call again.
    pub fn retry(error: impl Into<String>, detail: impl Into<String>) -> Self {
        SpokeError::Retry(Reason { error: error.into(), detail: detail.into() })
    }
}

/// A spoke that never answers, for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Spoke for Silent {
    type Request = serde_json::Value;
    type Reply = ();
    fn handle(&mut self, _: &Call<'_>, _: serde_json::Value) -> Result<(), SpokeError> {
        Err(SpokeError::Silence)
    }
}

/// A spoke with its memory of calls. Clones share both.
pub struct SpokeService<S>(Arc<Mutex<Memory<S>>>);

impl<S> Clone for SpokeService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Memory<S> {
    spoke: S,
    /// The answer of each call, a reply or a refusal.
    answers: BTreeMap<CallId, (Kind, Bytes)>,
    undone: BTreeSet<CallId>,
    /// The remembered calls, oldest first.
    order: VecDeque<CallId>,
    /// Number of dropped messages that were not valid requests.
    unreadable: u64,
    /// The calls handled since the last call of `journal`, in order; none before the first.
    journal: Option<Vec<HandledCall>>,
}

/// A call that a spoke handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandledCall {
    /// The call.
    pub(crate) call: CallId,
    /// Its effect.
    pub(crate) effect: CallEffect,
}

/// The effect of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallEffect {
    /// Executed.
    Executed,
    /// Refused; all repeats have to be refused as well.
    Refused,
    /// No effect: answered from memory, or an undo.
    NoEffect,
}

impl<S: Spoke> SpokeService<S> {
    /// Wraps a spoke, with an empty memory.
    pub fn new(spoke: S) -> Self {
        let (answers, undone, order) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Memory { spoke, answers, undone, order, unreadable: 0, journal: None })))
    }

    /// Forgets all calls, executed and undone: for tests.
    pub fn forget(&self) {
        let mut memory = self.lock();
        memory.answers.clear();
        memory.undone.clear();
        memory.order.clear();
    }

    /// Returns the number of dropped messages that were not valid requests.
    pub fn unreadable(&self) -> u64 {
        self.lock().unreadable
    }

    /// Returns the calls handled since the last call of this method, in order. The first call
    /// starts the recording.
    pub(crate) fn journal(&self) -> Vec<HandledCall> {
        self.lock().journal.replace(Vec::new()).unwrap_or_default()
    }

    /// Gives access to the spoke.
    pub fn look<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.lock().spoke)
    }

    fn lock(&self) -> MutexGuard<'_, Memory<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns kind and body of the answer to a request; none if it gets no answer.
    fn answer(&self, record: &Record, envelope: &Envelope, wall: WallTime) -> Option<(Kind, Bytes)> {
        let Some(call) = &envelope.call else {
            return Some(refusal("unreadable", "a request needs ce_callid".to_owned()));
        };
        let mut memory = self.lock();
        if envelope.kind == Kind::Undo {
            for undone in &envelope.undoes {
                memory.undone.insert(undone.clone());
                memory.remember(undone);
            }
            memory.log_effect(call, CallEffect::NoEffect);
        }
        if let Some(answer) = memory.answers.get(call) {
            return Some(answer.clone());
        }
        let answer = memory.decide(call, record, envelope, wall)?;
        // The hub does not undo a refused call, so a refusal is as final as a reply: the call may
        // come again from another worker after a crash.
        if answer.0 != Kind::Failure {
            if answer.0 == Kind::Refusal {
                memory.log_effect(call, CallEffect::Refused);
            }
            memory.answers.insert(call.clone(), answer.clone());
            memory.remember(call);
        }
        Some(answer)
    }
}

fn refusal(error: &str, detail: String) -> (Kind, Bytes) {
    with_reason(Kind::Refusal, &Reason { error: error.into(), detail })
}

fn with_reason(kind: Kind, reason: &Reason) -> (Kind, Bytes) {
    (kind, serde_json::to_vec(reason).expect("a reason is plain data").into())
}

impl<S: Spoke> Memory<S> {
    /// Decides the answer to a call that is not remembered.
    fn decide(&mut self, id: &CallId, record: &Record, envelope: &Envelope, now: WallTime) -> Option<(Kind, Bytes)> {
        if self.undone.contains(id) {
            return Some(refusal("undone", format!("call {id} was undone")));
        }
        if let Some(expires) = envelope.expires.filter(|expires| *expires < now) {
            return Some(refusal("expired", format!("call {id} expired at {expires}")));
        }
        let request = match serde_json::from_slice(&record.value) {
            Ok(request) => request,
            Err(error) => return Some(refusal("unreadable", error.to_string())),
        };
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        let (attempt, deadline) = (envelope.attempt.unwrap_or(1), envelope.expires);
        match self.spoke.handle(&Call { key: &key, id, attempt, now, deadline }, request) {
            Ok(reply) => {
                self.log_effect(id, CallEffect::Executed);
                match serde_json::to_vec(&reply) {
                    Ok(reply) => Some((Kind::Reply, reply.into())),
                    Err(error) => Some(refusal("unwritable", error.to_string())),
                }
            }
            Err(SpokeError::Refuse(reason)) => Some(with_reason(Kind::Refusal, &reason)),
            Err(SpokeError::Retry(reason)) => Some(with_reason(Kind::Failure, &reason)),
            Err(SpokeError::Silence) => None,
        }
    }
}

impl<S> Memory<S> {
    fn log_effect(&mut self, call: &CallId, effect: CallEffect) {
        if let Some(journal) = &mut self.journal {
            journal.push(HandledCall { call: call.clone(), effect });
        }
    }

    fn remember(&mut self, call: &CallId) {
        self.order.push_back(call.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
            self.undone.remove(&oldest);
        }
    }
}

/// Serves a spoke over the bus, as a member of the group of its topic.
pub struct SpokeTask<S> {
    name: String,
    source: String,
    member: Box<dyn Member>,
    clock: Arc<dyn Clock>,
    served: SpokeService<S>,
    /// Assigned partitions that are not started yet.
    assigned: BTreeSet<u32>,
    /// The next offset of each partition that is read.
    next: BTreeMap<u32, u64>,
    /// Answers of the next commit.
    answers: Vec<Outgoing>,
    /// Partitions with records since the last commit.
    moved: BTreeSet<u32>,
    backoff: Backoff,
}

impl<S: Spoke> SpokeTask<S> {
    /// Joins the group of the topic of `service` as `member`, which must be unique among all live
    /// members.
    ///
    /// # Errors
    /// If the bus refuses the member.
    pub fn join(
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        served: SpokeService<S>,
    ) -> Result<Self, BusError> {
        let topic = names.spoke(service);
        Ok(Self {
            name: member.to_owned(),
            source: format!("/spoke/{service}"),
            member: bus.member(&MemberSpec::new(&topic, &topic, member))?,
            clock: bus.clock(),
            served,
            assigned: BTreeSet::new(),
            next: BTreeMap::new(),
            answers: Vec::new(),
            moved: BTreeSet::new(),
            backoff: Backoff::default(),
        })
    }

    fn arrive(&mut self, arrival: Arrival) -> Result<(), BusError> {
        match arrival {
            Arrival::Assigned(partitions) => self.assigned.extend(partitions),
            Arrival::Revoking(partitions) => {
                self.commit();
                self.forget(&partitions);
                self.member.release(&partitions)?;
            }
            Arrival::Lost(partitions) => self.forget(&partitions),
            Arrival::Record(record) => self.handle(&record),
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.next.remove(partition);
            self.moved.remove(partition);
        }
    }

    fn handle(&mut self, record: &Record) {
        if !self.next.contains_key(&record.partition) {
            return;
        }
        self.next.insert(record.partition, record.offset + 1);
        self.moved.insert(record.partition);
        let envelope = match record.headers.envelope() {
            Ok(envelope) => envelope,
            Err(error) => return self.unreadable(record, &error.to_string()),
        };
        let Some(reply_to) = envelope.reply_to.as_deref() else {
            return self.unreadable(record, "a request needs ce_replyto");
        };
        let wall = self.clock.wall();
        let Some((kind, value)) = self.served.answer(record, &envelope, wall) else { return };
        let mut answer = envelope.answered(kind, &self.source);
        answer.time = Some(wall);
        self.answers.push(Outgoing {
            topic: reply_to.into(),
            route: envelope.reply_partition.map_or(Route::ByKey, Route::To),
            key: record.key.clone(),
            headers: Headers::of(&answer),
            value,
        });
    }

    /// Counts and drops a message that is not a request: it has no valid reply address.
    fn unreadable(&self, record: &Record, detail: &str) {
        let (partition, offset) = (record.partition, record.offset);
        tracing::warn!(spoke = self.name, partition, offset, detail, "a message cannot be read");
        metrics::counter!(names::SPOKE_UNREADABLE).increment(1);
        self.served.lock().unreadable += 1;
    }

    /// Commits answers and positions together. On failure the requests are read again, and answered
    /// from memory.
    fn commit(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        let metadata = |next| OffsetMetadata { transactional_id: self.name.clone(), snapshot: next, released: false };
        let position = |partition: &u32| {
            let next = *self.next.get(partition)?;
            Some(Position { partition: *partition, next, metadata: metadata(next).to_string().into() })
        };
        let positions = self.moved.iter().filter_map(position).collect();
        let batch = Batch { records: std::mem::take(&mut self.answers), positions };
        if let Err(error) = self.member.commit(&batch) {
            tracing::warn!(spoke = self.name, %error, "answers were not committed; their requests will be read again");
            self.assigned.extend(self.moved.iter().copied());
            self.next.retain(|partition, _| !self.moved.contains(partition));
            self.backoff.failed(self.clock.mono());
        }
        self.moved.clear();
    }

    /// Starts assigned partitions.
    fn start(&mut self) {
        let now = self.clock.mono();
        if self.backoff.holds(now) {
            return;
        }
        for partition in self.assigned.clone() {
            let started = self.member.take_over(partition).and_then(|takeover| {
                let from = takeover.first();
                self.member.start(partition, from).map(|()| from)
            });
            match started {
                Ok(from) => {
                    self.assigned.remove(&partition);
                    self.next.insert(partition, from);
                }
                Err(error) => {
                    tracing::warn!(spoke = self.name, partition, %error, "requests cannot be read yet");
                    return self.backoff.failed(now);
                }
            }
        }
        self.backoff.over();
    }
}

impl<S: Spoke> Task for SpokeTask<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let now = self.clock.mono();
        let wait = self.backoff.until().map_or(wait, |until| wait.min(until.since(now)));
        let mut arrivals = Vec::new();
        match self.member.poll(MAX_POLL_RECORDS, wait, &mut arrivals) {
            Ok(()) => {}
            // Resume at the first record that still exists.
            Err(BusError::Gone { partition, .. }) => {
                self.next.remove(&partition);
                self.assigned.insert(partition);
            }
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(spoke = self.name, reason, "requests cannot be read");
            }
            Err(error) => return Err(error),
        }
        let worked = !arrivals.is_empty();
        arrivals.into_iter().try_for_each(|arrival| self.arrive(arrival))?;
        self.start();
        self.commit();
        Ok(PollOutcome { worked, next: self.backoff.until() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        self.commit();
        let name = self.name.clone();
        self.member.leave().err().map(|error| format!("{name}: {error}")).into_iter().collect()
    }
}
