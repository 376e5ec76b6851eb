//! Why a creation failed, as its answer tells.

use flow_messages::client::Origin;
use flow_messages::codes;
use hub::CallFailure;
use hub::interned::Interned;
use serde::{Deserialize, Serialize};
use wire::Code;
use wire::call::CallOutcome;

use super::{INSTALL, VALIDATE};

const NOT_VALIDATED: &str = "error in worker on rule validation";

/// The reason of a failure. Saved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    #[serde(flatten)]
    pub(super) code: Code,
    #[serde(with = "hub::interned")]
    pub(super) message: Interned,
    pub(super) origin: Origin,
    #[serde(with = "hub::interned")]
    pub(super) step: Interned,
    pub(super) detail: String,
}

impl Failure {
    /// A rule was not installed.
    pub(super) fn of_install(failure: &CallFailure) -> Self {
        let (origin, detail) = origin_and_detail(failure);
        Self { code: codes::INSTALL_FAILED, message: "error in worker on rule install", origin, step: INSTALL, detail }
    }

    /// A rule was not read.
    pub(super) fn of_validation(failure: &CallFailure) -> Self {
        let (origin, detail) = origin_and_detail(failure);
        Self { code: codes::VALIDATION_FAILED, message: NOT_VALIDATED, origin, step: VALIDATE, detail }
    }

    pub(super) fn cancelled(step: Interned) -> Self {
        let (message, detail) = ("the operation was cancelled", format!("it was cancelled in step {step}"));
        Self { code: Code::Cancelled, message, origin: Origin::Hub, step, detail }
    }

    pub(super) fn timed_out(step: Interned) -> Self {
        let (message, detail) = ("error in hub by timeout", format!("{step} did not end before its deadline"));
        Self { code: codes::HUB_TIMEOUT, message, origin: Origin::Hub, step, detail }
    }

    pub(super) fn wrong_rules(wrong: &[u32]) -> Self {
        let shown: Vec<String> = wrong.iter().take(10).map(ToString::to_string).collect();
        let more = if wrong.len() > shown.len() { ", ..." } else { "" };
        let detail = format!("rules {}{more} are missing on their switches, or differ", shown.join(", "));
        let origin = Origin::Switch;
        Self { code: codes::VALIDATION_FAILED, message: NOT_VALIDATED, origin, step: VALIDATE, detail }
    }
}

/// Returns the origin of a failed call, and what happened.
fn origin_and_detail(failure: &CallFailure) -> (Origin, String) {
    let CallFailure { what, attempts, outcome, .. } = failure;
    match outcome {
        CallOutcome::Refused(reason) if *attempts == 0 => (Origin::Worker, format!("{what}: not sent, {reason}")),
        CallOutcome::Refused(reason) | CallOutcome::Misread(reason) => (Origin::Switch, format!("{what}: {reason}")),
        CallOutcome::TimedOut | CallOutcome::Replied(_) if *attempts == 0 => {
            (Origin::Worker, format!("{what}: not sent in time"))
        }
        CallOutcome::TimedOut | CallOutcome::Replied(_) => {
            (Origin::Timeout, format!("{what}: no answer in time after {attempts} attempts"))
        }
    }
}
