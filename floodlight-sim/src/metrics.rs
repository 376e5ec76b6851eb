//! The metrics and their names.

use crate::audit::CommandOutcome;

/// Commands, by name and outcome.
const COMMANDS: &str = "nave_speaker_commands_total";
/// Commands that a fault applied to, by the name of the fault.
const FAULTS: &str = "nave_speaker_faults_total";

pub(crate) fn command(name: &'static str, outcome: &CommandOutcome) {
    metrics::counter!(COMMANDS, "command" => name, "outcome" => outcome.as_str()).increment(1);
}

pub(crate) fn struck(fault: &'static str) {
    metrics::counter!(FAULTS, "fault" => fault).increment(1);
}
