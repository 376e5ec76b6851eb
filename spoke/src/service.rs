//! One call in a service: an answer from memory, a refusal, or the work of its handler.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::{CallId, Kind, WallTime};

use crate::memory::{Answer, Memory, MemoryError};
use crate::running::Accepted;
use crate::spoke::{AsyncSpoke, Call, Concurrent, Reason, Spoke, SpokeError};

/// The result of a handler: the reply as JSON.
pub type HandlerResult = Result<Bytes, SpokeError>;

/// A call in its handler.
pub type HandlerFuture = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// How far a handler got at once.
pub enum Progress {
    /// It returned.
    Done(HandlerResult),
    /// It runs.
    Running(HandlerFuture),
}

/// The code that a [`SpokeService`] runs: every [`Spoke`], and [`Concurrent`]. Implement one of
/// those.
pub trait Handler: Send + 'static {
    /// The body of a call, as JSON.
    type Request;
    /// The body of a reply, as JSON.
    type Reply;

    /// Starts the handling of a call with this body.
    fn start(&mut self, call: Call, body: &[u8]) -> Progress;

    /// Maximum number of calls that run at once; `None` if each call is done when
    /// [`Handler::start`] returns.
    fn max_in_flight(&self) -> Option<usize>;
}

impl<S: Spoke> Handler for S {
    type Request = S::Request;
    type Reply = S::Reply;

    fn start(&mut self, call: Call, body: &[u8]) -> Progress {
        Progress::Done(request(body).and_then(|request| self.handle(&call, request)).and_then(|reply| written(&reply)))
    }

    fn max_in_flight(&self) -> Option<usize> {
        None
    }
}

impl<S: AsyncSpoke> Handler for Concurrent<S> {
    type Request = S::Request;
    type Reply = S::Reply;

    fn start(&mut self, call: Call, body: &[u8]) -> Progress {
        let spoke = Arc::clone(&self.spoke);
        match request(body) {
            Ok(request) => {
                let handled = spoke.handle(call, request);
                Progress::Running(Box::pin(async move { handled.await.and_then(|reply| written(&reply)) }))
            }
            Err(error) => Progress::Done(Err(error)),
        }
    }

    fn max_in_flight(&self) -> Option<usize> {
        Some(self.max_in_flight)
    }
}

fn request<T: DeserializeOwned>(body: &[u8]) -> Result<T, SpokeError> {
    serde_json::from_slice(body).map_err(|error| SpokeError::refuse("unreadable", error.to_string()))
}

fn written<T: Serialize>(reply: &T) -> HandlerResult {
    let reply = serde_json::to_vec(reply).map_err(|error| SpokeError::refuse("unwritable", error.to_string()))?;
    Ok(reply.into())
}

/// A service and its memory. Clones share both: one is in the task, others look at it.
pub struct SpokeService<S>(Arc<Mutex<Inner<S>>>);

impl<S> Clone for SpokeService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S> {
    spoke: S,
    memory: Memory,
    /// Number of dropped records.
    unreadable: u64,
    /// The calls handled since the last [`SpokeService::journal`]; `None` before the first.
    journal: Option<Vec<HandledCall>>,
}

/// A call that a spoke handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandledCall {
    /// Its id.
    pub call: CallId,
    /// The effect on the spoke.
    pub effect: CallEffect,
}

/// The effect of a call on a spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEffect {
    /// It carried the call out.
    Executed,
    /// It refused the call, and will refuse it again.
    Refused,
    /// It answered from memory, or the call has no effect.
    NoEffect,
}

/// The result of starting a call.
pub(crate) enum Started {
    Answered(Option<Answer>),
    Running(HandlerFuture),
}

impl<S: Handler> SpokeService<S> {
    /// A service whose memory ends with the process.
    pub fn new(spoke: S) -> Self {
        let memory = Memory::default();
        Self(Arc::new(Mutex::new(Inner { spoke, memory, unreadable: 0, journal: None })))
    }

    /// Keeps the answered calls in `directory` from now on, unless a directory is in use already.
    pub(crate) fn remember_in(&self, directory: &Path) -> Result<(), MemoryError> {
        let mut inner = self.lock();
        if !inner.memory.is_durable() {
            inner.memory = Memory::open(directory)?;
        }
        Ok(())
    }

