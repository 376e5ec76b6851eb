//! Creates a flow: rule `i` on switch `of:i`, or nothing.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | - | requested | installing | take cookie and meters, or those the flow has; install every rule |
//! | - | requested | ended | refuse: a pool is empty, or the flow stands: with another length, or though it must not |
//! | - | requested | clearing | refuse: something is left of a flow with another length; remove it |
//! | installing | replied | installing | a rule that stood before is not to be removed |
//! | installing | all replied | validating | read every rule back |
//! | installing | all replied | installing | drill `IN_HUB`: the step is lost, and only the deadline is left |
//! | installing | failed | removing | remove what was or may have been installed |
//! | installing | cancelled | removing | the same |
//! | installing | timed out | removing | the same |
//! | validating | replied | validating | compare |
//! | validating | all replied | ended | the flow stands: answer |
//! | validating | all replied | removing | a rule is not as it should be: remove what was installed |
//! | validating | failed | removing | the same |
//! | validating | timed out | removing | the same |
//! | validating | cancelled | removing | the same |
//! | removing | undone | checking removal | read every removed rule: it must be gone |
//! | removing | undone | ended | nothing was ever sent, or may have been: release cookie and meters; answer |
//! | removing | undo stuck | checking removal | read every rule: those that are gone are not left |
//! | removing | superseded | removing | a newer request waits for the end of this try |
//! | clearing | replied | clearing | count |
//! | clearing | all replied | checking removal | read every removed rule: it must be gone |
//! | clearing | failed | checking removal | read every rule: those that are gone are not left |
//! | clearing | timed out | checking removal | the same |
//! | clearing | superseded | clearing | a newer request waits for the end of this try |
//! | checking removal | replied | checking removal | a rule that is gone is not left |
//! | checking removal | all replied | ended | release cookie and meters; answer |
//! | checking removal | all replied | degraded | a rule still stands: answer with what is left; try again later |
//! | checking removal | failed | degraded | the same |
//! | checking removal | timed out | degraded | the same |
//! | checking removal | superseded | checking removal | a newer request waits for the end of this try |
//! | degraded | timed out | removing | remove what is left |
//! | degraded | timed out | clearing | remove what is left of the flow before |
//! | degraded | timed out | ended | a newer request takes over what is left |
//! | degraded | superseded | degraded | a newer request waits until no late removal can strike it |
//!
//! A removal that is carried out late must not take away what a newer request has installed. So a try is never cut short,
//! and after one that failed nothing new is begun before every message of it is past its `ce_expirytime`.
//!
//! A degraded flow ends early for a newer request, which takes over what is left. One that is refused, since it wants another
//! length, takes it over all the same: nobody else would remove it.

use std::collections::BTreeSet;

use hub::word::Word;
use hub::{CallFailure, CallSpec, Event, Fx, Illegal, State, StepBudget, UndoSpec, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{LaneInfo, Settings};
use wire::answer::Answer;
use wire::call::CallOutcome;
use wire::flow::{self, Drill, FlowFailed, FlowUp, Origin};
use wire::speaker::{Action, Command, Reply};
use wire::{Code, OperationId, Problem};

use crate::registry::{Flow, Registry, Resources};
use crate::request::{CreateRequest, key_is_flow};
use crate::settings::FlowSettings;
use crate::steps::{
    Expected, at_once, call_speaker, check_reply, json, keep, read_back, release, reply, take_away, to_value,
};
use crate::topology::SPEAKER;

/// The states of a flow that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateState {
    /// Before its turn.
    New,
    /// Rules go to their switches.
    Installing,
    /// Rules are read back.
    Validating,
    /// Rules are taken away.
    Removing,
    /// Rules of a flow before it, which had another length, are taken away.
    Clearing,
    /// Rules are read, and must be gone.
    CheckingRemoval,
    /// Something is left, and is tried again.
    Degraded,
    /// Over.
    Ended,
}

