//! Shared code of the flow workflows: calls to the speaker, waits, and updates of the registry.

use std::collections::BTreeSet;

use flow_messages::client::{FLOW_KIND, FlowView};
use flow_messages::speaker::{Action, Command, Reply, SPEAKER, SwitchId};
use hub::{CheckedReply, Fx, ServiceCall, ServiceExt, StepSpec, Workflow};
use serde_json::Value;
use wire::{OperationId, Problem};

use crate::registry::{Flow, Registry, Resources};
use crate::settings::FlowSettings;

/// A call to the speaker about rule `number`.
pub(crate) fn call_speaker(number: u32, command: &Command, within_ms: u64) -> ServiceCall<Command, Reply> {
    SPEAKER.call(number, command.action.switch().to_string(), command, describe(number, command), within_ms)
}

/// Describes a command about rule `number`.
pub(crate) fn describe(number: u32, Command { action, .. }: &Command) -> String {
    format!("{} rule {number} on {}", action.name(), action.switch())
}

/// A command to remove rule `number`.
pub(crate) fn removal(number: u32, cookie: u64) -> Command {
    Command { action: Action::Remove { switch: SwitchId::numbered(number), cookie }, error: None }
}

/// Starts a step that reads the rules with these numbers.
pub(crate) fn read_back<W: Workflow<Lane = Registry>>(
    name: &'static str,
    cookie: u64,
    numbers: impl Iterator<Item = u32>,
    fx: &mut Fx<'_, W>,
) {
    let read = |number| Command { action: Action::Read { switch: SwitchId::numbered(number), cookie }, error: None };
    call_each(name, numbers, read, fx);
}

/// Starts a step that removes the rules with these numbers.
pub(crate) fn remove_rules<W: Workflow<Lane = Registry>>(
    name: &'static str,
    cookie: u64,
    numbers: impl Iterator<Item = u32>,
    fx: &mut Fx<'_, W>,
) {
    call_each(name, numbers, |number| removal(number, cookie), fx);
}

fn call_each<W: Workflow<Lane = Registry>>(
    name: &'static str,
    numbers: impl Iterator<Item = u32>,
    command: impl Fn(u32) -> Command,
    fx: &mut Fx<'_, W>,
) {
    let FlowSettings { call_ms, step_ms, .. } = fx.lane.settings;
    let calls = numbers.map(|number| call_speaker(number, &command(number), call_ms));
    fx.step(StepSpec::new(name, step_ms).calls(calls));
}

/// Waits until all messages have expired: the longest call time. Then late removals cannot hit a
/// newer request.
pub(crate) fn let_expire<W: Workflow<Lane = Registry>>(fx: &mut Fx<'_, W>) {
    fx.wait("late removals to expire, for a newer request", fx.lane.settings.call_ms);
}

/// Waits for the next attempt to remove the rules that are left, longer after each.
pub(crate) fn retry_later<W: Workflow<Lane = Registry>>(retries: &mut u32, fx: &mut Fx<'_, W>) {
    fx.wait("the next try to remove what is left", fx.lane.settings.pause_ms(*retries));
    *retries += 1;
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

/// Checks that the speaker replied with this [`Reply::name`].
pub(crate) fn check_reply(expected: &str, reply: &CheckedReply) -> Result<(), String> {
    let reply = reply.of(SPEAKER);
    if reply.name() == expected {
        return Ok(());
    }
    Err(format!("the reply is `{}`, but the call expects `{expected}`", reply.name()))
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
