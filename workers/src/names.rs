//! The names of what this crate counts.

/// Requests sent to spokes, each attempt counted.
pub const SENT: &str = "nave_calls_sent_total";
/// Calls that were sent again.
pub const RETRIED: &str = "nave_calls_retried_total";
/// Calls that ended with a reply.
pub const REPLIED: &str = "nave_calls_replied_total";
/// Calls that a spoke refused, or whose last attempt failed.
pub const REFUSED: &str = "nave_calls_refused_total";
/// Calls that ended without an answer in time.
pub const TIMED_OUT: &str = "nave_calls_timed_out_total";
/// Calls that the hub abandoned.
pub const ABANDONED: &str = "nave_calls_abandoned_total";
/// Answers of calls that had ended without one.
pub const LATE_REPLIES: &str = "nave_replies_late_total";
/// Answers of calls that were answered already.
pub const DUPLICATE_REPLIES: &str = "nave_replies_duplicate_total";
/// Refusals and failures of attempts that were given up.
pub const STALE_REPLIES: &str = "nave_replies_stale_total";
/// Answers of calls that nobody knows.
pub const UNKNOWN_REPLIES: &str = "nave_replies_unknown_total";
/// Answers whose call and message do not belong together.
pub const MISMATCHED_REPLIES: &str = "nave_replies_mismatched_total";
/// Replies that were rejected because a header or the body cannot be read. Labels: `service`; `reason`, which is the header at fault or
/// `body`.
pub const REJECTED_REPLIES: &str = "nave_replies_rejected_total";
/// Calls that were started twice; once counts.
pub const DUPLICATE_CALLS: &str = "nave_calls_duplicate_total";
/// Deadlines that came for an attempt that is over.
pub const LATE_TIMEOUTS: &str = "nave_worker_late_timeouts_total";
/// Heartbeats of a spoke that began again.
pub const WENT_UP: &str = "nave_spoke_went_up_total";
/// Heartbeats of a spoke that stopped.
pub const WENT_DOWN: &str = "nave_spoke_went_down_total";
