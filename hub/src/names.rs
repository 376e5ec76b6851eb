//! The names of what this crate counts.

/// Operations that began.
pub const STARTED: &str = "nave_operations_started_total";
/// Operations that did what was asked.
pub const DONE: &str = "nave_operations_done_total";
/// Operations that failed, and undid what they could.
pub const FAILED: &str = "nave_operations_failed_total";
/// Requests that were not accepted.
pub const REFUSED: &str = "nave_requests_refused_total";
/// Requests that came again: a record delivered twice, or a client that repeats its key.
pub const REPEATED: &str = "nave_requests_repeated_total";
/// Operations that broke a rule and were parked.
pub const PARKED: &str = "nave_operations_parked_total";
/// Ends of calls that nobody waits for any more.
pub const LATE_ENDS: &str = "nave_hub_late_ends_total";
/// Deadlines that came for an operation or a step that is over.
pub const LATE_TIMEOUTS: &str = "nave_hub_late_timeouts_total";
/// Commands that an operation took.
pub const COMMANDS_TAKEN: &str = "nave_commands_taken_total";
/// Commands that were refused, and changed nothing.
pub const COMMANDS_REFUSED: &str = "nave_commands_refused_total";
