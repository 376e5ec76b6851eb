//! Saved states of all released versions of flows: loading, sizes, and refusal of corrupt ones.

mod network;
#[path = "../../hub/tests/support/mod.rs"]
mod support;

use coordinator::TimedOut;
use serde_json::{Value, json};

use network::{Flows, Network, request, settings};
use support::{Input, Saved, golden, load, read_golden};

fn create(network: &mut Network, operation: u32, flow: &str, length: u32) {
    let body = json!({ "flowid": flow, "length": length });
    network.give(request("create-flow", operation, flow, body)).expect("as in its restored copy");
}

fn remove(network: &mut Network, operation: u32, flow: &str) {
    network.give(request("remove-flow", operation, flow, json!({ "flowid": flow }))).expect("as in its restored copy");
}

/// Ends the first `count` open calls in this way, one after the other.
fn end(network: &mut Network, count: usize, outcome: u8) {
    for _ in 0..count {
        let id = network.world.open.first().expect("a call is open").clone();
        network.end(id, outcome, 2).expect("as in its restored copy");
    }
}

fn end_all(network: &mut Network) {
    while !network.world.open.is_empty() {
        end(network, 1, 9);
    }
}

/// Fires the deadline of the newest step.
fn fire(network: &mut Network) {
    let (key, generation) = network.world.timers.iter().next_back().expect("a deadline").to_owned();
    let (key, generation) = (*key, *generation);
    network.give(Input::TimedOut(TimedOut { key, generation })).expect("as in its restored copy");
}

/// Flows that exist, are created, are removed, and cannot be removed.
#[test]
fn saved_states_of_every_version_are_loaded() {
    let settings = settings(99, 99);
    let mut network = Network::new(&settings);
    for flow in 1..=6 {
        create(&mut network, flow, &format!("flow-{flow}"), 2);
        end_all(&mut network);
    }
    // A failed removal that is answered and waits for its next attempt.
    remove(&mut network, 50, "flow-3");
    end(&mut network, 1, 0);
    // A failed creation whose rule cannot be removed.
    create(&mut network, 7, "flow-7", 1);
    fire(&mut network);
    end(&mut network, 1, 1);
    // Two running creations: reading back, and removing the installed rules.
    create(&mut network, 8, "flow-8", 2);
    end(&mut network, 3, 9);
    create(&mut network, 9, "flow-9", 1);
    let install = network.world.open.last().expect("a call is open").clone();
    network.end(install, 0, 2).expect("as in its restored copy");
    // Two removed flows, and one between them that is kept.
    for (operation, flow) in [(60, "flow-1"), (61, "flow-4")] {
        remove(&mut network, operation, flow);
        while let Some(id) = network.world.open.iter().find(|id| id.operation.as_str().ends_with(flow)).cloned() {
            network.end(id, 9, 1).expect("as in its restored copy");
        }
    }
    network.world.save().expect("as in its restored copy");
    golden("flows", &settings, &network.world);
}

fn states() -> Saved {
    read_golden("flows", 1)
}

fn refused(states: &Saved) -> String {
    load::<Flows>(states, 1, &settings(99, 99), 5).err().map(|error| error.0).expect("it is refused")
}

#[test]
fn an_inconsistent_registry_is_refused_with_its_key() {
    let with = |key: &str, state: Value| {
        let mut states = states();
        states.insert(key.to_owned(), state.to_string().into_bytes());
        refused(&states)
    };
    let flow = |cookie: u64, meters: &[u32], left: &[u32]| json!({ "resources": { "cookie": cookie, "meters": meters }, "left": left });
    for (reason, prefix) in [
        (with("lane/flow/x", flow(4, &[], &[])), "saved `flow/x` is inconsistent: cookie 4 is not taken"),
        (
            with("lane/flow/x", flow(3, &[], &[])),
            "saved `flow/x` is inconsistent: cookie 3 is not taken, or taken by another flow",
        ),
        (with("lane/flow/flow-2", flow(3, &[3, 8], &[])), "saved `flow/flow-2` is inconsistent: meter 8 of rule 2"),
        (with("lane/flow/flow-2", flow(3, &[3, 3], &[3])), "saved `flow/flow-2` is inconsistent: it has 2 rules"),
        (with("lane/flow/flow-2", json!(7)), "saved `lane/flow/flow-2` cannot be read"),
        (with("lane/cookies/fresh", json!(1_u64 << 60)), "saved `cookies/fresh` is inconsistent"),
        (with("lane/cookies/fresh", json!(2)), "saved `"),
        (with("lane/cookies/free/0", json!([])), "saved `cookies/free/0` is inconsistent"),
        (with("lane/cookies/free/0", json!([[70, 70]])), "saved `cookies/free/0` is inconsistent"),
        (
            with("lane/cookies/free/0", json!([[5, 2]])),
            "saved `lane/cookies/free/0` cannot be read: 5 to 2 is not a valid next range",
        ),
        (with("lane/cookies/free/0", json!([[0, 1_u64 << 62]])), "saved `lane/cookies/free/0` cannot be read"),
        (
            with("lane/cookies/free/0", json!([[0, 3], [4, 5]])),
            "saved `lane/cookies/free/0` cannot be read: 4 to 5 is not a valid next range",
        ),
        (with("lane/cookies/free/9", json!([[1, 2]])), "saved `cookies/free/9` is inconsistent"),
        (with("lane/cookies/free/x", json!([[1, 2]])), "saved `free/x` is inconsistent"),
        (with("lane/cookies/song", json!(1)), "saved `song` is inconsistent"),
        (with("lane/meters/of:01/fresh", json!(0)), "saved `"),
        (with("lane/meters/of:01", json!(0)), "saved `meters/of:01` is inconsistent"),
        (with("lane/song", json!(0)), "saved `song` is inconsistent"),
    ] {
        assert!(reason.starts_with(prefix), "`{reason}` does not start with `{prefix}`");
    }
}

/// Half of the maximum record size of a Kafka broker.
const RECORD: usize = 500_000;

fn sizes(network: &mut Network) -> Vec<(String, usize)> {
    network.world.save().expect("as in its restored copy");
    let sizes: Vec<(String, usize)> =
        network.world.saved.iter().map(|(key, state)| (key.clone(), state.len())).collect();
    for (key, size) in &sizes {
        assert!(*size <= RECORD, "`{key}` has {size} bytes");
    }
    sizes
}

/// In each of its steps, a live flow of maximum length is a single record.
#[test]
fn a_flow_of_maximum_length_fits_into_a_record() {
    let mut network = Network::new(&settings(1 << 20, 1 << 16));
    create(&mut network, 1, &"f".repeat(64), 1_000);
    let installing = sizes(&mut network);
    fire(&mut network);
    let removing = sizes(&mut network);
    for (step, sizes) in [("installing", &installing), ("removing", &removing)] {
        let (key, size) = sizes.iter().max_by_key(|(_, size)| *size).expect("something is saved");
        println!("{step}: `{key}` has {size} bytes");
    }
}
