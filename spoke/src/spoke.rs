//! The traits that a service implements.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::{CallId, WallTime};

/// A service that handles one call at a time.
pub trait Spoke: Send + 'static {
    /// The body of a call, as JSON.
    type Request: DeserializeOwned;
    /// The body of a reply, as JSON.
    type Reply: Serialize;

    /// Handles a call: once, or once per attempt if it returns [`SpokeError::Retry`].
    ///
    /// # Errors
    /// The answer if there is no reply. The service must then have done nothing.
    fn handle(&mut self, call: &Call, request: Self::Request) -> Result<Self::Reply, SpokeError>;
}

/// A service that handles calls concurrently: calls with different keys at the same time, calls
/// with the same key in order. [`Concurrent`] makes a service of it.
pub trait AsyncSpoke: Send + Sync + 'static {
    /// The body of a call, as JSON.
    type Request: DeserializeOwned + Send;
    /// The body of a reply, as JSON.
    type Reply: Serialize;

    /// Handles a call. The future is dropped if the group gives the partition of the call to another
    /// instance, which then handles the call with the same [`Call::id`].
    ///
    /// The task polls the future in a tokio runtime with timers and sockets. So it must not block:
    /// use `tokio::task::spawn_blocking` for code that blocks.
    ///
    /// # Errors
    /// As [`Spoke::handle`].
    fn handle(
        self: Arc<Self>,
        call: Call,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Reply, SpokeError>> + Send + 'static;
}

/// An [`AsyncSpoke`] and the number of calls that it handles at once.
pub struct Concurrent<S> {
    pub(crate) spoke: Arc<S>,
    pub(crate) max_in_flight: usize,
}

impl<S> Concurrent<S> {
    /// Handles at most `max_in_flight` calls at once, and at least one.
    pub fn new(spoke: S, max_in_flight: usize) -> Self {
        Self { spoke: Arc::new(spoke), max_in_flight: max_in_flight.max(1) }
    }
}

/// A call, as its handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The key. Calls with the same key are handled in order.
    pub key: String,
    /// The same for all attempts of this call, and different from all other calls.
    pub id: CallId,
    /// The number of this attempt, from 1. Earlier attempts or their answers may have been lost.
    pub attempt: u32,
    /// The time at which the handler was started.
    pub now: WallTime,
    /// The caller does not wait longer; `None` if the caller set no deadline.
    pub deadline: Option<WallTime>,
}

impl Call {
    /// The time left until the deadline, for example as the timeout of a request to another system.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| Duration::from_millis(deadline.ms_since(self.now)))
    }
}

/// The answer of a spoke that has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpokeError {
    /// It refuses for good.
    Refuse(Reason),
    /// It cannot do this now: the worker retries the call.
    Retry(Reason),
    /// It does not answer, like a spoke that is down.
    Silence,
}

/// Why a spoke refuses, or asks to retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A short name for programs.
    pub error: String,
    /// A sentence for people.
    pub detail: String,
}

impl SpokeError {
    /// A refusal: a short name for programs, and a sentence for people.
    pub fn refuse(error: impl Into<String>, detail: impl Into<String>) -> Self {
        SpokeError::Refuse(Reason { error: error.into(), detail: detail.into() })
    }

    /// A temporary failure: the worker retries the call.
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
    fn handle(&mut self, _: &Call, _: serde_json::Value) -> Result<(), SpokeError> {
        Err(SpokeError::Silence)
    }
}
