//! Creates a flow: installs rule `i` on switch `of:i`, all rules or none.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | - | requested | installing | take a cookie and meters, or those of the existing flow; install every rule |
//! | - | requested | ended | refuse: a pool is empty, or the flow exists with another length or the request is strict |
//! | - | requested | clearing | refuse: rules are left of a flow with another length; remove them |
//! | installing | replied | installing | a rule that existed before is not to be removed |
//! | installing | all replied | validating | read every rule back |
//! | installing | all replied | installing | fault injection `IN_HUB`: the step is lost, and only its deadline ends it |
//! | installing | failed | removing | remove the rules that were or may have been installed |
//! | installing | cancelled | removing | the same |
//! | installing | timed out | removing | the same |
//! | validating | replied | validating | compare |
//! | validating | all replied | ended | the flow is up: answer |
//! | validating | all replied | removing | a rule is missing or wrong: remove the installed rules |
//! | validating | failed | removing | the same |
//! | validating | timed out | removing | the same |
//! | validating | cancelled | removing | the same |
//! | removing | undone | checking removal | read every removed rule: it must be absent |
//! | removing | undone | ended | nothing was or may have been sent: release cookie and meters; answer |
//! | removing | undo stuck | checking removal | read every rule: absent ones are not left |
//! | removing | superseded | removing | a newer request waits for the end of this attempt |
//! | clearing | replied | clearing | count |
//! | clearing | all replied | checking removal | read every removed rule: it must be absent |
//! | clearing | failed | checking removal | read every rule: absent ones are not left |
//! | clearing | timed out | checking removal | the same |
//! | clearing | superseded | clearing | a newer request waits for the end of this attempt |
//! | checking removal | replied | checking removal | an absent rule is not left |
//! | checking removal | all replied | ended | release cookie and meters; answer |
//! | checking removal | all replied | degraded | a rule still exists: answer with the rules that are left; retry later |
//! | checking removal | failed | degraded | the same |
//! | checking removal | timed out | degraded | the same |
//! | checking removal | superseded | checking removal | a newer request waits for the end of this attempt |
//! | degraded | timed out | removing | remove the rules that are left |
//! | degraded | timed out | clearing | remove the rules that are left of the earlier flow |
//! | degraded | timed out | ended | a newer request takes over the rules that are left |
//! | degraded | superseded | degraded | a newer request waits until late removals have expired |
//!
//! A late removal must not remove a rule that a newer request has installed. So an attempt is never
//! cut short, and after a failed one nothing new starts before all its messages have passed their
//! `ce_expirytime`.
//!
//! A degraded flow ends early for a newer request, which takes over the rules that are left. Even a
//! newer request that is refused for another length takes them over, because nothing else would
//! remove them.

mod failure;

use std::collections::BTreeSet;

use flow_messages::client::{self, FlowFailed, FlowUp, InjectedFault};
use flow_messages::codes;
use flow_messages::speaker::{Action, Command, Reply, SPEAKER};
use hub::{CalledService, CheckedReply, Event, Fx, Illegal, StepBudget, StepSpec, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::answer::Answer;
use wire::call::CallOutcome;
use wire::{OperationId, Problem};

use self::failure::Failure;
use crate::registry::{Flow, Registry, Resources};
use crate::settings::FlowSettings;
use crate::steps::{
    call_speaker, check_key, check_reply, describe, keep, let_expire, read_back, release, removal, remove_rules,
    retry_later, to_value,
};

hub::states! {
    /// The states of a creation. `-` is before its turn; in `clearing` it removes the rules of an
    /// earlier flow with another length; in `degraded` rules are left, and it retries their removal.
    pub enum CreateState {
        New = "-",
        Installing = "installing",
        Validating = "validating",
        Removing = "removing",
        Clearing = "clearing",
        CheckingRemoval = "checking removal",
        Degraded = "degraded",
        Ended = "ended",
    }
}
use CreateState::{CheckingRemoval, Clearing, Degraded, Ended, Installing, New, Removing, Validating};

/// The creation of one flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct CreateFlow {
    operation: OperationId,
    request: client::CreateFlow,
    /// Empty before its turn.
    resources: Resources,
    /// The flow existed before, so its rules are never removed.
    existed: bool,
    /// Rules that may exist: this operation installed them or may have, or an earlier one left
    /// them. After a failed removal they are answered, published, and removed by the next attempt.
    suspects: BTreeSet<u32>,
    /// The suspects whose removal failed in this attempt. They stay suspects even if they read as
    /// absent: a late removal must not remove a rule that a newer request installs.
    unremoved: BTreeSet<u32>,
    /// The suspects that an earlier operation left.
    inherited: BTreeSet<u32>,
    /// Rules that were missing or wrong when they were read.
    wrong: Vec<u32>,
    failure: Option<Failure>,
    answered: bool,
    /// A newer request waits for the end of this attempt.
    superseded: bool,
    retries: u32,
}

