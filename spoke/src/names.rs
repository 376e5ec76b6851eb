//! Names of the metrics of this crate. Each has the label `service`.

/// Records of the topic that are no call, or have no reply address. They are dropped.
pub(crate) const UNREADABLE: &str = "nave_spoke_unreadable_total";
/// Answers that the bus refuses for good, by `reason`, such as a reply topic that does not exist.
pub(crate) const DROPPED: &str = "nave_spoke_answers_dropped_total";
/// Commits that failed or whose outcome was unknown, by `kind`. They are retried.
pub(crate) const COMMIT_FAULTS: &str = "nave_spoke_commit_faults_total";
