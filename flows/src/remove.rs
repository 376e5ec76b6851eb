//! Removes a flow: every rule of it, or reports the rules that are left.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | - | requested | removing | remove every rule; of a degraded flow the rules that are left |
//! | - | requested | ended | refuse: the flow does not exist |
//! | removing | replied | removing | count |
//! | removing | all replied | checking | read every rule: it must be absent |
//! | removing | failed | checking | read every rule: absent ones are not left |
//! | removing | timed out | checking | the same |
//! | removing | superseded | removing | a newer request waits for the end of this attempt |
//! | checking | replied | checking | an absent rule is not left |
//! | checking | all replied | ended | release cookie and meters; answer |
//! | checking | all replied | degraded | a rule still exists: answer with the rules that are left; retry later |
//! | checking | failed | degraded | the same |
//! | checking | timed out | degraded | the same |
//! | checking | superseded | checking | a newer request waits for the end of this attempt |
//! | degraded | timed out | removing | remove the rules that are left |
//! | degraded | timed out | ended | a newer request takes over the rules that are left |
//! | degraded | superseded | degraded | a newer request waits until late removals have expired |
//!
//! A removal cannot be cancelled. As in [`crate::create`], nothing new starts before all messages
//! of a failed attempt have expired.
//!
//! A rule counts as left until it was removed and reads as absent: a switch may confirm a removal
//! that it has not done. So every rule is read even after a failed removal. The answer, the view of
//! the flow and the next attempt list the same rules.

use std::collections::BTreeSet;

use flow_messages::client::{self, FlowFailed, FlowGone, Origin};
use flow_messages::codes;
use flow_messages::speaker::{Reply, SPEAKER};
use hub::interned::Interned;
use hub::{CallFailure, CalledService, CheckedReply, Event, Fx, Illegal, StepBudget, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::answer::Answer;
use wire::call::CallOutcome;
use wire::{OperationId, Problem};

use crate::registry::{Flow, Registry, Resources};
use crate::settings::FlowSettings;
use crate::steps::{check_key, check_reply, keep, let_expire, read_back, release, remove_rules, retry_later, to_value};

hub::states! {
    /// The states of a removal. `-` is before its turn; in `degraded` rules are left, and it retries
    /// their removal.
    pub enum RemoveState {
        New = "-",
        Removing = "removing",
        Checking = "checking",
        Degraded = "degraded",
        Ended = "ended",
    }
}
use RemoveState::{Checking, Degraded, Ended, New, Removing};

/// The removal of one flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveFlow {
    operation: OperationId,
    flowid: String,
    /// Empty before its turn.
    resources: Resources,
    /// Rules that may exist: answered, published, and removed by the next attempt.
    left: BTreeSet<u32>,
    /// The rules whose removal failed in this attempt. They stay left even if they read as absent:
    /// a late removal must not remove a rule that a newer request installs.
    unremoved: BTreeSet<u32>,
    removed: u32,
    /// The reason why the first attempt failed.
    failure: Option<Failure>,
    answered: bool,
    /// A newer request waits for the end of this attempt.
    superseded: bool,
    retries: u32,
}

/// The reason of a failure.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Failure {
    origin: Origin,
    #[serde(with = "hub::interned")]
    step: Interned,
    detail: String,
}

const REMOVE: &str = "remove rules";
const CHECK: &str = "check removal";

impl Workflow for RemoveFlow {
    const NAME: &'static str = "remove-flow";
    const SERVICES: &'static [CalledService] = &[CalledService::of(SPEAKER)];
    type State = RemoveState;
    type Request = client::RemoveFlow;
    type Lane = Registry;

    fn configure(lane: &mut Registry, settings: &Settings, info: &LaneInfo) {
        lane.configure(settings, info);
    }

    fn request_ms(settings: &Settings) -> Option<u64> {
        let FlowSettings { request_ms, .. } = settings.of("flows").unwrap_or_default();
        Some(request_ms)
    }

    fn budgets(settings: &Settings) -> Vec<StepBudget> {
        let FlowSettings { call_ms, step_ms, .. } = settings.of("flows").unwrap_or_default();
        [REMOVE, CHECK].map(|step| StepBudget { step, service: SPEAKER.name(), call_ms, step_ms }).into()
    }

    fn begin(operation: &OperationId, key: &str, request: client::RemoveFlow) -> Result<Self, Problem> {
        check_key(key, &request.flowid)?;
        Ok(Self {
            operation: operation.clone(),
            flowid: request.flowid,
            resources: Resources { cookie: 0, meters: Vec::new() },
            left: BTreeSet::new(),
            unremoved: BTreeSet::new(),
            removed: 0,
            failure: None,
            answered: false,
            superseded: false,
            retries: 0,
        })
    }

    fn check_reply(&self, state: RemoveState, _: u32, _: bool, reply: &CheckedReply) -> Result<(), String> {
        check_reply(if state == Removing { "removed" } else { "found" }, reply)
    }

    fn on(&mut self, state: RemoveState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<RemoveState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                let Some(flow) = fx.lane.flow(&self.flowid) else {
                    let detail = format!("flow `{}` does not exist", self.flowid);
                    fx.answer(Answer::Refused(Problem::new(codes::UNKNOWN_FLOW, detail)));
                    fx.end();
                    return Ok(Ended);
                };
                self.resources = flow.resources.clone();
                self.left =
                    if flow.left.is_empty() { (1..=self.resources.length()).collect() } else { flow.left.clone() };
                self.remove(fx)
            }

