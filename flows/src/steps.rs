//! Shared code of the flow workflows: calls to the speaker, and updates of the registry.

use std::collections::BTreeSet;

use flow_messages::client::{FLOW_KIND, FlowView};
use flow_messages::speaker::{Action, Command, Reply, SwitchId};
use hub::{Barrier, CallOrder, CallSpec, Fx, StepSpec, Workflow};
use serde_json::Value;
use wire::{OperationId, Problem};

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
    }
}

/// A step with concurrent calls that waits for all answers.
pub(crate) fn concurrent_step<W: Workflow<Lane = Registry>>(
    name: &'static str,
    calls: Vec<CallSpec>,
    fx: &Fx<'_, W>,
) -> StepSpec {
    StepSpec { name, order: CallOrder::AtOnce, barrier: Barrier::All, within_ms: fx.lane.settings.step_ms, calls }
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
    concurrent_step(name, numbers.map(call).collect(), fx)
}

/// A step that removes the rules with these numbers.
pub(crate) fn remove_rules<W: Workflow<Lane = Registry>>(
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
    concurrent_step(name, numbers.map(call).collect(), fx)
}

/// Records and publishes a flow that exists, or of which rules are left.
pub(crate) fn keep<W: Workflow<Lane = Registry>>(
    operation: &OperationId,
    flowid: &str,
    resources: &Resources,
    left: BTreeSet<u32>,
    fx: &mut Fx<'_, W>,
) {
    let shown = FlowView {
        flowid: flowid.to_owned(),
        length: resources.length(),
        cookie: resources.cookie,
        state: if left.is_empty() { "up" } else { "degraded" }.to_owned(),
        left: left.iter().copied().collect(),
        operation: operation.clone(),
    };
    fx.publish(FLOW_KIND, flowid, Some(to_value(&shown)));
    fx.lane.keep(flowid, Flow { resources: resources.clone(), left });
}

/// Removes a flow and releases its resources.
pub(crate) fn release<W: Workflow<Lane = Registry>>(flowid: &str, resources: &Resources, fx: &mut Fx<'_, W>) {
    if fx.lane.flow(flowid).is_some() {
        fx.publish(FLOW_KIND, flowid, None);
    }
    fx.lane.release(flowid, resources);
}

pub(crate) fn reply(body: &str) -> Option<Reply> {
    serde_json::from_str(body).ok()
}

/// The kind of reply that a call expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Installed,
    Found,
    Removed,
}

/// Checks that the speaker replied as expected.
pub(crate) fn check_reply(expected: Expected, body: &str) -> Result<(), String> {
    let reply: Reply = hub::expect_reply(body)?;
    let actual = match reply {
        Reply::Installed { .. } => Expected::Installed,
        Reply::Found { .. } => Expected::Found,
        Reply::Removed { .. } => Expected::Removed,
    };
    if actual == expected { Ok(()) } else { Err(format!("the reply is {actual:?}, but the call expects {expected:?}")) }
}

pub(crate) fn json(command: &Command) -> String {
    serde_json::to_string(command).expect("a command is plain data")
}

pub(crate) fn to_value(body: &impl serde::Serialize) -> Value {
    serde_json::to_value(body).expect("an answer is plain data")
}

/// Checks that the flow of a request is its key.
pub(crate) fn check_key(key: &str, flowid: &str) -> Result<(), Problem> {
    if flowid == key {
        return Ok(());
    }
    let shown: String = flowid.chars().take(80).collect();
    Err(Problem::field("flowid", &format!("`{shown}`"), &format!("the record's key, `{key}`")))
}
