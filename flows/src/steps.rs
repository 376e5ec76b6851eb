//! What the flow workflows share: calls to the speaker, and what becomes of a flow in the registry.

use std::collections::BTreeSet;

use hub::{Barrier, CallSpec, Fx, Mode, StepSpec, Workflow};
use serde_json::Value;
use wire::OperationId;
use wire::flow::{FlowShown, SHOWN_AS};
use wire::speaker::{Action, Command, Reply, SwitchId};

use crate::registry::{Flow, Registry, Resources};
use crate::topology::SPEAKER;

/// A call to the speaker about rule `number`.
pub(crate) fn call_speaker(number: u32, what: String, command: &Command, within_ms: u64) -> CallSpec {
    CallSpec {
        tag: number,
        service: SPEAKER,
        key: command.action.switch().to_string(),
        what,
        body: json(command),
        within_ms,
        undo: None,
        swallow: false,
    }
}

/// Calls at once, and a barrier on all their answers.
pub(crate) fn at_once<W: Workflow<Lane = Registry>>(
    name: &'static str,
    calls: Vec<CallSpec>,
    fx: &Fx<'_, W>,
) -> StepSpec {
    StepSpec { name, mode: Mode::AtOnce, barrier: Barrier::All, within_ms: fx.lane.settings.step_ms, calls }
}

/// A step that reads the rules with these numbers.
pub(crate) fn read_back<W: Workflow<Lane = Registry>>(
    name: &'static str,
    cookie: u64,
    numbers: impl Iterator<Item = u32>,
    fx: &Fx<'_, W>,
) -> StepSpec {
    let call = |number: u32| {
        let switch = SwitchId::numbered(number);
        let what = format!("read rule {number} on {switch}");
        let read = Command { action: Action::Read { switch, cookie }, error: None };
        call_speaker(number, what, &read, fx.lane.settings.call_ms)
    };
    at_once(name, numbers.map(call).collect(), fx)
}

/// A step that removes the rules with these numbers.
pub(crate) fn take_away<W: Workflow<Lane = Registry>>(
    name: &'static str,
    cookie: u64,
    numbers: impl Iterator<Item = u32>,
    fx: &Fx<'_, W>,
) -> StepSpec {
    let call = |number: u32| {
        let switch = SwitchId::numbered(number);
        let what = format!("remove rule {number} on {switch}");
        let remove = Command { action: Action::Remove { switch, cookie }, error: None };
        call_speaker(number, what, &remove, fx.lane.settings.call_ms)
    };
    at_once(name, numbers.map(call).collect(), fx)
}

/// A flow stands, or something of it is left: it is kept, and shown.
pub(crate) fn keep<W: Workflow<Lane = Registry>>(
    operation: &OperationId,
    flowid: &str,
    resources: &Resources,
    left: BTreeSet<u32>,
    fx: &mut Fx<'_, W>,
) {
    let shown = FlowShown {
        flowid: flowid.to_owned(),
        length: resources.length(),
        cookie: resources.cookie,
        state: if left.is_empty() { "up" } else { "degraded" }.to_owned(),
        left: left.iter().copied().collect(),
        operation: operation.clone(),
    };
    fx.show(SHOWN_AS, flowid, Some(to_value(&shown)));
    fx.lane.keep(flowid, Flow { resources: resources.clone(), left });
}

/// Nothing is left of a flow: what it held is free.
pub(crate) fn release<W: Workflow<Lane = Registry>>(flowid: &str, resources: &Resources, fx: &mut Fx<'_, W>) {
    if fx.lane.flow(flowid).is_some() {
        fx.show(SHOWN_AS, flowid, None);
    }
    fx.lane.release(flowid, resources);
}

pub(crate) fn reply(body: &str) -> Option<Reply> {
    serde_json::from_str(body).ok()
}

/// The reply of the speaker to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Installed,
    Found,
    Removed,
}

/// Whether the speaker replied what was expected.
pub(crate) fn check_reply(expected: Expected, body: &str) -> Result<(), String> {
    let reply: Reply = hub::expect_reply(body)?;
    let came = match reply {
        Reply::Installed { .. } => Expected::Installed,
        Reply::Found { .. } => Expected::Found,
        Reply::Removed { .. } => Expected::Removed,
    };
    if came == expected { Ok(()) } else { Err(format!("the reply is {came:?}, and the call expects {expected:?}")) }
}

pub(crate) fn json(command: &Command) -> String {
    serde_json::to_string(command).expect("a command is plain data")
}

pub(crate) fn to_value(body: &impl serde::Serialize) -> Value {
    serde_json::to_value(body).expect("an answer is plain data")
}