            (Removing, Event::Replied { tag, reply }) => {
                self.unremoved.remove(tag);
                if reply.of(SPEAKER) == (Reply::Removed { existed: true }) {
                    self.removed += 1;
                }
                Removing
            }
            (Removing, Event::AllReplied) => {
                self.unremoved.clear();
                self.check(fx)
            }
            (Removing, Event::Failed(failure)) => {
                self.unremoved = BTreeSet::from([failure.tag]);
                self.failed(REMOVE, call_failure(failure), fx);
                self.check(fx)
            }
            (Removing, Event::TimedOut) => {
                self.failed(REMOVE, step_timeout(), fx);
                self.check(fx)
            }

            (Checking, Event::Replied { tag, reply }) => {
                if reply.of(SPEAKER) == (Reply::Found { rule: None }) && !self.unremoved.contains(tag) {
                    self.left.remove(tag);
                }
                Checking
            }
            (Checking, Event::AllReplied) if self.left.is_empty() => self.gone(fx),
            (Checking, Event::AllReplied) => {
                if self.unremoved.is_empty() {
                    let still = format!("{} rules still exist after their removal", self.left.len());
                    self.failed(CHECK, (Origin::Switch, still), fx);
                }
                self.degrade(fx)
            }
            (Checking, Event::Failed(failure)) => {
                self.failed(CHECK, call_failure(failure), fx);
                self.degrade(fx)
            }
            (Checking, Event::TimedOut) => {
                self.failed(CHECK, step_timeout(), fx);
                self.degrade(fx)
            }

            (Removing | Checking, Event::Superseded) => {
                self.superseded = true;
                fx.note("a newer request takes over after this try");
                state
            }
            (Degraded, Event::Superseded) => {
                self.superseded = true;
                let_expire(fx);
                Degraded
            }
            (Degraded, Event::TimedOut) if self.superseded => {
                fx.note("a newer request takes over what is left");
                fx.end();
                Ended
            }
            (Degraded, Event::TimedOut) => self.remove(fx),

            (New | Removing | Checking | Degraded | Ended, _) => return Err(Illegal),
        })
    }

    /// Leaves the rules that may exist to a newer request.
    fn aborted(&mut self, lane: &mut Registry) {
        if !self.left.is_empty() {
            lane.keep(&self.flowid, Flow { resources: self.resources.clone(), left: self.left.clone() });
        }
    }
}

impl RemoveFlow {
    fn remove(&mut self, fx: &mut Fx<'_, Self>) -> RemoveState {
        self.unremoved.clone_from(&self.left);
        remove_rules(REMOVE, self.resources.cookie, self.left.iter().copied(), fx);
        Removing
    }

    fn check(&self, fx: &mut Fx<'_, Self>) -> RemoveState {
        read_back(CHECK, self.resources.cookie, self.left.iter().copied(), fx);
        Checking
    }

    /// Records that an attempt failed at this step. The answer gives the first reason.
    fn failed(&mut self, step: &'static str, (origin, detail): (Origin, String), fx: &mut Fx<'_, Self>) {
        fx.note(format!("failed at {step}: {detail}"));
        self.failure.get_or_insert(Failure { origin, step, detail });
    }

    /// Ends the operation after a complete removal.
    fn gone(&mut self, fx: &mut Fx<'_, Self>) -> RemoveState {
        release(&self.flowid, &self.resources, fx);
        if self.answered {
            fx.note("nothing is left");
        } else {
            fx.answer(Answer::Done(to_value(&FlowGone {
                message: "all operation is successful".into(),
                flowid: self.flowid.clone(),
                operation: self.operation.clone(),
                removed: self.removed,
            })));
        }
        fx.end();
        Ended
    }

    /// Records, answers and publishes the rules that are or may be left, and schedules the next
    /// attempt.
    fn degrade(&mut self, fx: &mut Fx<'_, Self>) -> RemoveState {
        keep(&self.operation, &self.flowid, &self.resources, self.left.clone(), fx);
        if self.superseded {
            let_expire(fx);
            return Degraded;
        }
        if !self.answered {
            self.answered = true;
            fx.answer(Answer::Failed(self.answer()));
            fx.yields();
        }
        retry_later(&mut self.retries, fx);
        Degraded
    }

    fn answer(&self) -> Value {
        let Failure { origin, step, detail } = self.failure.clone().expect("an attempt has failed");
        to_value(&FlowFailed {
            code: codes::REMOVAL_FAILED,
            message: "error in worker on rule removal".into(),
            flowid: self.flowid.clone(),
            operation: self.operation.clone(),
            origin,
            step: step.into(),
            detail,
            degraded: true,
            left: self.left.iter().map(|number| self.resources.rule(&self.flowid, *number)).collect(),
        })
    }
}

fn call_failure(failure: &CallFailure) -> (Origin, String) {
    let CallFailure { what, attempts, outcome, .. } = failure;
    match outcome {
        CallOutcome::Refused(reason) if *attempts == 0 => (Origin::Worker, format!("{what}: not sent, {reason}")),
        CallOutcome::Refused(reason) | CallOutcome::Misread(reason) => (Origin::Switch, format!("{what}: {reason}")),
        CallOutcome::TimedOut | CallOutcome::Replied(_) => {
            (Origin::Timeout, format!("{what}: no answer in time after {attempts} attempts"))
        }
    }
}

fn step_timeout() -> (Origin, String) {
    (Origin::Hub, "the step did not end before its deadline".into())
}
