//! The names of what this crate counts. Lateness is measured where the wheel is: `nave_timer_lateness_seconds`.

/// Deadlines registered.
pub const REGISTERED: &str = "nave_deadlines_registered_total";
/// Deadlines that passed and were handed to their component.
pub const PASSED: &str = "nave_deadlines_passed_total";
/// Timeouts that came for a deadline that had been cancelled or registered anew.
pub const STALE: &str = "nave_deadlines_stale_total";
