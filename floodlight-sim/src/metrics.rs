//! The metrics and their names.

use crate::audit::CommandOutcome;

/// Commands, by name and outcome.
const COMMANDS: &str = "nave_speaker_commands_total";
/// Commands that a fault applied to, by the name of the fault.
const FAULTS: &str = "nave_speaker_faults_total";
/// Unreadable messages.
const UNREADABLE: &str = "nave_speaker_unreadable_total";
/// Undeliverable answers, by reason.
const DROPPED: &str = "nave_speaker_replies_dropped_total";
/// Commits without a confirmed success, by kind of failure.
const COMMITS: &str = "nave_speaker_commit_faults_total";

pub(crate) fn command(name: &'static str, outcome: &CommandOutcome) {
    metrics::counter!(COMMANDS, "command" => name, "deed" => outcome.as_str()).increment(1);
}

pub(crate) fn struck(fault: &'static str) {
    metrics::counter!(FAULTS, "fault" => fault).increment(1);
}

pub(crate) fn unreadable() {
    metrics::counter!(UNREADABLE).increment(1);
}

pub(crate) fn dropped(why: &'static str, count: usize) {
    metrics::counter!(DROPPED, "why" => why).increment(count as u64);
}

pub(crate) fn commit_fault(how: &'static str) {
    metrics::counter!(COMMITS, "how" => how).increment(1);
}
