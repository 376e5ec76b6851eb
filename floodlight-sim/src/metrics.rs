//! Names of what is counted.

use crate::audit::Deed;

/// Commands by word and by what came of them.
const COMMANDS: &str = "nave_speaker_commands_total";
/// Commands that a fault has struck, by its name.
const FAULTS: &str = "nave_speaker_faults_total";
/// Messages that could not be read.
const UNREADABLE: &str = "nave_speaker_unreadable_total";
/// Replies that nobody could be given, with the reason.
const DROPPED: &str = "nave_speaker_replies_dropped_total";
/// Commits that did not say they happened, by how.
const COMMITS: &str = "nave_speaker_commit_faults_total";

pub(crate) fn command(word: &'static str, deed: &Deed) {
    metrics::counter!(COMMANDS, "command" => word, "deed" => deed.as_str()).increment(1);
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
