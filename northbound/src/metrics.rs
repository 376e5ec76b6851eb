//! Names of metrics.

/// Requests, by route and status.
const REQUESTS: &str = "nave_requests_total";
/// Duration of requests, in seconds.
const REQUEST_SECONDS: &str = "nave_request_seconds";
/// Unanswered requests and commands.
const UNANSWERED: &str = "nave_requests_unanswered";
/// Requests refused because their lane was busy.
const BUSY: &str = "nave_requests_busy_total";
/// Requests refused because too many were running.
const SHED: &str = "nave_requests_shed_total";
/// Requests without a token or with a wrong one.
const UNAUTHORIZED: &str = "nave_requests_unauthorized_total";
/// Requests whose record may not have been written.
const NOT_WRITTEN: &str = "nave_requests_not_written_total";
/// Records of answers, views and heartbeats that could not be parsed.
const UNREADABLE: &str = "nave_northbound_unreadable_total";
/// Resources that did not fit into the cache.
const NOT_SHOWN: &str = "nave_northbound_not_shown_total";
/// Server-sent events.
const EVENTS: &str = "nave_northbound_events_total";
/// Open connections.
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
