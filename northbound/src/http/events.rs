//! `GET /v1/operations/{id}/events`: progress of an operation as server-sent events.
//!
//! Each newer view is an event `progress`; the answer is the event `answer`, the last one. An event
//! carries the whole operation, so a client that misses some loses nothing: only the newest view is
//! sent. The id of an event is the newest sequence number of the history and a hash of the body,
//! the same at every northbound. A client that reconnects with `Last-Event-ID` gets only what is
//! new, or 204 if that was the answer: do not reconnect.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::timeout;
use wire::OperationId;

use super::Northbound;
use super::operations::find_operation;
use super::problem::ProblemResponse;
use super::route::ApiRequest;
use super::start::OperationView;
use crate::directory::TopologyEntry;
use crate::metrics;
use crate::watch::Watcher;

/// Interval of comments on an idle connection, so that no proxy closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Maximum wait for an operation that is no longer cached.
const MAX_LOST: Duration = Duration::from_secs(10);

/// The content of an event.
struct EventBody {
    id: String,
    body: String,
    answered: bool,
}

struct EventStream {
    entry: Arc<TopologyEntry>,
    operation: OperationId,
    watcher: Watcher,
    /// The id of the last sent event.
    sent: Option<String>,
    over: bool,
}

pub(super) async fn watch(state: Northbound, req: ApiRequest) -> Result<Response, ProblemResponse> {
    let (entry, operation) = find_operation(&state, &req)?;
    let id = operation.operation;
    // Subscribed before the first look, so that no change is missed.
    let watcher = entry.gateway.watchers().watch(&id)?;
    let sent = req.headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let watching = EventStream { entry, operation: id, watcher, sent, over: false };
    if watching.current().is_some_and(|current| current.answered && watching.sent.as_ref() == Some(&current.id)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await?;
        Some((Ok::<_, Infallible>(event), watching))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

impl EventStream {
    /// The next event; none after the answer, or if the operation is no longer cached.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.over {
                return None;
            }
            let Some(current) = self.current() else {
                // Its view was deleted and its answer comes over another topic, or it was dropped
                // from the cache.
                timeout(MAX_LOST, self.watcher.changed()).await.ok()?;
                continue;
            };
            self.over = current.answered;
            if self.sent.as_ref() != Some(&current.id) {
                metrics::event();
                let event = Event::default().event(if current.answered { "answer" } else { "progress" });
                self.sent = Some(current.id.clone());
                return Some(event.id(current.id).data(current.body));
            }
            if !self.over {
                self.watcher.changed().await;
            }
        }
    }

    fn current(&self) -> Option<EventBody> {
        let operation = self.entry.gateway.operation(&self.operation)?;
        let (answered, last) = (operation.answer.is_some(), operation.history.last().map_or(0, |line| line.seq));
        let shown = OperationView { topology: self.entry.name(), operation };
        let body = serde_json::to_string(&shown).expect("an operation is plain data");
        Some(EventBody { id: format!("{last}-{:016x}", wire::hash::fnv1a(body.bytes())), body, answered })
    }
}
