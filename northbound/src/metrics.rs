//! Names of what is counted and measured.

/// Requests, by the route that they took and the status that they were answered with.
const REQUESTS: &str = "nave_requests_total";
/// How long requests took, in seconds.
const REQUEST_SECONDS: &str = "nave_request_seconds";
/// Requests and commands that are unanswered now.
const UNANSWERED: &str = "nave_requests_unanswered";
/// Requests that were turned away because their lane was busy.
const BUSY: &str = "nave_requests_busy_total";
/// Requests that were turned away because too many were being answered.
const SHED: &str = "nave_requests_shed_total";
/// Requests without the token, or with a wrong one.
const UNAUTHORIZED: &str = "nave_requests_unauthorized_total";
/// Requests whose record could not be written for certain.
const NOT_WRITTEN: &str = "nave_requests_not_written_total";
/// Records of answers, views and heartbeats that could not be read.
const UNREADABLE: &str = "nave_northbound_unreadable_total";
/// Things that workflows show, and that there was no room for.
const NOT_SHOWN: &str = "nave_northbound_not_shown_total";
/// Events sent to those who watch operations.
const EVENTS: &str = "nave_northbound_events_total";
/// Connections that are open now.
const CONNECTIONS: &str = "nave_northbound_connections";

pub(crate) fn request(route: &str, status: u16, seconds: f64) {
    metrics::counter!(REQUESTS, "route" => route.to_owned(), "status" => status.to_string()).increment(1);
    metrics::histogram!(REQUEST_SECONDS).record(seconds);
}

pub(crate) fn unanswered(change: f64) {
    metrics::gauge!(UNANSWERED).increment(change);
}

pub(crate) fn connections(change: f64) {
    metrics::gauge!(CONNECTIONS).increment(change);
}

pub(crate) fn busy() {
    metrics::counter!(BUSY).increment(1);
}

pub(crate) fn shed() {
    metrics::counter!(SHED).increment(1);
}

pub(crate) fn unauthorized() {
    metrics::counter!(UNAUTHORIZED).increment(1);
}

pub(crate) fn not_written(count: usize) {
    metrics::counter!(NOT_WRITTEN).increment(count as u64);
}

pub(crate) fn unreadable() {
    metrics::counter!(UNREADABLE).increment(1);
}

pub(crate) fn not_shown() {
    metrics::counter!(NOT_SHOWN).increment(1);
}

pub(crate) fn event() {
    metrics::counter!(EVENTS).increment(1);
}
