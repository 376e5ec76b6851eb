//! `GET /v1/operations/{id}/events`: the progress of an operation, as server-sent events.
//!
//! Each newer view is an event `progress`; the answer is an event `answer`, and the last one. An event carries the whole
//! operation, so who misses some misses nothing: between two looks the newest wins. Its id is the number of the newest line of
//! the operation's history and a hash of what it carries, the same at every northbound; who comes back with `Last-Event-ID` is
//! sent what is new since, and told with 204 not to come again where that was the answer.

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
use super::operations::known;
use super::problem::Refused;
use super::route::Asked;
use super::start::Shown;
use crate::directory::Entry;
use crate::metrics;
use crate::watch::Watcher;

/// A comment is sent so often where there is nothing else, so that whatever is between does not take the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An operation that is not known any more is waited for so long.
const LOST: Duration = Duration::from_secs(10);

/// What a watcher is sent.
struct Look {
    id: String,
    body: String,
    answered: bool,
}

struct Watching {
    entry: Arc<Entry>,
    operation: OperationId,
    watcher: Watcher,
    /// The id of what was sent last.
    sent: Option<String>,
    over: bool,
}

pub(super) async fn watch(state: Northbound, asked: Asked) -> Result<Response, Refused> {
    let (entry, operation) = known(&state, &asked)?;
    let id = operation.operation;
    // Before the first look, so that no change after it is missed.
    let watcher = entry.gateway.watchers().watch(&id)?;
    let sent = asked.headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let watching = Watching { entry, operation: id, watcher, sent, over: false };
    if watching.look().is_some_and(|look| look.answered && watching.sent.as_ref() == Some(&look.id)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await?;
        Some((Ok::<_, Infallible>(event), watching))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

impl Watching {
    /// The next event; none after the answer, or where the operation is no longer known.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.over {
                return None;
            }
            let Some(look) = self.look() else {
                // Its view was deleted, and its answer comes over another topic; or it is too old to be known.
                timeout(LOST, self.watcher.changed()).await.ok()?;
                continue;
            };
            self.over = look.answered;
            if self.sent.as_ref() != Some(&look.id) {
                metrics::event();
                let event = Event::default().event(if look.answered { "answer" } else { "progress" });
                self.sent = Some(look.id.clone());
                return Some(event.id(look.id).data(look.body));
            }
            if !self.over {
                self.watcher.changed().await;
            }
        }
    }

    fn look(&self) -> Option<Look> {
        let operation = self.entry.gateway.operation(&self.operation)?;
        let (answered, last) = (operation.answer.is_some(), operation.history.last().map_or(0, |line| line.seq));
        let shown = Shown { topology: self.entry.name(), operation };
        let body = serde_json::to_string(&shown).expect("an operation is plain data");
        Some(Look { id: format!("{last}-{:016x}", wire::hash::fnv1a(body.bytes())), body, answered })
    }
}
