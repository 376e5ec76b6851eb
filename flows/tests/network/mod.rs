//! Flows under test, and their switches.

use std::collections::BTreeMap;

use flow_messages::speaker::{Action, Command as SpeakerCommand, Reply, Rule, SwitchId};
use flows::{CreateFlow, FlowSettings, RemoveFlow};
use hub::{HubEffect, HubRequest, HubSettings};
use proptest::test_runner::TestCaseError;
use serde_json::Value;
use topology::Settings;
use wire::CallId;
use wire::call::{CallCommand, CallEnd, CallOutcome};

use crate::support::{Input, World, named};

pub(crate) type Flows = (CreateFlow, RemoveFlow);

pub(crate) fn settings(cookies: u64, meters: u64) -> Settings {
    let hub = HubSettings { live: 6, active: 3, waiting_per_key: 2, remembered: 3, ..HubSettings::default() };
    Settings::default().with("hub", &hub).with("flows", &FlowSettings { cookies, meters, ..FlowSettings::default() })
}

pub(crate) fn request(workflow: &str, operation: u32, flow: &str, request: Value) -> Input {
    let body = Ok(wire::request::Request::new(workflow, request));
    let operation = named(&format!("op-{operation}-{flow}"));
    Input::Request(HubRequest { operation, has_key: true, cause: "r".into(), key: flow.into(), expires: None, body })
}

/// Flows and their switches.
pub(crate) struct Network {
    pub(crate) world: World<Flows>,
    pub(crate) commands: BTreeMap<CallId, SpeakerCommand>,
    pub(crate) rules: BTreeMap<(SwitchId, u64), Rule>,
}

impl Network {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { world: World::new(settings), commands: BTreeMap::new(), rules: BTreeMap::new() }
    }

    pub(crate) fn give(&mut self, input: Input) -> Result<(), TestCaseError> {
        for effect in self.world.give(input)? {
            if let HubEffect::Call(CallCommand::Start(call)) = effect {
                self.commands.insert(call.id, serde_json::from_str(&call.body).expect("a command"));
            }
        }
        Ok(())
    }

    /// The reply of the switch to a call.
    pub(crate) fn reply(&mut self, call: &CallId) -> String {
        let reply = match self.commands[call].action.clone() {
            Action::Install { rule } => {
                let existed = self.rules.insert((rule.switch.clone(), rule.cookie), rule).is_some();
                Reply::Installed { existed }
            }
            Action::Read { switch, cookie } => Reply::Found { rule: self.rules.get(&(switch, cookie)).cloned() },
            Action::Remove { switch, cookie } => {
                Reply::Removed { existed: self.rules.remove(&(switch, cookie)).is_some() }
            }
        };
        serde_json::to_string(&reply).expect("plain data")
    }

    pub(crate) fn end(&mut self, id: CallId, outcome: u8, attempts: u32) -> Result<(), TestCaseError> {
        let outcome = match outcome {
            0 => CallOutcome::Refused("no".into()),
            1 => CallOutcome::TimedOut,
            // Another controller has removed the rules.
            2 => {
                self.rules.clear();
                CallOutcome::Replied(self.reply(&id))
            }
            _ => CallOutcome::Replied(self.reply(&id)),
        };
        self.give(Input::CallEnded(CallEnd { id, lane: 1, attempts, outcome }))
    }
}
