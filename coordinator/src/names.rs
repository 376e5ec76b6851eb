//! The names of the counters of this crate. The lateness of timers is measured at the wheel:
//! `nave_timer_lateness_seconds`.

/// Deadlines registered.
pub const REGISTERED: &str = "nave_deadlines_registered_total";
/// Deadlines that passed and were reported to their component.
pub const PASSED: &str = "nave_deadlines_passed_total";