const INSTALL: &str = "install rules";
const VALIDATE: &str = "validate rules";
const REMOVE: &str = "remove rules";
const CHECK: &str = "check removal";

impl Workflow for CreateFlow {
    const NAME: &'static str = "create-flow";
    const SERVICES: &'static [CalledService] = &[CalledService::of(SPEAKER)];
    type State = CreateState;
    type Request = client::CreateFlow;
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
        [INSTALL, VALIDATE, REMOVE, CHECK]
            .map(|step| StepBudget { step, service: SPEAKER.name(), call_ms, step_ms })
            .into()
    }

    /// Field by field, so that an error names the field, its value and the allowed values.
    fn read(operation: &OperationId, key: &str, request: &Value) -> Result<Self, Problem> {
        Self::begin(operation, key, client::CreateFlow::from_json(request)?)
    }

    fn begin(operation: &OperationId, key: &str, request: client::CreateFlow) -> Result<Self, Problem> {
        check_key(key, &request.flowid)?;
        Ok(Self {
            operation: operation.clone(),
            request,
            resources: Resources { cookie: 0, meters: Vec::new() },
            existed: false,
            suspects: BTreeSet::new(),
            unremoved: BTreeSet::new(),
            inherited: BTreeSet::new(),
            wrong: Vec::new(),
            failure: None,
            answered: false,
            superseded: false,
            retries: 0,
        })
    }

    fn check_reply(&self, state: CreateState, _: u32, is_undo: bool, reply: &CheckedReply) -> Result<(), String> {
        let expected = match state {
            Installing => "installed",
            Validating | CheckingRemoval => "found",
            New | Removing | Clearing | Degraded | Ended => "removed",
        };
        check_reply(if is_undo { "removed" } else { expected }, reply)
    }

    fn on(&mut self, state: CreateState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<CreateState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => match self.take_resources(fx.lane) {
                Ok(()) => self.install(fx),
                Err(problem) => self.refuse(problem, fx),
            },

            (Installing, Event::Replied { tag, reply }) => {
                if reply.of(SPEAKER) == (Reply::Installed { existed: true }) && !self.inherited.contains(tag) {
                    self.suspects.remove(tag);
                    fx.skip_undo(*tag);
                }
                Installing
            }
            (Installing, Event::AllReplied) if self.request.error == Some(InjectedFault::InHub) => {
                fx.note("fault injection: the hub loses the step");
                Installing
            }
            (Installing, Event::AllReplied) => self.validate(fx),
            (Installing, Event::Failed(failure)) => {
                let refused = failure.attempts <= 1 && matches!(failure.outcome, CallOutcome::Refused(_));
                if refused && !self.inherited.contains(&failure.tag) {
                    self.suspects.remove(&failure.tag);
                }
                self.failed(Failure::of_install(failure), fx)
            }
            (Installing, Event::TimedOut) => self.failed(Failure::timed_out(INSTALL), fx),
            (Installing, Event::Cancelled) => self.failed(Failure::cancelled(INSTALL), fx),

            (Validating, Event::Replied { tag, reply }) => {
                let rule = Some(self.resources.rule(&self.request.flowid, *tag));
                if reply.of(SPEAKER) != (Reply::Found { rule }) {
                    self.wrong.push(*tag);
                }
                Validating
            }
            (Validating, Event::AllReplied) if self.wrong.is_empty() => {
                keep(&self.operation, &self.request.flowid, &self.resources, BTreeSet::new(), fx);
                fx.answer(Answer::Done(self.up()));
                fx.end();
                Ended
            }
            (Validating, Event::AllReplied) => self.failed(Failure::wrong_rules(&self.wrong), fx),
            (Validating, Event::Failed(failure)) => self.failed(Failure::of_validation(failure), fx),
            (Validating, Event::TimedOut) => self.failed(Failure::timed_out(VALIDATE), fx),
            (Validating, Event::Cancelled) => self.failed(Failure::cancelled(VALIDATE), fx),

            (Removing, Event::Undone { never_sent }) => {
                self.suspects.retain(|number| !never_sent.contains(number));
                self.unremoved.clear();
                if self.suspects.is_empty() { self.removed(fx) } else { self.check_removal(fx) }
            }
            (Removing, Event::UndoStuck { left }) => {
                self.unremoved = left.iter().copied().collect();
                self.suspects.extend(left);
                self.check_removal(fx)
            }
            (Clearing, Event::Replied { tag, .. }) => {
                self.unremoved.remove(tag);
                Clearing
            }
            (Clearing, Event::AllReplied | Event::Failed(_) | Event::TimedOut) => {
                match event {
                    Event::AllReplied => self.unremoved.clear(),
                    Event::Failed(failure) => self.unremoved = BTreeSet::from([failure.tag]),
                    _timed_out => {}
                }
                self.check_removal(fx)
            }
            (CheckingRemoval, Event::Replied { tag, reply }) => {
                if reply.of(SPEAKER) == (Reply::Found { rule: None }) && !self.unremoved.contains(tag) {
                    self.suspects.remove(tag);
                }
                CheckingRemoval
            }
            (CheckingRemoval, Event::AllReplied) if self.suspects.is_empty() => self.removed(fx),
            (CheckingRemoval, Event::AllReplied | Event::Failed(_) | Event::TimedOut) => self.degrade(fx),
            (Removing | Clearing | CheckingRemoval, Event::Superseded) => {
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

            // A refused request: the rules that are left are not its own, and it has nothing to
            // undo.
            (Degraded, Event::TimedOut) if self.failure.is_none() => self.clear(fx),
            (Degraded, Event::TimedOut) => {
                fx.undo(REMOVE, fx.lane.settings.step_ms);
                Removing
            }

            (New | Installing | Validating | Removing | Clearing | CheckingRemoval | Degraded | Ended, _) => {
                return Err(Illegal);
            }
        })
    }

    /// Leaves the rules that may exist to a newer request, with the resources that identify them.
    fn aborted(&mut self, lane: &mut Registry) {
        if !self.existed && self.resources.length() > 0 {
            lane.keep(&self.request.flowid, Flow { resources: self.resources.clone(), left: self.suspects.clone() });
        }
    }
}