    /// Forgets all calls, like a service that lost its disk: for tests.
    pub fn forget(&self) {
        self.lock().memory.clear();
    }

    /// Number of records that were dropped: they were no calls, or had no reply address.
    pub fn unreadable(&self) -> u64 {
        self.lock().unreadable
    }

    /// Returns the calls handled since the previous call of this function, in order; at first none.
    pub fn journal(&self) -> Vec<HandledCall> {
        self.lock().journal.replace(Vec::new()).unwrap_or_default()
    }

    /// Calls `look` with the service.
    pub fn look<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.lock().spoke)
    }

    pub(crate) fn max_in_flight(&self) -> Option<usize> {
        self.lock().spoke.max_in_flight()
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.lock().memory.is_durable()
    }

    pub(crate) fn dropped_unreadable(&self) {
        self.lock().unreadable += 1;
    }

    pub(crate) fn save(&self) -> Result<(), MemoryError> {
        self.lock().memory.save()
    }

    /// Answers a call from memory, refuses it, or starts its handler.
    pub(crate) fn start(&self, accepted: &Accepted, now: WallTime) -> Started {
        let Accepted { envelope, key, body, .. } = accepted;
        let refused = |error, detail| Started::Answered(Some(refusal(error, detail)));
        let Some(id) = envelope.call.clone() else {
            return refused("unreadable", "`ce_callid` is missing".to_owned());
        };
        let mut inner = self.lock();
        if envelope.kind == Kind::Undo {
            for undone in &envelope.undoes {
                inner.memory.undone(undone.clone());
            }
            inner.record(&id, CallEffect::NoEffect);
        }
        if let Some(answer) = inner.memory.answer(&id) {
            return Started::Answered(Some(answer.clone()));
        }
        if inner.memory.is_undone(&id) {
            inner.record(&id, CallEffect::Refused);
            return refused("undone", format!("call {id} was undone"));
        }
        if let Some(expires) = envelope.expires.filter(|expires| *expires < now) {
            let expired = SpokeError::refuse("expired", format!("the deadline {expires} of call {id} has passed"));
            return Started::Answered(inner.finish(id, Err(expired)));
        }
        let (attempt, deadline) = (envelope.attempt.unwrap_or(1), envelope.expires);
        let call = Call { key: key.clone(), id: id.clone(), attempt, now, deadline };
        match inner.spoke.start(call, body) {
            Progress::Done(handled) => Started::Answered(inner.finish(id, handled)),
            Progress::Running(future) => Started::Running(future),
        }
    }

    /// Remembers what a handler returned, and returns the answer; `None` if there is none.
    pub(crate) fn finish(&self, id: CallId, handled: HandlerResult) -> Option<Answer> {
        self.lock().finish(id, handled)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Inner<S> {
    fn finish(&mut self, id: CallId, handled: HandlerResult) -> Option<Answer> {
        let (effect, answer) = match handled {
            Ok(body) => (CallEffect::Executed, Answer { kind: Kind::Reply, body }),
            // The hub does not undo a refused call. So it stays refused if it comes again, as when its worker crashed
            // and another one resends it.
            Err(SpokeError::Refuse(Reason { error, detail })) => (CallEffect::Refused, refusal(&error, detail)),
            Err(SpokeError::Retry(reason)) => return Some(answer(Kind::Failure, &reason)),
            Err(SpokeError::Silence) => return None,
        };
        self.record(&id, effect);
        self.memory.answered(id, answer.clone());
        Some(answer)
    }

    fn record(&mut self, call: &CallId, effect: CallEffect) {
        if let Some(journal) = &mut self.journal {
            journal.push(HandledCall { call: call.clone(), effect });
        }
    }
}

fn refusal(error: &str, detail: String) -> Answer {
    answer(Kind::Refusal, &Reason { error: error.to_owned(), detail })
}

fn answer(kind: Kind, reason: &Reason) -> Answer {
    Answer { kind, body: serde_json::to_vec(reason).expect("strings can be written as JSON").into() }
}
