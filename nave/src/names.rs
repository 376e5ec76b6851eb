//! Names of what is counted here.

/// Messages to a spoke in Rust that were no request: unreadable, or without an address for the answer. They are dropped.
pub(crate) const SPOKE_UNREADABLE: &str = "nave_spoke_unreadable_total";