impl CreateFlow {
    /// Takes the resources of the existing flow, or new ones.
    fn take_resources(&mut self, lane: &mut Registry) -> Result<(), Problem> {
        let length = self.request.length;
        let Some(flow) = lane.flow(&self.request.flowid) else {
            self.resources = lane.allocate(&self.request.flowid, length)?;
            self.suspects = (1..=length).collect();
            return Ok(());
        };
        if self.request.strict && flow.left.is_empty() {
            let detail = format!("flow `{}` exists with {} rules", self.request.flowid, flow.resources.length());
            return Err(Problem::new(codes::FLOW_EXISTS, detail));
        }
        let stands = flow.resources.length();
        if stands != length {
            return Err(Problem::field(
                "length",
                &length.to_string(),
                &format!("{stands}, since flow `{}` exists with that length", self.request.flowid),
            ));
        }
        self.resources = flow.resources.clone();
        if flow.left.is_empty() {
            self.existed = true;
        } else {
            self.inherited = flow.left.clone();
            self.suspects = (1..=length).collect();
        }
        Ok(())
    }

    /// Refuses the request. Rules that an earlier operation left are removed: this operation has
    /// taken them over.
    fn refuse(&mut self, problem: Problem, fx: &mut Fx<'_, Self>) -> CreateState {
        fx.answer(Answer::Refused(problem));
        let Some(flow) = fx.lane.flow(&self.request.flowid).filter(|flow| !flow.left.is_empty()) else {
            fx.end();
            return Ended;
        };
        self.resources = flow.resources.clone();
        self.suspects.clone_from(&flow.left);
        self.answered = true;
        fx.yields();
        self.clear(fx)
    }

