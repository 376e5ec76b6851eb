//! A spoke in Rust: a service that answers requests over the bus.
//!
//! A spoke may be written in any language: it reads a topic and answers. [`SpokePart`] remembers the calls that it carried out
//! or refused. A repeat gets the same answer, and nothing is done twice, or after it was refused. Calls that were undone, and
//! calls past their deadline, are refused.
//!
//! That memory ends with its process. A spoke that asks a system of its own passes [`Call::id`] on as its idempotency key: it
//! is the same at each attempt.
//!
//! ```
//! use nave::spoke::{Call, Spoke, SpokeError, WallTime};
//!
//! /// Gives out rooms, ten of them.
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
    Arrival, Batch, Bus, BusError, Clock, Headers, Member, MemberSpec, Outgoing, Part, Pause, Position, Record, Route,
    Turn,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::owner::Note;
use wire::topics::Topics;
pub use wire::{CallId, WallTime};
use wire::{Envelope, Kind};

use crate::names;

/// So many calls are remembered, the newest: a call comes again only while its operation lives, which is minutes.
const REMEMBERED: usize = 100_000;
/// So many requests are taken in one turn: enough to share a commit.
const TAKEN: usize = 256;

/// A service that answers requests. The requests of one key come in their order.
pub trait Spoke: Send + 'static {
    /// What it is asked, as JSON.
    type Request: DeserializeOwned;
    /// What it replies, as JSON.
    type Reply: Serialize;

    /// Does what the request says: once for each call, or again where it returned [`SpokeError::Retry`].
    ///
    /// # Errors
    /// The answer where there is no reply; then nothing was done.
    fn handle(&mut self, call: &Call<'_>, request: Self::Request) -> Result<Self::Reply, SpokeError>;
}

/// The call that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The requests of one key come in their order.
    pub key: &'a str,
    /// The same at each attempt of this call, and at no other call.
    pub id: &'a CallId,
    /// The number of this attempt, from 1. Earlier attempts may have got lost on their way here, or their answers on the way
    /// back.
    pub attempt: u32,
    /// The time at which the spoke took the request.
    pub now: WallTime,
    /// Nobody waits for the reply after this; none where the sender set no deadline.
    pub deadline: Option<WallTime>,
}

impl Call<'_> {
    /// The time left until the deadline, for a timeout of the spoke's own requests.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| Duration::from_millis(deadline.ms_since(self.now)))
    }
}

/// The answer of a spoke where there is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpokeError {
    /// It will not do this, ever.
    Refuse(Reason),
    /// It cannot do this now: the worker sends the call again.
    Retry(Reason),
    /// No answer at all, as from a spoke that is gone.
    Silence,
}

/// Why a spoke refuses, or asks to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A short word for programs.
    pub error: String,
    /// A sentence for people.
    pub detail: String,
}

impl SpokeError {
    /// A refusal: a short word for programs, and a sentence for people.
    pub fn refuse(error: impl Into<String>, detail: impl Into<String>) -> Self {
        SpokeError::Refuse(Reason { error: error.into(), detail: detail.into() })
    }

    /// A failure that may pass: the worker sends the call again.
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

/// A spoke and what it remembers, shared with those who look.
pub struct Served<S>(Arc<Mutex<Memory<S>>>);

impl<S> Clone for Served<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Memory<S> {
    spoke: S,
    /// What each call was told, reply or refusal.
    told: BTreeMap<CallId, (Kind, Bytes)>,
    undone: BTreeSet<CallId>,
    /// What was remembered, the oldest first.
    order: VecDeque<CallId>,
    /// How many messages were no request, and were dropped.
    unreadable: u64,
    /// Where somebody looks: the calls that were handled since the last look, in order.
    journal: Option<Vec<Handled>>,
}

/// A call that a spoke handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handled {
    /// Which.
    pub(crate) call: CallId,
    /// What came of it.
    pub(crate) did: Did,
}

/// What a spoke did with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    /// It carried it out.
    All,
    /// Nothing: it refused it, and has to do so ever after.
    Refused,
    /// Nothing that counts: it was answered from memory, or changes nothing.
    Nothing,
}

impl<S: Spoke> Served<S> {
    /// A spoke that remembers nothing yet.
    pub fn new(spoke: S) -> Self {
        let (told, undone, order) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Memory { spoke, told, undone, order, unreadable: 0, journal: None })))
    }

    /// Forgets every call that it carried out or that was undone, as one does that has lost its memory: for tests.
    pub fn forget(&self) {
        let mut memory = self.lock();
        memory.told.clear();
        memory.undone.clear();
        memory.order.clear();
    }

    /// How many messages came that were no request anybody could be answered: they were dropped.
    pub fn unreadable(&self) -> u64 {
        self.lock().unreadable
    }

    /// What it handled since the last time, in order; from the first time on it is written down.
    pub(crate) fn journal(&self) -> Vec<Handled> {
        self.lock().journal.replace(Vec::new()).unwrap_or_default()
    }

    /// Looks at the spoke.
    pub fn look<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.lock().spoke)
    }

    fn lock(&self) -> MutexGuard<'_, Memory<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request is answered: kind and body. None where it is not.
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
            memory.note(call, Did::Nothing);
        }
        if let Some(told) = memory.told.get(call) {
            return Some(told.clone());
        }
        let told = memory.decide(call, record, envelope, wall)?;
        // Who was told that nothing was done does not undo it: so what is refused is refused ever after, like what is done is
        // done. The same call comes again where its worker died and another one sends it anew.
        if told.0 != Kind::Failure {
            if told.0 == Kind::Refusal {
                memory.note(call, Did::Refused);
            }
            memory.told.insert(call.clone(), told.clone());
            memory.remember(call);
        }
        Some(told)
    }
}

