//! The names of the counters of this crate.

/// Requests sent to spokes, including repeated attempts.
pub const SENT: &str = "nave_calls_sent_total";
/// Calls that were sent again.
pub const RETRIED: &str = "nave_calls_retried_total";
/// Calls that ended with a reply.
pub const REPLIED: &str = "nave_calls_replied_total";
/// Calls that a spoke or the worker refused, or whose last attempt failed.
pub const REFUSED: &str = "nave_calls_refused_total";
/// Calls that ended without an answer within their time limit.
pub const TIMED_OUT: &str = "nave_calls_timed_out_total";
/// Calls that the hub abandoned.
pub const ABANDONED: &str = "nave_calls_abandoned_total";
/// Answers to calls that had ended without an answer.
pub const LATE_REPLIES: &str = "nave_replies_late_total";
/// Answers to calls that had been answered.
pub const DUPLICATE_REPLIES: &str = "nave_replies_duplicate_total";
/// Refusals and failures of earlier attempts.
pub const STALE_REPLIES: &str = "nave_replies_stale_total";
/// Answers to unknown calls.
pub const UNKNOWN_REPLIES: &str = "nave_replies_unknown_total";
/// Answers whose `ce_callid` and `ce_causationid` contradict each other.
pub const MISMATCHED_REPLIES: &str = "nave_replies_mismatched_total";
/// Answers with an unreadable header or body, by `service` and `reason`: the header, or `body`.
pub const REJECTED_REPLIES: &str = "nave_replies_rejected_total";
/// Calls that were started twice; the second start is ignored.
pub const DUPLICATE_CALLS: &str = "nave_calls_duplicate_total";
/// Timeouts for an attempt that has ended.
pub const LATE_TIMEOUTS: &str = "nave_worker_late_timeouts_total";
/// Changes of a service from down to up: its heartbeats resumed, or it answered without them.
pub const WENT_UP: &str = "nave_spoke_went_up_total";
/// Changes of a service to down: its heartbeats stopped.
pub const WENT_DOWN: &str = "nave_spoke_went_down_total";
