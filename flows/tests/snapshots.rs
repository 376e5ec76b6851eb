//! What the flow workflows and their registry save and load: see `hub/tests/snapshots.rs`.

#[path = "../../hub/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use coordinator::TimedOut;
use flows::{CreateFlow, FlowSettings, RemoveFlow};
use hub::{HubCommand, HubEffect, HubRequest, HubSettings};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use topology::Settings;
use wire::CallId;
use wire::call::{CallCommand, CallEnd, CallOutcome};
use wire::speaker::{Action, Command as Asked, Reply, Rule, SwitchId};

use support::{Input, World, first_word, named};

type Flows = (CreateFlow, RemoveFlow);

#[derive(Debug, Clone)]
enum Step {
    Create {
        operation: u32,
        flow: u32,
        length: u32,
        drill: Option<u32>,
        strict: bool,
    },
    Remove {
        operation: u32,
        flow: u32,
    },
    /// The switch does as it is told, or does not, or nobody hears of it.
    End {
        pick: Index,
        outcome: u8,
        attempts: u32,
    },
    EndAbandoned {
        pick: Index,
        attempts: u32,
    },
    Fire(Index),
    Tell {
        pick: Index,
        command: u8,
    },
    Configure {
        cookies: u64,
        meters: u64,
    },
    Reload(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let create = (0..40_u32, 0..4_u32, 1..4_u32, prop::option::weighted(0.2, 0..3_u32), prop::bool::weighted(0.2));
    let step = prop_oneof![
        4 => create.prop_map(|(operation, flow, length, drill, strict)| {
            Step::Create { operation, flow, length, drill, strict }
        }),
        2 => (40..80_u32, 0..4_u32).prop_map(|(operation, flow)| Step::Remove { operation, flow }),
        25 => (any::<Index>(), 0..12_u8, 0..3_u32).prop_map(|(pick, outcome, attempts)| {
            Step::End { pick, outcome, attempts }
        }),
        1 => (any::<Index>(), 0..2_u32).prop_map(|(pick, attempts)| Step::EndAbandoned { pick, attempts }),
        2 => any::<Index>().prop_map(Step::Fire),
        1 => (any::<Index>(), 0..4_u8).prop_map(|(pick, command)| Step::Tell { pick, command }),
        1 => (0..9_u64, 0..7_u64).prop_map(|(cookies, meters)| Step::Configure { cookies, meters }),
        3 => any::<u64>().prop_map(Step::Reload),
    ];
    prop::collection::vec(step, 0..150)
}

fn settings(cookies: u64, meters: u64) -> Settings {
    let hub = HubSettings { live: 6, active: 3, waiting_per_key: 2, remembered: 3, ..HubSettings::default() };
    Settings::default().with("hub", &hub).with("flows", &FlowSettings { cookies, meters, ..FlowSettings::default() })
}

fn request(workflow: &str, operation: u32, flow: &str, request: Value) -> Input {
    let body = Ok(wire::request::Request { workflow: workflow.into(), request });
    let operation = named(&format!("op-{operation}-{flow}"));
    Input::Request(HubRequest { operation, cause: "r".into(), key: flow.into(), expires: None, body })
}

/// Flows, and the switches that they stand on.
struct Network {
    world: World<Flows>,
    asked: BTreeMap<CallId, Asked>,
    rules: BTreeMap<(SwitchId, u64), Rule>,
}

impl Network {
    fn new() -> Self {
        Self { world: World::new(&settings(8, 6)), asked: BTreeMap::new(), rules: BTreeMap::new() }
    }

    fn give(&mut self, input: Input) -> Result<(), TestCaseError> {
        for effect in self.world.give(input)? {
            if let HubEffect::Call(CallCommand::Start(call)) = effect {
                self.asked.insert(call.id, serde_json::from_str(&call.body).expect("a command"));
            }
        }
        Ok(())
    }