use CreateState::{CheckingRemoval, Clearing, Degraded, Ended, Installing, New, Removing, Validating};

impl State for CreateState {
    const ALL: &'static [Self] = &[New, Installing, Validating, Removing, Clearing, CheckingRemoval, Degraded, Ended];

    fn name(self) -> &'static str {
        match self {
            New => "-",
            Installing => "installing",
            Validating => "validating",
            Removing => "removing",
            Clearing => "clearing",
            CheckingRemoval => "checking removal",
            Degraded => "degraded",
            Ended => "ended",
        }
    }
}

/// The creation of one flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct CreateFlow {
    operation: OperationId,
    request: flow::CreateFlow,
    /// Empty before its turn.
    resources: Resources,
    /// The flow stood before: whatever happens, it stands after.
    existed: bool,
    /// Rules that may stand: this operation installed them, or may have, or they are left of one before it. Once the removal
    /// failed they are answered, shown, and removed by the next try.
    suspects: BTreeSet<u32>,
    /// Those of them whose removal failed in this try. Even one that is read to be gone stays a suspect: its removal may be on
    /// its way, and must not take away what a newer request installs.
    unremoved: BTreeSet<u32>,
    /// Those of them that are left of an operation before it.
    inherited: BTreeSet<u32>,
    /// Rules that were not as they should be when they were read.
    wrong: Vec<u32>,
    failure: Option<Failure>,
    answered: bool,
    /// A newer request waits for the end of this try.
    superseded: bool,
    retries: u32,
}

/// Why it failed.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    code: Code,
    #[serde(with = "hub::word")]
    message: Word,
    origin: Origin,
    #[serde(with = "hub::word")]
    step: Word,
    detail: String,
}

const INSTALL: &str = "install rules";
const VALIDATE: &str = "validate rules";
const REMOVE: &str = "remove rules";
const CHECK: &str = "check removal";