fn refusal(error: &str, detail: String) -> (Kind, Bytes) {
    told(Kind::Refusal, &Reason { error: error.into(), detail })
}

fn told(kind: Kind, reason: &Reason) -> (Kind, Bytes) {
    (kind, serde_json::to_vec(reason).expect("it is plain data").into())
}

impl<S: Spoke> Memory<S> {
    /// What a call is told that comes for the first time.
    fn decide(&mut self, id: &CallId, record: &Record, envelope: &Envelope, now: WallTime) -> Option<(Kind, Bytes)> {
        if self.undone.contains(id) {
            return Some(refusal("undone", format!("call {id} was undone")));
        }
        if let Some(expires) = envelope.expires.filter(|expires| *expires < now) {
            return Some(refusal("expired", format!("call {id} was of no use after {expires}")));
        }
        let request = match serde_json::from_slice(&record.value) {
            Ok(request) => request,
            Err(error) => return Some(refusal("unreadable", error.to_string())),
        };
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        let (attempt, deadline) = (envelope.attempt.unwrap_or(1), envelope.expires);
        match self.spoke.handle(&Call { key: &key, id, attempt, now, deadline }, request) {
            Ok(reply) => {
                self.note(id, Did::All);
                match serde_json::to_vec(&reply) {
                    Ok(reply) => Some((Kind::Reply, reply.into())),
                    Err(error) => Some(refusal("unwritable", error.to_string())),
                }
            }
            Err(SpokeError::Refuse(reason)) => Some(told(Kind::Refusal, &reason)),
            Err(SpokeError::Retry(reason)) => Some(told(Kind::Failure, &reason)),
            Err(SpokeError::Silence) => None,
        }
    }
}

impl<S> Memory<S> {
    fn note(&mut self, call: &CallId, did: Did) {
        if let Some(journal) = &mut self.journal {
            journal.push(Handled { call: call.clone(), did });
        }
    }

    fn remember(&mut self, call: &CallId) {
        self.order.push_back(call.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
            self.undone.remove(&oldest);
        }
    }
}

/// Serves a spoke over the bus: a member of the group of its topic.
pub struct SpokePart<S> {
    name: String,
    source: String,
    member: Box<dyn Member>,
    clock: Arc<dyn Clock>,
    served: Served<S>,
    /// Partitions that are ours and wait to be started.
    assigned: BTreeSet<u32>,
    /// Where it stands in those that are read.
    next: BTreeMap<u32, u64>,
    owed: Vec<Outgoing>,
    moved: BTreeSet<u32>,
    pause: Pause,
}

impl<S: Spoke> SpokePart<S> {
    /// Joins the group of the topic of `service`, as `member`, which is unique among all that live.
    ///
    /// # Errors
    /// Where the bus does not let it join.
    pub fn join(
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        served: Served<S>,
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
            owed: Vec::new(),
            moved: BTreeSet::new(),
            pause: Pause::default(),
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
        self.owed.push(Outgoing {
            topic: reply_to.into(),
            route: envelope.reply_partition.map_or(Route::ByKey, Route::To),
            key: record.key.clone(),
            headers: Headers::of(&answer),
            value,
        });
    }

    /// Who sent something that is no request has nobody to be told: it is counted, and that is all.
    fn unreadable(&self, record: &Record, detail: &str) {
        let (partition, offset) = (record.partition, record.offset);
        tracing::warn!(spoke = self.name, partition, offset, detail, "a message cannot be read");
        metrics::counter!(names::SPOKE_UNREADABLE).increment(1);
        self.served.lock().unreadable += 1;
    }

    /// Answers and positions as one. Where that fails, what was not committed is read again: the memory knows it.
    fn commit(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        let note = |next| Note { transactional_id: self.name.clone(), snapshot: next, released: false };
        let position = |partition: &u32| {
            let next = *self.next.get(partition)?;
            Some(Position { partition: *partition, next, note: note(next).to_string().into() })
        };
        let positions = self.moved.iter().filter_map(position).collect();
        let batch = Batch { records: std::mem::take(&mut self.owed), positions };
        if let Err(error) = self.member.commit(&batch) {
            tracing::warn!(spoke = self.name, %error, "answers were not committed, and their requests are read again");
            self.assigned.extend(self.moved.iter().copied());
            self.next.retain(|partition, _| !self.moved.contains(partition));
            self.pause.failed(self.clock.mono());
        }
        self.moved.clear();
    }

    /// Starts the partitions that are ours and not read yet.
    fn start(&mut self) {
        let now = self.clock.mono();
        if self.pause.holds(now) {
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
                    return self.pause.failed(now);
                }
            }
        }
        self.pause.over();
    }
}

impl<S: Spoke> Part for SpokePart<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        let now = self.clock.mono();
        let wait = self.pause.until().map_or(wait, |until| wait.min(until.since(now)));
        let mut arrivals = Vec::new();
        match self.member.poll(TAKEN, wait, &mut arrivals) {
            Ok(()) => {}
            // It goes on at the first request there is.
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
        Ok(Turn { worked, next: self.pause.until() })
    }

    fn stop(mut self: Box<Self>) -> Vec<String> {
        self.commit();
        let name = self.name.clone();
        self.member.leave().err().map(|error| format!("{name}: {error}")).into_iter().collect()
    }
}
