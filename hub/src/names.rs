//! The names of the counters of this crate.

/// Operations that started.
pub const STARTED: &str = "nave_operations_started_total";
/// Operations that succeeded.
pub const DONE: &str = "nave_operations_done_total";
/// Operations that failed and undid what they could.
pub const FAILED: &str = "nave_operations_failed_total";
/// Requests that were refused.
pub const REFUSED: &str = "nave_requests_refused_total";
/// Repeated requests: a record delivered twice, or a client that repeats its key.
pub const REPEATED: &str = "nave_requests_repeated_total";
/// Operations that were parked because they broke a rule.
pub const PARKED: &str = "nave_operations_parked_total";
/// Ends of calls that no operation waits for any more.
pub const LATE_ENDS: &str = "nave_hub_late_ends_total";
/// Timeouts for an operation or a step that has ended.
pub const LATE_TIMEOUTS: &str = "nave_hub_late_timeouts_total";
/// Commands that an operation accepted.
pub const COMMANDS_TAKEN: &str = "nave_commands_taken_total";
/// Commands that were refused and changed nothing.
pub const COMMANDS_REFUSED: &str = "nave_commands_refused_total";
