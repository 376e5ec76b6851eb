//! Names of what is counted here.

/// Appends to Kafka that got no answer and were tried again, by all writers of this process.
pub(crate) const APPENDS_RETRIED: &str = "nave_appends_retried_total";
/// Log lines that were not written, since one of their kind had been less than a second before.
pub(crate) const LOG_LINES_SUPPRESSED: &str = "nave_log_lines_suppressed_total";
/// Messages to a spoke in Rust that were no request: unreadable, or without an address for the answer. They are dropped.
pub(crate) const SPOKE_UNREADABLE: &str = "nave_spoke_unreadable_total";