    fn clear(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        self.unremoved.clone_from(&self.suspects);
        remove_rules(REMOVE, self.resources.cookie, self.suspects.iter().copied(), fx);
        Clearing
    }

    fn install(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        let FlowSettings { call_ms, step_ms, .. } = fx.lane.settings;
        // An injected fault hits one rule in the middle of the path.
        let middle = self.request.length.div_ceil(2);
        let calls = (1..=self.request.length).map(|number| {
            let rule = self.resources.rule(&self.request.flowid, number);
            let error = self.request.error.filter(|fault| number == middle && *fault != InjectedFault::InHub);
            let remove = removal(number, rule.cookie);
            let call = call_speaker(number, &Command { action: Action::Install { rule }, error }, call_ms);
            match (self.existed, self.inherited.contains(&number)) {
                (true, _) => call,
                (false, false) => call.undo(&remove, describe(number, &remove), call_ms),
                (false, true) => call.undo(&remove, describe(number, &remove), call_ms).always_undo(),
            }
        });
        fx.step(StepSpec::new(INSTALL, step_ms).calls(calls));
        Installing
    }

    fn validate(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        read_back(VALIDATE, self.resources.cookie, 1..=self.request.length, fx);
        Validating
    }

    fn check_removal(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        read_back(CHECK, self.resources.cookie, self.suspects.iter().copied(), fx);
        CheckingRemoval
    }

    /// Records the failure, and removes the rules that were or may have been installed.
    fn failed(&mut self, failure: Failure, fx: &mut Fx<'_, Self>) -> CreateState {
        fx.note(format!("failed at {}: {}", failure.step, failure.detail));
        self.failure = Some(failure);
        if self.existed {
            self.suspects.clear();
        }
        fx.undo(REMOVE, fx.lane.settings.step_ms);
        Removing
    }

    /// Ends the operation after a complete removal.
    fn removed(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        if !self.existed {
            release(&self.request.flowid, &self.resources, fx);
        }
        if self.answered {
            fx.note("nothing is left");
        } else {
            fx.answer(Answer::Failed(self.answer(false)));
        }
        fx.end();
        Ended
    }

    /// Records, answers and publishes the rules that are or may be left, and schedules the next
    /// attempt.
    fn degrade(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        keep(&self.operation, &self.request.flowid, &self.resources, self.suspects.clone(), fx);
        if self.superseded {
            let_expire(fx);
            return Degraded;
        }
        self.suspects.iter().for_each(|number| fx.undo_again(*number));
        if !self.answered {
            self.answered = true;
            fx.answer(Answer::Failed(self.answer(true)));
            fx.yields();
        }
        retry_later(&mut self.retries, fx);
        Degraded
    }

    fn up(&self) -> Value {
        to_value(&FlowUp {
            message: "all operation is successful".into(),
            flowid: self.request.flowid.clone(),
            operation: self.operation.clone(),
            existed: self.existed,
        })
    }

    fn answer(&self, degraded: bool) -> Value {
        let failure = self.failure.as_ref().expect("a removal follows a failure");
        to_value(&FlowFailed {
            code: failure.code.clone(),
            message: failure.message.into(),
            flowid: self.request.flowid.clone(),
            operation: self.operation.clone(),
            origin: failure.origin,
            step: failure.step.into(),
            detail: failure.detail.clone(),
            degraded,
            left: self
                .suspects
                .iter()
                .filter(|_| degraded)
                .map(|number| self.resources.rule(&self.request.flowid, *number))
                .collect(),
        })
    }
}
