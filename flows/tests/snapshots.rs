//! Save and load of the flow workflows and their registry: see `hub/tests/snapshots.rs`.

mod network;
#[path = "../../hub/tests/support/mod.rs"]
mod support;

use coordinator::TimedOut;
use hub::HubCommand;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;
use serde_json::json;

use network::{Network, request, settings};
use support::{Input, named, operation_of};

#[derive(Debug, Clone)]
enum Step {
    Create {
        operation: u32,
        flow: u32,
        length: u32,
        fault: Option<u32>,
        strict: bool,
    },
    Remove {
        operation: u32,
        flow: u32,
    },
    /// The switch does what the call says, does something else, or the reply is lost.
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
    Command {
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
        4 => create.prop_map(|(operation, flow, length, fault, strict)| {
            Step::Create { operation, flow, length, fault, strict }
        }),
        2 => (40..80_u32, 0..4_u32).prop_map(|(operation, flow)| Step::Remove { operation, flow }),
        25 => (any::<Index>(), 0..12_u8, 0..3_u32).prop_map(|(pick, outcome, attempts)| {
            Step::End { pick, outcome, attempts }
        }),
        1 => (any::<Index>(), 0..2_u32).prop_map(|(pick, attempts)| Step::EndAbandoned { pick, attempts }),
        2 => any::<Index>().prop_map(Step::Fire),
        1 => (any::<Index>(), 0..4_u8).prop_map(|(pick, command)| Step::Command { pick, command }),
        1 => (0..9_u64, 0..7_u64).prop_map(|(cookies, meters)| Step::Configure { cookies, meters }),
        3 => any::<u64>().prop_map(Step::Reload),
    ];
    prop::collection::vec(step, 0..150)
}

/// Executes a step, if it is possible now.
fn on(network: &mut Network, step: &Step) -> Result<(), TestCaseError> {
    network.world.at.0 += 7;
    match step {
        Step::Create { operation, flow, length, fault, strict } => {
            let flow = format!("flow-{flow}");
            let body = json!({ "flowid": flow, "length": length, "error": fault, "strict": strict });
            network.give(request("create-flow", *operation, &flow, body))
        }
        Step::Remove { operation, flow } => {
            let flow = format!("flow-{flow}");
            network.give(request("remove-flow", *operation, &flow, json!({ "flowid": flow })))
        }
        Step::End { pick, outcome, attempts } => {
            if network.world.open.is_empty() {
                return Ok(());
            }
            let id = pick.get(&network.world.open).clone();
            network.end(id, *outcome, *attempts)
        }
        Step::EndAbandoned { pick, attempts } => {
            if network.world.abandoned.is_empty() {
                return Ok(());
            }
            let id = pick.get(&network.world.abandoned).clone();
            network.end(id, 1, *attempts)
        }
        Step::Fire(pick) => {
            let timers: Vec<(u64, u32)> = network.world.timers.iter().map(|(key, at)| (*key, *at)).collect();
            if timers.is_empty() {
                return Ok(());
            }
            let (key, generation) = *pick.get(&timers);
            network.give(Input::TimedOut(TimedOut { key, generation }))
        }
        Step::Command { pick, command } => {
            let live = network.world.table.unfinished();
            if live.is_empty() {
                return Ok(());
            }
            let command = match command {
                0 => wire::command::Command::Resume,
                1 => wire::command::Command::Abort,
                _ => wire::command::Command::Cancel,
            };
            let operation = named(&operation_of(pick.get::<String>(&live)));
            network.give(Input::Command(HubCommand { operation, cause: "c".into(), command }))
        }
        Step::Configure { cookies, meters } => network.give(Input::Configure(settings(*cookies, *meters))),
        Step::Reload(seed) => network.world.reload(*seed),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loaded_flows_equal_the_saved_ones(steps in steps()) {
        let mut network = Network::new(&settings(8, 6));
        for step in &steps {
            on(&mut network, step)?;
        }
        network.world.reload(7)?;
    }
}

/// A flow that was created and removed leaves only its outcomes, the table, and its pools.
#[test]
fn a_flow_removed_before_the_snapshot_leaves_only_its_outcomes_and_pools() {
    let mut network = Network::new(&settings(8, 6));
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
