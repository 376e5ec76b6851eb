//! Names of what is counted and measured.

/// Requests, by the status that they were answered with.
const REQUESTS: &str = "nave_requests_total";
/// How long requests took, in seconds.
const REQUEST_SECONDS: &str = "nave_request_seconds";
/// Requests that are unanswered now.
const UNANSWERED: &str = "nave_requests_unanswered";
/// Requests that were turned away because their lane was busy.
const BUSY: &str = "nave_requests_busy_total";
/// Requests whose record could not be written for certain.
const NOT_WRITTEN: &str = "nave_requests_not_written_total";
/// Records of answers and views that could not be read.
const UNREADABLE: &str = "nave_northbound_unreadable_total";

pub(crate) fn request(status: u16, seconds: f64) {
    metrics::counter!(REQUESTS, "status" => status.to_string()).increment(1);
    metrics::histogram!(REQUEST_SECONDS).record(seconds);
}

pub(crate) fn unanswered(change: f64) {
    metrics::gauge!(UNANSWERED).increment(change);
}

pub(crate) fn busy() {
    metrics::counter!(BUSY).increment(1);
}

pub(crate) fn not_written(count: usize) {
    metrics::counter!(NOT_WRITTEN).increment(count as u64);
}

pub(crate) fn unreadable() {
    metrics::counter!(UNREADABLE).increment(1);
}