    /// What the switch answers.
    fn reply(&mut self, call: &CallId) -> String {
        let reply = match self.asked[call].action.clone() {
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

    fn end(&mut self, id: CallId, outcome: u8, attempts: u32) -> Result<(), TestCaseError> {
        let outcome = match outcome {
            0 => CallOutcome::Refused("no".into()),
            1 => CallOutcome::TimedOut,
            // Somebody has taken the rule away.
            2 => {
                self.rules.clear();
                CallOutcome::Replied(self.reply(&id))
            }
            _ => CallOutcome::Replied(self.reply(&id)),
        };
        self.give(Input::CallEnded(CallEnd { id, lane: 1, attempts, outcome }))
    }

    fn on(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.world.at.0 += 7;
        match step {
            Step::Create { operation, flow, length, drill, strict } => {
                let flow = format!("flow-{flow}");
                let body = json!({ "flowid": flow, "length": length, "error": drill, "strict": strict });
                self.give(request("create-flow", *operation, &flow, body))
            }
            Step::Remove { operation, flow } => {
                let flow = format!("flow-{flow}");
                self.give(request("remove-flow", *operation, &flow, json!({ "flowid": flow })))
            }
            Step::End { pick, outcome, attempts } => {
                if self.world.open.is_empty() {
                    return Ok(());
                }
                let id = pick.get(&self.world.open).clone();
                self.end(id, *outcome, *attempts)
            }
            Step::EndAbandoned { pick, attempts } => {
                if self.world.abandoned.is_empty() {
                    return Ok(());
                }
                let id = pick.get(&self.world.abandoned).clone();
                self.end(id, 1, *attempts)
            }
            Step::Fire(pick) => {
                let timers: Vec<(u64, u32)> = self.world.timers.iter().map(|(key, at)| (*key, *at)).collect();
                if timers.is_empty() {
                    return Ok(());
                }
                let (key, generation) = *pick.get(&timers);
                self.give(Input::TimedOut(TimedOut { key, generation }))
            }
            Step::Tell { pick, command } => {
                let live = self.world.table.unfinished();
                if live.is_empty() {
                    return Ok(());
                }
                let command = match command {
                    0 => wire::command::Command::Resume,
                    1 => wire::command::Command::Abort,
                    _ => wire::command::Command::Cancel,
                };
                let operation = named(&first_word(pick.get::<String>(&live)));
                self.give(Input::Command(HubCommand { operation, cause: "c".into(), command }))
            }
            Step::Configure { cookies, meters } => self.give(Input::Configure(settings(*cookies, *meters))),
            Step::Reload(seed) => self.world.reload(*seed),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flows_that_were_loaded_are_the_flows_that_were_saved(steps in steps()) {
        let mut network = Network::new();
        for step in &steps {
            network.on(step)?;
        }
        network.world.reload(7)?;
    }
}

/// A flow that comes and goes costs what it leaves: its end, the table, and the pools that it drew from.
#[test]
fn a_flow_that_is_made_and_removed_between_two_snapshots_leaves_its_two_ends_and_the_pools() {
    let mut network = Network::new();
    network.give(request("create-flow", 1, "a", json!({ "flowid": "a", "length": 2 }))).unwrap();
    network.give(request("remove-flow", 2, "a", json!({ "flowid": "a" }))).unwrap();
    while let Some(id) = network.world.open.first().cloned() {
        network.end(id, 9, 1).unwrap();
    }
    network.world.save().unwrap();
    let keys: Vec<&str> = network.world.saved.keys().map(String::as_str).collect();
    let pools = ["cookies", "meters/of:01", "meters/of:02"];
    let pools = pools.into_iter().flat_map(|pool| [format!("lane/{pool}/free/0"), format!("lane/{pool}/fresh")]);
    let expected: Vec<String> =
        ["finished/0", "finished/1"].map(str::to_owned).into_iter().chain(pools).chain(["table".to_owned()]).collect();
    assert_eq!(keys, expected);
}
