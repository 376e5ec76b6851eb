//! Names of the metrics of this crate.

/// Appends to Kafka that were retried because no answer came, for all writers of the process.
pub(crate) const APPENDS_RETRIED: &str = "nave_appends_retried_total";
/// Log lines that were suppressed because one of the same kind came less than 1 s before.
pub(crate) const LOG_LINES_SUPPRESSED: &str = "nave_log_lines_suppressed_total";