impl Workflow for CreateFlow {
    const NAME: &'static str = "create-flow";
    type State = CreateState;
    type Request = CreateRequest;
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
        [INSTALL, VALIDATE, REMOVE, CHECK].map(|step| StepBudget { step, service: SPEAKER, call_ms, step_ms }).into()
    }

    /// Field by field, so that a fault names the field, its value and what is allowed.
    fn read(operation: &OperationId, key: &str, request: &Value) -> Result<Self, Problem> {
        Self::begin(operation, key, CreateRequest(flow::CreateFlow::from_json(request)?))
    }

    fn begin(operation: &OperationId, key: &str, CreateRequest(request): CreateRequest) -> Result<Self, Problem> {
        key_is_flow(key, &request.flowid)?;
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

    fn check_reply(&self, state: CreateState, _: u32, is_undo: bool, body: &str) -> Result<(), String> {
        let expected = match state {
            _ if is_undo => Expected::Removed,
            Installing => Expected::Installed,
            Clearing => Expected::Removed,
            New | Validating | Removing | CheckingRemoval | Degraded | Ended => Expected::Found,
        };
        check_reply(expected, body)
    }

    fn on(&mut self, state: CreateState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<CreateState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => match self.take_resources(fx.lane) {
                Ok(()) => self.install(fx),
                Err(problem) => self.refuse(problem, fx),
            },

            (Installing, Event::Replied { tag, body }) => {
                if matches!(reply(body), Some(Reply::Installed { existed: true })) && !self.inherited.contains(tag) {
                    self.suspects.remove(tag);
                    fx.keep(*tag);
                }
                Installing
            }
            (Installing, Event::AllReplied) if self.request.error == Some(Drill::InHub) => {
                fx.note("drill: the hub loses the step");
                Installing
            }
            (Installing, Event::AllReplied) => self.validate(fx),
            (Installing, Event::Failed(failure)) => {
                let refused = failure.attempts <= 1 && matches!(failure.outcome, CallOutcome::Refused(_));
                if refused && !self.inherited.contains(&failure.tag) {
                    self.suspects.remove(&failure.tag);
                }
                self.failed(call_failure(failure, INSTALL, Code::InstallFailed, "error in worker on rule install"), fx)
            }
            (Installing, Event::TimedOut) => self.failed(step_timeout(INSTALL), fx),
            (Installing, Event::Cancelled) => self.failed(cancelled(INSTALL), fx),

            (Validating, Event::Replied { tag, body }) => {
                let expected = self.resources.rule(&self.request.flowid, *tag);
                if !matches!(reply(body), Some(Reply::Found { rule: Some(rule) }) if rule == expected) {
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
            (Validating, Event::AllReplied) => self.failed(wrong_rules(&self.wrong), fx),
            (Validating, Event::Failed(failure)) => {
                let message = "error in worker on rule validation";
                self.failed(call_failure(failure, VALIDATE, Code::ValidationFailed, message), fx)
            }
            (Validating, Event::TimedOut) => self.failed(step_timeout(VALIDATE), fx),
            (Validating, Event::Cancelled) => self.failed(cancelled(VALIDATE), fx),

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
            (CheckingRemoval, Event::Replied { tag, body }) => {
                if matches!(reply(body), Some(Reply::Found { rule: None })) && !self.unremoved.contains(tag) {
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
                Self::let_expire(fx)
            }
            (Degraded, Event::TimedOut) if self.superseded => {
                fx.note("a newer request takes over what is left");
                fx.end();
                Ended
            }

            // It was refused: what is left is not its own, and it has nothing to undo.
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

    /// What may stand is left to a newer request, with the resources that it needs to find it.
    fn aborted(&mut self, lane: &mut Registry) {
        if !self.existed && self.resources.length() > 0 {
            lane.keep(&self.request.flowid, Flow { resources: self.resources.clone(), left: self.suspects.clone() });
        }
    }
}

impl CreateFlow {
    /// Takes what the flow has already, or what it needs.
    fn take_resources(&mut self, lane: &mut Registry) -> Result<(), Problem> {
        let length = self.request.length;
        let Some(flow) = lane.flow(&self.request.flowid) else {
            self.resources = lane.allocate(&self.request.flowid, length)?;
            self.suspects = (1..=length).collect();
            return Ok(());
        };
        if self.request.strict && flow.left.is_empty() {
            let detail = format!("flow `{}` exists, with {} rules", self.request.flowid, flow.resources.length());
            return Err(Problem::new(Code::FlowExists, detail));
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

    /// Refuses the request. Where something is left of the flow, this operation took over from the one that left it: it
    /// removes that.
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
        let step = take_away(REMOVE, self.resources.cookie, self.suspects.iter().copied(), fx);
        fx.step(step);
        Clearing
    }

    fn install(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        let (call_ms, flow) = (fx.lane.settings.call_ms, &self.request.flowid);
        // The fault of a drill strikes one rule in the middle of the path.
        let middle = self.request.length.div_ceil(2);
        let call = |number: u32| {
            let rule = self.resources.rule(flow, number);
            let (switch, cookie) = (rule.switch.clone(), rule.cookie);
            let drill = self.request.error.filter(|_| number == middle);
            let install = Command { action: Action::Install { rule }, error: drill.filter(|d| *d == Drill::InSwitch) };
            let remove = Command { action: Action::Remove { switch: switch.clone(), cookie }, error: None };
            CallSpec {
                swallow: drill == Some(Drill::InWorker),
                undo: (!self.existed).then(|| UndoSpec {
                    what: format!("remove rule {number} on {switch}"),
                    body: json(&remove),
                    within_ms: call_ms,
                    always: self.inherited.contains(&number),
                }),
                ..call_speaker(number, format!("install rule {number} on {switch}"), &install, call_ms)
            }
        };
        let calls = (1..=self.request.length).map(call).collect();
        fx.step(at_once(INSTALL, calls, fx));
        Installing
    }

    fn validate(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        let step = read_back(VALIDATE, self.resources.cookie, 1..=self.request.length, fx);
        fx.step(step);
        Validating
    }

    fn check_removal(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        let step = read_back(CHECK, self.resources.cookie, self.suspects.iter().copied(), fx);
        fx.step(step);
        CheckingRemoval
    }

    /// It failed: what was or may have been installed has to go.
    fn failed(&mut self, failure: Failure, fx: &mut Fx<'_, Self>) -> CreateState {
        fx.note(format!("failed at {}: {}", failure.step, failure.detail));
        self.failure = Some(failure);
        if self.existed {
            self.suspects.clear();
        }
        fx.undo(REMOVE, fx.lane.settings.step_ms);
        Removing
    }

    /// What had to go is gone.
    fn removed(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        if !self.existed {
            release(&self.request.flowid, &self.resources, fx);
        }
        if self.answered {
            fx.note("nothing is left any more");
        } else {
            fx.answer(Answer::Failed(self.answer(false)));
        }
        fx.end();
        Ended
    }

    /// Something is left, or may be: it is answered, listed, and tried again for as long as it takes.
    fn degrade(&mut self, fx: &mut Fx<'_, Self>) -> CreateState {
        keep(&self.operation, &self.request.flowid, &self.resources, self.suspects.clone(), fx);
        if self.superseded {
            return Self::let_expire(fx);
        }
        self.suspects.iter().for_each(|number| fx.undo_again(*number));
        if !self.answered {
            self.answered = true;
            fx.answer(Answer::Failed(self.answer(true)));
            fx.yields();
        }
        let pause = fx.lane.settings.pause_ms(self.retries);
        self.retries += 1;
        fx.wait("the next try to remove what is left", pause);
        Degraded
    }

    /// What was sent so far is of no use after the longest that a call may take: then a newer request is safe from it.
    fn let_expire(fx: &mut Fx<'_, Self>) -> CreateState {
        fx.wait("late removals to expire, for a newer request", fx.lane.settings.call_ms);
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
        let failure = self.failure.as_ref().expect("it fails before it removes");
        to_value(&FlowFailed {
            code: failure.code,
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

fn call_failure(failure: &CallFailure, step: &'static str, code: Code, message: &'static str) -> Failure {
    let CallFailure { what, attempts, outcome, .. } = failure;
    let (origin, detail) = match outcome {
        CallOutcome::Refused(reason) if *attempts == 0 => (Origin::Worker, format!("{what}: not sent, {reason}")),
        CallOutcome::Refused(reason) | CallOutcome::Misread(reason) => (Origin::Switch, format!("{what}: {reason}")),
        CallOutcome::TimedOut | CallOutcome::Replied(_) if *attempts == 0 => {
            (Origin::Worker, format!("{what}: not sent in time"))
        }
        CallOutcome::TimedOut | CallOutcome::Replied(_) => {
            (Origin::Timeout, format!("{what}: no answer in time after {attempts} attempts"))
        }
    };
    Failure { code, message, origin, step, detail }
}

fn cancelled(step: &'static str) -> Failure {
    Failure {
        code: Code::Cancelled,
        message: "the operation was cancelled",
        origin: Origin::Hub,
        step,
        detail: format!("it was cancelled in step {step}"),
    }
}

fn step_timeout(step: &'static str) -> Failure {
    Failure {
        code: Code::HubTimeout,
        message: "error in hub by timeout",
        origin: Origin::Hub,
        step,
        detail: format!("{step} did not end before its deadline"),
    }
}

fn wrong_rules(wrong: &[u32]) -> Failure {
    let shown: Vec<String> = wrong.iter().take(10).map(ToString::to_string).collect();
    let more = if wrong.len() > shown.len() { ", ..." } else { "" };
    Failure {
        code: Code::ValidationFailed,
        message: "error in worker on rule validation",
        origin: Origin::Switch,
        step: VALIDATE,
        detail: format!("rules {}{more} are not on their switches as they should be", shown.join(", ")),
    }
}
