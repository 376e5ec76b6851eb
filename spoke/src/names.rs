//! The metrics of this crate. Each has the label `service`.

/// Records of the topic that are not readable as calls, or have no reply address.
pub(crate) const UNREADABLE: &str = "nave_spoke_unreadable_total";
/// Answers that the bus refuses for good, by `reason`, such as a reply topic that does not exist.
const DROPPED: &str = "nave_spoke_answers_dropped_total";
/// Commits that failed or whose outcome was unknown, by `kind`. They are retried.
const COMMIT_FAULTS: &str = "nave_spoke_commit_faults_total";

pub(crate) fn dropped(service: &str, reason: &'static str, count: usize) {
    metrics::counter!(DROPPED, "service" => service.to_owned(), "reason" => reason).increment(count as u64);
}

pub(crate) fn commit_fault(service: &str, kind: &'static str) {
    metrics::counter!(COMMIT_FAULTS, "service" => service.to_owned(), "kind" => kind).increment(1);
}
